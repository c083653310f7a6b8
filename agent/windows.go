package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"trued.dev/trued/internal/apply"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
	"trued.dev/trued/internal/window"
)

// A change waits for the windows of its group, which come with the catalog, and
// for those of the host: both must let it through. Which are open is asked once a
// run, so that what was begun within a window goes to its end.

// windows returns what says of a change whether it has to wait; nil where nothing
// has to.
func (r *run) windows() func(source string, a resource.Address, cause resource.Cause) window.Hold {
	if r.req.IgnoreWindows {
		return nil
	}
	now := time.Now()
	own := r.agent.config.Windows.Judge(now, time.Local)
	some := !r.agent.config.Windows.Empty()
	groups := map[string]*window.Judge{}
	for _, s := range r.sources {
		if s.catalog != nil && !s.catalog.Windows.Empty() {
			groups[s.name()] = s.catalog.Windows.Judge(now, time.Local)
			some = true
		}
	}
	if !some {
		return nil
	}
	return func(source string, a resource.Address, cause resource.Cause) window.Hold {
		h := own.Hold(a, cause)
		if g := groups[source]; g != nil {
			h = h.Or(g.Hold(a, cause))
		}
		return h
	}
}

// change is a digest of what waits.
func change(o *apply.Outcome) string {
	data, err := json.Marshal(struct {
		Cause   resource.Cause
		Changes resource.Diff
		Digest  string
	}{o.Cause, o.Changes, o.Step.Digest})
	if err != nil {
		return "unknown"
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

// waits reports whether what came of a step is that it waits for its window.
func waits(o *apply.Outcome) bool { return o.Status == apply.Held && o.Step.Window }

// holds returns what becomes of the changes that wait by what a run found. What a
// partial run did not look at is as it was.
func (r *run) holds(outcomes []*apply.Outcome, now time.Time) map[resource.Address]state.Hold {
	before := r.agent.store.Head().Holds
	changed := map[resource.Address]state.Hold{}
	seen := map[resource.Address]bool{}
	for _, o := range outcomes {
		a := o.Step.Address
		seen[a] = true
		was, known := before[a]
		switch {
		case waits(o):
			h := state.Hold{Since: now, Opens: o.Step.Opens.UTC(), Change: change(o)}
			if o.Step.Opens.IsZero() {
				h.Opens = time.Time{}
			}
			if known && was.Change == h.Change {
				h.Since = was.Since
			}
			if !known || was.Change != h.Change || !was.Opens.Equal(h.Opens) {
				changed[a] = h
			}
		case known:
			changed[a] = state.Hold{}
		}
	}
	for a := range before {
		if !seen[a] && !r.partial() && !r.cut {
			changed[a] = state.Hold{}
		}
	}
	return changed
}

// Waiting is a change that waits for its window, as status shows it.
type Waiting struct {
	Resource resource.Address `json:"resource"`
	Since    time.Time        `json:"since"`
	Opens    time.Time        `json:"opens,omitzero"`
}

func waiting(holds map[resource.Address]state.Hold) []Waiting {
	var list []Waiting
	for _, a := range slices.SortedFunc(maps.Keys(holds), resource.Address.Compare) {
		list = append(list, Waiting{Resource: a, Since: holds[a].Since, Opens: holds[a].Opens})
	}
	return list
}

// opensAt returns when the first window opens that something waits for; zero when
// nothing does.
func (a *Agent) opensAt() time.Time {
	var first time.Time
	for _, h := range a.store.Head().Holds {
		first = earliest(first, h.Opens)
	}
	return first
}
