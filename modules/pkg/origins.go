package pkg

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// An originator is a manager that can tell where packages come from.
type originator interface {
	Origins(ctx context.Context, names []string) (map[string][]string, error)
}

// Origins implements resource.Originator. With a manager that cannot tell, nothing
// is known of any package.
func (m *Module) Origins(ctx context.Context, names []string) (map[string][]string, error) {
	o, ok := m.manager.(originator)
	if !ok || len(names) == 0 {
		return nil, nil
	}
	return o.Origins(ctx, names)
}

// Origins asks apt which repositories of its index have some version of each
// package: "URL suite/component".
func (a *apt) Origins(ctx context.Context, names []string) (map[string][]string, error) {
	out, err := a.h.Run(ctx, a.command(append([]string{"apt-cache", "policy", "--"}, names...)...))
	if err != nil {
		return nil, fmt.Errorf("cannot read package index: %w", err)
	}
	return parseOrigins(out.Text), nil
}

// parseOrigins reads the tables of versions of `apt-cache policy NAME…`.
func parseOrigins(text string) map[string][]string {
	origins := map[string][]string{}
	name, table := "", false
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
		case !strings.HasPrefix(line, " "):
			name, table = strings.TrimSuffix(fields[0], ":"), false
		case strings.TrimSpace(line) == "Version table:":
			table = true
		case table && strings.HasPrefix(line, "        ") && len(fields) >= 3:
			if at := fields[1] + " " + fields[2]; !slices.Contains(origins[name], at) {
				origins[name] = append(origins[name], at)
			}
		}
	}
	return origins
}
