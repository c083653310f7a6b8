package shared

import (
	"context"
	"slices"
	"strings"

	"trued.dev/trued/internal/resource"
)

// Moved are values that give back what a resource held elsewhere, under claims that
// it has no longer: it was told of another file, or another user, since.
type Moved []resource.Resource

// A Mover is a Part that may have been in another file.
type Mover interface {
	Part
	Moved(view resource.View) (Moved, error)
}

// MovedFrom finds what a resource held and claims no longer, those claims apart
// that it sees to itself. absent is the module's own way to give a claim back.
func MovedFrom(
	r resource.Resource, view resource.View, absent func(resource.Held) (resource.Resource, error), itself func(resource.Claim) bool,
) (Moved, error) {
	if r.Common().Keeps() {
		return nil, nil
	}
	claims := r.Claims()
	var byName map[string][]resource.Claim // there is hardly ever one
	var names []string
	for _, c := range view.Held {
		if slices.Contains(claims, c) || itself(c) {
			continue
		}
		if _, managed := view.Owner(c); managed {
			continue
		}
		if byName == nil {
			byName = map[string][]resource.Claim{}
		}
		if byName[c.Name] == nil {
			names = append(names, c.Name)
		}
		byName[c.Name] = append(byName[c.Name], c)
	}
	var all Moved
	for _, name := range names {
		gone, err := absent(resource.Held{Address: resource.Address{Name: r.Name()}, Claims: byName[name], Prior: view.Prior})
		if err != nil {
			return nil, err
		}
		all = append(all, gone)
	}
	return all, nil
}

// CheckMoved adds to what was found of a resource's own place what it gives back
// elsewhere.
func CheckMoved(ctx context.Context, view resource.View, from func(resource.View) (Moved, error), finding resource.Finding) (resource.Finding, error) {
	moved, err := from(view)
	if err != nil {
		return resource.Finding{}, err
	}
	err = moved.Check(ctx, view, &finding)
	return finding, err
}

// Check adds to a finding what is to be given back.
func (m Moved) Check(ctx context.Context, view resource.View, finding *resource.Finding) error {
	if finding.Unknown != "" {
		return nil // it goes once it has its new place
	}
	for _, gone := range m {
		found, err := gone.Check(ctx, view)
		if err != nil {
			return err
		}
		for _, c := range found.Diff {
			c.Field, c.Cause = fieldOf(gone, c.Field), resource.Prune
			finding.Diff = append(finding.Diff, c)
			finding.Witness = nil
		}
	}
	return nil
}

// fieldOf names in a field what it was that is given back.
func fieldOf(gone resource.Resource, field string) string {
	name := gone.Claims()[0].Name
	if strings.HasSuffix(field, ":"+name) {
		return field
	}
	return field + ":" + name
}

// Split parts a difference into that of a resource's own place and what is given
// back elsewhere.
func Split(diff resource.Diff) (own, elsewhere resource.Diff) {
	for _, c := range diff {
		if c.Cause == resource.Prune {
			elsewhere = append(elsewhere, c)
		} else {
			own = append(own, c)
		}
	}
	return own, elsewhere
}

// Apply gives back what a difference states.
func (m Moved) Apply(ctx context.Context, view resource.View, stated resource.Diff) error {
	for _, gone := range m {
		found, err := gone.Check(ctx, view)
		if err != nil {
			return err
		}
		found.Diff = slices.DeleteFunc(found.Diff, func(c resource.Change) bool { return !stated.Has(fieldOf(gone, c.Field)) })
		if len(found.Diff) == 0 {
			continue
		}
		if _, err := gone.Apply(ctx, view, found); err != nil {
			return err
		}
	}
	return nil
}
