package agent

import (
	"context"
	"errors"
	"time"

	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
	"trued.dev/trued/internal/watch"
)

// Between its polls the daemon watches what it manages. What the watcher tells is
// looked into by a partial run, as soon as no other work is in hand, and not
// before what is due by the clock.

// warm is how long after a drift the daemon keeps at hand what the next one needs.
const warm = 10 * time.Second

// errNotNow is why drift is not looked into while the system is in a state in
// which nothing is drift.
var errNotNow = errors.New("the system shuts down, or is in rescue or emergency mode")

// newWatcher returns what tells the daemon of drift. In observe mode, which
// changes nothing, a full check now and then is all that there is.
func (a *Agent) newWatcher() *watch.Watcher {
	if a.config.Mode == Observe || a.config.Watch != nil && !*a.config.Watch {
		return nil
	}
	o := watch.Options{Root: a.host.Root(), Packaged: a.host.Packaged, Log: a.opt.Log}
	if !a.host.Offline() {
		o.Units = a.host.Systemd()
	}
	return watch.New(o)
}

// drifts signals that something may have drifted; never while the daemon takes a
// breath, or is busy with what drift has to wait for.
func (d *Daemon) drifts(busy bool) <-chan struct{} {
	if busy && !d.yields() || d.breath != nil || d.agent.watcher == nil {
		return nil
	}
	return d.agent.watcher.Ready()
}

// drift hands out a look at what may have drifted. Nothing of it is done by the loop:
// who watches may wait for a file system.
func (d *Daemon) drift(ctx, stop context.Context) {
	go func() {
		w := done{drift: &watch.Batch{}}
		began := time.Now()
		if *w.drift = d.agent.watcher.Take(); !w.drift.Empty() {
			w.result, w.err = d.agent.lookInto(ctx, stop, *w.drift)
			d.agent.giveBack(*w.drift, w.err)
			d.agent.told(d.agent.tellLimit(ctx))
		}
		w.took = time.Since(began)
		d.work <- w
	}()
}

// lookInto runs over what may have drifted. Both results are nil when nothing has,
// by the witnesses alone.
func (a *Agent) lookInto(ctx, stop context.Context, b watch.Batch) (*Result, error) {
	req := Request{Trigger: "drift", Wait: lockWait, Unasked: true}
	if b.Everything == "" {
		b = a.spare(b)
		if req.Only = a.suspects(ctx, b.Addresses); len(req.Only) == 0 {
			return nil, nil //nolint:nilnil // nothing to look at is no error and has no result
		}
	}
	if !a.mayRepair(ctx) {
		return nil, errNotNow
	}
	return a.Run(ctx, stop, req)
}

// suspects returns those of the resources that may differ, by the witnesses: what
// was only touched, or written by a run of our own, is what was seen.
func (a *Agent) suspects(ctx context.Context, of []resource.Address) []resource.Address {
	k := a.takeKit()
	if k == nil {
		k = a.newKit()
	}
	k.renew()
	defer a.keepKit(k)
	return a.witnesses.suspects(ctx, of, k.byKind)
}

// giveBack gives the watcher back what could not be looked into, so that it is not
// forgotten.
func (a *Agent) giveBack(b watch.Batch, err error) {
	var suspended *SuspendedError
	switch {
	case errors.Is(err, errNotNow), errors.Is(err, state.ErrLocked), errors.As(err, &suspended):
		a.watcher.Again(b, min(a.config.Interval, time.Minute))
	case err != nil: // it was cut off, or cannot be written down, as on a disk that is full
		a.watcher.Again(b, min(a.config.Interval, warm))
	}
}

// looked takes in what a look at drift came to.
func (d *Daemon) looked(w done) {
	if w.result == nil || w.result.Silent {
		// Whatever happens on the host, half of the time is left to others.
		d.breath = time.After(w.took)
	}
	if w.result != nil {
		d.cool = time.After(warm)
	}
}
