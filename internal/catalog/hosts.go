package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"trued.dev/trued/internal/document"
	"trued.dev/trued/internal/resource"
)

const hostsFile = "hosts.yaml"

// membership is what hosts.yaml says about one name or glob.
type membership struct {
	pattern string
	group   string
	vars    *document.Node // nil when there are none
	origin  resource.Origin
}

// isGlob reports whether a key of hosts.yaml is a pattern.
func isGlob(s string) bool { return strings.ContainsAny(s, "*?[") }

// memberships reads hosts.yaml; there may be none.
func (l *loader) memberships() []membership {
	f, err := l.tree.yaml(hostsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	doc := l.oneMap(f, "")
	if doc == nil {
		return nil
	}
	var list []membership
	for _, p := range doc.Pairs {
		m := membership{pattern: p.Key.Value, origin: l.tree.origin("", f.path, p.Key.Line, p.Key.Column)}
		if _, err := path.Match(m.pattern, ""); err != nil {
			l.faults.at(m.origin, "%q is not a host name or glob", m.pattern)
			continue
		}
		var entry struct {
			Group string         `yaml:"group"`
			Vars  map[string]any `yaml:"vars"`
		}
		if problems := l.dec.Decode(p.Value, &entry); len(problems) > 0 {
			l.faults.problems(m.origin, problems)
			continue
		}
		m.group, m.vars = entry.Group, p.Value.Get("vars")
		list = append(list, m)
	}
	return list
}

// member returns the most exact entry for the host: its name, else the longest
// glob.
func (l *loader) member(list []membership, host string) *membership {
	var best *membership
	for i := range list {
		m := &list[i]
		if m.pattern == host {
			return m
		}
		if !isGlob(m.pattern) {
			continue
		}
		if ok, _ := path.Match(m.pattern, host); !ok {
			continue
		}
		switch {
		case best == nil || len(m.pattern) > len(best.pattern):
			best = m
		case len(m.pattern) == len(best.pattern):
			l.faults.at(m.origin, "%q and %q in line %d match host %q equally well: name the host, or make one longer",
				m.pattern, best.pattern, best.origin.Line, host)
		}
	}
	return best
}

// placement decides the host's group.
func (l *loader) placement() (groupPath string, m *membership) {
	list := l.memberships()
	if l.faults.any() {
		return "", nil
	}
	if l.in.HostName != "" {
		m = l.member(list, l.in.HostName)
	}
	if l.in.Group != "" {
		return l.cleanGroup(l.in.Group, resource.Origin{Source: l.tree.name, File: l.in.Group}), m
	}
	switch {
	case m != nil && m.group != "":
		return l.cleanGroup(m.group, m.origin), m
	case m != nil:
		l.faults.at(m.origin, "no group for host %q", l.in.HostName)
	case len(list) == 0:
		l.faults.at(resource.Origin{Source: l.tree.name, File: hostsFile}, "no group is configured, and there is no %s that names one for host %q", hostsFile, l.in.HostName)
	default:
		var names []string
		for _, m := range list {
			if !isGlob(m.pattern) {
				names = append(names, m.pattern)
			}
		}
		l.faults.add(Error{
			Origin:     resource.Origin{Source: l.tree.name, File: hostsFile},
			Message:    fmt.Sprintf("host %q is in no group", l.in.HostName),
			Suggestion: document.Nearest(l.in.HostName, names),
		})
	}
	return "", nil
}

// cleanGroup checks the path of a group and returns it cleaned, or empty.
func (l *loader) cleanGroup(name string, at resource.Origin) string {
	clean := path.Clean(strings.TrimSuffix(name, "/"))
	if name == "" || path.IsAbs(name) || !fs.ValidPath(clean) || clean == "." {
		l.faults.at(at, "group %q is not a path within the repository, such as groups/web", name)
		return ""
	}
	return clean
}

// oneMap returns the single map that a file should hold, or nil. An empty file
// is an empty map.
func (l *loader) oneMap(f *file, group string) *document.Node {
	at := l.tree.origin(group, f.path, 1, 1)
	if len(f.problems) > 0 {
		l.faults.problems(at, f.problems)
		return nil
	}
	switch {
	case len(f.docs) == 0 || len(f.docs) == 1 && f.docs[0].Type == document.Null && f.docs[0].Kind == document.Scalar:
		return &document.Node{Kind: document.Map, Line: 1, Column: 1}
	case len(f.docs) > 1:
		at.Line, at.Column = f.docs[1].Line, f.docs[1].Column
		l.faults.at(at, "more than one document")
		return nil
	case f.docs[0].Kind != document.Map:
		at.Line, at.Column = f.docs[0].Line, f.docs[0].Column
		l.faults.at(at, "%s where a map is wanted", f.docs[0].What())
		return nil
	}
	return f.docs[0]
}
