package watch

import (
	"context"
	"time"

	"trued.dev/trued/internal/host"
)

// Units is a service manager that tells of its units.
type Units interface {
	// Signals calls heard for what is told, from when it calls begun, until ctx is
	// done or the connection is lost.
	Signals(ctx context.Context, begun func(), heard func(host.UnitSignal)) error
	// Units returns what there is to say of units, in the order of the names: of
	// an alias the unit's own name.
	Units(ctx context.Context, names []string) ([]host.UnitStatus, error)
}

// A unitView is what is known of the units that are watched.
type unitView struct {
	// aliases lead from a unit's own name to the names that the index has it by;
	// nil when they must be asked for.
	aliases map[string][]string
	// listens is true while the service manager tells.
	listens bool
	// heard before: a connection was lost since.
	heard bool
}

func (v *unitView) renew() { v.aliases = nil }

// The pauses between two tries to reach the service manager.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// listen hears what the service manager tells, and connects again when it must.
// Whatever happened in between may be anything.
func (w *Watcher) listen(ctx context.Context) {
	pause := firstRetry
	for ctx.Err() == nil {
		err := w.opt.Units.Signals(ctx, func() {
			pause = firstRetry
			w.mu.Lock()
			defer w.mu.Unlock()
			w.units.listens = true
			if w.units.heard {
				w.suspect("the connection to the service manager was lost")
			} else {
				w.noteUnits() // they may have been looked at before
			}
			w.units.heard = true
		}, func(s host.UnitSignal) { w.heardUnit(ctx, s) })
		w.mu.Lock()
		w.units.listens = false
		w.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		w.opt.Log.Debug("the service manager tells of no units", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, lastRetry)
	}
}

func (w *Watcher) heardUnit(ctx context.Context, s host.UnitSignal) {
	aliases := w.aliases(ctx, s.Unit == "")
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.Unit == "" {
		w.noteUnits()
		return
	}
	for _, name := range append([]string{s.Unit}, aliases[s.Unit]...) {
		if r, ok := w.index.units[name]; ok {
			w.note(w.index.list(r)...)
		}
	}
}

// noteUnits says of all units that they may have changed; mu is held.
func (w *Watcher) noteUnits() {
	for _, r := range w.index.units {
		w.note(w.index.list(r)...)
	}
}

// aliases returns, for units that are watched by another name than their own,
// those names. They are asked for once, and again when unit files have changed.
// Nothing else waits for the answer.
func (w *Watcher) aliases(ctx context.Context, anew bool) map[string][]string {
	w.mu.Lock()
	have, x := w.units.aliases, w.index
	w.mu.Unlock()
	if have != nil && !anew || len(x.units) == 0 {
		return have
	}
	names := make([]string, 0, len(x.units))
	for name := range x.units {
		names = append(names, name)
	}
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	list, err := w.opt.Units.Units(ctx, names)
	if err != nil {
		return have // each is known by the name that it is written with
	}
	aliases := map[string][]string{}
	for i, u := range list {
		if u.Name != names[i] {
			aliases[u.Name] = append(aliases[u.Name], names[i])
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.index == x {
		w.units.aliases = aliases
	}
	return aliases
}

// askWait is how long the service manager has to answer.
const askWait = 10 * time.Second
