package pkg

import (
	"context"
	"errors"
	"fmt"

	"trued.dev/trued/internal/resource"
)

// A wish is one item of a transaction in the words of the package manager.
type wish struct {
	item  int
	name  string // the package that is meant, which provides a virtual name
	claim string // the name that was declared
	view  resource.View
	// declared is what Git says; nil for what left it.
	declared *Resource
	note     note
	opts     options
	pruned   bool

	install, remove, purge bool
	version                string // to install; empty for what the manager chooses
	file                   string // to install from, in place of the index
	downgrade              bool   // allowed
	hold, unhold, auto     bool

	done bool
	err  error
}

// moves reports whether the wish is more than a mark.
func (w *wish) moves() bool { return w.install || w.remove || w.purge }

// prepare waits for what is under way, repairs what is half done, and says what
// each item comes to.
func (m *Module) prepare(ctx context.Context, items []resource.Item) ([]*wish, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if why := m.manager.Ready(); why != "" {
		return nil, errors.New(why)
	}
	if err := m.manager.Attach(ctx); err != nil {
		return nil, err
	}
	if err := m.repair(ctx); err != nil {
		return nil, err
	}
	known := m.triedRefresh()
	wishes, err := m.wishes(ctx, items)
	if err == nil && !known && m.triedRefresh() {
		return m.wishes(ctx, items) // the first were chosen from the older index
	}
	return wishes, err
}

func (m *Module) wishes(ctx context.Context, items []resource.Item) ([]*wish, error) {
	db, err := m.manager.Installed(ctx)
	if err != nil {
		return nil, err
	}
	wishes := make([]*wish, len(items))
	for i, item := range items {
		w, err := m.wish(ctx, db, item)
		if w == nil {
			w = &wish{}
		}
		w.item, w.view = i, item.View
		if err != nil {
			w.err = fmt.Errorf("package %q: %w", item.Resource.Name(), err)
		}
		wishes[i] = w
	}
	return wishes, nil
}

// repair lets the manager finish what was cut off. A package that cannot be
// repaired does not stop the others; it shows in what comes after.
func (m *Module) repair(ctx context.Context) error {
	db, err := m.manager.Installed(ctx)
	if err != nil {
		return err
	}
	if !db.Interrupted && len(db.broken()) == 0 {
		return nil
	}
	if err := pardon(m.manager.Repair(ctx)); err != nil {
		return err
	}
	if db, err = m.manager.Installed(ctx); err != nil || len(db.broken()) == 0 {
		return err
	}
	// What is left lacks a dependency, or its files.
	fix := transaction{Fix: true}
	e, err := m.manager.Simulate(ctx, fix)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	a := &attempt{m: m}
	if err != nil || len(e.Installs) == 0 || a.guard(db, nil, nil, e) != nil {
		return nil
	}
	return pardon(m.commit(ctx, db, fix, e))
}

// pardon passes on all errors but those of the packages themselves.
func pardon(err error) error {
	var failed *failure
	if errors.As(err, &failed) {
		return nil
	}
	return err
}

func (m *Module) wish(ctx context.Context, db *database, item resource.Item) (*wish, error) {
	if l, ok := item.Resource.(*leaving); ok {
		w := &wish{name: l.target(), claim: l.name, note: l.note, pruned: true}
		w.remove = item.Found.Diff.Has("state")
		w.setHold(item.Found.Diff)
		w.auto = item.Found.Diff.Has("auto")
		return w, nil
	}
	r, ok := item.Resource.(*Resource)
	if !ok {
		return nil, fmt.Errorf("%T is not a package", item.Resource)
	}
	n, noted, err := readNote(item.View.Prior, r.Package)
	if err != nil {
		return nil, err
	}
	if !noted {
		// The engine has written down what Check found, and may not have read it back.
		if n, noted, err = readNote(item.Found.Prior, r.Package); err != nil {
			return nil, err
		}
	}
	if !noted {
		n = firstNote(db.find(r.Package))
	}
	w := &wish{name: r.Package, claim: r.Package, declared: r, note: n}
	w.setHold(item.Found.Diff)
	w.note.SetHold = w.note.SetHold || w.hold || w.unhold
	state, version := item.Found.Diff.Has("state"), item.Found.Diff.Has("version")
	switch {
	case r.gone():
		w.remove, w.purge = state && r.State == stateAbsent, state && r.State == statePurged
	case state || version:
		w.opts = options{NewConffiles: r.Conffiles == replaceConffiles}
		if r.Recommends != nil {
			w.opts.Recommends = yesNo(*r.Recommends)
		}
		w.downgrade = r.AllowDowngrade
		return w, m.target(ctx, db, r, w)
	}
	return w, nil
}

func (w *wish) setHold(diff resource.Diff) {
	for _, c := range diff {
		if c.Field == "hold" {
			w.hold, w.unhold = c.New == "true", c.New == "false"
		}
	}
}

// target finds what to install for a declared package. What the index does not
// have may be in a newer one.
func (m *Module) target(ctx context.Context, db *database, r *Resource, w *wish) error {
	w.install = true
	have := db.find(r.Package)
	if have != nil && r.State != stateLatest && r.constraint().holds(m.manager.Compare, have.Version) {
		switch {
		case have.Status == installed: // the repair has mended it
			w.install = false
			return nil
		case have.Status.broken():
			return nil // at whatever version can be had
		}
	}
	o, err := m.offer(ctx, db, r.Package)
	if err != nil {
		return err
	}
	version, name, chooseErr := r.choose(o, have)
	if chooseErr != nil && !m.triedRefresh() {
		if err := m.refreshOnce(ctx); err == nil {
			if o, err = m.offer(ctx, db, r.Package); err != nil {
				return err
			}
			version, name, chooseErr = r.choose(o, have)
		}
	}
	if chooseErr != nil {
		w.install = false
		m.refresh.Lock()
		defer m.refresh.Unlock()
		if m.failed != nil {
			return fmt.Errorf("%w (%w)", chooseErr, m.failed)
		}
		if part, ok := m.manager.(interface{ Missed() string }); ok && part.Missed() != "" {
			return fmt.Errorf("%w (not fetched of it: %s)", chooseErr, part.Missed())
		}
		return chooseErr
	}
	w.name, w.version = name, version
	if name != r.Package {
		w.note.Real = name
	}
	return nil
}
