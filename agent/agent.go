// Package agent tells the story: what one run is, what the daemon does between
// runs, and what comes after a crash.
//
// It joins the parts and leaves the work to them. It prints nothing, and knows
// no exit code and no flag.
package agent

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"trued.dev/trued/internal/control"
	"trued.dev/trued/internal/culprit"
	"trued.dev/trued/internal/facts"
	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/policy"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/source"
	"trued.dev/trued/internal/state"
	"trued.dev/trued/internal/watch"
	"trued.dev/trued/internal/window"
)

// An Agent keeps one host, or a tree that will be one, true to its sources.
type Agent struct {
	opt     Options
	config  Config
	host    *host.Host
	digests *host.Digests
	backups *host.Backups
	swept   sync.Once
	// contents remembers what files of the sources come to.
	contents *contents
	// witnesses say what the host was like when it was in order.
	witnesses witnesses
	// rules are the host's own, as they were read last; nil for none.
	rules *policy.Policy
	store *state.Store
	// mayReboot says whether the daemon may reboot the host, by the catalog that was
	// loaded last, once ruled is true; nil where nothing says so.
	mayReboot *window.Reboot
	ruled     bool
	sources   []source.Source
	// wardens say whom each source is trusted by.
	wardens []*warden
	// watcher tells of drift as it happens; nil where no daemon runs.
	watcher  *watch.Watcher
	culprits *culprit.Finder
	// health tells whether the host is healthy; nil in a tree.
	health Prober
	// answering is what of the network answered beside the last repair of drift; nil
	// while that is not known.
	answering []string
	// looked is when the last run of this process that looked at everything began.
	looked time.Time
	// limited is true once it was told that not all can be watched.
	limited bool
	// following is full while what is managed is being watched.
	following chan struct{}

	mu sync.Mutex
	// heard is what sources had to tell and nobody has recorded.
	heard []source.Event
	// next is when the daemon polls each source; nil where none runs.
	next map[string]time.Time
	// failures count, since the start, fetches that failed and commits that were
	// refused.
	failures map[failure]uint64
	started  time.Time
	// kept serves the next run; nil when there is none, or while it is in use.
	kept *kit
}

// Options are what an agent is made with, beside its configuration.
type Options struct {
	// Root is the tree to work on; "/" is the running system.
	Root string
	// Modules makes one of every kind.
	Modules func(*host.Host) []resource.Module
	// FetchChild is the command line that fetches in a process of its own.
	FetchChild []string
	Version    string
	// ConfigFile is what the configuration was read from; empty where the way back
	// cannot rely on one.
	ConfigFile string
	// Health makes what tells whether the host is healthy; nil where that is not to
	// be known.
	Health func(*host.Host) Prober
	// ExitCode says what a command that ends with the verdict returns; events
	// carry it.
	ExitCode func(Verdict) int
	// Log takes what is of interest beside the events; never nil.
	Log *slog.Logger
}

// StateDir is where state lives below the root.
const StateDir = "/var/lib/trued"

// New opens the state and the sources. It changes nothing.
func New(config Config, opt Options) (*Agent, error) {
	dir := filepath.Join(opt.Root, StateDir)
	store, err := state.OpenHead(dir)
	if err != nil {
		return nil, err
	}
	digests := host.OpenDigests(filepath.Join(dir, "cache", "digests"))
	backups := host.OpenBackups(filepath.Join(dir, "backups"))
	a := &Agent{
		opt:       opt,
		config:    config,
		store:     store,
		digests:   digests,
		backups:   backups,
		contents:  openContents(filepath.Join(dir, "cache", "contents")),
		started:   time.Now(),
		failures:  map[failure]uint64{},
		following: make(chan struct{}, 1),
		witnesses: witnesses{file: filepath.Join(dir, "cache", "witnesses")},
		host: host.New(opt.Root, host.Options{
			Backups: backups,
			Digests: digests,
			Noted:   func(sum string) bool { return noted(store, sum) },
			Fetcher: source.NewFetcher(filepath.Join(dir, "fetch"), opt.FetchChild),
		}),
	}
	a.culprits = culprit.New(a.host, opt.Log)
	if opt.Health != nil {
		a.health = opt.Health(a.host)
	}
	if err := a.openSources(); err != nil {
		return nil, err
	}
	return a, nil
}

// Close lets go of what the agent holds open.
func (a *Agent) Close() {
	if k := a.takeKit(); k != nil {
		k.close()
	}
	for _, s := range a.sources {
		_ = s.Close()
	}
	a.host.Systemd().Close()
	a.store.Close()
}

// Facts returns what the host is.
func (a *Agent) Facts(ctx context.Context) (facts.Facts, error) {
	f, err := facts.Collect(ctx, a.host)
	if err != nil {
		return f, fmt.Errorf("cannot collect facts: %w", err)
	}
	return f, nil
}

// Suspend stops convergence, across reboots, until it is over or lifted.
func (a *Agent) Suspend(ctx context.Context, r control.SuspendRequest) error {
	sus := state.Suspension{Reason: r.Reason, By: r.By, Since: time.Now().UTC()}
	if r.For > 0 {
		sus.Until = sus.Since.Add(r.For).Truncate(time.Second)
	}
	if err := a.store.Suspend(sus); err != nil {
		return err
	}
	message := "convergence suspended: " + r.Reason
	if r.By != "" {
		message += " (by " + r.By + ")"
	}
	a.told(a.tell(ctx, report.Incident{
		Type: report.AgentSuspended, Message: message, Reason: r.Reason, Until: sus.Until,
	}))
	return nil
}

// Resume lifts a suspension.
func (a *Agent) Resume(ctx context.Context) error {
	if err := a.store.Resume(); err != nil {
		return err
	}
	a.told(a.tell(ctx, report.Incident{Type: report.AgentResumed, Message: "convergence resumed"}))
	return nil
}

// told logs that an event could not be recorded; what it tells of has happened
// all the same.
func (a *Agent) told(err error) {
	if err != nil {
		a.opt.Log.Warn("cannot record event", "error", err)
	}
}

// A SuspendedError is why a run did not take place.
type SuspendedError struct{ state.Suspension }

func (e *SuspendedError) Error() string {
	until := "until it is resumed"
	if !e.Until.IsZero() {
		until = "until " + e.Until.Local().Format(time.DateTime)
	}
	return fmt.Sprintf("suspended %s: %s", until, e.Reason)
}

// RefuseConfig tells that a new configuration is wrong and that the old one
// stays in force.
func (a *Agent) RefuseConfig(ctx context.Context, err error) {
	a.opt.Log.Error("the new configuration is wrong; the old one stays in force", "error", err)
	a.told(a.tell(ctx, report.Incident{
		Type: report.ConfigRefused, Err: err, ErrType: "config",
		Message: "the new configuration is wrong; the old one stays in force",
	}))
}

// Forget gives up what is known of a source that left the configuration: what
// it brought stays on the host. It returns how many resources that were.
func (a *Agent) Forget(ctx context.Context, name string) (int, error) {
	for _, s := range a.sources {
		if s.Name() == name {
			return 0, fmt.Errorf("source %q is configured: take it out of the configuration first", name)
		}
	}
	unlock, err := a.store.Lock(ctx, lockWait)
	if err != nil {
		return 0, err
	}
	defer unlock()
	if err := a.store.Reload(); err != nil {
		return 0, err
	}
	n := 0
	for _, e := range a.store.Snapshot().Inventory {
		if e.Source == name {
			n++
		}
	}
	if n == 0 {
		return 0, fmt.Errorf("nothing is held for a source %q: see 'trued status'", name)
	}
	return n, a.store.Append(state.Record{Forget: []string{name}})
}
