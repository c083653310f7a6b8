package pkg

import (
	"context"
	"errors"

	"trued.dev/trued/internal/resource"
)

// leaving is a package that has left Git. One that trued installed is removed,
// with what came as its dependency and nothing else needs; its configuration
// stays. One that was there before stays, and gets back its marks. One that was
// removed is not installed again.
type leaving struct {
	meta    resource.Meta
	m       *Module
	address resource.Address
	name    string
	note    note
}

func (l *leaving) Common() *resource.Meta   { return &l.meta }
func (l *leaving) Name() string             { return l.address.Name }
func (l *leaving) Validate() error          { return nil }
func (l *leaving) Claims() []resource.Claim { return []resource.Claim{claim(l.name)} }

// target is the package that was installed for the name.
func (l *leaving) target() string {
	if l.note.Real != "" {
		return l.note.Real
	}
	return l.name
}

func (l *leaving) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	if _, owned := view.Owner(claim(l.target())); owned && l.note.Real != "" {
		return resource.Finding{}, nil // what was installed for a virtual name is declared by its own
	}
	return l.m.check(ctx, view, l.name, l.difference)
}

func (l *leaving) difference(_ context.Context, db *database) (resource.Finding, error) {
	var found resource.Finding
	have := db.find(l.target())
	if have == nil || have.Status == notInstalled || have.Status == configFiles {
		return found, nil
	}
	if !l.note.Installed {
		found.Diff = resource.Diff{{Field: "state", Old: word(have), New: stateAbsent}}
		return found, nil
	}
	if l.note.SetHold && have.Held != l.note.Held {
		found.Diff = append(found.Diff, resource.Change{
			Field: "hold", Old: yesNo(have.Held), New: yesNo(l.note.Held),
		})
	}
	if l.note.Auto && !have.Auto {
		found.Diff = append(found.Diff, resource.Change{Field: "auto", Old: "false", New: "true"})
	}
	return found, nil
}

func (l *leaving) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	out := l.m.Transact(ctx, []resource.Item{{Resource: l, View: view, Found: found}})
	if len(out) != 1 {
		return resource.Result{}, errors.New("a transaction of one has not one result")
	}
	return out[0].Result, out[0].Err
}

func yesNo(b bool) string {
	if b {
		return "true"
	}
	return "false"
}
