package agent

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"trued.dev/trued/internal/apply"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
	"trued.dev/trued/internal/watch"
)

// Somebody may change a thing as often as it is put back: another tool that holds
// it for its own. So that neither wears out the host, the pause before what is
// contested is put back on the spot grows. A full run does not wait: it is what was
// asked for, or has its own pace.

const (
	// contestRepairs is how many repairs within contestTime make a contest, which
	// is over when there was none for that long.
	contestRepairs = 3
	contestTime    = 10 * time.Minute
	// contestPause is the first pause; each repair doubles it, up to the time
	// between two polls.
	contestPause = time.Second
)

// contests returns what becomes of the contests by what a run put back, and tells
// of those that begin and of those that are over.
func (r *run) contests(outcomes []*apply.Outcome, now time.Time) (map[resource.Address]state.Contest, error) {
	before := r.agent.store.Head().Contests
	changed := map[resource.Address]state.Contest{}
	for _, o := range outcomes {
		if o.Status != apply.Repaired || len(o.Changes) == 0 || o.Cause != resource.Drift {
			continue
		}
		a := o.Step.Address
		c := repaired(before[a], now, r.agent.config.Interval)
		if changed[a] = c; c.Since.Equal(now) {
			err := r.rec.queue(r.stream.Contested(reportOutcome(o), fmt.Sprintf(
				"%s was put back %d times within %s%s: the next time comes after a pause",
				a, contestRepairs, contestTime, r.rec.hint(a))))
			if err != nil {
				return nil, err
			}
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(before), resource.Address.Compare) {
		c := before[a]
		if _, again := changed[a]; again || !over(c, now) {
			continue
		}
		changed[a] = state.Contest{}
		if c.Since.IsZero() {
			continue
		}
		err := r.rec.queue(r.stream.Calmed(report.ResourceOutcome{Address: a, Cause: resource.Drift, Outcome: report.Repaired},
			fmt.Sprintf("%s was left alone for %s: it is put back at once again", a, contestTime)))
		if err != nil {
			return nil, err
		}
	}
	return changed, nil
}

// repaired returns a contest after one more repair.
func repaired(c state.Contest, now time.Time, longest time.Duration) state.Contest {
	if over(c, now) {
		c = state.Contest{}
	}
	c.Repairs = append(slices.Clone(c.Repairs), now)
	c.Repairs = slices.DeleteFunc(c.Repairs, func(t time.Time) bool { return now.Sub(t) >= contestTime })
	if n := len(c.Repairs); n > contestRepairs {
		c.Repairs = c.Repairs[n-contestRepairs:]
	}
	switch {
	case !c.Since.IsZero():
		c.Pause = min(2*c.Pause, longest)
	case len(c.Repairs) >= contestRepairs:
		c.Since, c.Pause = now, min(contestPause, longest)
	}
	if c.Pause > 0 {
		c.Next = now.Add(c.Pause)
	}
	return c
}

// over reports whether a contest has ended. A date that lies ahead is of a clock
// that was set back since.
func over(c state.Contest, now time.Time) bool {
	if len(c.Repairs) == 0 {
		return true
	}
	last := c.Repairs[len(c.Repairs)-1]
	return last.After(now.Add(time.Minute)) || now.Sub(last) >= contestTime+c.Pause
}

// spare splits from a batch what is contested and whose time has not come, and
// gives it back to the watcher until then.
func (a *Agent) spare(b watch.Batch) watch.Batch {
	contests := a.store.Head().Contests
	if len(contests) == 0 {
		return b
	}
	now := time.Now()
	b.Addresses = slices.DeleteFunc(b.Addresses, func(addr resource.Address) bool {
		c := contests[addr]
		wait := c.Next.Sub(now)
		if wait <= 0 || wait > c.Pause {
			return false
		}
		a.watcher.Again(watch.Batch{Addresses: []resource.Address{addr}, Since: b.Since}, wait)
		return true
	})
	return b
}

// A Contested is a resource that somebody changes as often as it is put back.
type Contested struct {
	Resource resource.Address `json:"resource"`
	Since    time.Time        `json:"since"`
	// Next is when it is put back at the earliest, if it drifts again.
	Next time.Time `json:"next"`
}

// contested lists what is contested now.
func contested(snap state.Snapshot, now time.Time) []Contested {
	list := []Contested{}
	for _, a := range slices.SortedFunc(maps.Keys(snap.Contests), resource.Address.Compare) {
		if c := snap.Contests[a]; !c.Since.IsZero() && !over(c, now) {
			list = append(list, Contested{a, c.Since, c.Next})
		}
	}
	return list
}
