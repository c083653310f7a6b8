// Schemagen DIR writes the JSON Schemas of what people write: manifests,
// group.yaml and hosts.yaml. It reads the keys off the types that manifests are
// decoded into, and is no part of the program, which carries what it wrote.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := write(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: schemagen DIR")
	}
	for name, s := range map[string]schema{"manifest": manifest(), "group": groupFile(), "hosts": hostsFile()} {
		var out bytes.Buffer
		enc := json.NewEncoder(&out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", " ")
		if err := enc.Encode(s); err != nil {
			return fmt.Errorf("cannot make the schema of %s: %w", name, err)
		}
		file := filepath.Join(args[0], name+".schema.json")
		if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil { //nolint:gosec // part of the source tree
			return err
		}
	}
	return nil
}
