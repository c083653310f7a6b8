// Package pkg is the kind "package": software from the host's package manager.
//
// What is installed is read from the manager's own database, without starting a
// process where that can be read; all changes of a run form one transaction,
// which outlives the agent.
// No package is changed that was not declared, other than what the manager needs
// for those that were: a transaction that would take anything else away is
// refused.
package pkg

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// A Module is the kind "package". What it learns of the index holds for one run.
type Module struct {
	manager manager
	// fresh is how old the index may be for `latest`.
	fresh time.Duration

	// root is what the paths of the host are below.
	root string

	mu     sync.Mutex
	made   []*Resource
	offers map[string]offer
	// keepIn is where old packages are kept; empty for nowhere.
	keepIn string
	// patience is how long a repair may take on the way back.
	patience time.Duration

	refresh   sync.Mutex
	refreshed time.Time // when this run refreshed the index
	failed    error     // why it could not
}

// What the engine finds by type assertion.
var (
	_ resource.Transactor = (*Module)(nil)
	_ resource.Batched    = (*Module)(nil)
	_ resource.Ender      = (*Module)(nil)
	_ resource.Freshener  = (*Module)(nil)
	_ resource.Renewer    = (*Module)(nil)
	_ resource.Examiner   = (*Module)(nil)
	_ resource.Returner   = (*Module)(nil)
	_ resource.Needy      = (*Resource)(nil)
	_ resource.Reactor    = (*Resource)(nil)
	_ resource.Costly     = (*Resource)(nil)
)

// New returns the kind over a host.
func New(h *host.Host) resource.Module {
	m := newModule(choose(h))
	m.root = h.Root()
	return m
}

func newModule(m manager) *Module {
	return &Module{manager: m, root: "/", fresh: time.Hour, patience: repairWait, offers: map[string]offer{}}
}

// Kind returns "package".
func (m *Module) Kind() string { return "package" }

// Example implements resource.Exemplar.
func (*Module) Example() string {
	return `- package: [curl, git]

- package: nginx
  version: ">= 1.22, < 2"
  hold: true

- package: telnetd
  state: purged
`
}

// Renew forgets what an earlier run learned of the index.
func (m *Module) Renew() {
	m.forget()
	m.KeepIn("")
	m.refresh.Lock()
	defer m.refresh.Unlock()
	m.refreshed, m.failed = time.Time{}, nil
}

// Batch returns the word under which packages share a batch.
func (m *Module) Batch() string { return "package" }

// New returns an empty value. The module remembers it, so that the index is
// asked about all packages in one go.
func (m *Module) New() resource.Resource {
	r := &Resource{m: m}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.made = append(m.made, r)
	return r
}

// Absent returns the value that takes packages back.
func (m *Module) Absent(held resource.Held) (resource.Resource, error) {
	l := &leaving{m: m, address: held.Address}
	for _, c := range held.Claims {
		if c.Space != resource.SpacePackage {
			continue
		}
		if l.name != "" {
			return nil, fmt.Errorf("%s held two packages, %q and %q", held.Address, l.name, c.Name)
		}
		l.name = c.Name
	}
	if l.name == "" {
		return nil, fmt.Errorf("%s held no package", held.Address)
	}
	n, noted, err := readNote(held.Prior, l.name)
	if err != nil {
		return nil, err
	}
	if !noted {
		n.Installed = true // what is not known to be ours stays
	}
	l.note = n
	return l, nil
}

// Attach waits for a transaction that an earlier agent let go of.
func (m *Module) Attach(ctx context.Context) error { return m.manager.Attach(ctx) }

// End kills that transaction.
func (m *Module) End(ctx context.Context) error { return m.manager.End(ctx) }

// Holds reports whether the database that the witness tells of is still right.
func (m *Module) Holds(_ context.Context, _ string, w resource.Witness) bool {
	return m.manager.Holds(w)
}

// Freshen refreshes the index when a package follows the latest version and the
// index is older than an hour.
func (m *Module) Freshen(ctx context.Context, resources []resource.Resource) error {
	for _, r := range resources {
		if p, ok := r.(*Resource); ok && p.State == stateLatest && time.Since(m.manager.Refreshed()) > m.fresh {
			return m.refreshOnce(ctx)
		}
	}
	return nil
}

// refreshOnce fetches the index, unless this run has tried already.
func (m *Module) refreshOnce(ctx context.Context) error {
	m.refresh.Lock()
	defer m.refresh.Unlock()
	if !m.refreshed.IsZero() {
		return m.failed
	}
	return m.refreshNow(ctx)
}

// refreshAfterChange fetches the index, unless this run has done so since the
// manager's configuration last changed.
func (m *Module) refreshAfterChange(ctx context.Context) error {
	m.refresh.Lock()
	defer m.refresh.Unlock()
	if !m.refreshed.IsZero() && m.manager.Configured().Before(m.refreshed) {
		return m.failed
	}
	return m.refreshNow(ctx)
}

func (m *Module) refreshNow(ctx context.Context) error {
	m.refreshed = time.Now()
	m.failed = m.manager.Refresh(ctx)
	m.forget()
	return m.failed
}

// triedRefresh reports whether this run has tried to fetch the index.
func (m *Module) triedRefresh() bool {
	m.refresh.Lock()
	defer m.refresh.Unlock()
	return !m.refreshed.IsZero()
}

// indexRemark says that the index is too old to tell what is the latest version.
func (m *Module) indexRemark() string {
	at := m.manager.Refreshed()
	switch {
	case at.IsZero():
		return "the package index was never fetched"
	case time.Since(at) > m.fresh:
		return "as of the package index of " + at.UTC().Format(time.RFC3339)
	}
	return ""
}

func (m *Module) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.offers = map[string]offer{}
}

// offer returns what the index has for a name. The first call asks about all
// packages of the run that are likely to need an answer.
func (m *Module) offer(ctx context.Context, db *database, name string) (offer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o, ok := m.offers[name]; ok {
		return o, nil
	}
	names := []string{name}
	for _, r := range m.made {
		if _, ok := m.offers[r.Package]; ok || r.gone() || !packageName().MatchString(r.Package) {
			continue
		}
		have := db.find(r.Package)
		if have == nil || have.Status != installed || r.State == stateLatest ||
			!r.constraint().holds(m.manager.Compare, have.Version) {
			names = append(names, r.Package)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	offers, err := m.manager.Offers(ctx, names)
	if err != nil {
		return offer{}, err
	}
	for _, n := range names {
		m.offers[n] = offers[n]
	}
	return m.offers[name], nil
}

// needs puts packages after what package managers are configured by.
func (m *Module) needs() []resource.Need {
	var needs []resource.Need
	for _, name := range allConfigFiles() {
		needs = append(needs, resource.Need{
			Claim: resource.Path(name), Glob: strings.ContainsAny(name, "*?["), Reaction: resource.Refresh,
		})
	}
	return needs
}

// Sole implements resource.Sole: a host has one database of packages.
func (*Module) Sole() {}
