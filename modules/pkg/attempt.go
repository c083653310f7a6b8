package pkg

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// An attempt is what is known while one group is brought about.
type attempt struct {
	m      *Module
	banned map[string]bool // packages that failed
}

// blame bans the culprits of a failure, and returns the wishes that are none.
// Without known culprits nothing can be left out.
func (a *attempt) blame(left []*wish, f *failure) []*wish {
	if len(f.Culprits) == 0 {
		return nil
	}
	var rest []*wish
	for _, name := range f.Culprits {
		a.banned[name] = true
	}
	for _, w := range left {
		if !slices.Contains(f.Culprits, w.name) {
			rest = append(rest, w)
		}
	}
	return rest
}

// retarget chooses versions again after the index has moved, and returns the
// wishes that can still be brought about.
func (a *attempt) retarget(ctx context.Context, wishes []*wish) []*wish {
	db, err := a.m.manager.Installed(ctx)
	if err != nil {
		return wishes
	}
	var left []*wish
	for _, w := range wishes {
		if w.install && w.declared != nil {
			if err := a.m.target(ctx, db, w.declared, w); err != nil {
				w.err = fmt.Errorf("package %q: %w", w.claim, err)
				continue
			}
		}
		left = append(left, w)
	}
	return left
}

// once simulates, commits and judges. Each wish is then done or has an error.
func (a *attempt) once(ctx context.Context, wishes []*wish) error {
	for _, w := range wishes {
		w.err = nil
	}
	db, err := a.m.manager.Installed(ctx)
	if err != nil {
		return failAll(wishes, err)
	}
	accepted, effect := a.accept(ctx, db, nil, wishes)
	if ctx.Err() != nil {
		return failAll(wishes, ctx.Err())
	}
	if len(accepted) == 0 {
		return nil
	}
	t := a.build(db, accepted)
	t.Remove = append(t.Remove, a.orphans(ctx, db, accepted, t)...)
	committed := a.m.commit(ctx, db, t, effect)
	if ctx.Err() != nil {
		if committed == nil {
			committed = ctx.Err()
		}
		bring(accepted, effect)
		return failAll(accepted, committed)
	}
	return a.judge(ctx, accepted, effect, committed)
}

func failAll(wishes []*wish, err error) error {
	for _, w := range wishes {
		w.err = err
	}
	return err
}

// judge looks at what became of each wish.
func (a *attempt) judge(ctx context.Context, wishes []*wish, e effect, committed error) error {
	db, err := a.m.manager.Installed(ctx)
	if err != nil {
		return failAll(wishes, err)
	}
	bring(wishes, e)
	for _, w := range wishes {
		wrong := w.missing(db, a.m.manager.Compare)
		w.done = wrong == ""
		switch {
		case w.done:
		case committed != nil:
			w.err = fmt.Errorf("package %q is %s: %w", w.claim, wrong, committed)
		default:
			w.err = fmt.Errorf("package %q is %s although the package manager reported no error", w.claim, wrong)
		}
	}
	return committed
}

// bring notes what comes along as dependencies.
func bring(wishes []*wish, e effect) {
	var brought []string
	for _, move := range e.Installs {
		declared := slices.ContainsFunc(wishes, func(w *wish) bool { return w.install && w.name == move.Name })
		if move.From == "" && !declared {
			brought = append(brought, move.Name)
		}
	}
	for _, w := range wishes {
		if w.install && !w.note.Installed {
			w.note.Brought = slices.Compact(slices.Sorted(slices.Values(slices.Concat(w.note.Brought, brought))))
		}
	}
}

// missing says what is still wrong with a package; empty when nothing is.
func (w *wish) missing(db *database, compare func(a, b string) int) string {
	have := db.find(w.name)
	gone := have == nil || have.Status == notInstalled || have.Status == configFiles
	switch {
	case w.install && (gone || have.Status != installed):
		return "still " + word(have)
	case w.install && w.version != "" && compare(have.Version, w.version) != 0:
		return "still at " + have.Version
	case w.remove && !gone, w.purge && have != nil && have.Status != notInstalled:
		return "still " + word(have)
	case w.hold && (gone || !have.Held):
		return "not held"
	case w.unhold && !gone && have.Held:
		return "still held"
	default:
		return ""
	}
}

// accept returns as many of the wishes as the manager agrees to beside base,
// which it has agreed to, and what they come to together. It halves what is
// refused until the culprits are alone, and gives them the reason.
func (a *attempt) accept(ctx context.Context, db *database, base, wishes []*wish) ([]*wish, effect) {
	together := slices.Concat(base, wishes)
	e, err := a.try(ctx, db, together)
	switch {
	case err == nil:
		return together, e
	case ctx.Err() != nil:
		return base, effect{}
	case len(wishes) == 1:
		w := wishes[0]
		w.err = fmt.Errorf("package %q cannot be %s: %w", w.claim, w.verb(), err)
		if len(base) == 0 {
			return nil, effect{}
		}
		e, _ = a.try(ctx, db, base)
		return base, e
	}
	half := len(wishes) / 2
	base, _ = a.accept(ctx, db, base, wishes[:half])
	return a.accept(ctx, db, base, wishes[half:])
}

func (w *wish) verb() string {
	switch {
	case w.install && w.version != "":
		return "installed at " + w.version
	case w.install:
		return "installed"
	case w.purge:
		return "purged"
	case w.remove:
		return "removed"
	default:
		return "marked"
	}
}

// try simulates and refuses what nobody asked for.
func (a *attempt) try(ctx context.Context, db *database, wishes []*wish) (effect, error) {
	t := a.build(db, wishes)
	if !t.moves() {
		return effect{}, nil
	}
	e, err := a.m.manager.Simulate(ctx, t)
	if err != nil {
		return effect{}, err
	}
	if err := a.guard(db, wishes, nil, e); err != nil {
		return e, err
	}
	return e, a.vet(ctx, wishes, e)
}

// build makes the transaction of wishes.
func (a *attempt) build(db *database, wishes []*wish) transaction {
	var t transaction
	for _, w := range wishes {
		have := db.find(w.name)
		held := have != nil && have.Held
		switch {
		case w.install:
			t.options = w.opts
			t.Reinstall = t.Reinstall || have != nil && have.Status == halfInstalled
			t.Install = append(t.Install, target{Name: w.name, Version: w.version, File: w.file})
			if have != nil && w.version != "" && have.Status != configFiles && a.m.manager.Compare(w.version, have.Version) < 0 {
				t.Downgrades = t.Downgrades || w.downgrade
			}
		case w.remove:
			t.Remove = append(t.Remove, w.name)
		case w.purge:
			t.Purge = append(t.Purge, w.name)
		}
		t.MoveHeld = t.MoveHeld || held && w.moves()
		switch {
		case w.hold, held && w.install && !w.unhold:
			t.Hold = append(t.Hold, w.name) // a move may lose the mark
		case w.unhold:
			t.Unhold = append(t.Unhold, w.name)
		}
		if w.auto {
			t.Auto = append(t.Auto, w.name)
		}
	}
	return t
}

// self is the package that the agent comes in.
const self = "trued"

// guard refuses an effect that takes away or moves what nobody declared.
func (a *attempt) guard(db *database, wishes []*wish, orphans []string, e effect) error {
	asked := map[string]*wish{}
	for _, w := range wishes {
		asked[w.name] = w
	}
	var foreign []string
	for _, name := range e.Removes {
		have := db.find(name)
		w := asked[name]
		switch {
		case name == self:
			return &refusal{Reason: "that would remove trued itself"}
		case have != nil && have.Vital:
			return &refusal{Reason: fmt.Sprintf("that would remove %s, which is essential", name)}
		case slices.Contains(orphans, name):
		case w == nil || w.install:
			foreign = append(foreign, name)
		}
	}
	if len(foreign) > 0 {
		return &refusal{Reason: fmt.Sprintf("that would remove %s, which nobody declared absent", strings.Join(foreign, ", "))}
	}
	for _, move := range e.Installs {
		have := db.find(move.Name)
		w := asked[move.Name]
		switch {
		case a.banned[move.Name]:
			return &refusal{Reason: fmt.Sprintf("that needs %s, which failed", move.Name)}
		case move.From == "":
		case w == nil && have != nil && have.Held:
			return &refusal{Reason: fmt.Sprintf("that would move %s from %s to %s, which is held", move.Name, move.From, move.To)}
		case a.m.manager.Compare(move.To, move.From) < 0 && (w == nil || !w.downgrade):
			return &refusal{Reason: fmt.Sprintf("that would downgrade %s from %s to %s", move.Name, move.From, move.To)}
		}
	}
	return nil
}

// orphans are the packages that came with those that leave Git, and that nothing
// else needs, by the manager's own marks. None that is declared is among them.
func (a *attempt) orphans(ctx context.Context, db *database, wishes []*wish, t transaction) []string {
	came := map[string]bool{}
	for _, w := range wishes {
		if !w.pruned || !w.remove {
			continue
		}
		for _, name := range w.note.Brought {
			_, owned := w.view.Owner(claim(name))
			have := db.find(name)
			came[name] = !owned && have != nil
		}
	}
	if len(came) == 0 {
		return nil
	}
	all := t
	all.Orphans = true
	e, err := a.m.manager.Simulate(ctx, all)
	if err != nil {
		return nil
	}
	var orphans []string
	for _, name := range e.Removes {
		if came[name] && !slices.Contains(t.Remove, name) && !slices.Contains(t.Purge, name) {
			orphans = append(orphans, name)
		}
	}
	with := t
	with.Remove = slices.Concat(t.Remove, orphans)
	if e, err = a.m.manager.Simulate(ctx, with); err != nil || a.guard(db, wishes, orphans, e) != nil || a.vet(ctx, wishes, e) != nil {
		return nil // they are left to the operator
	}
	return orphans
}
