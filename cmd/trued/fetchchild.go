package main

import (
	"os"

	"github.com/spf13/cobra"

	"trued.dev/trued/internal/source"
)

// fetchChildCommand is the process that talks to the network: it is started by
// this program, told over a pipe what to fetch, and can be killed.
func (a *app) fetchChildCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "fetch-child",
		Short:  "Fetch for the process that started this one",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return source.ServeFetch(c.Context(), os.Stdin, os.Stdout)
		},
	}
}
