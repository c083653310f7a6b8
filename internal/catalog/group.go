package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	goversion "github.com/hashicorp/go-version"

	"trued.dev/trued/internal/document"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/window"
)

const (
	groupFile = "group.yaml"
	// maxGroups and maxManifests bound what one host can be made to read.
	maxGroups    = 1000
	maxManifests = 10_000
)

// contentDirs are the directories of a group that hold no manifests.
var contentDirs = []string{"files", "templates", "hosts"}

// A group is one directory of manifests with its group.yaml.
type group struct {
	path     string
	settings groupSettings
	// doc is group.yaml, for the places of what it says.
	doc *document.Node
	// manifests are paths, in name order.
	manifests []string
	// includes are all groups that come before it because it includes them,
	// directly or not.
	includes map[string]bool
}

// groupSettings are the keys of group.yaml.
type groupSettings struct {
	Include       []string       `yaml:"include"`
	Exclude       []string       `yaml:"exclude"`
	Vars          map[string]any `yaml:"vars"`
	RequiresTrued string         `yaml:"requires_trued"`
	AllowEmpty    bool           `yaml:"allow_empty"`
	PruneLimit    *int           `yaml:"prune_limit"`
	Windows       window.Set     `yaml:"windows"`
	Reboot        *window.Reboot `yaml:"reboot"`
	// Health is decoded when vars are known.
	Health map[string]any `yaml:"health"`
}

func (l *loader) groupOrigin(g *group, n *document.Node) resource.Origin {
	return l.tree.origin(g.path, path.Join(g.path, groupFile), n.Line, n.Column)
}

// collect reads the group and all that it includes, which come first, each
// once. under is the chain of groups that led here.
func (l *loader) collect(name string, at resource.Origin, under []string) *group {
	if slices.Contains(under, name) {
		l.faults.at(at, "groups include each other: %s", strings.Join(append(under, name), " → "))
		return nil
	}
	if g := l.byPath[name]; g != nil {
		return g
	}
	if len(l.byPath) >= maxGroups {
		l.faults.at(at, "more than %d groups", maxGroups)
		return nil
	}
	g := l.openGroup(name, at)
	if g == nil {
		return nil
	}
	for i, include := range g.settings.Include {
		item := g.doc.Get("include").Items[i]
		at := l.groupOrigin(g, item)
		if include == "" && item.Kind != document.Scalar {
			continue // said already
		}
		clean := l.cleanGroup(include, at)
		if clean == "" {
			l.incomplete = true
			continue
		}
		if below := l.collect(clean, at, append(slices.Clone(under), name)); below != nil {
			g.includes[clean] = true
			for path := range below.includes {
				g.includes[path] = true
			}
		}
	}
	l.byPath[name] = g
	l.groups = append(l.groups, g)
	return g
}

// openGroup lists a group's directory and reads its group.yaml.
func (l *loader) openGroup(name string, at resource.Origin) *group {
	entries, err := l.tree.readDir(name)
	if err != nil {
		l.incomplete = true
		l.faults.add(Error{
			Origin:     at,
			Message:    fmt.Sprintf("cannot read group %q: %s", name, reason(err)),
			Suggestion: l.nearestGroup(name),
		})
		return nil
	}
	g := &group{path: name, includes: map[string]bool{}}
	for _, e := range entries {
		file := e.Name()
		switch {
		case strings.HasPrefix(file, "."), file == groupFile, e.IsDir():
		case strings.HasSuffix(file, ".yaml"):
			g.manifests = append(g.manifests, path.Join(name, file))
		case strings.HasSuffix(file, ".yml"):
			l.warn("%s is not read: manifests end in .yaml", path.Join(name, file))
		}
	}
	if len(g.manifests) > maxManifests {
		l.faults.at(at, "group %q has more than %d manifests", name, maxManifests)
		return nil
	}
	return l.readSettings(g)
}

func (l *loader) nearestGroup(name string) string {
	entries, err := l.tree.readDir(path.Dir(name))
	if err != nil {
		return ""
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, path.Join(path.Dir(name), e.Name()))
		}
	}
	return document.Nearest(name, names)
}

func (l *loader) readSettings(g *group) *group {
	g.doc = &document.Node{Kind: document.Map, Line: 1, Column: 1}
	f, err := l.tree.yaml(path.Join(g.path, groupFile))
	if errors.Is(err, fs.ErrNotExist) {
		return g
	}
	doc := l.oneMap(f, g.path)
	if doc == nil {
		return nil
	}
	g.doc = doc
	// The gate comes before everything that a newer agent may understand.
	if !l.gate(g) {
		return g
	}
	problems := l.dec.Decode(doc, &g.settings)
	l.faults.problems(l.groupOrigin(g, doc), problems)
	if err := g.settings.Windows.Validate(); err != nil && len(problems) == 0 {
		l.faults.at(l.groupOrigin(g, doc.Get("windows")), "windows: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	if err := g.settings.Reboot.Validate(); err != nil && len(problems) == 0 {
		l.faults.at(l.groupOrigin(g, doc.Get("reboot")), "reboot: %s", err)
	}
	if limit := g.settings.PruneLimit; limit != nil && *limit < 0 {
		l.faults.at(l.groupOrigin(g, doc.Get("prune_limit")), "prune_limit: %d is less than 0", *limit)
	}
	return g
}

// gate holds requires_trued against the agent's version. A development build,
// whose version is no number, passes.
func (l *loader) gate(g *group) bool {
	n := g.doc.Get("requires_trued")
	if n == nil || n.Kind != document.Scalar {
		return true
	}
	at := l.groupOrigin(g, n)
	want, err := goversion.NewConstraint(n.Value)
	if err != nil {
		l.faults.at(at, "requires_trued: %q is not a version constraint, such as \">= 1.2\"", n.Value)
		return true
	}
	have, err := goversion.NewVersion(l.in.Version)
	if err != nil || want.Check(have.Core()) {
		return true
	}
	l.gates.at(at, "needs trued %s; this is %s: upgrade the agent first", n.Value, l.in.Version)
	return false
}
