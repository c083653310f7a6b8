//go:build generate

package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// generators make what is packaged beside the program from its commands, so that
// neither can disagree with the other. They are in no program that is shipped,
// but in one that is built for them alone: what writes man pages would be paid
// for at each start.
func generators() []*cobra.Command {
	return []*cobra.Command{{
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
	}}
}
