package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"trued.dev/trued/internal/plan"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
)

// prove looks again after a change, has the resource do what it owes, and
// notes what came of it.
func (w *walk) prove(ctx context.Context, s *plan.Step, o *Outcome, got resource.ItemResult, done *state.Record) {
	asked := s.Finding.Diff
	if got.Result.Prior != nil {
		s.View.Prior = got.Result.Prior
	} else if s.Finding.Prior != nil {
		s.View.Prior = s.Finding.Prior
	}
	err := got.Err
	if w.stop.Err() != nil && errors.Is(err, context.Canceled) {
		o.Status, o.Why = Skipped, "it goes on by itself; the next run sees what came of it"
		if !s.Prune {
			e := w.entry(s, false)
			e.Begun = &state.Begun{Cause: s.Cause, Changes: brief(o.Changes)}
			done.Put[s.Address] = e
		}
		return
	}
	if pending := got.Result.Pending; err == nil && pending != "" {
		o.Status, o.Why = Pending, pending
		done.Put[s.Address] = w.entry(s, false)
		w.changed[s.Place] = true
		return
	}
	var skip *skipError
	if errors.As(err, &skip) {
		o.Status, o.Why = Skipped, err.Error()
		done.Settle = append(done.Settle, w.withdraw(s)...)
		return
	}
	w.look(ctx, s)
	if err == nil {
		err = leftover(s)
	}
	if err != nil {
		o.Err = err
		if w.untouched(s, asked) {
			done.Settle = append(done.Settle, w.withdraw(s)...)
		} else {
			w.changed[s.Place] = true
		}
		w.fail(s, o)
		done.Put[s.Address] = w.failing(s)
		return
	}
	w.touch(s)
	w.placeAll(s, w.moment(), done)
	o.Changes = append(slices.Clip(o.Changes), got.Result.Changes...)
	if got.Result.Settled {
		done.Settle = append(done.Settle, w.take(s.Address)...)
	}
	if err := w.react(ctx, s, o, done); err != nil {
		o.Err = err
		w.fail(s, o)
		done.Put[s.Address] = w.failing(s)
		return
	}
	o.Status = Applied
	if s.Cause == resource.Drift {
		o.Status = Repaired
	}
	w.finish(s, done)
}

// leftover returns an error when a step still differs after it was applied.
func leftover(s *plan.Step) error {
	switch s.Verdict {
	case plan.InOrder:
		return nil
	case plan.Failed:
		return fmt.Errorf("was applied, and then could not be checked: %w", s.Err)
	case plan.Pending, plan.Unknown:
		return fmt.Errorf("was applied, and then could not be told: %s", s.Why)
	}
	var parts []string
	for _, c := range s.Finding.Diff {
		if c.Redacted || (c.Old == "" && c.New == "") {
			parts = append(parts, c.Field)
			continue
		}
		parts = append(parts, fmt.Sprintf("%s is %q and should be %q", c.Field, c.Old, c.New))
	}
	return fmt.Errorf("still differs after it was applied: %s", strings.Join(parts, "; "))
}

// untouched reports whether a failed step left the host as it was.
func (w *walk) untouched(s *plan.Step, asked resource.Diff) bool {
	if s.Verdict == plan.Failed || len(s.Finding.Diff) != len(asked) {
		return false
	}
	for i, c := range s.Finding.Diff {
		if c != asked[i] {
			return false
		}
	}
	return true
}

// withdraw takes back what a step that changed nothing would have owed.
func (w *walk) withdraw(s *plan.Step) []state.Owed {
	var gone []state.Owed
	for to, owed := range w.owed {
		var kept []state.Owed
		for _, o := range owed {
			if o.Because == s.Address && !contains(w.before(to), o) {
				gone = append(gone, o)
				continue
			}
			kept = append(kept, o)
		}
		w.owed[to] = kept
	}
	return gone
}

// before returns what was owed to a resource when the run began.
func (w *walk) before(a resource.Address) []state.Owed {
	if s := w.steps[a]; s != nil {
		return s.Owed
	}
	return nil
}

func contains(list []state.Owed, o state.Owed) bool {
	for _, have := range list {
		if have.Same(o) {
			return true
		}
	}
	return false
}

// touch notes that a step changed the host, and whether in ways that only a
// new look at everything can tell.
func (w *walk) touch(s *plan.Step) {
	w.changed[s.Place] = true
	if batchWord(s) == "" {
		w.opaque = true
	}
}

// finish notes that a step is as desired now, or gone.
func (w *walk) finish(s *plan.Step, done *state.Record) {
	if s.Prune {
		done.Drop = append(done.Drop, s.Address)
		return
	}
	done.Put[s.Address] = w.entry(s, true)
	w.mustConfirm(s)
}

// fail makes the outcome one of failure.
func (w *walk) fail(s *plan.Step, o *Outcome) {
	o.Status = Failed
	w.failed = true
	if o.Err == nil {
		o.Err = s.Err
	}
}

// notes returns what is noted about the host before the step changes it.
func notes(s *plan.Step) resource.Prior {
	if s.Finding.Prior != nil {
		return s.Finding.Prior
	}
	return s.View.Prior
}
