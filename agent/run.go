package agent

import (
	"context"
	"errors"
	"time"

	"trued.dev/trued/internal/apply"
	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/plan"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
)

// A Request asks for a run.
type Request struct {
	// Trigger says what caused it: boot, commit, drift, resync, retry, sync,
	// apply.
	Trigger string
	// Fetch asks the sources for something newer first. A source that was never
	// fetched is fetched in any case.
	Fetch bool
	// AcceptPrune lets go what is held; AcceptHistory takes a commit that does
	// not descend from the one applied, where AcceptCommit is given the one whose
	// name begins so and no other.
	AcceptPrune, AcceptHistory bool
	AcceptCommit               string
	// IgnoreWindows changes what waits for its window, too.
	IgnoreWindows bool
	// PruneSource names a source that left the configuration and whose resources
	// are to leave the host.
	PruneSource string
	// Hasty tries again at once what failed before.
	Hasty bool
	// Wait is how long to wait for another run to end.
	Wait time.Duration
	// Order is what an operator wants to become of a source first.
	Order *Order
	// Only makes the run a partial one, of these resources; nil is all.
	Only []resource.Address
	// Unasked is true for what nobody asked for: nothing is changed while the
	// system is in a state in which nothing is drift.
	Unasked bool
	// Progress is told of each resource that is being changed; it may be nil.
	Progress func(resource.Address)
}

// A Result is how a run ended.
type Result struct {
	Verdict Verdict
	Run     state.Run
	Counts  report.Counts
	// Outcomes may leave out what is in order.
	Outcomes []*apply.Outcome
	Sources  []SourceStatus
	// Stood is true when the run had nothing but witnesses to look at.
	Stood bool
	// Loaded is true when it loaded the catalog all the same, to watch what is in it.
	Loaded bool
	// Restart is true when the run changed the agent itself.
	Restart bool
	// Partial is true when the run looked at a few resources alone, Silent when it
	// told of nothing and left the state as it was.
	Partial, Silent bool

	// Unwell says why the host is not healthy, where it was looked and it is not.
	Unwell string

	// trial is what is on trial after the run, unproven is true when it is to be
	// seen whether the host is healthy, by the probes of the catalog.
	trial    *state.Trial
	unproven bool
	probes   []catalog.Probe
	// late is true when the run was cut off because it took too long.
	late bool
	// reached is what of the network answered before a run without a trial.
	reached []string
}

// Run is one pass over the host: fetch, load, plan, apply, save, report. When
// stop is done it ends after what is in hand; when ctx is, at once. The error
// is state.ErrLocked, a *SuspendedError, or tells that the state could not be
// read or written; what is wrong with a source or a resource is in the result.
func (a *Agent) Run(ctx, stop context.Context, req Request) (*Result, error) {
	unlock, err := a.store.Lock(ctx, req.Wait)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := a.refuseSuspended(); err != nil {
		return nil, err
	}
	r, err := a.newRun(req)
	if err != nil {
		return nil, err
	}
	defer r.close()
	r.took.begin(phaseRecover)
	if err := r.recover(ctx); err != nil {
		return nil, err
	}
	a.takeUp(ctx)
	r.took.begin(phaseFetch)
	if err := r.obey(ctx); err != nil {
		return nil, err
	}
	r.fetch(ctx)
	r.widen()
	r.watchFirst(ctx)
	r.took.begin(phaseWitness)
	if !r.returning() && r.stands(ctx) {
		return r.finish(ctx, nil, r.agent.witnesses.counts())
	}
	r.took.begin(phaseLoad)
	entries := r.load(ctx)
	r.watch(entries)
	r.freshen(ctx, entries)
	if err := r.giveBack(ctx); err != nil {
		return nil, err
	}
	r.took.begin(phasePlan)
	p, err := r.plan(ctx, entries)
	if err != nil {
		return nil, err
	}
	r.tryOut(ctx, p)
	r.lookAround(ctx, p)
	if err := r.keepOld(); err != nil {
		return nil, err
	}
	r.took.begin(phaseApply)
	outcomes, err := r.apply(ctx, stop, p)
	r.endGlance()
	if r.cut = errors.Is(err, context.Canceled); err != nil && !r.cut {
		a.broken()
		return nil, err
	}
	if r.silent(outcomes) {
		return r.pass(outcomes, count(outcomes)), err
	}
	return r.finish(ctx, outcomes, count(outcomes))
}

// Plan looks at the host and returns what a run would change. It takes no lock
// and changes nothing.
func (a *Agent) Plan(ctx context.Context, req Request) (*plan.Plan, *Result, error) {
	if err := a.store.Reload(); err != nil {
		return nil, nil, err
	}
	r, err := a.newRun(req)
	if err != nil {
		return nil, nil, err
	}
	defer r.close()
	r.looks = true
	r.fetch(ctx)
	p, err := r.plan(ctx, r.load(ctx))
	if err != nil {
		return nil, nil, err
	}
	outcomes := apply.Observe(p)
	counts := count(outcomes)
	return p, &Result{Verdict: r.judge(counts), Counts: counts, Outcomes: outcomes, Sources: r.status()}, nil
}

// apply carries the plan out, or only tells of it in observe mode.
func (r *run) apply(ctx, stop context.Context, p *plan.Plan) ([]*apply.Outcome, error) {
	if r.agent.config.Mode == Observe {
		outcomes := apply.Observe(p)
		return outcomes, r.rec.Record(state.Record{}, outcomes)
	}
	r.credit(p)
	within, cancel := r.bounded(stop)
	defer cancel()
	defer func() { r.late = within.Err() != nil && stop.Err() == nil }()
	return apply.Run(ctx, within, p, r.rec, host.SyncFS, apply.Options{
		Run:         r.stream.ID(),
		AcceptPrune: r.req.AcceptPrune,
		Now:         time.Now,
		Moment:      r.agent.host.Moment,
		May:         func(ctx context.Context) bool { return !r.req.Unasked || r.agent.mayRepair(ctx) },
		Progress: func(s *plan.Step) {
			if r.req.Progress != nil {
				r.req.Progress(s.Address)
			}
		},
	})
}

func (a *Agent) refuseSuspended() error {
	sus, err := a.store.Suspended(time.Now())
	if err != nil {
		return err
	}
	if sus != nil {
		return &SuspendedError{*sus}
	}
	return nil
}
