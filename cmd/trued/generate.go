package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"trued.dev/trued/internal/report"
)

// generateCommand makes what is packaged beside the binary from the commands
// and types, so that neither can disagree with them.
func (a *app) generateCommand() *cobra.Command {
	c := &cobra.Command{
		Use:    "generate",
		Short:  "Make man pages, the reference and schemas",
		Hidden: true,
	}
	c.AddCommand(
		a.referenceCommand(),
		&cobra.Command{
			Use:   "man DIR",
			Short: "Man pages of all commands",
			Args:  cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				if err := os.MkdirAll(args[0], 0o755); err != nil { //nolint:gosec // documents
					return err
				}
				root := c.Root()
				root.DisableAutoGenTag = true
				return doc.GenManTree(root, &doc.GenManHeader{
					Title: "TRUED", Section: "8", Source: "trued " + version, Manual: "System administration",
				}, args[0])
			},
		},
		&cobra.Command{
			Use:   "schema FILE",
			Short: "JSON Schema of the events",
			Args:  cobra.ExactArgs(1),
			RunE: func(_ *cobra.Command, args []string) error {
				schema, err := report.Schema()
				if err != nil {
					return err
				}
				if err := os.MkdirAll(filepath.Dir(args[0]), 0o755); err != nil { //nolint:gosec // documents
					return err
				}
				if err := os.WriteFile(args[0], schema, 0o644); err != nil { //nolint:gosec // documents
					return fmt.Errorf("cannot write schema: %w", err)
				}
				return nil
			},
		},
	)
	return c
}
