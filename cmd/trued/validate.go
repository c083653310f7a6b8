package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "validate [DIR]",
		GroupID: "author",
		Short:   "Check a whole repository without a host, for CI",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return fmt.Errorf("pending")
		},
	}
}
