package pkg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"trued.dev/trued/internal/resource"
)

// check is what declared and leaving packages have in common: it reads the
// database, takes the first note, and says what must come first.
func (m *Module) check(
	ctx context.Context, view resource.View, name string,
	difference func(context.Context, *database) (resource.Finding, error),
) (resource.Finding, error) {
	if err := ctx.Err(); err != nil {
		return resource.Finding{}, err
	}
	db, err := m.manager.Installed(ctx)
	if errors.Is(err, fs.ErrNotExist) && view.Offline {
		return resource.Finding{Pending: "the tree has no package database"}, nil
	}
	if errors.Is(err, errRootAlone) {
		return resource.Finding{Pending: err.Error()}, nil
	}
	if err != nil {
		return resource.Finding{}, err
	}
	have := db.find(name)
	if have != nil && have.Status.broken() && m.manager.Busy() {
		return resource.Finding{Pending: "another package manager is at work"}, nil
	}
	found, err := difference(ctx, db)
	if err != nil {
		return found, err
	}
	if len(found.Diff) > 0 {
		found.Pending = m.manager.Ready()
	}
	if found.InOrder() && found.Note == "" {
		found.Witness = db.witness
	}
	if _, noted, err := readNote(view.Prior, name); err != nil || noted {
		return found, err
	}
	found.Prior = firstNote(have).prior(name)
	return found, nil
}

func firstNote(have *record) note {
	if have == nil || have.Status == notInstalled || have.Status == configFiles {
		return note{Held: have != nil && have.Held}
	}
	return note{Installed: true, Version: have.Version, Held: have.Held, Auto: have.Auto}
}

// word says a record's state in the words of a manifest.
func word(have *record) string {
	switch {
	case have == nil || have.Status == notInstalled:
		return stateAbsent
	case have.Status == installed:
		return statePresent
	case have.Status == configFiles:
		return "absent, its configuration left"
	default:
		return string(have.Status)
	}
}

func (r *Resource) difference(ctx context.Context, db *database) (resource.Finding, error) {
	have := db.find(r.Package)
	switch {
	case r.gone():
		return r.checkGone(have), nil
	case have == nil || have.Status == notInstalled || have.Status == configFiles:
		return r.checkMissing(ctx, db, have)
	case have.Status.broken():
		found := resource.Finding{Diff: resource.Diff{{Field: "state", Old: word(have), New: statePresent}}}
		r.checkHold(&found, have)
		return found, nil
	default:
		return r.checkPresent(ctx, db, have)
	}
}

func (r *Resource) checkGone(have *record) resource.Finding {
	var found resource.Finding
	removed := have == nil || have.Status == notInstalled || have.Status == configFiles
	clean := have == nil || have.Status == notInstalled
	if clean || removed && r.State == stateAbsent {
		return found
	}
	found.Diff = resource.Diff{{Field: "state", Old: word(have), New: r.State}}
	if m, ok := r.m.manager.(remainder); ok && r.State == statePurged {
		found.Note = m.Remains()
	}
	return found
}

// checkMissing is about a package that is not there. A virtual name is in order
// when something that is there provides it.
func (r *Resource) checkMissing(ctx context.Context, db *database, have *record) (resource.Finding, error) {
	c := r.constraint()
	provides := func(version string) bool {
		return len(c) == 0 || version != "" && c.holds(r.m.manager.Compare, version)
	}
	if p := db.provider(r.Package, provides); p != nil {
		return resource.Finding{Note: "provided by " + p.Name}, nil
	}
	found := resource.Finding{
		Creates: true,
		Diff:    resource.Diff{{Field: "state", Old: word(have), New: statePresent}},
	}
	if err := r.foresee(ctx, db, &found); err != nil {
		return resource.Finding{}, err
	}
	if r.Hold != nil && *r.Hold {
		found.Diff = append(found.Diff, resource.Change{Field: "hold", Old: "false", New: "true"})
	}
	return found, nil
}

// foresee adds the version that a missing package would come in, or why it
// cannot be had as far as the index tells.
func (r *Resource) foresee(ctx context.Context, db *database, found *resource.Finding) error {
	if r.m.manager.Ready() != "" {
		return nil
	}
	o, err := r.m.offer(ctx, db, r.Package)
	if err != nil {
		return err
	}
	version, name, err := r.choose(o, nil)
	if err != nil {
		found.Note = err.Error()
		if !r.m.triedRefresh() {
			found.Note += "; the index is refreshed first"
		}
		return nil
	}
	found.Note = joinNotes(r.providedBy(name), r.constraint().epochRemark(version))
	if version != "" {
		found.Diff = append(found.Diff, resource.Change{Field: "version", New: version})
	}
	return nil
}

func (r *Resource) providedBy(name string) string {
	if name == r.Package {
		return ""
	}
	return "provided by " + name
}

func (r *Resource) checkPresent(ctx context.Context, db *database, have *record) (resource.Finding, error) {
	var found resource.Finding
	c := r.constraint()
	found.Note = c.epochRemark(have.Version)
	holds := c.holds(r.m.manager.Compare, have.Version)
	if (!holds || r.State == stateLatest) && r.m.manager.Ready() == "" {
		o, err := r.m.offer(ctx, db, r.Package)
		if err != nil {
			return resource.Finding{}, err
		}
		version, _, err := r.choose(o, have)
		switch {
		case err != nil && holds:
			found.Note = joinNotes(found.Note, err.Error())
		case err != nil:
			found.Note = joinNotes(found.Note, err.Error())
			found.Diff = resource.Diff{{Field: "version", Old: have.Version, New: r.Version}}
		case version != have.Version:
			change := resource.Change{Field: "version", Old: have.Version, New: version}
			if holds {
				change.Cause = resource.Intended // the index moved on, the host did not
			}
			found.Note = joinNotes(found.Note, c.epochRemark(version))
			found.Diff = resource.Diff{change}
		}
	}
	if r.State == stateLatest {
		found.Note = joinNotes(found.Note, r.m.indexRemark())
	}
	r.checkHold(&found, have)
	return found, nil
}

func (r *Resource) checkHold(found *resource.Finding, have *record) {
	if r.Hold != nil && *r.Hold != have.Held {
		found.Diff = append(found.Diff, resource.Change{
			Field: "hold", Old: yesNo(have.Held), New: yesNo(*r.Hold),
		})
	}
}

// choose returns the version to go to and the name to ask for, which is another
// when the name is virtual. The version is empty where the manager is to choose.
func (r *Resource) choose(o offer, have *record) (version, name string, err error) {
	c := r.constraint()
	compare := r.m.manager.Compare
	if len(o.Versions) == 0 && (have == nil || have.Status == configFiles || have.Status == notInstalled) {
		return r.chooseProvider(o)
	}
	best := c.best(compare, o)
	if have == nil || have.Status != installed {
		switch {
		case best == "" && len(c) == 0:
			return "", "", errors.New("the package index knows it and has no version to install")
		case best == "":
			return "", "", fmt.Errorf("no version matches %q: there is %s", r.Version, strings.Join(o.Versions, ", "))
		}
		return best, r.Package, nil
	}
	holds := c.holds(compare, have.Version)
	if best == "" && holds {
		return have.Version, r.Package, nil
	}
	if best == "" {
		return "", "", fmt.Errorf("installed is %s, and no version matches %q: there is %s",
			have.Version, r.Version, orNone(strings.Join(o.Versions, ", ")))
	}
	if compare(best, have.Version) < 0 && !r.AllowDowngrade {
		if holds {
			return have.Version, r.Package, nil
		}
		return "", "", fmt.Errorf("installed is %s, and only a downgrade to %s would match %q: set allow_downgrade to true",
			have.Version, best, r.Version)
	}
	return best, r.Package, nil
}

// chooseProvider is about a name that is no package, or not known at all.
func (r *Resource) chooseProvider(o offer) (version, name string, err error) {
	switch {
	case len(o.Providers) == 0:
		return "", "", errNoSuchPackage
	case len(o.Providers) > 1:
		return "", "", fmt.Errorf("it is a virtual package that several provide: name one of %s", strings.Join(o.Providers, ", "))
	case r.Version != "":
		return "", "", fmt.Errorf("it is a virtual package, provided by %s: put the constraint there", o.Providers[0])
	}
	return "", o.Providers[0], nil
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func joinNotes(notes ...string) string {
	var kept []string
	for _, n := range notes {
		if n != "" {
			kept = append(kept, n)
		}
	}
	return strings.Join(kept, "; ")
}
