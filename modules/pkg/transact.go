package pkg

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"trued.dev/trued/internal/resource"
)

// A wish is one item of a transaction in the words of the package manager.
type wish struct {
	item  int
	name  string // the package that is meant, which provides a virtual name
	claim string // the name that was declared
	view  resource.View
	// declared is what Git says; nil for what left it.
	declared *Resource
	note     note
	opts     options
	pruned   bool

	install, remove, purge bool
	version                string // to install; empty for what the manager chooses
	downgrade              bool   // allowed
	hold, unhold, auto     bool

	done bool
	err  error
}

// moves reports whether the wish is more than a mark.
func (w *wish) moves() bool { return w.install || w.remove || w.purge }

// Transact applies all items in as few transactions as their options allow,
// which is nearly always one.
func (m *Module) Transact(ctx context.Context, items []resource.Item) []resource.ItemResult {
	results := make([]resource.ItemResult, len(items))
	if len(items) == 0 {
		return results
	}
	wishes, err := m.prepare(ctx, items)
	if err != nil {
		for i := range results {
			results[i].Err = err
		}
		return results
	}
	for _, group := range byOptions(wishes) {
		m.transactGroup(ctx, group)
	}
	for _, w := range wishes {
		results[w.item].Err = w.err
		if w.claim != "" {
			results[w.item].Result.Prior = w.note.prior(w.claim)
		}
		if w.err != nil && items[w.item].Resource.Common().Sensitive {
			results[w.item].Err = errors.New("the package transaction failed; its messages are withheld, for the resource is sensitive")
			if ctx.Err() != nil {
				results[w.item].Err = ctx.Err()
			}
		}
	}
	return results
}

// prepare waits for what is under way, repairs what is half done, and says what
// each item comes to.
func (m *Module) prepare(ctx context.Context, items []resource.Item) ([]*wish, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if why := m.manager.Ready(); why != "" {
		return nil, errors.New(why)
	}
	if err := m.manager.Attach(ctx); err != nil {
		return nil, err
	}
	if err := m.repair(ctx); err != nil {
		return nil, err
	}
	db, err := m.manager.Installed(ctx)
	if err != nil {
		return nil, err
	}
	wishes := make([]*wish, len(items))
	for i, item := range items {
		w, err := m.wish(ctx, db, item)
		if w == nil {
			w = &wish{}
		}
		w.item, w.view = i, item.View
		if err != nil {
			w.err = fmt.Errorf("package %q: %w", item.Resource.Name(), err)
		}
		wishes[i] = w
	}
	return wishes, nil
}

// repair lets the manager finish what was cut off. A package that cannot be
// repaired does not stop the others; it shows in what comes after.
func (m *Module) repair(ctx context.Context) error {
	db, err := m.manager.Installed(ctx)
	if err != nil {
		return err
	}
	if !db.Interrupted && len(db.broken()) == 0 {
		return nil
	}
	if err := pardon(m.manager.Repair(ctx)); err != nil {
		return err
	}
	if db, err = m.manager.Installed(ctx); err != nil || len(db.broken()) == 0 {
		return err
	}
	// What is left lacks a dependency, or its files.
	fix := transaction{Fix: true}
	e, err := m.manager.Simulate(ctx, fix)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	a := &attempt{m: m}
	if err != nil || len(e.Installs) == 0 || a.guard(db, nil, nil, e) != nil {
		return nil
	}
	return pardon(m.manager.Commit(ctx, fix))
}

// pardon passes on all errors but those of the packages themselves.
func pardon(err error) error {
	var failed *failure
	if errors.As(err, &failed) {
		return nil
	}
	return err
}

func (m *Module) wish(ctx context.Context, db *database, item resource.Item) (*wish, error) {
	if l, ok := item.Resource.(*leaving); ok {
		w := &wish{name: l.target(), claim: l.name, note: l.note, pruned: true}
		w.remove = item.Found.Diff.Has("state")
		w.setHold(item.Found.Diff)
		w.auto = item.Found.Diff.Has("auto")
		return w, nil
	}
	r, ok := item.Resource.(*Resource)
	if !ok {
		return nil, fmt.Errorf("%T is not a package", item.Resource)
	}
	n, noted, err := readNote(item.View.Prior, r.Package)
	if err != nil {
		return nil, err
	}
	if !noted {
		// The engine has written down what Check found, and may not have read it back.
		if n, noted, err = readNote(item.Found.Prior, r.Package); err != nil {
			return nil, err
		}
	}
	if !noted {
		n = firstNote(db.find(r.Package))
	}
	w := &wish{name: r.Package, claim: r.Package, declared: r, note: n}
	w.setHold(item.Found.Diff)
	w.note.SetHold = w.note.SetHold || w.hold || w.unhold
	state, version := item.Found.Diff.Has("state"), item.Found.Diff.Has("version")
	switch {
	case r.gone():
		w.remove, w.purge = state && r.State == stateAbsent, state && r.State == statePurged
	case state || version:
		w.opts = options{NewConffiles: r.Conffiles == replaceConffiles}
		if r.Recommends != nil {
			w.opts.Recommends = yesNo(*r.Recommends)
		}
		w.downgrade = r.AllowDowngrade
		return w, m.target(ctx, db, r, w)
	}
	return w, nil
}

func (w *wish) setHold(diff resource.Diff) {
	for _, c := range diff {
		if c.Field == "hold" {
			w.hold, w.unhold = c.New == "true", c.New == "false"
		}
	}
}

// target finds what to install for a declared package. What the index does not
// have may be in a newer one.
func (m *Module) target(ctx context.Context, db *database, r *Resource, w *wish) error {
	w.install = true
	have := db.find(r.Package)
	if have != nil && r.State != stateLatest && r.constraint().holds(m.manager.Compare, have.Version) {
		switch {
		case have.Status == installed: // the repair has mended it
			w.install = false
			return nil
		case have.Status.broken():
			return nil // at whatever version can be had
		}
	}
	o, err := m.offer(ctx, db, r.Package)
	if err != nil {
		return err
	}
	version, name, chooseErr := r.choose(o, have)
	if chooseErr != nil && !m.triedRefresh() {
		if err := m.refreshOnce(ctx); err == nil {
			if o, err = m.offer(ctx, db, r.Package); err != nil {
				return err
			}
			version, name, chooseErr = r.choose(o, have)
		}
	}
	if chooseErr != nil {
		w.install = false
		m.refresh.Lock()
		defer m.refresh.Unlock()
		if m.failed != nil {
			return fmt.Errorf("%w (%w)", chooseErr, m.failed)
		}
		return chooseErr
	}
	w.name, w.version = name, version
	if name != r.Package {
		w.note.Real = name
	}
	return nil
}

// byOptions parts the wishes by what counts for a whole transaction. Removals
// and marks go with the first part.
func byOptions(wishes []*wish) [][]*wish {
	var order []options
	groups := map[options][]*wish{}
	var rest []*wish
	for _, w := range wishes {
		switch {
		case w.err != nil:
		case !w.install:
			rest = append(rest, w)
		default:
			if groups[w.opts] == nil {
				order = append(order, w.opts)
			}
			groups[w.opts] = append(groups[w.opts], w)
		}
	}
	slices.SortStableFunc(order, func(a, b options) int {
		return boolInt(a != options{}) - boolInt(b != options{})
	})
	if len(order) == 0 {
		if len(rest) == 0 {
			return nil
		}
		return [][]*wish{rest}
	}
	out := make([][]*wish, len(order))
	for i, o := range order {
		out[i] = groups[o]
	}
	out[0] = append(out[0], rest...)
	return out
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// transactGroup brings about what it can of the wishes. When something went
// wrong that can be laid on some, the rest is tried once more without them.
func (m *Module) transactGroup(ctx context.Context, wishes []*wish) {
	a := &attempt{m: m, banned: map[string]bool{}}
	left := wishes
	for try := 0; try < 2 && len(left) > 0; {
		err := a.once(ctx, left)
		left = undone(left)
		var failed *failure
		if err == nil || ctx.Err() != nil || !errors.As(err, &failed) {
			break
		}
		if failed.Fetch && !m.triedRefresh() && m.refreshOnce(ctx) == nil {
			left = a.retarget(ctx, left) // what could not be downloaded may have moved on
			continue
		}
		left = a.blame(left, failed)
		try++
	}
}

// undone are the wishes that are still to be brought about.
func undone(wishes []*wish) []*wish {
	var left []*wish
	for _, w := range wishes {
		if !w.done && w.refused() == nil {
			left = append(left, w)
		}
	}
	return left
}

// refused returns the error of a wish that is not worth another try.
func (w *wish) refused() error {
	var f *failure
	if w.err == nil || errors.As(w.err, &f) {
		return nil
	}
	return w.err
}

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
		if w.install {
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
	committed := a.m.manager.Commit(ctx, t)
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
	return e, a.guard(db, wishes, nil, e)
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
			t.Install = append(t.Install, target{Name: w.name, Version: w.version})
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
			came[name] = !owned && have != nil && have.Auto
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
	if e, err = a.m.manager.Simulate(ctx, with); err != nil || a.guard(db, wishes, orphans, e) != nil {
		return nil // they are left to the operator
	}
	return orphans
}
