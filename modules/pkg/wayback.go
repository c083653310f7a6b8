package pkg

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// Return gives each package that was changed since something was kept in the
// directory the version, the configuration files and the marks that it had, in
// one transaction and from what was kept. A package that came is purged: neither
// it nor its configuration was there. A package that somebody else changed
// meanwhile, and the module did not, is left alone.
func (m *Module) Return(ctx context.Context, dir string) ([]resource.Returned, error) {
	list, err := readKept(dir)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	if why := m.manager.Ready(); why != "" {
		return nil, errors.New(why)
	}
	m.KeepIn("")
	if err := m.manager.Attach(ctx); err != nil {
		return nil, err
	}
	if err := m.repairInTime(ctx); err != nil {
		return nil, err
	}
	db, err := m.manager.Installed(ctx)
	if err != nil {
		return nil, err
	}
	var wishes []*wish
	var back []*returning
	for _, k := range list {
		b := &returning{kept: k, wish: k.wish(db, m.manager.Compare, dir)}
		b.diff = b.wish.difference(db.find(k.Name), k)
		back = append(back, b)
		if b.wish.moves() || b.wish.hold || b.wish.unhold || b.wish.auto {
			wishes = append(wishes, b.wish)
		}
	}
	if len(wishes) > 0 {
		m.transactGroup(ctx, wishes)
	}
	return m.returned(ctx, dir, back)
}

// repairWait is how long a script that was cut off may take, once more, before what it
// is of goes.
const repairWait = 80 * time.Second

// repairInTime is repair that ends a script which hangs: the version that it is of goes
// in any case.
func (m *Module) repairInTime(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, m.patience)
	defer cancel()
	err := m.repair(within)
	if within.Err() == nil || ctx.Err() != nil {
		return err
	}
	if err := m.manager.End(ctx); err == nil || !m.manager.Busy() {
		return err
	}
	return m.repair(ctx) // somebody else is at work, and comes to an end
}

// returning is a package on its way back.
type returning struct {
	kept kept
	wish *wish
	diff resource.Diff
}

// wish says what it takes to have a package again as it was.
func (k kept) wish(db *database, compare func(a, b string) int, dir string) *wish {
	w := &wish{name: k.Name, claim: k.Name, opts: options{Recommends: "false"}, downgrade: true, note: note{Installed: true}}
	have := db.find(k.Name)
	there := have != nil && have.Status != notInstalled && have.Status != configFiles
	switch {
	case !k.installed() && k.Status == configFiles:
		w.remove = there
		return w
	case !k.installed():
		w.purge = there || have != nil && have.Status == configFiles
		return w
	}
	w.install = !there || have.Status != installed || compare(have.Version, k.Version) != 0
	w.version = k.Version
	if k.File != "" {
		w.file = filepath.Join(dir, k.File)
	}
	held := have != nil && have.Held
	w.hold, w.unhold = k.Held && !held, !k.Held && held
	w.auto = k.Auto && (w.install || !have.Auto)
	return w
}

// difference tells what the wish changes.
func (w *wish) difference(have *record, k kept) resource.Diff {
	var diff resource.Diff
	change := func(field, old, now string) { diff = append(diff, resource.Change{Field: field, Old: old, New: now}) }
	there := have != nil && have.Status != notInstalled && have.Status != configFiles
	switch {
	case w.purge:
		change("state", word(have), statePurged)
	case w.remove:
		change("state", word(have), stateAbsent)
	case w.install && !there:
		change("state", word(have), statePresent)
		change("version", "", k.Version)
	case w.install:
		change("version", have.Version, k.Version)
	}
	if w.hold || w.unhold {
		change("hold", yesNo(!w.hold), yesNo(w.hold))
	}
	return diff
}

// returned gives the configuration files back, and tells what came of it all.
func (m *Module) returned(ctx context.Context, dir string, back []*returning) ([]resource.Returned, error) {
	db, err := m.manager.Installed(ctx)
	if err != nil {
		return nil, err
	}
	h := keptHost(m.root, dir)
	var out []resource.Returned
	for _, b := range back {
		r := resource.Returned{Name: b.kept.Name, Diff: b.diff, Err: b.wish.err}
		if r.Err == nil {
			diff, err := m.returnConffiles(ctx, h, db, b.kept)
			r.Diff = append(r.Diff, diff...)
			r.Err = err
		}
		if len(r.Diff) > 0 || r.Err != nil {
			out = append(out, r)
		}
	}
	return out, ctx.Err()
}

// returnConffiles gives back what a package's configuration files were, and takes
// away those that a later version of it brought and nobody touched.
func (m *Module) returnConffiles(ctx context.Context, h *host.Host, db *database, k kept) (resource.Diff, error) {
	var all resource.Diff
	var errs []error
	for _, c := range slices.SortedFunc(maps.Keys(k.Conffiles), func(a, b resource.Claim) int { return strings.Compare(a.Name, b.Name) }) {
		was, _, err := host.NotedPath(k.Conffiles, c.Name)
		if err == nil {
			var diff resource.Diff
			if diff, err = h.CompareRestore(ctx, c.Name, was); err == nil && len(diff) > 0 {
				err = h.RestorePath(ctx, c.Name, was)
				all = append(all, resource.Change{Field: "conffile:" + c.Name, Redacted: true})
			}
		}
		errs = append(errs, err)
	}
	by, ok := m.manager.(keeper)
	have := db.find(k.Name)
	if !ok || have == nil || !k.installed() || k.File == "" {
		return all, errors.Join(errs...)
	}
	dropped, err := by.Dropped(have)
	errs = append(errs, err)
	for _, name := range dropped {
		if _, noted := k.Conffiles[resource.Path(name)]; noted {
			continue
		}
		all = append(all, resource.Change{Field: "conffile:" + name, Old: statePresent, New: stateAbsent})
		if err := h.Discard(name, false, true); err != nil {
			errs = append(errs, fmt.Errorf("cannot remove %q, which a later version brought: %w", name, err))
		}
	}
	return all, errors.Join(errs...)
}
