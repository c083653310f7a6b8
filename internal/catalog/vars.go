package catalog

import (
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"trued.dev/trued/internal/document"
	"trued.dev/trued/internal/resource"
)

// vars are the merged variables of a host, and where each was last set.
type vars struct {
	data    map[string]any
	origins map[string]resource.Origin // by path, such as "vars.a.b"
	// templated are places of values that look like templates and are not.
	templated []resource.Origin
	// partly are places of values that are not a secret as a whole.
	partly []resource.Origin
	// sealed is true when a value is a secret.
	sealed bool
}

func newVars() *vars {
	return &vars{data: map[string]any{}, origins: map[string]resource.Origin{}}
}

// lay merges a map over what there is: maps deeply, everything else replaces.
func (v *vars) lay(n *document.Node, at resource.Origin) {
	v.merge(v.data, n, "vars", at)
}

func (v *vars) merge(into map[string]any, n *document.Node, under string, at resource.Origin) {
	for _, p := range n.Pairs {
		key, name := p.Key.Value, under+"."+p.Key.Value
		at.Line, at.Column = p.Key.Line, p.Key.Column
		v.origins[name] = at
		v.templates(p.Value, at)
		if p.Value.Kind != document.Map {
			value, found := seal(p.Value.Any(), at.Group)
			into[key], v.sealed = value, v.sealed || found
			continue
		}
		below, ok := into[key].(map[string]any)
		if !ok {
			below = map[string]any{}
			into[key] = below
		}
		v.merge(below, p.Value, name, at)
	}
}

// templates notes texts that look like templates. A secret as a whole is one.
func (v *vars) templates(n *document.Node, at resource.Origin) {
	for _, item := range n.Items {
		v.templates(item, at)
	}
	switch {
	case n.Kind != document.Scalar || !isTemplate(n.Value) || sealedBy(n.Value, "") != nil:
	case secretCall().MatchString(n.Value):
		v.partly = append(v.partly, at)
	default:
		v.templated = append(v.templated, at)
	}
}

// origin returns where a path was set: itself, or the nearest above it.
func (v *vars) origin(name string) resource.Origin {
	for {
		if at, ok := v.origins[name]; ok {
			return at
		}
		cut := strings.LastIndexByte(name, '.')
		if cut < 0 {
			return resource.Origin{}
		}
		name = name[:cut]
	}
}

// mergeVars lays the vars of included groups, the group, hosts.yaml and the
// host's file over one another.
func (l *loader) mergeVars(g *group, m *membership) *vars {
	v := newVars()
	for _, each := range l.groups {
		if n := each.doc.Get("vars"); n != nil {
			v.lay(n, l.groupOrigin(each, n))
		}
	}
	if m != nil && m.vars != nil {
		v.lay(m.vars, m.origin)
	}
	if doc, at := l.hostVars(g); doc != nil {
		v.lay(doc, at)
	}
	for _, at := range v.templated {
		l.warn("%s: vars are taken as they are: {{ }} in one is not executed", at)
	}
	for _, at := range v.partly {
		l.faults.at(at, "a var is a secret as a whole, such as '{{ secret \"secrets/db.age\" }}', or none: put it together with other text where it is used")
	}
	return v
}

// hostVars reads the host's own file in the group, if there is one.
func (l *loader) hostVars(g *group) (*document.Node, resource.Origin) {
	name := path.Join(g.path, "hosts", l.in.HostName+".yaml")
	if l.in.HostName == "" || strings.Contains(l.in.HostName, "/") || !fs.ValidPath(name) {
		return nil, resource.Origin{}
	}
	f, err := l.tree.yaml(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, resource.Origin{}
	}
	return l.oneMap(f, g.path), l.tree.origin(g.path, name, 1, 1)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
