package source_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"trued.dev/trued/internal/source"
)

// The fetch child of these tests is the test binary itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "fetch-child" {
		if err := source.ServeFetch(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}
