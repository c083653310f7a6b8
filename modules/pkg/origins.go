package pkg

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// An originator is a manager that can tell where packages come from: the places
// that have each version of each of them.
type originator interface {
	Origins(ctx context.Context, names []string) (map[string]map[string][]string, error)
}

// Origins implements resource.Originator. With a manager that cannot tell, nothing
// is known of any package.
func (m *Module) Origins(ctx context.Context, names []string) (map[string][]string, error) {
	o, ok := m.manager.(originator)
	if !ok || len(names) == 0 {
		return nil, nil
	}
	known, err := o.Origins(ctx, names)
	if err != nil {
		return nil, err
	}
	origins := map[string][]string{}
	for name, versions := range known {
		for _, at := range versions {
			origins[name] = slices.Compact(slices.Sorted(slices.Values(slices.Concat(origins[name], at))))
		}
	}
	return origins, nil
}

// Brings implements resource.Delivered.
func (r *Resource) Brings() bool { return !r.gone() }

// Admit implements resource.Delivered.
func (r *Resource) Admit(judge func(name string, origins []string) error) { r.admit = judge }

// vet refuses an effect that brings packages from where the rules of one of those
// who ask for it do not let them come. What a package is brought from is not what
// the index said when the commit was judged, and of what comes along nobody asked.
func (a *attempt) vet(ctx context.Context, wishes []*wish, e effect) error {
	var judges []func(string, []string) error
	for _, w := range wishes {
		if w.install && w.declared != nil && w.declared.admit != nil {
			judges = append(judges, w.declared.admit)
		}
	}
	if len(judges) == 0 || len(e.Installs) == 0 {
		return nil
	}
	names := make([]string, len(e.Installs))
	for i, move := range e.Installs {
		names[i] = move.Name
	}
	known := map[string]map[string][]string{}
	if o, ok := a.m.manager.(originator); ok {
		var err error
		if known, err = o.Origins(ctx, names); err != nil {
			return err
		}
	}
	for _, move := range e.Installs {
		for _, judge := range judges {
			if err := judge(move.Name, known[move.Name][move.To]); err != nil {
				return &refusal{Reason: err.Error()}
			}
		}
	}
	return nil
}

// Origins asks apt which repositories of its index have each version of each
// package: "URL suite/component".
func (a *apt) Origins(ctx context.Context, names []string) (map[string]map[string][]string, error) {
	out, err := a.h.Run(ctx, a.command(append([]string{"apt-cache", "policy", "--"}, names...)...))
	if err != nil {
		return nil, fmt.Errorf("cannot read package index: %w", err)
	}
	return parseOrigins(out.Text), nil
}

// parseOrigins reads the tables of versions of `apt-cache policy NAME…`.
func parseOrigins(text string) map[string]map[string][]string {
	origins := map[string]map[string][]string{}
	name, version, table := "", "", false
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
		case !strings.HasPrefix(line, " "):
			name, table = strings.TrimSuffix(fields[0], ":"), false
		case strings.TrimSpace(line) == "Version table:":
			table = true
		case !table:
		case !strings.HasPrefix(line, "        "):
			version, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "*** "), " ")
		case len(fields) >= 3:
			if origins[name] == nil {
				origins[name] = map[string][]string{}
			}
			if at := fields[1] + " " + fields[2]; !slices.Contains(origins[name][version], at) {
				origins[name][version] = append(origins[name][version], at)
			}
		}
	}
	return origins
}
