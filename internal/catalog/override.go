package catalog

import (
	"cmp"
	"slices"
	"strings"

	"trued.dev/trued/internal/document"
	"trued.dev/trued/internal/resource"
)

// applyOverrides finds what each override lays itself over.
func (l *loader) applyOverrides() {
	kept := l.instances[:0]
	for _, in := range l.instances {
		switch {
		case in.address.Name == "" && in.item.steering.Override:
			l.mayOverride(in)
		case in.address.Name == "":
			kept = append(kept, in)
		case in.item.steering.Override:
			l.override(in)
		default:
			kept = append(kept, in)
			l.byAddress[in.address] = append(l.byAddress[in.address], in)
		}
	}
	l.instances = kept
	l.checkDuplicates()
}

// mayOverride lets all wait that an override may be about whose name is not
// known yet.
func (l *loader) mayOverride(in *instance) {
	for address, list := range l.byAddress {
		for _, base := range list {
			if address.Kind == in.address.Kind && base.item.group != in.item.group {
				base.pending = cmp.Or(base.pending, in.pending)
			}
		}
	}
}

func (l *loader) override(in *instance) {
	at := l.itemOrigin(in.item, in.item.nameKey)
	found := false
	for _, base := range l.byAddress[in.address] {
		if base.item.group == in.item.group {
			l.faults.at(at, "override is for resources of included groups: change the one in %s:%d", base.origin().File, base.origin().Line)
			return
		}
		found = true
		if in.absent == "" {
			base.overrides = append(base.overrides, in)
		}
	}
	if !found && !l.mayBe(in.address.Kind) {
		l.faults.add(Error{
			Origin:     at,
			Message:    "nothing to override: no included group has " + in.address.String(),
			Suggestion: l.nearestAddress(in.address),
		})
	}
}

// mayBe reports whether an address of the kind that is not found may be there
// all the same: one whose name is not known yet, or in what could not be read.
func (l *loader) mayBe(kind string) bool {
	return l.incomplete || slices.ContainsFunc(l.nameless, func(i *instance) bool { return i.address.Kind == kind })
}

func (l *loader) nearestAddress(a resource.Address) string {
	var known []string
	for other := range l.byAddress {
		known = append(known, other.String())
	}
	slices.Sort(known)
	return l.nearest(a.String(), known)
}

// checkDuplicates refuses an address that is there twice. Those that hang on
// unknown facts may be alternatives.
func (l *loader) checkDuplicates() {
	for _, in := range l.instances {
		list := l.byAddress[in.address]
		if len(list) < 2 || in.absent != "" || in.pending != "" {
			continue
		}
		first := list[slices.IndexFunc(list, func(i *instance) bool { return i.absent == "" && i.pending == "" })]
		if first == in {
			continue
		}
		switch at := in.origin(); {
		case first.item == in.item && in.item.forEach != nil:
			l.faults.at(at, "for_each makes %s more than once: use each.key or each.value in its name", in.address)
		case first.item.group != in.item.group:
			l.faults.at(at, "%s is in %s:%d already: write override: true to change it", in.address, first.origin().File, first.origin().Line)
		default:
			l.faults.at(at, "%s is in %s:%d already", in.address, first.origin().File, first.origin().Line)
		}
	}
}

// applyExcludes marks what groups leave out of what they include.
func (l *loader) applyExcludes() {
	for _, g := range l.groups {
		for k, pattern := range g.settings.Exclude {
			n := g.doc.Get("exclude").Items[k]
			l.exclude(g, pattern, l.groupOrigin(g, n))
		}
	}
}

func (l *loader) exclude(g *group, pattern string, at resource.Origin) {
	wanted := l.normal(pattern)
	found := false
	var known []string
	for _, in := range l.instances {
		if !g.includes[in.item.group.path] || in.address.Name == "" {
			continue
		}
		ok, err := in.address.Match(wanted)
		if err != nil {
			l.faults.at(at, "exclude: %v", err)
			return
		}
		if ok {
			found = true
			in.absent = "excluded in " + at.String()
		}
		known = append(known, in.address.String())
	}
	kind, _, _ := strings.Cut(wanted, ":")
	if !found && !l.mayBe(kind) {
		l.faults.add(Error{Origin: at, Message: "exclude: " + pattern + " matches nothing that the group includes", Suggestion: l.nearest(pattern, known)})
	}
}

// normal gives an address the spelling of its module: cleaned paths, full names
// of units. A glob, and what is no address, stays.
func (l *loader) normal(s string) string {
	a, err := resource.ParseAddress(s)
	if err != nil || isGlob(s) {
		return s
	}
	k := l.kinds[a.Kind]
	if k == nil {
		return s
	}
	r := k.module.New()
	if len(l.dec.Set(&document.Node{Value: a.Kind}, &document.Node{Value: a.Name}, r)) > 0 {
		return s
	}
	return resource.AddressOf(k.module, r).String()
}
