package catalog

import (
	"fmt"
	"slices"
	"strings"

	"trued.dev/trued/internal/document"
	"trued.dev/trued/internal/resource"
)

// checkLinks holds what resources name of each other against what there is.
// An address that is written nowhere is an error. One that is written but not
// for this host is no dependency here, and is dropped from `requires`.
func (l *loader) checkLinks(entries []*built) {
	k := &linkCheck{l: l, present: map[string]bool{}, written: map[string]bool{}}
	for _, b := range entries {
		k.present[b.Address.String()] = true
	}
	for _, in := range l.instances {
		if in.address.Name != "" {
			k.written[in.address.String()] = true
		}
	}
	k.all = sortedKeys(k.written)
	for _, b := range entries {
		if b.Resource == nil {
			continue
		}
		k.requires(b)
		if r, ok := b.Resource.(resource.Reactor); ok && !b.broken {
			for _, t := range r.Triggers() {
				k.trigger(b, t)
			}
		}
	}
}

type linkCheck struct {
	l       *loader
	present map[string]bool // in this host's catalog
	written map[string]bool // in any manifest of its groups
	all     []string
}

func (k *linkCheck) requires(b *built) {
	meta := b.Resource.Common()
	var kept []string
	for i, pattern := range meta.Requires {
		at := k.l.attributeOrigin(b, "requires", i)
		wanted := k.l.normal(pattern)
		found := k.match(b, wanted, at, "requires")
		if !found {
			if kind, _, _ := strings.Cut(wanted, ":"); k.l.mayBe(kind) && b.Pending == "" {
				b.Pending = fmt.Sprintf("requires %s, which may be one whose name is not known yet", pattern)
				b.Resource = nil
			}
			continue
		}
		if isGlob(wanted) && !k.written[wanted] || k.present[wanted] {
			kept = append(kept, wanted)
		}
	}
	meta.Requires = kept
}

func (k *linkCheck) trigger(b *built, t resource.Trigger) {
	i := -1
	for _, a := range b.attributes {
		if a.key.Value == t.Key {
			i = slices.IndexFunc(a.value.Items, func(n *document.Node) bool { return n.Value == t.On })
		}
	}
	k.match(b, t.On, k.l.attributeOrigin(b, t.Key, i), t.Key)
}

// match reports whether a pattern matches anything that is written. When it
// does not and cannot, that is an error.
func (k *linkCheck) match(b *built, pattern string, at resource.Origin, key string) bool {
	if k.written[pattern] {
		return true
	}
	if isGlob(pattern) {
		for _, a := range k.all {
			address, _ := resource.ParseAddress(a)
			ok, err := address.Match(pattern)
			if err != nil {
				k.l.faults.at(at, "%s: %s: %v", b.Address, key, err)
				return true
			}
			if ok {
				return true
			}
		}
	}
	a, err := resource.ParseAddress(pattern)
	if err != nil {
		k.l.faults.at(at, "%s: %s: %v", b.Address, key, err)
		return true
	}
	if k.l.kinds[a.Kind] == nil && !isGlob(a.Kind) {
		e := Error{Origin: at, Message: fmt.Sprintf("%s: %s: unknown kind %q", b.Address, key, a.Kind), Suggestion: document.Nearest(a.Kind, k.l.kindNames)}
		k.l.faults.add(e)
		return true
	}
	if k.l.mayBe(a.Kind) {
		return false
	}
	e := Error{Origin: at, Message: fmt.Sprintf("%s: %s: %s matches no resource", b.Address, key, pattern)}
	if normal := k.l.normal(pattern); normal != pattern && k.written[normal] {
		e.Suggestion = normal
	} else {
		e.Suggestion = k.l.nearest(pattern, k.all)
	}
	k.l.faults.add(e)
	return false
}

// thing is what claims are about, whole or in part.
type thing struct{ space, name string }

// A holder is who holds a claim.
type holder struct {
	claim resource.Claim
	entry *Entry
}

// claimed is who holds what.
type claimed map[thing][]holder

// clash returns who holds a claim that the entry cannot have beside it.
func (c claimed) clash(e *Entry) (holder, resource.Claim, bool) {
	for _, claim := range e.Resource.Claims() {
		for _, h := range c[thing{claim.Space, claim.Name}] {
			if h.entry != e && h.claim.Clashes(claim) {
				return h, claim, true
			}
		}
	}
	return holder{}, resource.Claim{}, false
}

func (c claimed) add(e *Entry) {
	for _, claim := range e.Resource.Claims() {
		at := thing{claim.Space, claim.Name}
		c[at] = append(c[at], holder{claim, e})
	}
}

// checkClaims refuses two owners of one thing.
func (l *loader) checkClaims(entries []*built) {
	held := claimed{}
	for _, b := range entries {
		if b.Resource == nil || b.broken {
			continue
		}
		if h, claim, clash := held.clash(&b.Entry); clash {
			if h.entry.Address != b.Address { // else it is said already
				l.faults.at(b.Origin, "%s owns %s, which %s owns already, in %s:%d",
					b.Address, claim, h.entry.Address, h.entry.Origin.File, h.entry.Origin.Line)
			}
			continue
		}
		held.add(&b.Entry)
	}
}
