package apply

import (
	"context"
	"slices"
	"time"

	"trued.dev/trued/internal/plan"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
)

func (w *walk) moment() resource.Moment {
	if w.opt.Moment == nil {
		return resource.Moment{}
	}
	return w.opt.Moment()
}

// causes returns what a change of the step will owe to others and to itself.
func (w *walk) causes(s *plan.Step, now time.Time, at resource.Moment) []state.Owed {
	var owed []state.Owed
	add := func(to resource.Address, r resource.Reaction) {
		o := state.Owed{Target: to, Reaction: r, Because: s.Address, Cause: s.Cause, Since: now, Begun: at}
		if !contains(owed, o) {
			owed = append(owed, o)
		}
	}
	for _, f := range s.Feeds {
		add(w.plan.Steps[f.To].Address, f.Reaction)
	}
	for _, r := range s.Finding.Owes {
		add(s.Address, r)
	}
	return owed
}

// owe notes a debt. One that was there already counts from now on: what has been
// done for it so far does not settle it.
func (w *walk) owe(o state.Owed) {
	w.debtors[o.Target] = true
	list := slices.Clone(w.owed[o.Target])
	if i := slices.IndexFunc(list, o.Same); i >= 0 {
		list[i].Begun, list[i].Placed = o.Begun, o.Placed
	} else {
		list = append(list, o)
	}
	w.owed[o.Target] = list
}

// place notes the moment at which the causes of what is owed to a resource are
// in place, of those that count and of which it is not known yet, and returns
// them for the ledger. A resource's own change is never among them: nobody is
// told when that is over before what it owes begins.
func (w *walk) place(to resource.Address, at resource.Moment, counts func(state.Owed) bool) []state.Owed {
	if !at.Known() {
		return nil
	}
	var placed []state.Owed
	list := slices.Clone(w.owed[to])
	for i, o := range list {
		if o.Own() || o.Placed.Known() || !counts(o) {
			continue
		}
		list[i].Placed = at
		placed = append(placed, list[i])
	}
	w.owed[to] = list
	return placed
}

// placeAll notes that what a step's change causes is in place.
func (w *walk) placeAll(s *plan.Step, at resource.Moment, done *state.Record) {
	for _, f := range s.Feeds {
		to := w.plan.Steps[f.To].Address
		done.Placed = append(done.Placed, w.place(to, at, func(o state.Owed) bool { return o.Because == s.Address })...)
	}
}

// late returns what is owed to a resource after it was applied.
func (w *walk) late(a resource.Address) []state.Owed {
	return w.owedWhen(a, false)
}

func (w *walk) owedWhen(a resource.Address, early bool) []state.Owed {
	var owed []state.Owed
	for _, o := range w.owed[a] {
		if o.Reaction.Early() == early {
			owed = append(owed, o)
		}
	}
	return owed
}

// take returns what is owed to a resource after it was applied, and forgets it.
func (w *walk) take(a resource.Address) []state.Owed {
	owed := w.late(a)
	w.owed[a] = w.owedWhen(a, true)
	return owed
}

// react has a resource do what it owes, and strikes that off.
func (w *walk) react(ctx context.Context, s *plan.Step, o *Outcome, done *state.Record) error {
	owed := w.late(s.Address)
	r, ok := s.Resource.(resource.Reactor)
	if len(owed) == 0 {
		return nil
	}
	if !ok {
		done.Settle = append(done.Settle, w.take(s.Address)...)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.Timeout())
	defer cancel()
	if len(o.Changes) == 0 {
		o.Cause = owed[0].Cause
	}
	due, err := w.due(ctx, s, owed)
	if err != nil {
		return err
	}
	if len(due) == 0 {
		if len(o.Changes) == 0 {
			o.Why = "it has happened since, and was not noted"
		}
	} else if err := w.reactTo(ctx, s, o, r, due); err != nil {
		return err
	}
	for _, d := range owed {
		if d.Because != s.Address {
			o.Because = append(o.Because, d.Because)
		}
	}
	o.Reactions = reactions(owed)
	done.Settle = append(done.Settle, w.take(s.Address)...)
	return nil
}

// lookAtDebts finds what earlier runs owed and has come about since. It is asked
// before anything is changed, which may blur what there is to see: once systemd
// has read its files again, an earlier start proves nothing.
func (w *walk) lookAtDebts(ctx context.Context) {
	for _, s := range w.plan.Steps {
		owed := w.late(s.Address)
		settler, ok := s.Resource.(resource.Settler)
		if !ok || s.Prune || s.Verdict == plan.Aside || len(owed) == 0 {
			continue
		}
		due, err := settler.Due(ctx, s.View, debts(owed))
		if err != nil {
			continue // it is asked again when its turn comes
		}
		for _, o := range owed {
			if !slices.Contains(due, debt(o)) {
				w.settled = append(w.settled, o)
			}
		}
	}
}

// wasSettled reports whether a debt was found to be settled, and is still the
// same: one that is owed anew has begun anew.
func (w *walk) wasSettled(o state.Owed) bool {
	return slices.ContainsFunc(w.settled, func(s state.Owed) bool { return s.Same(o) && s.Begun == o.Begun })
}

func debt(o state.Owed) resource.Debt {
	return resource.Debt{Reaction: o.Reaction, Own: o.Own(), Begun: o.Begun, Placed: o.Placed}
}

func debts(owed []state.Owed) []resource.Debt {
	list := make([]resource.Debt, len(owed))
	for i, o := range owed {
		list[i] = debt(o)
	}
	return list
}

// due returns the reactions that have not come about yet.
func (w *walk) due(ctx context.Context, s *plan.Step, owed []state.Owed) ([]resource.Reaction, error) {
	settler, ok := s.Resource.(resource.Settler)
	if !ok {
		return reactions(owed), nil
	}
	owed = slices.DeleteFunc(slices.Clone(owed), w.wasSettled)
	if len(owed) == 0 {
		return nil, nil
	}
	open, err := settler.Due(ctx, s.View, debts(owed))
	if err != nil {
		return nil, err
	}
	var due []resource.Reaction
	for _, d := range open {
		if !slices.Contains(due, d.Reaction) {
			due = append(due, d.Reaction)
		}
	}
	return due, nil
}

// reactTo has a resource react. That the causes are in place is on disk before,
// so that what comes of it can be told from what was there.
func (w *walk) reactTo(ctx context.Context, s *plan.Step, o *Outcome, r resource.Reactor, due []resource.Reaction) error {
	if placed := w.place(s.Address, w.moment(), func(state.Owed) bool { return true }); len(placed) > 0 {
		if err := w.rec.Record(state.Record{Placed: placed}, nil); err != nil {
			return err
		}
	}
	res, err := r.React(ctx, s.View, due)
	if err != nil {
		return err
	}
	o.Changes = append(slices.Clip(o.Changes), res.Changes...)
	if res.Prior != nil {
		s.View.Prior = res.Prior
	}
	w.opaque = true
	return nil
}

// reactEarly does what must be done before a resource is looked at, such as a
// refresh of the package index.
func (w *walk) reactEarly(ctx context.Context, s *plan.Step) error {
	owed := w.owedWhen(s.Address, true)
	r, ok := s.Resource.(resource.Reactor)
	if len(owed) == 0 || s.Prune {
		return nil
	}
	if ok {
		ctx, cancel := context.WithTimeout(ctx, s.Timeout())
		defer cancel()
		if _, err := r.React(ctx, s.View, reactions(owed)); err != nil {
			s.Verdict, s.Err = plan.Failed, err
			return nil
		}
	}
	w.owed[s.Address] = w.late(s.Address)
	w.opaque = true
	return w.rec.Record(state.Record{Settle: owed}, nil)
}

// reactions returns each reaction that is owed, once.
func reactions(owed []state.Owed) []resource.Reaction {
	var rs []resource.Reaction
	seen := map[resource.Reaction]bool{}
	for _, o := range owed {
		if !seen[o.Reaction] {
			seen[o.Reaction] = true
			rs = append(rs, o.Reaction)
		}
	}
	return rs
}
