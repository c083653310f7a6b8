package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/state"
	"trued.dev/trued/internal/window"
)

// What was installed may ask for a reboot. That is told once. Where the group or
// the host allows it, the daemon makes it, between two runs and once for each time
// that it is asked for: when the host asks again after a reboot that was made for
// it, something is wrong, and it stays up.
//
// The boot is a part of what is on trial. Where the commit on trial is why one is
// asked for, and it may be made at once, the host goes down between the first proof
// of its health and the second, with the way back armed, and the commit is confirmed
// after that. A reboot that has to wait for its window is made once the commit is
// confirmed: it would be on trial for days otherwise, and all later ones with it.

// rebootWanted notes, at the end of a run, whether a reboot is asked for, and tells
// of it when that is new. It returns nil where nothing changed.
func (r *run) rebootWanted(now time.Time) (*state.Reboot, error) {
	a := r.agent
	if r.partial() || a.host.Offline() {
		return nil, nil
	}
	for _, s := range r.sources {
		if s.catalog != nil {
			a.mayReboot, a.ruled = r.rebootRule(), true
			break
		}
	}
	packages, wanted, err := a.host.RebootRequired()
	if err != nil {
		a.opt.Log.Warn("cannot tell whether a reboot is asked for", "error", err)
		return nil, nil
	}
	next, event := nextReboot(a.store.Head().Reboot, wanted, packages, a.host.BootID(), now)
	if event.Type != "" {
		if err := r.rec.queue(r.stream.Incident(event)); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// rebootRule is the host's, or that of the first source that has one.
func (r *run) rebootRule() *window.Reboot {
	if own := r.agent.config.Reboot; own != nil {
		return own
	}
	for _, s := range r.sources {
		if s.catalog != nil && s.catalog.Reboot != nil {
			return s.catalog.Reboot
		}
	}
	return nil
}

// nextReboot returns what is noted from now on, nil where nothing changes, and what
// is told of it.
func nextReboot(was *state.Reboot, wanted bool, packages []string, boot string, now time.Time) (*state.Reboot, report.Incident) {
	of := ""
	if len(packages) > 0 {
		of = " by " + strings.Join(packages[:min(len(packages), 5)], ", ")
	}
	switch {
	case !wanted && was != nil:
		return &state.Reboot{}, report.Incident{}
	case !wanted:
		return nil, report.Incident{}
	case was == nil:
		return &state.Reboot{Since: now, Boot: boot, Packages: packages},
			report.Incident{Type: report.RebootRequired, Message: "a reboot is asked for" + of}
	case was.Asked != "" && was.Asked != boot && !was.Vain:
		next := *was
		next.Boot, next.Packages, next.Vain = boot, packages, true
		return &next, report.Incident{Type: report.RebootRequired,
			Message: "a reboot is asked for" + of + " again after the one that was made for it: trued makes no other until nothing asks for one"}
	case was.Boot != boot || !slices.Equal(was.Packages, packages):
		next := *was
		next.Boot, next.Packages = boot, packages
		return &next, report.Incident{}
	}
	return nil, report.Incident{}
}

// rebootHold says why a reboot that is asked for is not made now; the zero value
// is that it may be.
func rebootHold(r *state.Reboot, trial *state.Trial, rule *window.Reboot, boot string, now time.Time) window.Hold {
	switch {
	case trial != nil:
		return window.Hold{Why: "a commit is on trial"}
	case r.Vain:
		return window.Hold{Why: "it was made once, and is asked for again"}
	case r.Asked == boot && boot != "":
		return window.Hold{Why: "it is under way"}
	}
	return rule.Hold(now, time.Local)
}

// rebootAt returns when the window opens for a reboot that waits for it; zero when
// none does.
func (a *Agent) rebootAt() time.Time {
	snap := a.store.Head()
	if snap.Reboot == nil || a.config.Mode == Observe {
		return time.Time{}
	}
	return rebootHold(snap.Reboot, snap.Trial, a.mayReboot, a.host.BootID(), time.Now()).Opens
}

// mayReboot reports whether the reboot that is asked for, if one is, may be made now:
// after a run, when no other is in hand.
func (d *Daemon) mayReboot(after *Result) bool {
	a := d.agent
	snap := a.store.Head()
	settled := after != nil && !after.Partial && (after.Verdict == InOrder || after.Verdict == Differs)
	return snap.Reboot != nil && settled && a.config.Mode != Observe && !rebootHold(snap.Reboot, snap.Trial, a.mayReboot, a.host.BootID(), time.Now()).Any()
}

// rebootsFirst reports whether the reboot that the commit on trial asks for is to be
// made before that is confirmed. The host was seen to be healthy.
func (a *Agent) rebootsFirst(ctx context.Context, snap state.Snapshot) bool {
	if !asksFor(snap.Trial, snap.Reboot) || a.config.Mode == Observe || rebootHold(snap.Reboot, nil, a.mayReboot, a.host.BootID(), time.Now()).Any() {
		return false
	}
	if o, err := a.way().Order(); o == nil || err != nil || !a.way().Executable() {
		return false
	}
	ctx, stop := context.WithTimeout(ctx, rebootCall)
	defer stop()
	return a.host.Systemd().MayReboot(ctx) == nil
}

// asksFor reports whether a reboot is asked for since, and so because, a commit is on
// trial that the host can go back from.
func asksFor(t *state.Trial, r *state.Reboot) bool {
	return r != nil && t.HasWayBack() && !t.Ended.IsZero() && !r.Since.Before(t.Since)
}

// reboot hands the reboot out: that which the commit on trial asks for, whose proof
// is given, or one after everything was confirmed. While the host goes down nothing
// else is begun. Should it stay up, the proof is made without.
func (d *Daemon) reboot(ctx, stop context.Context, p *proof) {
	w := done{reboot: true}
	var trial *state.Trial
	if p != nil {
		w.result, trial = p.of, p.of.trial
	}
	go func() {
		made, err := d.agent.reboot(ctx, d.drain, trial)
		if err != nil {
			d.agent.opt.Log.Warn("the reboot that is asked for is not made now", "error", err)
		}
		if made {
			select {
			case <-stop.Done():
			case <-time.After(rebootDown):
			}
		}
		d.work <- w
	}()
}

const (
	// rebootWait bounds how long dead sinks hold up a reboot, rebootCall how long the
	// system takes to hear of one.
	rebootWait = 10 * time.Second
	rebootCall = 30 * time.Second
	// rebootDown is how long a host may take to go down.
	rebootDown = time.Minute
)

// reboot makes the reboot that is asked for, with what is on trial. Before the host
// goes down it is on disk that it does, and the sinks had their time to take the
// event. Where it is in doubt whether the system has heard, it has: to reboot once
// too seldom does less harm than to do so without end.
func (a *Agent) reboot(ctx context.Context, drain *report.Drain, trial *state.Trial) (made bool, err error) {
	unlock, err := a.store.Lock(ctx, 0)
	if err != nil {
		return false, err // somebody's run; the next one of ours is soon enough
	}
	defer unlock()
	if err := a.refuseSuspended(); err != nil {
		return false, err
	}
	if err := a.store.Reload(); err != nil {
		return false, err
	}
	snap := a.store.Head()
	r := snap.Reboot
	if r == nil || r.Asked == a.host.BootID() || !snap.Trial.SameAs(trial) || trial != nil && snap.Trial.Failed != "" {
		return false, nil // somebody's run was faster
	}
	call, stop := context.WithTimeout(ctx, rebootCall)
	defer stop()
	if err := a.host.Systemd().MayReboot(call); err != nil {
		return false, err
	}
	asked := *r
	asked.Asked = a.host.BootID()
	rec := state.Record{Reboot: &asked}
	if trial != nil {
		if err := a.way().Postpone(a.host.Moment()); err != nil {
			return false, err
		}
		on := *snap.Trial
		on.Until = time.Now().UTC().Add(a.config.ConfirmWithin)
		rec.Trial = &on
	}
	if err := a.store.Append(rec); err != nil {
		return false, err
	}
	message := "the host reboots"
	if len(r.Packages) > 0 {
		message += " for " + strings.Join(r.Packages[:min(len(r.Packages), 5)], ", ")
	}
	if trial != nil {
		message += "; what is on trial is to be healthy after it"
	}
	a.told(a.tell(ctx, report.Incident{Type: report.RebootBegun, Message: message}))
	flush, done := context.WithTimeout(ctx, rebootWait)
	defer done()
	_ = drain.Flush(flush) // what a sink does not take is kept
	refused, err := a.host.Systemd().Reboot(call)
	if refused {
		err = errors.Join(err, a.store.Append(state.Record{Reboot: r}))
	}
	return !refused, err
}
