package catalog

import (
	"fmt"
	"slices"

	"trued.dev/trued/internal/document"
	"trued.dev/trued/internal/resource"
)

// maxResources bounds what one host can be made to manage.
const maxResources = 100_000

// A loader makes one catalog.
type loader struct {
	in     Input
	tree   *tree
	dec    *document.Decoder
	faults faults
	// gates are refusals by requires_trued; when there are any, nothing else that
	// a newer agent may understand is reported.
	gates    faults
	warnings []string
	// incomplete is true when something could not be read, so that what is not
	// found may be there.
	incomplete bool

	// compared counts the words that were looked at for suggestions.
	compared int

	kinds     map[string]*kind
	kindNames []string

	groups []*group // in the order that they come in
	byPath map[string]*group

	names *names
	// sealing leaves alone what is a secret as a whole.
	sealing     bool
	expressions *expressions
	templates   *templates

	// instances are all resources in the order written, by address the ones
	// that may end up in the catalog.
	instances []*instance
	byAddress map[resource.Address][]*instance
	// nameless are those whose name is not known yet.
	nameless []*instance
}

// A kind is a module with the keys that it takes.
type kind struct {
	module resource.Module
	keys   []string
}

func newLoader(in Input, t *tree) *loader {
	l := &loader{
		in: in, tree: t, dec: document.NewDecoder(),
		kinds:     map[string]*kind{},
		byPath:    map[string]*group{},
		byAddress: map[resource.Address][]*instance{},
	}
	for _, m := range in.Modules {
		l.kinds[m.Kind()] = &kind{module: m, keys: l.dec.Keys(m.New())}
	}
	l.kindNames = sortedKeys(l.kinds)
	return l
}

func (l *loader) warn(format string, args ...any) {
	w := fmt.Sprintf(format, args...)
	if !slices.Contains(l.warnings, w) {
		l.warnings = append(l.warnings, w)
	}
}

// nearest is document.Nearest among many words, up to a limit for a load: with
// very many mistakes in a very large group, the later ones get no suggestion.
func (l *loader) nearest(word string, among []string) string {
	const most = 500_000
	l.compared += len(among)
	if l.compared > most {
		return ""
	}
	return document.Nearest(word, among)
}

func (l *loader) load() (*Catalog, error) {
	name, member := l.placement()
	if name == "" {
		return nil, l.faults.err()
	}
	at := resource.Origin{Source: l.tree.name, File: name}
	if l.in.Group == "" && member != nil {
		at = member.origin
	}
	return l.loadGroup(name, at, member)
}

// loadGroup loads a group for a host that hosts.yaml says member about. at is
// where the group is named.
func (l *loader) loadGroup(name string, at resource.Origin, member *membership) (*Catalog, error) {
	if name == "" {
		return nil, l.faults.err()
	}
	root := l.collect(name, at, nil)
	if l.gates.any() {
		return nil, l.gates.err()
	}
	if root == nil {
		return nil, l.faults.err()
	}
	l.prepareNames(l.mergeVars(root, member))
	for _, g := range l.groups {
		l.readGroup(g)
	}
	l.applyExcludes()
	l.applyOverrides()
	entries := l.build()
	l.checkLinks(entries)
	l.checkClaims(entries)
	probes := l.health()
	if len(entries) == 0 && !root.settings.AllowEmpty && !l.faults.any() {
		// A tree that was emptied by mistake must not be taken for "remove
		// everything".
		l.faults.at(resource.Origin{Source: l.in.Name, Group: root.path, File: root.path},
			"no resource for this host: write `allow_empty: true` into its group.yaml if that is meant")
	}
	if err := l.faults.err(); err != nil {
		return nil, err
	}
	c := l.catalog(root, entries)
	c.Health = probes
	return c, nil
}

func (l *loader) prepareNames(v *vars) {
	l.names = &names{facts: l.in.Facts.Data(), unknown: l.in.Facts.Unknown, vars: v, secrets: newSecrets(l.tree, l.in.Secrets)}
	l.names.secrets.sealed = v.sealed
	l.expressions = newExpressions(l.names)
	l.templates = newTemplates(l.names)
}

func (l *loader) catalog(root *group, entries []*built) *Catalog {
	c := &Catalog{
		Source:     l.in.Name,
		Group:      root.path,
		AllowEmpty: root.settings.AllowEmpty,
		PruneLimit: root.settings.PruneLimit,
		Warnings:   l.warnings,
		Entries:    make([]Entry, 0, len(entries)),
		small:      l.tree.small,
	}
	for _, g := range l.groups {
		c.Windows = c.Windows.With(g.settings.Windows)
		if g.settings.Reboot != nil {
			c.Reboot = g.settings.Reboot
		}
	}
	for _, b := range entries {
		c.Entries = append(c.Entries, b.Entry)
	}
	for _, i := range l.instances {
		if i.absent != "" && i.address.Name != "" {
			c.Absences = append(c.Absences, Absence{Address: i.address, Origin: i.origin(), Why: i.absent})
		}
	}
	return c
}
