package apply

import (
	"context"
	"slices"
	"time"

	"trued.dev/trued/internal/plan"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
)

// entry returns what the inventory holds of a step from now on.
func (w *walk) entry(s *plan.Step, reached bool) state.Entry {
	e := state.Entry{
		Source: s.Source, Claims: s.Resource.Claims(), Prior: s.View.Prior,
		Digest: s.Entry.Digest, Keep: s.Keeps(), Place: s.Place, Feeds: w.feeds(s),
		Secret: s.Resource.Common().Sensitive || s.Entry.Secret && !reached,
	}
	if s.Prune {
		e = s.Entry
	}
	if reached {
		e.Digest = s.Digest
		e.Prior = e.Prior.LettingGo(s.Entry.Claims, e.Claims)
	}
	return e
}

// feeds returns who reacts to a step by what the catalog says. What is to be done
// before something is looked at, such as to read an index, is no reaction to keep.
func (w *walk) feeds(s *plan.Step) []state.Feed {
	if s.Prune {
		return s.Entry.Feeds
	}
	var feeds []state.Feed
	for _, f := range s.Feeds {
		if to := w.plan.Steps[f.To]; !f.Recalled && !f.Reaction.Early() {
			feeds = append(feeds, state.Feed{Target: to.Address, Reaction: f.Reaction})
		}
	}
	return feeds
}

// firstPause is the pause after a first failure; each further one doubles it.
const firstPause = 30 * time.Second

// failing returns the inventory's entry of a step that failed: what it held
// stays, and the next try gets a date.
func (w *walk) failing(s *plan.Step) state.Entry {
	e := s.Entry
	if w.changed[s.Place] && !s.Prune {
		e = w.entry(s, false)
		// What it held before may still be there: it is let go when it is gone.
		claimed := make(map[resource.Claim]bool, len(e.Claims))
		for _, c := range e.Claims {
			claimed[c] = true
		}
		e.Claims = slices.Clip(e.Claims)
		for _, c := range s.Entry.Claims {
			if !claimed[c] {
				e.Claims = append(e.Claims, c)
			}
		}
	}
	e.Source, e.Place = s.Source, s.Place
	if !s.Prune {
		e.Keep = s.Keeps()
		if s.View.Prior != nil {
			e.Prior = s.View.Prior
		}
	}
	e.Failures, e.Failing, e.Begun = 1, s.Digest, nil
	if s.Entry.Failing == s.Digest {
		e.Failures = s.Entry.Failures + 1
	}
	pause := firstPause << min(e.Failures-1, 10)
	e.RetryAt = w.opt.Now().Add(min(pause, state.LastPause)).Round(time.Second)
	return e
}

// inOrder deals with a step that needs no change: what is owed to it is done,
// and what the inventory says of it is brought up to date.
func (w *walk) inOrder(ctx context.Context, s *plan.Step, o *Outcome) error {
	o.Status, o.Changes, o.Why = InOrder, nil, s.Finding.Note
	begun := s.Entry.Begun
	if begun != nil {
		// The run that began it never came to tell of it.
		o.Status, o.Cause, o.Changes = Applied, begun.Cause, begun.Changes
		if o.Cause == resource.Drift {
			o.Status = Repaired
		}
	}
	if s.Prune {
		return w.gone(ctx, s, o)
	}
	if s.Finding.Prior != nil {
		s.View.Prior = s.Finding.Prior
	}
	if owed := w.late(s.Address); len(owed) > 0 && !w.debtors[s.Address] {
		if h := w.plan.Owes(s, owed[0].Cause); h.Any() {
			s.Wait(h)
			o.Status, o.Cause, o.Why = Held, owed[0].Cause, "it owes "+string(owed[0].Reaction)+", and "+h.Why
			return w.tell(s, o)
		}
	}
	if len(w.late(s.Address)) > 0 {
		done := state.Record{Done: true, Put: map[resource.Address]state.Entry{}}
		started := w.opt.Now()
		err := w.react(ctx, s, o, &done)
		o.Duration = w.opt.Now().Sub(started)
		if err != nil {
			o.Err = err
			w.fail(s, o)
			done.Put[s.Address] = w.failing(s)
		} else {
			o.Status = Applied
			if o.Cause == resource.Drift {
				o.Status = Repaired
			}
			w.touch(s)
			w.finish(s, &done)
		}
		return w.rec.Record(done, []*Outcome{o})
	}
	e := w.entry(s, true)
	if begun != nil {
		return w.rec.Record(state.Record{Put: map[resource.Address]state.Entry{s.Address: e}}, []*Outcome{o})
	}
	if outdated(s.Entry, e) {
		w.put[s.Address] = e
	}
	return nil
}

// gone deals with a step that has left the host already: where what it has reacted
// to goes as well, and the host had it before, it reacts to that.
func (w *walk) gone(ctx context.Context, s *plan.Step, o *Outcome) error {
	done := state.Record{Drop: []resource.Address{s.Address}}
	if err := w.react(ctx, s, o, &done); err != nil {
		o.Err = err
		w.fail(s, o)
		return w.rec.Record(state.Record{Put: map[resource.Address]state.Entry{s.Address: w.failing(s)}}, []*Outcome{o})
	}
	if s.Finding.Note != "" || len(o.Reactions) > 0 {
		o.Status = Applied
	}
	if o.Status == InOrder && len(done.Settle) == 0 {
		w.drop = append(w.drop, s.Address)
		return nil
	}
	return w.rec.Record(done, []*Outcome{o})
}

// outdated reports whether the inventory says something else of a resource.
// Its place alone is no reason to write.
func outdated(old, now state.Entry) bool {
	if old.Digest != now.Digest || old.Source != now.Source || old.Keep != now.Keep || old.Secret != now.Secret ||
		old.Failures != 0 || old.Reported != "" || old.Left != "" || len(old.Claims) != len(now.Claims) ||
		len(old.Prior) != len(now.Prior) || !slices.Equal(old.Feeds, now.Feeds) {
		return true
	}
	for i, c := range old.Claims {
		if now.Claims[i] != c {
			return true
		}
	}
	for c, note := range now.Prior {
		if string(old.Prior[c]) != string(note) {
			return true
		}
	}
	return false
}

// report deals with drift that is told and left alone: once, and again when it
// changes.
func (w *walk) report(s *plan.Step, o *Outcome) error {
	digest := diffDigest(s.Finding.Diff)
	o.Told = s.Entry.Reported == digest
	if !o.Told {
		e := s.Entry
		e.Reported = digest
		w.put[s.Address] = e
	}
	return w.tell(s, o)
}

// tell records an outcome that changed nothing on the host.
func (w *walk) tell(s *plan.Step, o *Outcome) error {
	r := state.Record{}
	if o.Status == Failed && s.Err != nil && !s.Prune {
		r.Put = map[resource.Address]state.Entry{s.Address: w.failing(s)}
	}
	return w.rec.Record(r, []*Outcome{o})
}

// settle writes what the inventory learned without a change on the host.
func (w *walk) settle() error {
	r := state.Record{Put: w.put, Drop: append(w.drop, w.plan.Drop...), Settle: w.plan.Strike}
	for a, e := range w.plan.Put {
		if _, newer := r.Put[a]; !newer && !w.anew(a) {
			r.Put[a] = e
		}
	}
	if len(r.Put) == 0 && len(r.Drop) == 0 && len(r.Settle) == 0 {
		return nil
	}
	return w.rec.Record(r, nil)
}

// anew reports whether the run took the resource off the inventory or wrote it
// anew, so that what the plan wanted to note of it is out of date.
func (w *walk) anew(a resource.Address) bool {
	s := w.steps[a]
	if s == nil || w.results[s.Place] == nil {
		return false
	}
	status := w.results[s.Place].Status
	return status == Applied || status == Repaired
}
