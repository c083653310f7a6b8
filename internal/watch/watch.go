// Package watch tells which resources something on the host may have changed,
// as it happens.
//
// It knows what resources rest on, as they state it themselves, and no kind: it
// compares nothing, repairs nothing and reports nothing. What it tells is a
// suspicion. What it cannot see is found by a full run, and where it may have
// missed something it says that everything is suspect.
package watch

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"trued.dev/trued/internal/resource"
)

// A Target is a resource and what it rests on.
type Target struct {
	Address resource.Address
	Watches []resource.Watch
}

// A Batch is what came together within a short time.
type Batch struct {
	// Everything says why anything may have changed; empty when Addresses are
	// all that may have.
	Everything string
	Addresses  []resource.Address
	// Since is when the first of it was seen.
	Since time.Time
}

// Empty reports whether there is nothing in it.
func (b Batch) Empty() bool { return b.Everything == "" && len(b.Addresses) == 0 }

// Options are what a Watcher is made with.
type Options struct {
	// Root is where the host's paths are.
	Root string
	// Units tells of units; nil where there is no service manager.
	Units Units
	// Packaged reports whether a path belongs to a package; nil for never.
	Packaged func(path string) (bool, error)
	// Log takes what is of interest to nobody but who looks for a fault.
	Log *slog.Logger
	// Quiet is how long nothing must happen before what came is told, and Longest
	// how long it may be held back at most.
	Quiet, Longest time.Duration
	// Poll is how often is looked at what cannot be watched.
	Poll time.Duration
}

// Defaults of Options.
const (
	defaultQuiet   = 50 * time.Millisecond
	defaultLongest = 500 * time.Millisecond
	defaultPoll    = 10 * time.Second
)

// A Watcher watches what it was told to. Its methods may be called from several
// goroutines.
type Watcher struct {
	opt Options

	// tree is held over the paths, whose file systems may not answer, and mu over
	// the rest, which waits for nothing. Who needs both takes tree first; the index
	// is replaced by who holds both.
	tree  sync.Mutex
	paths *paths

	mu      sync.Mutex
	index   *index
	units   unitView
	pending gathering
	// later are those that were given back, everythingLater is true while all of
	// them are.
	later           map[resource.Address]bool
	everythingLater bool
	// told is the last status.
	told Status
}

// New returns a watcher that watches nothing yet.
func New(o Options) *Watcher {
	if o.Quiet == 0 {
		o.Quiet = defaultQuiet
	}
	if o.Longest == 0 {
		o.Longest = defaultLongest
	}
	if o.Poll == 0 {
		o.Poll = defaultPoll
	}
	w := &Watcher{opt: o, index: newIndex(nil), later: map[resource.Address]bool{}}
	w.paths = newPaths(w)
	w.pending.ready = make(chan struct{}, 1)
	return w
}

// Run watches until ctx is done.
func (w *Watcher) Run(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { w.readPaths(ctx) })
	if w.opt.Units != nil {
		all.Go(func() { w.listen(ctx) })
	}
	tick := time.NewTicker(w.opt.Poll)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			w.look()
		}
	}
	all.Wait()
	w.tree.Lock()
	w.paths.close()
	w.tree.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending.stop()
}

// Watch makes the targets what is watched, in place of those before. What may
// have changed of those that were watched already is not forgotten.
func (w *Watcher) Watch(targets []Target) {
	next := newIndex(targets)
	w.tree.Lock()
	defer w.tree.Unlock()
	w.mu.Lock()
	w.pending.move(w.index, next)
	w.index = next
	w.units.renew()
	w.mu.Unlock()
	w.paths.follow()
}

// Watching reports whether there is anything that is watched.
func (w *Watcher) Watching() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.index.addresses) > 0
}

// Ready is signalled when there is something to Take.
func (w *Watcher) Ready() <-chan struct{} { return w.pending.ready }

// Take returns what may have changed and forgets it, but for what somebody is
// still working on: that is looked at when he is done.
func (w *Watcher) Take() Batch {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := Batch{Since: w.pending.first}
	held := w.held()
	everything := w.pending.everything
	switch {
	case everything == "":
	case len(held) == 0:
		b.Everything = everything
		w.pending.clear()
		return b
	case !w.pending.partly:
		for id := range w.index.addresses {
			w.pending.ids[int32(id)] = true
		}
	}
	kept := map[int32]bool{}
	for id := range w.pending.ids {
		if w.waits(id, held) {
			kept[id] = true
			continue
		}
		b.Addresses = append(b.Addresses, w.index.addresses[id])
	}
	slices.SortFunc(b.Addresses, resource.Address.Compare)
	w.pending.clear()
	if len(kept) > 0 || everything != "" {
		w.pending.ids, w.pending.waiting = kept, maps.Clone(kept)
		w.pending.everything, w.pending.partly = everything, everything != ""
		w.pending.again(lockPause, w.tell)
	}
	return b
}

// Again gives back a batch that cannot be looked into now, for later.
func (w *Watcher) Again(b Batch, after time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var waits []resource.Address
	for _, a := range b.Addresses {
		if !w.later[a] {
			w.later[a] = true
			waits = append(waits, a)
		}
	}
	everything := b.Everything != "" && !w.everythingLater
	if len(waits) == 0 && !everything {
		return
	}
	w.everythingLater = w.everythingLater || everything
	time.AfterFunc(after, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, a := range waits {
			delete(w.later, a)
			if id, ok := w.index.ids[a]; ok {
				w.note(id)
			}
		}
		if everything {
			w.everythingLater = false
			w.suspect(b.Everything)
		}
	})
}

// Suspect says that everything may have changed.
func (w *Watcher) Suspect(why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.suspect(why)
}

func (w *Watcher) suspect(why string) {
	w.pending.begin(time.Now())
	w.pending.everything, w.pending.partly = why, false
	w.pending.soon(w.opt, w.tell)
}

// mark says that resources may have changed.
func (w *Watcher) mark(ids ...int32) {
	if len(ids) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note(ids...)
}

// note is mark where mu is held.
func (w *Watcher) note(ids ...int32) {
	if len(ids) == 0 {
		return
	}
	w.pending.begin(time.Now())
	for _, id := range ids {
		w.pending.ids[id] = true
	}
	w.pending.soon(w.opt, w.tell)
}

// tell is what the timer of what is pending does.
func (w *Watcher) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if wait := w.pending.wait(w.opt); wait > 0 {
		w.pending.again(wait, w.tell)
		return
	}
	w.pending.due = time.Time{}
	if w.pending.empty() {
		return
	}
	select {
	case w.pending.ready <- struct{}{}:
	default:
	}
}

// look asks for what cannot be watched, and whether what is watched is still
// what it was.
func (w *Watcher) look() {
	w.tree.Lock()
	defer w.tree.Unlock()
	w.mark(w.index.polled...)
	for _, d := range w.paths.unwatched() {
		w.mark(w.index.below(d)...)
	}
	w.paths.verify()
	w.paths.retry()
}

// A Status is how much is watched.
type Status struct {
	// Resources are those that anything is watched for, Directories the watches
	// that the kernel keeps for that.
	Resources   int `json:"resources"`
	Directories int `json:"directories"`
	// Units are those that the service manager tells of; UnitsUnheard is true
	// while it does not.
	Units        int  `json:"units"`
	UnitsUnheard bool `json:"units_unheard,omitempty"`
	// Polled are the resources that are looked at time and again in place of, or
	// beside, being watched.
	Polled int `json:"polled"`
	// Limit says why directories are not watched although they should be; empty
	// when they all are.
	Limit string `json:"limit,omitempty"`
}

// statusWait is how long a status waits for file systems to answer.
const statusWait = 2 * time.Second

// Status returns how much is watched now, or was last where a file system does not
// answer.
func (w *Watcher) Status() Status {
	for end := time.Now().Add(statusWait); !w.tree.TryLock(); time.Sleep(statusWait / 200) {
		if time.Now().After(end) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.told
		}
	}
	defer w.tree.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	polled := map[int32]bool{}
	for _, id := range w.index.polled {
		polled[id] = true
	}
	for _, d := range w.paths.unwatched() {
		for _, id := range w.index.below(d) {
			polled[id] = true
		}
	}
	s := Status{
		Resources: len(w.index.addresses), Directories: len(w.paths.nodes), Polled: len(polled),
		Units: len(w.index.units), UnitsUnheard: len(w.index.units) > 0 && !w.units.listens,
	}
	if len(w.paths.refused) > 0 {
		s.Limit = w.paths.limit.Error()
	}
	w.told = s
	return s
}
