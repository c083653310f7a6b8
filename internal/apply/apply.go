// Package apply carries out a plan: for each batch it writes down what is about
// to be done, looks once more, does it, looks again as proof, and writes down
// what came of it.
//
// It decides nothing that the plan has not decided, except that what depends on
// a failure is left out. It knows no kind, no sink and no source.
package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"trued.dev/trued/internal/plan"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
)

// A Recorder makes a record durable together with the events that tell of the
// outcomes. When it fails, nothing further is changed.
type Recorder interface {
	Record(r state.Record, outcomes []*Outcome) error
}

// Status says what came of a step.
type Status string

// The statuses, as they stand in events.
const (
	InOrder  Status = "in_order"
	Applied  Status = "applied"
	Repaired Status = "repaired"
	Reported Status = "reported"
	Held     Status = "held"
	Pending  Status = "pending"
	Failed   Status = "failed"
	Skipped  Status = "skipped"
)

// An Outcome is what came of a step.
type Outcome struct {
	Step    *plan.Step
	Status  Status
	Cause   resource.Cause
	Changes resource.Diff
	// Reactions are what the resource did because others, those of Because, or
	// its own files changed.
	Reactions []resource.Reaction
	Because   []resource.Address
	// Why explains a status in words.
	Why      string
	Err      error
	Duration time.Duration
	// Creates is true when the thing did not exist before.
	Creates bool
	// Told is true when the outcome is known to the sinks already and has not
	// changed since.
	Told bool
}

// Options steer a walk.
type Options struct {
	Run         string
	AcceptPrune bool
	Now         func() time.Time
	// Moment is the clock of the boot; where it is nil, or does not know, whatever
	// may have been done already is done once more.
	Moment func() resource.Moment
	// Progress is called before each step that takes time; it may be nil.
	Progress func(*plan.Step)
	// May is asked right before each change whether the host may be changed now;
	// when it is not, the walk ends as if it had been told to stop. It may be nil.
	May func(context.Context) bool
}

// A walk is one plan being carried out.
type walk struct {
	plan    *plan.Plan
	rec     Recorder
	sync    func(dirs []string) error
	opt     Options
	stop    context.Context // done: finish what is in hand and end
	results []*Outcome      // by place
	changed []bool          // by place
	owed    map[resource.Address][]state.Owed
	// debtors owe something that this run has caused.
	debtors map[resource.Address]bool
	// settled are debts of earlier runs that were seen to be settled before this
	// one changed anything.
	settled []state.Owed
	// opaque is true once something ran whose effects nobody can tell.
	opaque  bool
	failed  bool
	batches int
	confirm []confirmation
	left    []*plan.Step
	// waiting is what was intended and waits for its window, by source.
	waiting map[string]*plan.Step
	put     map[resource.Address]state.Entry
	drop    []resource.Address
	steps   map[resource.Address]*plan.Step
}

type confirmation struct {
	step *plan.Step
	at   time.Time
}

// Run carries out the plan and returns an outcome for each step that it looked
// at, which in a partial plan are not all. When stop is
// done, it finishes the batch in hand and returns with context.Canceled; when
// ctx is done, what is in hand is cut off. sync makes all that was written to
// the file systems of some directories durable. Any other error means that the
// ledger could not be written, and that nothing was changed since.
func Run(ctx, stop context.Context, p *plan.Plan, rec Recorder, sync func(dirs []string) error, opt Options) ([]*Outcome, error) {
	w := &walk{
		plan: p, rec: rec, sync: sync, opt: opt, stop: stop,
		results: make([]*Outcome, len(p.Steps)),
		changed: make([]bool, len(p.Steps)),
		owed:    map[resource.Address][]state.Owed{},
		debtors: map[resource.Address]bool{},
		waiting: map[string]*plan.Step{},
		put:     map[resource.Address]state.Entry{},
		steps:   make(map[resource.Address]*plan.Step, len(p.Steps)),
	}
	for _, s := range p.Steps {
		w.steps[s.Address] = s
		if len(s.Owed) > 0 {
			w.owed[s.Address] = s.Owed
		}
	}
	err := w.run(ctx)
	for i, s := range p.Steps {
		if w.results[i] == nil && s.Verdict != plan.Aside {
			w.results[i] = &Outcome{Step: s, Status: Skipped, Cause: s.Cause, Why: "the run ended before it"}
		}
	}
	return slices.DeleteFunc(w.results, func(o *Outcome) bool { return o == nil }), err
}

func (w *walk) run(ctx context.Context) error {
	w.lookAtDebts(ctx)
	if err := w.leave(ctx); err != nil {
		return err
	}
	for i := 0; i < len(w.plan.Steps); {
		if w.stop.Err() != nil {
			return w.end(ctx)
		}
		batch := w.batch(i)
		if batch[0].Prune {
			// What was started must have lived a moment before the old goes.
			if err := w.confirmAll(ctx); err != nil {
				return err
			}
		}
		if err := w.carryOut(ctx, batch); err != nil {
			return err
		}
		i += len(batch)
	}
	if err := w.followUp(ctx); err != nil {
		return err
	}
	if err := w.stay(ctx); err != nil {
		return err
	}
	if err := w.confirmAll(ctx); err != nil {
		return err
	}
	return w.settle()
}

// followUp has those react whose turn was over when something that they react to
// went, or went back.
func (w *walk) followUp(ctx context.Context) error {
	for _, s := range w.plan.Steps {
		if s.Prune || !w.debtors[s.Address] || len(w.late(s.Address)) == 0 {
			continue
		}
		switch o := w.results[s.Place]; {
		case o == nil || (o.Status != InOrder && o.Status != Applied && o.Status != Repaired):
			continue // it stays owed
		case w.stop.Err() != nil:
			return nil
		}
		s.Entry = w.entry(s, true) // as its turn has left it
		if err := w.carryOut(ctx, []*plan.Step{s}); err != nil {
			return err
		}
	}
	return nil
}

// end leaves what was not begun.
func (w *walk) end(ctx context.Context) error {
	return errors.Join(context.Canceled, w.stay(ctx), w.settle())
}

// maxBatch bounds how much stands under one record of the ledger.
const maxBatch = 2048

// batch returns the steps from place i on that go under one record: one
// transaction, neighbours that are written together, or a single step. A step
// that waits for what is only prepared in the batch starts the next one, and so
// does the first that leaves: whether it may go is known when all before it is
// done. What leaves waits for what was within it.
func (w *walk) batch(i int) []*plan.Step {
	steps := w.plan.Steps
	first := steps[i]
	word := batchWord(first)
	prepared := map[int]bool{}
	n := i
	for ; n < len(steps) && n-i < maxBatch; n++ {
		s := steps[n]
		if n > i {
			if first.Group != s.Group || batchWord(s) != word || (word == "" && first.Group == 0) {
				break
			}
			if waitsFor(s, prepared) || (first.Group == 0 && s.Prune != first.Prune) {
				break
			}
		}
		if _, ok := s.Resource.(resource.Stager); ok || s.Prune {
			prepared[n] = true
		}
	}
	return steps[i:n]
}

func batchWord(s *plan.Step) string {
	if b, ok := s.Module.(resource.Batched); ok {
		return b.Batch()
	}
	return ""
}

func waitsFor(s *plan.Step, places map[int]bool) bool {
	for _, i := range s.After {
		if places[i] {
			return true
		}
	}
	return false
}

// carryOut takes one batch from look to proof.
func (w *walk) carryOut(ctx context.Context, batch []*plan.Step) error {
	var todo []*plan.Step
	for _, s := range batch {
		ready, err := w.prepare(ctx, s)
		if err != nil {
			return err
		}
		if ready {
			todo = append(todo, s)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	if w.opt.May != nil && !w.opt.May(ctx) {
		for _, s := range todo {
			w.results[s.Place] = nil
		}
		return w.end(ctx)
	}
	if err := w.begin(todo); err != nil {
		return err
	}
	started := w.opt.Now()
	for _, s := range todo {
		w.results[s.Place] = &Outcome{Step: s, Cause: s.Cause, Changes: s.Finding.Diff, Creates: s.Finding.Creates}
	}
	results := w.change(ctx, todo)
	var outcomes []*Outcome
	done := state.Record{Done: true, Put: map[resource.Address]state.Entry{}}
	for i, s := range todo {
		o := w.results[s.Place]
		w.prove(ctx, s, o, results[i], &done)
		o.Duration = w.opt.Now().Sub(started)
		outcomes = append(outcomes, o)
	}
	return w.rec.Record(done, outcomes)
}

// prepare decides whether a step is to be changed now, by a last look where
// the plan's is out of date. Everything else gets its outcome here.
func (w *walk) prepare(ctx context.Context, s *plan.Step) (bool, error) {
	if s.Verdict == plan.Aside {
		if !w.debtors[s.Address] {
			return false, nil
		}
		w.plan.Include(ctx, s)
	}
	if o := w.heldUp(s); o != nil {
		w.results[s.Place] = o
		return false, w.tell(s, o)
	}
	if err := w.reactEarly(ctx, s); err != nil {
		return false, err
	}
	if w.mustLook(s) {
		w.look(ctx, s)
	}
	o := &Outcome{Step: s, Cause: s.Cause, Changes: s.Finding.Diff, Why: s.Why, Err: s.Err}
	w.results[s.Place] = o
	switch s.Verdict {
	case plan.InOrder:
		return false, w.inOrder(ctx, s, o)
	case plan.Change:
		h := w.plan.Waits(s)
		if !h.Any() {
			return true, nil
		}
		s.Wait(h)
		w.wait(s, o)
	case plan.Report:
		o.Status = Reported
		return false, w.report(s, o)
	case plan.Pending:
		o.Status = Pending
	case plan.Unknown:
		o.Err = fmt.Errorf("cannot be told even now: %s", s.Why)
		w.fail(s, o)
	default:
		w.fail(s, o)
	}
	return false, w.tell(s, o)
}

// heldUp returns the outcome of a step that cannot go now because of others, or
// nil.
func (w *walk) heldUp(s *plan.Step) *Outcome {
	o := &Outcome{Step: s, Cause: s.Cause, Changes: s.Finding.Diff, Why: s.Why, Err: s.Err}
	if s.Window {
		o.Status = Held
		return o
	}
	if s.Prune {
		switch {
		case s.Verdict == plan.Held:
			o.Status = Held
		case w.failed && !w.opt.AcceptPrune && s.Cause != resource.Rollback && s.Verdict != plan.Failed:
			o.Status, o.Why = Held, "something failed in this run, and what leaves may be what still serves"
		case w.waiting[s.Source] != nil && s.Verdict == plan.Change && s.Cause != resource.Rollback:
			s.Behind(w.waiting[s.Source])
			o.Status, o.Why = Held, s.Why
		default:
			return nil
		}
		return o
	}
	if s.Resource == nil {
		o.Status = Pending
		return o
	}
	for _, i := range s.After {
		switch on := w.results[i]; {
		case on == nil:
		case on.Status == Failed || on.Status == Skipped:
			o.Status, o.Why, o.Err = Skipped, fmt.Sprintf("%s did not succeed", on.Step.Address), nil
			return o
		case on.Status == Held && on.Step.Window && s.Verdict != plan.InOrder && s.Cause != resource.Rollback:
			s.Behind(on.Step)
			w.wait(s, o)
			return o
		case on.Status == Pending && s.Verdict != plan.InOrder:
			o.Status, o.Why = Pending, fmt.Sprintf("%s is pending", on.Step.Address)
			return o
		}
	}
	if s.Verdict == plan.Failed && s.Err == nil {
		o.Status = Failed // its next try is not due
		w.failed = true
		return o
	}
	return nil
}

// wait notes that a step was found to wait for its window.
func (w *walk) wait(s *plan.Step, o *Outcome) {
	o.Status, o.Why = Held, s.Why
	if s.Cause == resource.Intended {
		w.waiting[s.Source] = s
	}
}

// mustLook reports whether what the plan found may be out of date.
func (w *walk) mustLook(s *plan.Step) bool {
	if s.Verdict != plan.InOrder || w.opaque || s.Prune {
		return true
	}
	for _, i := range s.After {
		if w.changed[i] {
			return true
		}
	}
	return false
}

func (w *walk) look(ctx context.Context, s *plan.Step) {
	if s.Resource == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.Timeout())
	defer cancel()
	s.View.Owed = reactions(w.owed[s.Address])
	s.Look(ctx)
}

// begin writes down what is about to be changed and what will be owed for it.
func (w *walk) begin(todo []*plan.Step) error {
	w.batches++
	now, at := w.opt.Now(), w.moment()
	r := state.Record{Begin: &state.Begin{Run: w.opt.Run, Batch: w.batches, Time: now}}
	for _, s := range todo {
		r.Begin.Items = append(r.Begin.Items, w.intent(s))
		r.Owe = append(r.Owe, w.causes(s, now, at)...)
	}
	for _, s := range todo {
		// What it owes may be settled on the way.
		r.Placed = append(r.Placed, w.place(s.Address, at, func(o state.Owed) bool { return !among(todo, o.Because) })...)
	}
	for _, o := range r.Owe {
		w.owe(o)
	}
	return w.rec.Record(r, nil)
}

func among(steps []*plan.Step, a resource.Address) bool {
	return slices.ContainsFunc(steps, func(s *plan.Step) bool { return s.Address == a })
}

func (w *walk) intent(s *plan.Step) state.Intent {
	claims := s.View.Held
	if !s.Prune {
		claims = s.Resource.Claims()
	}
	return state.Intent{
		Address: s.Address, Source: s.Source, Cause: s.Cause, Claims: claims,
		Prior: notes(s), Keep: s.Keeps(), Place: s.Place, Changes: brief(s.Finding.Diff),
		Feeds: w.feeds(s),
	}
}

// brief returns a diff without its texts, which would be twice in the ledger.
func brief(d resource.Diff) resource.Diff {
	short := make(resource.Diff, len(d))
	for i, c := range d {
		c.Unified = ""
		short[i] = c
	}
	return short
}
