package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"trued.dev/trued/packaging"
)

//go:generate go run ../schemagen ../../packaging/schema

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "schema [manifest | group | hosts]",
		GroupID: "author",
		Short:   "Print the JSON Schema of manifests, group.yaml or hosts.yaml, for an editor",
		Long: `Print the JSON Schema of manifests, or of group.yaml or hosts.yaml. An editor that
knows it completes keys and marks what is wrong as it is written. The packages
have the schemas in /usr/share/trued.`,
		Example:   "  trued schema >.trued/manifest.schema.json",
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"manifest", "group", "hosts"},
		RunE: func(_ *cobra.Command, args []string) error {
			schema := packaging.ManifestSchema
			if len(args) > 0 {
				schema = map[string]string{
					"manifest": packaging.ManifestSchema, "group": packaging.GroupSchema, "hosts": packaging.HostsSchema,
				}[args[0]]
			}
			if _, err := io.WriteString(a.out, schema); err != nil {
				return fmt.Errorf("cannot write the schema: %w", err)
			}
			return nil
		},
	}
}
