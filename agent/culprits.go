package agent

import (
	"slices"
	"time"

	"trued.dev/trued/internal/apply"
	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/culprit"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
)

// culprits tell who changed what is claimed, at or after a time; nil where nobody
// is known.
type culprits interface {
	Who(claims []resource.Claim, since time.Time) *culprit.Culprit
	// Settle forgets what came before a time, since it has been told.
	Settle(claims []resource.Claim, before time.Time)
	// Ours has what is done to packages until done is called be told of nobody.
	Ours() (done func())
}

// keptDrifts bounds how many drifts are kept with a run.
const keptDrifts = 20

// blame finds who caused the drift that an outcome tells of. The last run that
// looked at everything saw it as it should be, or told of it.
func (r *recorder) blame(o *apply.Outcome) *culprit.Culprit {
	if o.Cause != resource.Drift || len(o.Changes) == 0 || o.Status == apply.Skipped {
		return nil
	}
	claims := o.Step.Entry.Claims
	if o.Step.Resource != nil {
		claims = culpable(o.Step.Resource)
	}
	r.blamed = append(r.blamed, claims...)
	return r.culprits.Who(claims, r.since)
}

// handle has nobody be blamed for what the run itself does to packages, from the
// record before it to the one after it.
func (r *recorder) handle(rec state.Record) {
	if rec.Begin != nil && slices.ContainsFunc(rec.Begin.Items, isPackage) {
		r.handled = r.culprits.Ours()
	}
	if rec.Done && r.handled != nil {
		r.handled()
		r.handled = nil
	}
}

func isPackage(i state.Intent) bool {
	return slices.ContainsFunc(i.Claims, func(c resource.Claim) bool { return c.Space == resource.SpacePackage })
}

// settle has what was told of be forgotten, so that it is not taken for the cause
// of what comes next. Several resources may be of one file, so it comes last.
func (r *recorder) settle() {
	r.culprits.Settle(r.blamed, r.run.Started)
	r.blamed = nil
}

// drifted keeps a drift for status, in which the events of the run are not.
func (r *recorder) drifted(o *apply.Outcome, c *culprit.Culprit) {
	if o.Cause != resource.Drift || len(o.Changes) == 0 || o.Status == apply.Skipped {
		return
	}
	d := state.Drift{Resource: o.Step.Address, Outcome: string(o.Status)}
	if c != nil {
		d.Hint = c.Text(time.Now())
	}
	r.drifts = slices.DeleteFunc(r.drifts, func(have state.Drift) bool { return have.Resource == d.Resource })
	if len(r.drifts) < keptDrifts {
		r.drifts = append(r.drifts, d)
	}
}

// drifts are those of this run, the newest first where it looked at a few resources
// alone: then those since the last run that looked at everything count as well.
func (r *run) drifts() []state.Drift {
	list := r.rec.drifts
	if r.partial() && r.last != nil {
		for _, d := range r.last.Drifts {
			if !slices.ContainsFunc(r.rec.drifts, func(have state.Drift) bool { return have.Resource == d.Resource }) {
				list = append(list, d)
			}
		}
	}
	return list[:min(len(list), keptDrifts)]
}

// culpable is what of a resource somebody may have changed: what it claims, and
// the files that it watches.
func culpable(r resource.Resource) []resource.Claim {
	claims := r.Claims()
	w, ok := r.(resource.Watched)
	if !ok {
		return claims
	}
	for _, watch := range w.Watches() {
		if watch.Space == resource.WatchPath || watch.Space == resource.WatchTree {
			claims = append(claims, resource.Path(watch.Name))
		}
	}
	return claims
}

// watchCulprits has an eye kept on what is in the catalog, where anybody is
// watched at all.
func (a *Agent) watchCulprits(entries []catalog.Entry) {
	if !a.culprits.Watching() {
		return
	}
	var claims []resource.Claim
	for _, e := range entries {
		if e.Resource != nil {
			claims = append(claims, culpable(e.Resource)...)
		}
	}
	a.culprits.Watch(claims)
}

// hint returns in words who caused the drift of a resource in this run, where that
// is known.
func (r *recorder) hint(a resource.Address) string {
	for _, d := range r.drifts {
		if d.Resource == a && d.Hint != "" {
			return " (" + d.Hint + ")"
		}
	}
	return ""
}
