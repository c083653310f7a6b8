package pkg

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"trued.dev/trued/internal/resource"
)

// A fake is a package manager in memory: an index of versions, what depends on
// what, and what is installed.
type fake struct {
	have      map[string]record
	index     map[string][]string // versions, newest first
	upstream  map[string][]string // what the index becomes when it is refreshed
	depends   map[string][]string
	conflicts map[string][]string
	provides  map[string][]string
	fails     map[string]bool // packages that cannot be set up

	refreshed, configured time.Time
	refreshes             int
	asked                 [][]string
	simulated             int
	committed             []transaction
	repaired              int
	busy                  bool
	ready                 string
	// origins are by name; that of the others is nobody's to tell.
	origins map[string]string
}

func newFake() *fake {
	return &fake{
		have: map[string]record{}, index: map[string][]string{}, upstream: map[string][]string{}, depends: map[string][]string{},
		conflicts: map[string][]string{}, provides: map[string][]string{}, fails: map[string]bool{}, refreshed: time.Now(),
	}
}

func (f *fake) install(name, version string) {
	f.have[name] = record{Name: name, Arch: "amd64", Version: version, Status: installed}
}

func (f *fake) Installed(context.Context) (*database, error) {
	db := newDatabase()
	db.Native = "amd64"
	for _, r := range f.have {
		db.put(&r)
	}
	db.index()
	return db, nil
}

func (f *fake) Offers(_ context.Context, names []string) (map[string]offer, error) {
	f.asked = append(f.asked, names)
	offers := map[string]offer{}
	for _, name := range names {
		var o offer
		if versions := f.index[name]; len(versions) > 0 {
			o = offer{Candidate: versions[0], Versions: versions}
		}
		o.Providers = f.provides[name]
		offers[name] = o
	}
	return offers, nil
}

func (f *fake) Origins(_ context.Context, names []string) (map[string]map[string][]string, error) {
	known := map[string]map[string][]string{}
	for _, name := range names {
		known[name] = map[string][]string{}
		for _, version := range f.index[name] {
			if at := f.origins[name]; at != "" {
				known[name][version] = []string{at}
			}
		}
	}
	return known, nil
}

func (f *fake) Refreshed() time.Time  { return f.refreshed }
func (f *fake) Configured() time.Time { return f.configured }

func (f *fake) Refresh(context.Context) error {
	f.refreshes++
	f.refreshed = time.Now()
	maps.Copy(f.index, f.upstream)
	return nil
}

func (f *fake) Simulate(_ context.Context, t transaction) (effect, error) {
	f.simulated++
	var e effect
	var add func(name, version string) error
	add = func(name, version string) error {
		if version == "" && len(f.index[name]) > 0 {
			version = f.index[name][0]
		}
		if !slices.Contains(f.index[name], version) {
			return &refusal{Reason: fmt.Sprintf("%s %s is not to be had", name, version)}
		}
		old := f.have[name]
		if old.Status == installed && old.Version == version {
			return nil
		}
		if old.Held && !t.MoveHeld {
			return &refusal{Reason: name + " is held"}
		}
		e.Installs = append(e.Installs, move{Name: name, From: old.Version, To: version})
		for _, rival := range f.conflicts[name] {
			if f.have[rival].Status == installed {
				e.Removes = append(e.Removes, rival)
			}
		}
		for _, dep := range f.depends[name] {
			if f.have[dep].Status != installed {
				if err := add(dep, ""); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for _, p := range t.Install {
		if err := add(p.Name, p.Version); err != nil {
			return effect{}, err
		}
	}
	e.Removes = append(e.Removes, f.withDependants(slices.Concat(t.Remove, t.Purge))...)
	if t.Orphans {
		e.Removes = append(e.Removes, f.orphans(e.Removes)...)
	}
	return e, nil
}

func (f *fake) withDependants(names []string) []string {
	for name, deps := range f.depends {
		if f.have[name].Status != installed || slices.Contains(names, name) {
			continue
		}
		for _, dep := range deps {
			if slices.Contains(names, dep) {
				return f.withDependants(append(names, name))
			}
		}
	}
	return names
}

func (f *fake) orphans(gone []string) []string {
	var orphans []string
	for name, r := range f.have {
		needed := false
		for user, deps := range f.depends {
			needed = needed || f.have[user].Status == installed && !slices.Contains(gone, user) && slices.Contains(deps, name)
		}
		if r.Auto && !needed {
			orphans = append(orphans, name)
		}
	}
	return orphans
}

func (f *fake) Commit(ctx context.Context, t transaction) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.committed = append(f.committed, t)
	e, err := f.Simulate(ctx, t)
	if err != nil {
		return err
	}
	failed := &failure{Err: fmt.Errorf("the manager failed")}
	for _, move := range e.Installs {
		r := record{Name: move.Name, Arch: "amd64", Version: move.To, Status: installed, Held: f.have[move.Name].Held}
		for virtual, real := range f.provides {
			if slices.Contains(real, move.Name) {
				r.Provides = append(r.Provides, provided{Name: virtual})
			}
		}
		r.Auto = !slices.ContainsFunc(t.Install, func(p target) bool { return p.Name == move.Name })
		if f.fails[move.Name] {
			r.Status = halfConfigured
			failed.Culprits = append(failed.Culprits, move.Name)
		}
		f.have[move.Name] = r
	}
	for _, name := range e.Removes {
		delete(f.have, name)
	}
	mark := func(names []string, set func(*record)) {
		for _, name := range names {
			if r, ok := f.have[name]; ok {
				set(&r)
				f.have[name] = r
			}
		}
	}
	mark(t.Hold, func(r *record) { r.Held = true })
	mark(t.Unhold, func(r *record) { r.Held = false })
	mark(t.Auto, func(r *record) { r.Auto = true })
	if len(failed.Culprits) > 0 {
		return failed
	}
	return nil
}

func (f *fake) Repair(context.Context) error {
	f.repaired++
	for name, r := range f.have {
		if r.Status.broken() && !f.fails[name] {
			r.Status = installed
			f.have[name] = r
		}
	}
	return nil
}

func (f *fake) Holds(resource.Witness) bool { return false }

func (f *fake) Attach(context.Context) error { return nil }
func (f *fake) End(context.Context) error    { return nil }
func (f *fake) Busy() bool                   { return f.busy }
func (f *fake) Ready() string                { return f.ready }
func (f *fake) Compare(a, b string) int      { return compareDpkg(a, b) }

// String is all that is installed, in order.
func (f *fake) String() string {
	var lines []string
	for _, r := range f.have {
		lines = append(lines, fmt.Sprintf("%s %s %s held=%t auto=%t", r.Name, r.Version, r.Status, r.Held, r.Auto))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func fakeWorld(t *testing.T) (*world, *fake) {
	t.Helper()
	f := newFake()
	w := newWorld(t)
	w.manager = f
	return w, f
}
