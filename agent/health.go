package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/health"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/source"
	"trued.dev/trued/internal/state"
	"trued.dev/trued/internal/wayback"
)

// A Prober tells whether the host is healthy.
type Prober interface {
	// Reach tells heard of what of the network answers now, each once and as soon as
	// it does, and returns when nothing more is waited for.
	Reach(ctx context.Context, heard func(what string))
	// Prove waits until all is good, or cannot become so any more, at most until
	// the given time, and returns what was not good. What of the network answered
	// before must answer again.
	Prove(ctx context.Context, probes []catalog.Probe, before []string, until time.Time) []health.Failure
	// Look looks once with each probe, and at the network, or as long as each may take.
	Look(ctx context.Context, probes []catalog.Probe, before []string, wait bool) []health.Report
}

// grace is how long a host that was down until its time was over has to show that
// it is healthy.
const grace = time.Minute

// settle looks, after a run, whether the host is healthy. When it is, what is on
// trial is confirmed, or, where the caller may reboot, proven once more after the
// reboot that it asks for. When it is not, what has a way back is put in quarantine,
// and the next run goes there. When ctx ends first, or another commit came in
// between, all is left to whoever comes next.
func (a *Agent) settle(ctx context.Context, res *Result, reboots bool) (next, error) {
	if !res.unproven {
		return goOn, nil
	}
	began := time.Now()
	until := began.Add(a.config.ConfirmWithin)
	if t := res.trial; t != nil {
		may := a.config.ConfirmWithin
		if t.Ended.IsZero() {
			may += a.config.RunTimeout
		}
		until = began.Add(max(a.left(t, may), grace))
	}
	if res.trial.HasWayBack() {
		a.moved(wayback.Waiting) // also after a boot that found the run at its end
	}
	before := res.before(a.store.Head())
	failures := a.overdue(res)
	if failures == nil {
		failures = a.unruly(res.trial)
	}
	if failures == nil {
		failures = a.health.Prove(ctx, res.probes, before, until)
	}
	if ctx.Err() != nil {
		return goOn, ctx.Err()
	}
	unlock, err := a.store.Lock(ctx, a.config.RunTimeout) // a run may be under way
	if err != nil {
		return goOn, err
	}
	defer unlock()
	snap := a.store.Head()
	switch t := snap.Trial; {
	case t != nil && t.Failed != "":
		return goBack, nil
	case !t.SameAs(res.trial) || t != nil && t.Run != res.trial.Run:
		return goOn, nil
	case reboots && len(failures) == 0 && a.rebootsFirst(ctx, snap):
		return rebootFirst, nil
	}
	j := &judgement{agent: a, snap: snap, now: time.Now().UTC(), failures: failures, reached: before, rec: state.Record{Sources: map[string]state.Source{}}}
	back, err := j.pass(ctx)
	if back {
		return goBack, err
	}
	if len(failures) > 0 {
		res.Verdict, res.Unwell = res.Verdict.andHealth(), words(failures)
	}
	return goOn, err
}

// next is what follows from the health of the host.
type next int

const (
	goOn next = iota
	goBack
	rebootFirst
)

// overdue returns a failure when the run that began a trial did not come to its end
// in time.
func (a *Agent) overdue(res *Result) []health.Failure {
	t := res.trial
	if t == nil || !t.Ended.IsZero() || !res.late && a.left(t, a.config.RunTimeout) > 0 {
		return nil
	}
	return []health.Failure{{Probe: "run", Why: fmt.Sprintf("it did not come to its end within %s (run_timeout)", a.config.RunTimeout)}}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// A judgement is what the health of the host means for what is on trial.
type judgement struct {
	agent    *Agent
	snap     state.Snapshot
	now      time.Time
	failures []health.Failure
	// reached is what of the network answered before.
	reached []string
	rec     state.Record
	told    []report.Incident
}

// pass writes the judgement down. It returns true when the host must go back.
func (j *judgement) pass(ctx context.Context) (back bool, err error) {
	switch {
	case len(j.failures) == 0:
		j.confirm()
	case j.snap.Trial.HasWayBack():
		j.condemn(words(j.failures), "")
		back = true
	}
	j.note(back)
	return back, j.write(ctx)
}

func words(failures []health.Failure) string {
	var parts []string
	for _, f := range failures {
		parts = append(parts, f.String())
	}
	return strings.Join(parts, "; ")
}

// confirm ends the trial well.
func (j *judgement) confirm() {
	t := j.snap.Trial
	if t == nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(t.Sources)) {
		p, src := t.Sources[name], j.snap.Sources[name]
		if p.Back != nil && p.Back.Commit != p.Commit {
			src.Leave(*p.Back)
		}
		if q := src.Quarantine; q != nil && q.Commit != p.Commit && !j.agent.isNewest(name, q.Commit) {
			src.Quarantine = nil // something newer has come
		}
		j.rec.Sources[name] = src
		j.told = append(j.told, report.Incident{
			Type: report.CommitConfirmed, Source: name,
			Message: fmt.Sprintf("commit %s of source %q is confirmed: the host is healthy", Short(p.Commit), name),
		})
	}
	j.rec.Trial = &state.Trial{}
}

// isNewest reports whether a commit is the newest of a source: what was confirmed
// then is one that the host is pinned to.
func (a *Agent) isNewest(name, commit string) bool {
	return slices.ContainsFunc(a.sources, func(src source.Source) bool {
		last, ok := src.Last()
		return ok && src.Name() == name && last.Commit == commit
	})
}

// condemn puts what can be gone back from in quarantine.
func (j *judgement) condemn(why, by string) {
	t := *j.snap.Trial
	t.Failed = why
	j.rec.Put = t.Regained(j.snap.Dropped)
	for _, name := range slices.Sorted(maps.Keys(t.Sources)) {
		p, src := t.Sources[name], j.snap.Sources[name]
		if p.Back == nil {
			continue
		}
		src.Quarantine = &state.Quarantine{Commit: p.Commit, Since: j.now, Why: why, By: by}
		j.rec.Sources[name] = src
		j.told = append(j.told, report.Incident{
			Type: report.CommitQuarantined, Source: name, ErrType: "health", Err: errors.New(why),
			Message: fmt.Sprintf("commit %s of source %q is bad; the host goes back to %s", Short(p.Commit), name, Short(p.Back.Commit)),
		})
	}
	j.rec.Trial = &t
}

// note keeps whether the host is healthy, and tells of it when that has changed.
func (j *judgement) note(back bool) {
	was := j.snap.Unwell
	switch {
	case len(j.failures) == 0 && was != nil:
		j.rec.Unwell = &state.Unwell{}
		j.told = append(j.told, report.Incident{
			Type: report.HealthRecovered, Message: fmt.Sprintf("the host is healthy again after %s", j.now.Sub(was.Since).Round(time.Second)),
		})
	case len(j.failures) > 0 && !back:
		now := &state.Unwell{Since: j.now, Why: words(j.failures), Reached: j.reached}
		if was != nil {
			now.Since = was.Since
		}
		if was == nil || was.Why != now.Why {
			j.rec.Unwell = now
		}
		if was == nil {
			j.told = append(j.told, report.Incident{
				Type: report.HealthFailed, ErrType: "health", Err: errors.New(now.Why), Message: "the host is not healthy",
			})
		}
	}
}

// write appends the record with the events that tell of it.
func (j *judgement) write(ctx context.Context) error {
	if j.rec.Trial == nil && j.rec.Unwell == nil && len(j.rec.Sources) == 0 {
		return nil
	}
	f, err := j.agent.Facts(ctx)
	if err != nil {
		return err
	}
	stream := report.NewStream(j.agent.reportContext(f, j.states()))
	for _, i := range j.told {
		data, err := json.Marshal(stream.Incident(i))
		if err != nil {
			return fmt.Errorf("cannot encode event: %w", err)
		}
		j.rec.Events = append(j.rec.Events, data)
	}
	if err := j.agent.store.Append(j.rec); err != nil {
		return err
	}
	j.agent.trialMoved(ctx, j.rec.Trial)
	if t := j.rec.Trial; t != nil && len(t.Sources) == 0 {
		j.agent.confirmed()
	}
	return j.agent.keepCommits()
}

// states is what the events say of the sources: where the host is or goes back to,
// and what was tried.
func (j *judgement) states() []report.SourceState {
	var list []report.SourceState
	for _, src := range j.agent.sources {
		s := reportState(j.agent.statusOf(src, j.snap.Sources[src.Name()]))
		if t := j.rec.Trial; t != nil && t.Failed != "" {
			if p, on := t.Sources[s.Name]; on && p.Back != nil {
				s.Applied, s.Attempted, s.Group = p.Back.Commit, p.Commit, p.Back.Group
			}
		}
		list = append(list, s)
	}
	return list
}

// Health looks at the host by the probes that it is kept to: once, or as long as
// each may take. It changes nothing.
func (a *Agent) Health(ctx context.Context, wait bool) ([]health.Report, error) {
	if a.health == nil {
		return nil, errors.New("this is a tree: nobody can be asked how it does")
	}
	if err := a.store.Reload(); err != nil {
		return nil, err
	}
	r, err := a.newRun(Request{})
	if err != nil {
		return nil, err
	}
	defer r.close()
	r.fetch(ctx)
	r.load(ctx)
	for _, s := range r.sources {
		if s.err != nil && s.catalog == nil {
			return nil, fmt.Errorf("source %q: %w", s.name(), s.err)
		}
	}
	snap := a.store.Head()
	return a.health.Look(ctx, r.probes(), (&Result{trial: snap.Trial}).before(snap), wait), nil
}

// before is what of the network answered when all was well.
func (r *Result) before(snap state.Snapshot) []string {
	before := r.reached
	if r.trial != nil {
		before = r.trial.Reached
	}
	if snap.Unwell != nil {
		before = slices.Concat(before, snap.Unwell.Reached)
	}
	slices.Sort(before)
	return slices.Compact(before)
}

// condemn puts what is on trial in quarantine, for whoever knows that the host must
// go back. It reports whether there was anything.
func (a *Agent) condemn(ctx context.Context, why, by string) (bool, error) {
	unlock, err := a.store.Lock(ctx, lockWait)
	if err != nil {
		return false, err
	}
	defer unlock()
	snap := a.store.Head()
	if !snap.Trial.HasWayBack() {
		return false, nil
	}
	if snap.Trial.Failed != "" {
		return true, nil // it was told already
	}
	j := &judgement{agent: a, snap: snap, now: time.Now().UTC(), rec: state.Record{Sources: map[string]state.Source{}}}
	j.condemn(why, by)
	return true, j.write(ctx)
}

// GoBack brings the host back to the commits that were confirmed last, when others
// are on trial. The result is nil when there are none, or when there is nothing to
// go back to.
func (a *Agent) GoBack(ctx, stop context.Context, why string, req Request) (*Result, error) {
	on, err := a.condemn(ctx, why, "")
	if !on || err != nil {
		return nil, err
	}
	req.Trigger, req.Hasty = triggerRollback, true
	return a.Run(ctx, stop, req)
}

// Converge is a run, the wait for the health of the host, and the way back where
// that is bad. It returns the result of the last run.
func (a *Agent) Converge(ctx, stop context.Context, req Request) (*Result, error) {
	res, err := a.Run(ctx, stop, req)
	if err != nil {
		return res, err
	}
	then, err := a.settle(stop, res, false)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return res, nil // the next run goes on with it
	}
	if err != nil || then != goBack {
		return res, err
	}
	again := Request{Trigger: triggerRollback, Hasty: true, Wait: lockWait, Progress: req.Progress}
	if res, err = a.Run(ctx, stop, again); err != nil {
		return res, err
	}
	_, err = a.settle(stop, res, false)
	return res, err
}
