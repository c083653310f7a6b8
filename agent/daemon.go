package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/watch"
)

// Notifier tells the init system how the daemon is doing.
type Notifier interface {
	Ready()
	Status(line string)
	Watchdog()
}

// A Daemon runs an agent for as long as the host is up: it polls, runs, and
// answers on the socket. One loop owns its state; runs and polls are work that
// the loop hands out, one at a time.
type Daemon struct {
	agent  *Agent
	notify Notifier
	drain  *report.Drain
	sync   chan syncCall
	work   chan done
	proofs proofs
	// news has an element when metrics may be others.
	news chan struct{}
	// line is how the last run ended, said what the log has of the polls that
	// fail now.
	line, said string
	// breath is the pause after a look at drift, cool when what is kept for the
	// next one goes; nil when there is nothing to wait for.
	breath, cool <-chan time.Time
	// polling is the poll in hand, if there is one. wasCut is true when the last one
	// was cut off for drift, driftWaits while drift waits for that.
	polling            *polling
	wasCut, driftWaits bool

	mu    sync.Mutex
	sched Schedule
}

// A Schedule is what the daemon does now and next.
type Schedule struct {
	Doing string `json:"doing,omitempty"`
	// NextPoll is that of the source whose turn comes first.
	NextPoll time.Time `json:"next_poll,omitzero"`
	NextRun  time.Time `json:"next_run,omitzero"`
}

type syncCall struct {
	req   Request
	reply chan<- syncReply
}

type syncReply struct {
	result *Result
	err    error
}

// done is what a piece of work came to.
type done struct {
	call   *syncCall
	result *Result
	err    error
	// news is true when a poll found something to run for.
	news bool
	// polled is what a poll of each source came to, nil for a run.
	polled map[string]error
	// cut is true for a poll that was cut off.
	cut bool
	// reboot is true when it was one that was asked for.
	reboot bool
	// drift is what was looked into, nil for other work, took how long that took.
	drift *watch.Batch
	took  time.Duration
}

// broke reports whether it was a run that did not take place. A poll that failed is
// none: a server that is away holds up nothing.
func (w done) broke() bool { return w.err != nil && w.polled == nil }

// idle reports whether it was a look at drift that found nothing to look at.
func (w done) idle() bool { return w.drift != nil && w.drift.Empty() }

// stopWait is how long a stop waits for what is in hand.
const stopWait = 30 * time.Second

// NewDaemon returns a daemon for the agent.
func NewDaemon(a *Agent, n Notifier, drain *report.Drain) *Daemon {
	return &Daemon{agent: a, notify: n, drain: drain, sync: make(chan syncCall), work: make(chan done, 1), news: make(chan struct{}, 1),
		proofs: proofs{ended: make(chan *proof)}}
}

// ErrRestart is returned by Serve when a run changed the agent itself: its
// package, unit or configuration.
var ErrRestart = errors.New("the agent itself was changed")

// Serve runs until ctx is done. It returns ErrRestart when the agent should be
// started anew.
func (d *Daemon) Serve(ctx context.Context, trigger string, watchdog time.Duration) error {
	hard, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	var drains sync.WaitGroup
	serving, leave := context.WithCancel(ctx)
	drains.Go(func() { d.drain.Run(serving) })
	drains.Go(func() { d.exportMetrics(serving) })
	defer drains.Wait()
	defer leave()
	if d.agent.watcher = d.agent.newWatcher(); d.agent.watcher != nil {
		drains.Go(func() { d.agent.watcher.Run(serving) })
	}
	defer d.agent.culprits.Start()()
	defer d.proofs.end()

	c := newClock(d.agent.config, d.agent.unfetched())
	var beat <-chan time.Time
	if watchdog > 0 {
		// At once: an agent whose configuration changes often starts to serve more
		// often than that.
		d.notify.Watchdog()
		t := time.NewTicker(watchdog / 2)
		defer t.Stop()
		beat = t.C
	}
	d.notify.Ready()
	d.start(hard, ctx, Request{Trigger: trigger}, nil)
	busy := true
	for {
		d.hurry()
		if !busy && d.proofs.back != nil {
			busy = true
			d.goBack(hard, ctx)
		}
		if !busy && d.proofs.reboot != nil {
			busy = true
			d.rebootFirst(hard, ctx)
		}
		if !busy && d.driftWaits {
			busy, d.driftWaits = true, false
			d.drift(hard, ctx)
		}
		if now := time.Now(); !busy && c.isDue(now) {
			busy = true
			d.take(ctx, hard, c, now)
		}
		d.publish(c, busy)
		timer := c.timer(busy)
		calls := d.sync
		if busy {
			calls = nil
		}
		select {
		case <-ctx.Done():
			return d.end(busy, kill, beat)
		case <-beat:
			d.notify.Watchdog()
		case call := <-calls:
			busy = true
			d.start(hard, ctx, call.req, &call)
		case w := <-d.work:
			if w.polled != nil {
				d.endPoll(w)
			}
			if busy = false; w.reboot {
				d.proofs.begin(ctx, d.agent, w) // it was not made, or is yet to be
				continue
			}
			if w.idle() {
				break
			}
			c.finished(time.Now(), w, d.agent.retryAt())
			if w.polled == nil {
				c.waitFor(time.Now(), earliest(d.agent.opensAt(), d.agent.rebootAt()))
			}
			if w.drift != nil {
				d.looked(w)
			}
			if w.broke() {
				d.breath = time.After(brokenPause) // it would most likely be the same again
			}
			d.publish(c, busy)
			// When a source is tried next is part of what is told of it.
			d.agent.told(d.agent.tellHeard(hard))
			if d.proofs.begin(ctx, d.agent, w) {
				w.call = nil
			}
			d.finished(w)
			// A run that could not be recorded cannot say that it has changed the agent
			// itself; and who confirms what it did has to be the one that it brought.
			if w.result != nil && w.result.Restart || w.broke() && isOld() {
				return ErrRestart
			}
			if w.polled == nil && !w.news && ctx.Err() == nil && d.mayReboot(w.result) {
				busy = true
				d.reboot(hard, ctx, nil)
			}
			if w.news {
				busy = true
				d.start(hard, ctx, Request{Trigger: "commit"}, nil)
			}
		case p := <-d.proofs.ended:
			d.proved(p)
		case <-timer:
		case <-d.drifts(busy):
			if busy {
				d.cutPoll()
				break
			}
			busy = true
			d.drift(hard, ctx)
		case <-d.impatience():
			d.polling.late, d.polling.patience = true, nil
		case <-d.breath:
			d.breath = nil
		case <-d.cool:
			if d.cool = nil; busy {
				d.cool = time.After(warm)
			} else {
				d.agent.cool()
			}
		}
	}
}

// take hands out what is due by the clock.
func (d *Daemon) take(ctx, hard context.Context, c *clock, now time.Time) {
	if trigger := c.due(now); trigger != "" {
		d.start(hard, ctx, Request{Trigger: trigger}, nil)
		return
	}
	d.poll(ctx, c.duePolls(now))
}

// end waits for what is in hand, at most stopWait, and then cuts it off.
func (d *Daemon) end(busy bool, kill context.CancelFunc, beat <-chan time.Time) error {
	for patience := time.After(stopWait); busy; {
		select {
		case w := <-d.work:
			busy = false
			d.finished(w)
		case <-patience:
			kill()
		case <-beat:
			d.notify.Watchdog()
		}
	}
	return nil
}

// start hands out a run. The system's own state may forbid it.
func (d *Daemon) start(ctx, stop context.Context, req Request, call *syncCall) {
	go func() {
		if call == nil && !d.agent.mayRepair(ctx) {
			d.work <- done{err: errNotNow}
			return
		}
		if call == nil {
			req.Wait, req.Unasked = lockWait, true
		}
		result, err := d.agent.Run(ctx, stop, req)
		d.agent.told(d.agent.tellLimit(ctx))
		d.work <- done{call: call, result: result, err: err}
	}()
}

// brokenPause is how long drift waits after a run that did not take place.
const brokenPause = 10 * time.Second

// lockWait is how long a run of the daemon's own waits for one by hand.
const lockWait = time.Minute

func (d *Daemon) finished(w done) {
	d.drain.Notify()
	switch {
	case w.result != nil && !w.result.Partial:
		d.agent.rest(w.result)
	case w.polled != nil:
		unmapProgram()
	}
	d.changed()
	if w.call != nil {
		w.call.reply <- syncReply{w.result, w.err}
	}
	var sus *SuspendedError
	switch {
	case errors.As(w.err, &sus):
		d.notify.Status(sus.Error())
	case w.cut:
	case w.polled != nil:
		d.polled(w.err)
	case errors.Is(w.err, errNotNow):
	case w.err != nil && !errors.Is(w.err, context.Canceled):
		d.agent.opt.Log.Error("run did not take place", "error", w.err)
		d.notify.Status(w.err.Error())
	case w.result != nil && !w.result.Silent:
		d.line = w.result.line()
		d.notify.Status(d.line)
	}
}

// polled says once that polls fail, and of what.
func (d *Daemon) polled(err error) {
	said := ""
	if err != nil && !errors.Is(err, context.Canceled) {
		said = err.Error()
		d.notify.Status(said)
		if said != d.said {
			d.agent.opt.Log.Warn("cannot look for new commits", "error", err)
		}
	} else if d.said != "" {
		d.notify.Status(d.line)
	}
	d.said = said
}

// Sync asks for a run and waits for its outcome.
func (d *Daemon) Sync(ctx context.Context, req Request) (*Result, error) {
	reply := make(chan syncReply, 1)
	select {
	case d.sync <- syncCall{req: req, reply: reply}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case r := <-reply:
		return r.result, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Schedule returns what the daemon does now and next.
func (d *Daemon) Schedule() Schedule {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sched
}

func (d *Daemon) publish(c *clock, busy bool) {
	d.agent.plans(c.next())
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sched = Schedule{NextPoll: c.poll(), NextRun: earliest(c.resync, c.retry, c.opens)}
	if busy {
		d.sched.Doing = "running"
	}
}

// retryAt returns when the next try of a failed resource is due; zero for
// never.
func (a *Agent) retryAt() time.Time {
	var first time.Time
	now := time.Now()
	last := a.store.Head().LastRun
	if last != nil && Verdict(last.Verdict) == InOrder {
		return first // nothing fails, and the inventory need not be read to know
	}
	if err := a.store.Reload(); err != nil {
		a.opt.Log.Warn("cannot tell when what failed is tried again", "error", err)
	}
	for _, e := range a.store.Snapshot().Inventory {
		switch {
		case e.Failures == 0:
		case e.Waits(now):
			first = earliest(first, e.RetryAt)
		default:
			return now
		}
	}
	return first
}
