package agent

import (
	"slices"

	"trued.dev/trued/internal/apply"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
)

// A partial run looks at the resources that its request names, and otherwise is
// a run like any other: the same lock, the whole catalog in its order, the same
// plan and apply, the same debts. It applies no commit that the last full run did
// not, removes nothing, and tells of nothing when there is nothing to tell. What
// the last full run left undone stays with that one: it is neither tried again
// nor forgotten.

func (r *run) partial() bool { return r.req.Only != nil }

// widen makes a partial run a full one where only that can be right: when there
// was none, when the last one was cut off or enforced nothing, and when it was not
// of the commits that there are now.
func (r *run) widen() {
	if !r.partial() {
		return
	}
	snap := r.agent.store.Head()
	r.last = snap.LastRun
	narrow := r.last != nil && snap.Open == nil && (snap.Trial == nil || snap.Trial.Failed == "") &&
		Verdict(r.last.Verdict) != Interrupted && Verdict(r.last.Verdict) != Unusable
	for _, s := range r.sources {
		rev, ok := s.source.Last()
		refused := s.before.Problem != "" && s.before.Attempted == rev.Commit
		narrow = narrow && ok && (rev.Commit == s.before.Applied || refused)
	}
	if !narrow {
		r.req.Only = nil
	}
	r.rec.run.Partial, r.stream.Partial = narrow, narrow
}

// only returns the resources to look at, nil for all, and those that the last run
// left undone.
func (r *run) only() (only, blocked map[resource.Address]bool) {
	if !r.partial() {
		return nil, nil
	}
	only, blocked = map[resource.Address]bool{}, map[resource.Address]bool{}
	for _, a := range r.req.Only {
		only[a] = true
	}
	for _, i := range r.last.Issues {
		switch apply.Status(i.Outcome) {
		case apply.Pending, apply.Failed, apply.Skipped:
			blocked[i.Resource] = true
		}
	}
	return only, blocked
}

// silent reports whether a partial run has nothing to tell: nothing was written
// down, and all that it saw is in order or known.
func (r *run) silent(outcomes []*apply.Outcome) bool {
	return r.partial() && !r.rec.begun && !slices.ContainsFunc(outcomes, func(o *apply.Outcome) bool {
		return o.Status != apply.InOrder && !o.Told
	})
}

// pass ends a partial run that has nothing to tell. It leaves the state alone.
func (r *run) pass(outcomes []*apply.Outcome, counts report.Counts) *Result {
	r.good = !r.cut
	if err := r.attest(Verdict(r.last.Verdict), outcomes); err != nil {
		r.agent.opt.Log.Debug("cannot save a cache", "error", err)
	}
	return &Result{Verdict: Verdict(r.last.Verdict), Run: *r.last, Counts: counts, Outcomes: outcomes, Silent: true, Partial: true}
}

// remaining returns what a run left in another state than desired, as far as is
// known after a partial one: what that one did not look at is as it was.
func (r *run) remaining(outcomes []*apply.Outcome) []state.Issue {
	list := issues(outcomes)
	if !r.partial() {
		return list
	}
	seen := map[resource.Address]bool{}
	for _, o := range outcomes {
		seen[o.Step.Address] = true
	}
	for _, i := range r.last.Issues {
		if !seen[i.Resource] && len(list) < issuesKept {
			list = append(list, i)
		}
	}
	return list
}

// overall returns the verdict on the host after a run that came to the given one.
// After a partial run it is no better than what that run did not look at.
func (r *run) overall(v Verdict, left []state.Issue) Verdict {
	if !r.partial() || v == Unusable || v == Interrupted {
		return v
	}
	var c report.Counts
	for _, i := range left {
		c.Add(report.Outcome(i.Outcome))
	}
	behind := slices.ContainsFunc(r.sources, func(s *sourceRun) bool { return s.before.Problem != "" })
	switch {
	case v == Failed || c.Failed > 0 || c.Skipped > 0:
		return Failed
	case v == Behind || behind:
		return Behind
	case v == Differs || len(left) > 0:
		return Differs
	}
	return InOrder
}
