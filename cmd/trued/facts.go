package main

import (
	"fmt"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"trued.dev/trued/internal/facts"
	"trued.dev/trued/internal/host"
)

func (a *app) factsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "facts",
		GroupID: "look",
		Short:   "The facts, as a template sees them",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := facts.Collect(c.Context(), host.New(orRoot(a.rootDir), host.Options{}))
			if err != nil {
				return err
			}
			if a.format == "json" {
				return a.writeJSON(f.Data())
			}
			p := printer{w: a.out, c: palette(a.out)}
			var lines []string
			flatten("facts", f.Data(), &lines)
			for path, why := range f.Unknown {
				lines = append(lines, fmt.Sprintf("facts.%s  unknown: %s", path, why))
			}
			sort.Strings(lines)
			for _, l := range lines {
				p.line("%s", l)
			}
			return p.err
		},
	}
	a.rootFlag(c)
	return c
}

func flatten(prefix string, v any, lines *[]string) {
	switch v := v.(type) {
	case map[string]any:
		for k, below := range v {
			flatten(prefix+"."+k, below, lines)
		}
	case []any:
		parts := make([]string, len(v))
		for i, x := range v {
			parts[i] = fmt.Sprint(x)
		}
		*lines = append(*lines, prefix+"  ["+strings.Join(parts, ", ")+"]")
	default:
		*lines = append(*lines, fmt.Sprintf("%s  %v", prefix, v))
	}
}
