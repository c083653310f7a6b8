package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// Set by the linker.
var (
	version = "0.0.0-dev"
	commit  = "unknown"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		GroupID: "look",
		Short:   "Version, commit and Go version",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.format == "json" {
				return a.writeJSON(struct {
					Version string `json:"version"`
					Commit  string `json:"commit"`
					Go      string `json:"go"`
				}{version, commit, runtime.Version()})
			}
			_, err := fmt.Fprintf(a.out, "trued %s (commit %s, %s)\n", version, commit, runtime.Version())
			return err
		},
	}
}
