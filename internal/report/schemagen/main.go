// Command schemagen writes the JSON Schema of the events to the file that it is
// given.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"trued.dev/trued/internal/report/schema"
)

func main() {
	if err := write(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "schemagen:", err)
		os.Exit(1)
	}
}

func write(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: schemagen FILE")
	}
	made, err := schema.Make()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(args[0]), 0o755); err != nil { //nolint:gosec // part of the source tree
		return err
	}
	return os.WriteFile(args[0], made, 0o644) //nolint:gosec // part of the source tree
}
