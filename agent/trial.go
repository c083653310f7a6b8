package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"trued.dev/trued/internal/apply"
	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/plan"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
)

// A commit that changes the host is on trial until the host was seen to be
// healthy with it. What is on trial is in the state before the first change, so
// that whoever comes after a crash knows what to go back from and where to. Going
// back is a run like any other: the bad commit is in quarantine, and so load
// chooses the last confirmed one.

// tries reports whether commits are put on trial at all: not where nothing is
// changed, nor in a tree, where nobody can be asked how it does.
func (r *run) tries() bool {
	return r.agent.health != nil && r.agent.config.Mode != Observe && !r.partial()
}

// tryOut notes which commits the run brings the host to that nobody has confirmed.
func (r *run) tryOut(ctx context.Context, p *plan.Plan) {
	if !r.tries() {
		return
	}
	old := r.agent.store.Head().Trial
	if r.trial = r.nextTrial(old, p); r.trial == nil || r.trial == old {
		return
	}
	if old != nil {
		r.trial.Reached = old.Reached // what answered before anything was on trial
	} else {
		r.agent.health.Reach(ctx, func(what string) { r.trial.Reached = append(r.trial.Reached, what) })
	}
	r.rec.trial = r.trial
}

// nextTrial returns what is on trial during the run: nil for nothing, and what was
// already where it is the same.
func (r *run) nextTrial(old *state.Trial, p *plan.Plan) *state.Trial {
	now := time.Now().UTC()
	t := &state.Trial{
		Run: r.stream.ID(), Since: now, Until: now.Add(r.agent.config.RunTimeout + r.agent.config.ConfirmWithin),
		Moved: r.agent.host.Moment(), Sources: map[string]state.Probation{},
	}
	snap := r.agent.store.Head()
	for _, s := range r.sources {
		back := snap.Confirmed(s.name())
		switch {
		case s.catalog == nil && old != nil:
			if p, on := old.Sources[s.name()]; on {
				t.Sources[s.name()], t.Failed = p, old.Failed // nothing has become of it
			}
		case s.catalog != nil:
			if s.takesUp(p, snap.Holds) {
				back = s.before.Whole
			}
			if back == nil || back.Commit != s.revision {
				t.Sources[s.name()] = state.Probation{Commit: s.revision, Back: back}
			}
		}
	}
	switch {
	case len(t.Sources) == 0:
		return nil
	case t.SameAs(old) && t.Failed == old.Failed: // another word was said where it differs
		return old
	}
	return t
}

// takesUp reports whether a run makes changes that had to wait for their window:
// the commit that brought them was seen to be healthy without.
func (s *sourceRun) takesUp(p *plan.Plan, waited map[resource.Address]state.Hold) bool {
	return s.before.Whole != nil && s.before.Whole.Commit != s.revision && slices.ContainsFunc(p.Steps, func(step *plan.Step) bool {
		_, did := waited[step.Address]
		return did && step.Source == s.name() && step.Cause != resource.Drift && (step.Verdict == plan.Change || step.Verdict == plan.Unknown)
	})
}

// whole returns the last commit of which nothing waited, where something of the
// one that the run enforced does.
func (s *sourceRun) whole(snap state.Snapshot, outcomes []*apply.Outcome) *state.Standing {
	waiting := slices.ContainsFunc(outcomes, func(o *apply.Outcome) bool {
		return waits(o) && o.Step.Source == s.name() && o.Cause != resource.Drift
	})
	if !waiting {
		return nil
	}
	for _, was := range []*state.Standing{s.before.Whole, snap.Confirmed(s.name())} {
		if was != nil && was.Commit != s.revision {
			return was
		}
	}
	return nil
}

// trialAfter returns the record of what is on trial after the run; nil where that
// is as it was. What nothing was changed for needs no trial.
func (r *run) trialAfter(now time.Time) *state.Trial {
	if r.partial() || r.cut || r.agent.config.Mode == Observe {
		return nil
	}
	old := r.agent.store.Head().Trial
	switch {
	case old == nil:
		return nil
	case r.trial == nil:
		return &state.Trial{}
	case r.trial.SameAs(old) && r.trial.Failed == old.Failed && !old.Ended.IsZero():
		return nil
	}
	t := *r.trial
	t.Ended, t.Until, t.Moved = now, now.Add(r.agent.config.ConfirmWithin), r.agent.host.Moment()
	return &t
}

// bounded returns the context that ends a run by which commits are put on trial:
// it may not take longer than that is allowed to.
func (r *run) bounded(stop context.Context) (context.Context, context.CancelFunc) {
	if r.trial == nil || !r.trial.Ended.IsZero() || r.trial.Failed != "" {
		return stop, func() {}
	}
	return context.WithTimeout(stop, r.agent.left(r.trial, r.agent.config.RunTimeout))
}

// left is how much is left of what a trial may take.
func (a *Agent) left(t *state.Trial, limit time.Duration) time.Duration {
	return t.Left(limit, a.host.Moment(), time.Now())
}

// from returns the commit that the source goes back from, or empty.
func (s *sourceRun) from(t *state.Trial) string {
	if t == nil {
		return ""
	}
	p, on := t.Sources[s.name()]
	if !on || p.Back == nil || p.Back.Commit != s.revision || p.Commit == s.revision {
		return ""
	}
	return p.Commit
}

// A QuarantinedError is why the newest commit is not applied.
type QuarantinedError struct{ state.Quarantine }

func (e *QuarantinedError) Error() string {
	by := ""
	if e.By != "" {
		by = " by " + e.By
	}
	return fmt.Sprintf("commit %s is in quarantine since %s%s: %s", Short(e.Commit), e.Since.Local().Format(time.DateTime), by, e.Why)
}

// goBack takes the commit that was confirmed last.
func (s *sourceRun) goBack(ctx context.Context, r *run, why error) {
	s.err = why
	snap := r.agent.store.Head()
	back := snap.Confirmed(s.name())
	if back == nil {
		return
	}
	inputs := []input{s.inputNow(r)}
	if then, ok := decodeInput(back.Input); ok {
		inputs = append(inputs, then)
		if snap.Trial != nil && snap.Trial.Failed != "" {
			// The host is to be what it was, also where the bad commit has changed
			// what it is loaded with.
			inputs[0], inputs[1] = inputs[1], inputs[0]
		}
	}
	var wrong error
	for _, in := range inputs {
		cat, err := s.admit(ctx, r, back.Commit, in)
		if err == nil {
			s.enforce(cat, back.Commit, in)
			return
		}
		wrong = err
	}
	s.err = fmt.Errorf("%w; and commit %s, which the host goes back to, cannot be loaded: %w", why, Short(back.Commit), wrong)
}

// keepCommits has the sources keep all commits that the host may be brought to.
func (a *Agent) keepCommits() error {
	for _, src := range a.sources {
		if err := src.Keep(a.mayReturnTo(src.Name())...); err != nil {
			return fmt.Errorf("source %q: %w", src.Name(), err)
		}
	}
	return nil
}

// mayReturnTo are the commits of a source that the host may be brought to beside the
// newest and the applied one.
func (a *Agent) mayReturnTo(name string) []string {
	snap := a.store.Head()
	known := snap.Sources[name]
	var keep []string
	if s := snap.Confirmed(name); s != nil {
		keep = append(keep, s.Commit)
	}
	for _, s := range known.Previous {
		keep = append(keep, s.Commit)
	}
	if known.Whole != nil {
		keep = append(keep, known.Whole.Commit)
	}
	if known.Quarantine != nil {
		keep = append(keep, known.Quarantine.Commit)
	}
	if known.Pin != nil {
		keep = append(keep, known.Pin.Commit)
	}
	return keep
}

// unproven reports whether it is to be seen if the host is healthy after the run:
// when it has changed something, and as long as that is not known.
func (r *run) unproven() bool {
	if r.agent.health == nil || r.agent.config.Mode == Observe || r.cut && r.trial == nil {
		return false
	}
	snap := r.agent.store.Head()
	if snap.Trial != nil && snap.Trial.Failed != "" {
		return false // the host is on its way back
	}
	return snap.Trial != nil || snap.Unwell != nil || r.rec.changed
}

// probes are those of all catalogs.
func (r *run) probes() []catalog.Probe {
	var all []catalog.Probe
	for _, s := range r.sources {
		if s.catalog != nil {
			all = append(all, s.catalog.Health...)
		}
	}
	return all
}
