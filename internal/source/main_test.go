package source_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"trued.dev/trued/internal/source"
)

// The processes of these tests are the test binary itself: the fetch child,
// and an agent that fetches once and is there to be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		run := map[string]func() error{
			"fetch-child": func() error { return source.ServeFetch(context.Background(), os.Stdin, os.Stdout) },
			"fetch-once":  fetchOnce,
			"pry":         pry,
		}[os.Args[1]]
		if run != nil {
			if err := run(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// fetchOnce is an agent: its arguments are the configuration and the store.
func fetchOnce() error {
	var cfg source.Config
	if err := json.Unmarshal([]byte(os.Args[2]), &cfg); err != nil {
		return err
	}
	s, err := source.Open(cfg, os.Args[3], source.Options{Child: []string{os.Args[0], "fetch-child"}})
	if err != nil {
		return err
	}
	_, err = s.Fetch(context.Background())
	return err
}
