package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"trued.dev/trued/internal/document"
	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/modules"
)

func (a *app) docCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "doc [KIND]",
		GroupID: "author",
		Short:   "What a kind takes, with an example",
		Args:    cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return kinds(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			p := printer{w: a.out}
			if len(args) == 0 {
				p.line("%s", strings.Join(kinds(), "\n"))
				return p.err
			}
			all := modules.All(host.New("/", host.Options{}))
			i := slices.IndexFunc(all, func(m resource.Module) bool { return m.Kind() == args[0] })
			if i < 0 {
				hint := ""
				if near := document.Nearest(args[0], kinds()); near != "" {
					hint = fmt.Sprintf(": did you mean %q?", near)
				}
				return fmt.Errorf("there is no kind %q%s", args[0], hint)
			}
			p.kind(all[i])
			p.everyKind()
			return p.err
		},
	}
}

func kinds() []string {
	var names []string
	for _, m := range modules.All(host.New("/", host.Options{})) {
		names = append(names, m.Kind())
	}
	return names
}
