package state

import (
	"encoding/json"
	"maps"
	"time"

	"trued.dev/trued/internal/resource"
)

// A Standing is a commit that a host can be brought to again, with what it was
// loaded with.
type Standing struct {
	Commit string          `json:"commit"`
	Input  json.RawMessage `json:"input,omitempty"`
	Group  string          `json:"group,omitempty"`
}

// A Trial is the commits that the host is being, or was, brought to and that
// nobody has confirmed yet. It is written with the record that announces the
// first change, and ends when they are confirmed, or gone back from.
type Trial struct {
	// Run is the run that began it, Since when that was.
	Run   string    `json:"run"`
	Since time.Time `json:"since"`
	// Moved is when the run began, or came to its end, by the clock that nobody sets.
	Moved resource.Moment `json:"moved,omitzero"`
	// Until is when the host goes back unless the commits were confirmed. While the
	// run is under way it leaves that all the time that it may take.
	Until time.Time `json:"until"`
	// Ended is when the run came to its end; zero before, and when it was cut off.
	Ended   time.Time            `json:"ended,omitzero"`
	Sources map[string]Probation `json:"sources"`
	// Reached is what of the network answered before the run.
	Reached []string `json:"reached,omitempty"`
	// Failed says why the host goes back; empty while the commits may still be
	// confirmed.
	Failed string `json:"failed,omitempty"`
}

// A Probation is what is on trial of one source.
type Probation struct {
	Commit string `json:"commit"`
	// Back is the commit confirmed last, nil where there is none: then there is
	// nothing to go back to.
	Back *Standing `json:"back,omitempty"`
}

// Left returns how much is left of a time that the run, or after its end the proof,
// may take. A host that was down in between has all of it, and no change of the
// clock makes it more or less.
func (t *Trial) Left(limit time.Duration, now resource.Moment, wall time.Time) time.Duration {
	switch {
	case t.Moved.Known() && now.Known() && t.Moved.Boot != now.Boot:
		return limit
	case t.Moved.Known() && now.Known():
		return limit - time.Duration(now.Micros-t.Moved.Micros)*time.Microsecond //nolint:gosec // far from its limit
	case t.Ended.IsZero():
		return limit - wall.Sub(t.Since)
	}
	return limit - wall.Sub(t.Ended)
}

// HasWayBack reports whether there is a source that can go back.
func (t *Trial) HasWayBack() bool {
	if t == nil {
		return false
	}
	for _, p := range t.Sources {
		if p.Back != nil {
			return true
		}
	}
	return false
}

// Regained returns those of the entries that come back with the sources that go
// back.
func (t *Trial) Regained(dropped map[resource.Address]Entry) map[resource.Address]Entry {
	back := maps.Clone(dropped)
	maps.DeleteFunc(back, func(_ resource.Address, e Entry) bool { return t.Sources[e.Source].Back == nil })
	return back
}

// SameAs reports whether two trials are of the same commits, and go back to the
// same.
func (t *Trial) SameAs(u *Trial) bool {
	if t == nil || u == nil {
		return t == u
	}
	return maps.EqualFunc(t.Sources, u.Sources, Probation.sameAs)
}

func (p Probation) sameAs(q Probation) bool {
	if p.Back == nil || q.Back == nil {
		return p.Commit == q.Commit && p.Back == q.Back
	}
	return p.Commit == q.Commit && p.Back.Commit == q.Back.Commit
}

// Public returns the trial without what commits were loaded with, for people to see.
func (t *Trial) Public() *Trial {
	if t == nil {
		return nil
	}
	public := *t
	public.Sources = make(map[string]Probation, len(t.Sources))
	for name, p := range t.Sources {
		if p.Back != nil {
			p.Back = &Standing{Commit: p.Back.Commit, Group: p.Back.Group}
		}
		public.Sources[name] = p
	}
	return &public
}

// previousKept is how many commits that were confirmed are remembered.
const previousKept = 3

// Leave notes that the host has left a commit that was confirmed.
func (s *Source) Leave(was Standing) {
	kept := []Standing{was}
	for _, p := range s.Previous {
		if p.Commit != was.Commit && len(kept) < previousKept {
			kept = append(kept, p)
		}
	}
	s.Previous = kept
}

// A Quarantine is a commit that is not tried again.
type Quarantine struct {
	Commit string    `json:"commit"`
	Since  time.Time `json:"since"`
	// Why is what was wrong, or the reason that an operator gave.
	Why string `json:"why"`
	// By is the operator; empty where the host went back by itself.
	By string `json:"by,omitempty"`
}

// A Pin keeps a source at a commit, whatever is newer.
type Pin struct {
	Commit string    `json:"commit"`
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
	By     string    `json:"by,omitempty"`
	// Told is when the last warning was that it is old.
	Told time.Time `json:"told,omitzero"`
}

// Confirmed returns the last commit of a source that was confirmed; nil where
// there is none. What was applied when nothing was on trial is.
func (s *Snapshot) Confirmed(source string) *Standing {
	if s.Trial != nil {
		if p, on := s.Trial.Sources[source]; on {
			return p.Back
		}
	}
	src := s.Sources[source]
	if src.Applied == "" {
		return nil
	}
	return &Standing{Commit: src.Applied, Input: src.Input, Group: src.Group}
}

// Unwell is how long a host has not been healthy, and why.
type Unwell struct {
	Since time.Time `json:"since"`
	Why   string    `json:"why"`
	// Reached is what of the network answered before.
	Reached []string `json:"reached,omitempty"`
}
