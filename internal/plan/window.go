package plan

import (
	"fmt"

	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/window"
)

// What may not be changed now waits for its window, and what hangs together with
// it waits as well: a file whose change would make a unit restart outside of that
// one's window is not written, since the file alone is neither the old nor the new
// state; and what comes after a change that waits would find the host without it.

// Waits says why a change of the step has to wait for a window. It is asked of the
// same time for all of a run: one that has begun within a window goes to its end.
func (p *Plan) Waits(s *Step) window.Hold {
	if p.in.Window == nil {
		return window.Hold{}
	}
	last := p.in.Window(s.Source, s.Address, s.Cause)
	for _, f := range s.Feeds {
		t := p.Steps[f.To]
		h := p.in.Window(t.Source, t.Address, s.Cause)
		if h.Any() {
			h.Why = fmt.Sprintf("%s would follow with a %s, and %s", t.Address, f.Reaction, h.Why)
		}
		last = last.Or(h)
	}
	return last
}

// Owes says why a reaction that an earlier run left owed has to wait.
func (p *Plan) Owes(s *Step, cause resource.Cause) window.Hold {
	if p.in.Window == nil {
		return window.Hold{}
	}
	return p.in.Window(s.Source, s.Address, cause)
}

// Wait has a step wait.
func (s *Step) Wait(h window.Hold) {
	s.Verdict, s.Why, s.Window, s.Opens = Held, h.Why, true, h.Opens
	if !h.Opens.IsZero() {
		s.Why += h.Opens.Format(" until Mon 2006-01-02 15:04 MST")
	}
}

// Behind has a step wait for what another one waits for.
func (s *Step) Behind(on *Step) {
	s.Wait(window.Hold{Why: fmt.Sprintf("%s waits for its window", on.Address), Opens: on.Opens})
}

// hold finds what waits.
func (p *Plan) hold() {
	if p.in.Window == nil {
		return
	}
	intended := map[string]*Step{} // what waits, by source
	for _, s := range p.Steps {
		if s.Verdict != Change && s.Verdict != Unknown || s.Cause == resource.Rollback {
			continue // what goes back waits for nothing
		}
		for _, i := range s.After {
			if on := p.Steps[i]; on.Window {
				s.Behind(on)
			}
		}
		if h := p.Waits(s); h.Any() && s.Verdict == Change {
			s.Wait(h)
		}
		if s.Window && s.Cause == resource.Intended {
			intended[s.Source] = s
		}
	}
	for _, s := range p.Steps {
		// What leaves may be what still serves.
		if on := intended[s.Source]; s.Prune && s.Verdict == Change && s.Cause != resource.Rollback && on != nil {
			s.Behind(on)
		}
	}
}
