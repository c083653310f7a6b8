package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"trued.dev/trued/internal/apply"
	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/facts"
	"trued.dev/trued/internal/plan"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
)

// A run is what the steps of Run hand on to each other.
type run struct {
	agent   *Agent
	req     Request
	started time.Time
	kit     *kit
	facts   facts.Facts
	sources []*sourceRun
	stream  *report.Run
	rec     *recorder
	// looks is true for a look that changes nothing.
	looks bool
	// cut is true when the run was told to stop before its end, late when that is
	// because it took too long.
	cut, late bool
	// good is true when the run ended well, so that its kit can serve another.
	good bool
	// last is the run before this one, changed what the inventory was then.
	last    *state.Run
	changed uint64
	// stood is true when the witnesses of an earlier run still hold.
	stood bool
	// keyBefore is what the witnesses must be of to count for a partial run.
	keyBefore witnessKey
	// entries are the catalog that is watched.
	entries []catalog.Entry
	// trial is what is on trial during the run; nil for nothing.
	trial *state.Trial
	// glance is the look at the network beside a run that has no trial, reached what
	// answered.
	glance  *glance
	reached []string
	// unreturned says what did not come back of what modules had kept.
	unreturned error
	// loaded is true when the catalog was loaded to watch what is in it.
	loaded bool
	// unruly is why the host's rules cannot be read: then nothing is enforced.
	unruly error
	took   phases
}

func (a *Agent) newRun(req Request) (*run, error) {
	f, err := a.Facts(context.Background())
	if err != nil {
		return nil, err
	}
	r := &run{agent: a, req: req, started: time.Now().UTC(), facts: f}
	r.unruly = a.readRules()
	if r.kit = a.takeKit(); r.kit == nil {
		r.kit = a.newKit()
	}
	snap := a.store.Head()
	r.last, r.changed = snap.LastRun, snap.Changed
	for i, src := range a.sources {
		r.sources = append(r.sources, &sourceRun{
			source: src, config: a.config.Sources[i], before: snap.Sources[src.Name()],
		})
	}
	r.stream = report.NewRun(a.reportContext(f, r.states()))
	r.rec = &recorder{
		store: a.store, log: a.opt.Log, stream: r.stream, culprits: a.culprits, holds: snap.Holds,
		run: state.Run{ID: r.stream.ID(), Trigger: req.Trigger, Started: r.started},
		arm: func(t *state.Trial) error { return a.arm(context.Background(), t) },
	}
	if r.rec.since = a.looked; r.last != nil && r.rec.since.IsZero() {
		r.rec.since = r.last.Started
	}
	return r, nil
}

// close leaves the kit to the next run, unless something went wrong: it may have
// gone wrong because of what the kit holds. Where the witnesses can stand in for
// what is loaded, it is not worth the memory, but for a while after a drift, which
// seldom comes alone.
func (r *run) close() {
	r.endGlance()
	if !r.good || r.agent.witnesses.whole && !r.partial() {
		r.kit.close()
		return
	}
	r.kit.renew()
	r.agent.keepKit(r.kit)
}

// reportContext is what every event says about where it comes from.
func (a *Agent) reportContext(f facts.Facts, sources []report.SourceState) report.Context {
	return report.Context{HostID: f.Host.ID, HostName: f.Host.Name, Version: a.opt.Version, Sources: sources}
}

// load makes one catalog of all sources. A source that does not load, or that
// clashes with an earlier one, falls back to its last good state; one without is
// left out, and nothing of it is pruned.
func (r *run) load(ctx context.Context) []catalog.Entry {
	r.wantKit()
	for _, s := range r.sources {
		s.load(ctx, r)
	}
	merged := r.merge()
	if len(merged.Refused) > 0 {
		for _, refusal := range merged.Refused {
			for _, s := range r.sources {
				if s.catalog == refusal.Catalog {
					s.refuse(r, refusal.Err)
					s.fallBack(ctx, r, refusal.Err)
				}
			}
		}
		merged = r.merge()
		for _, s := range r.sources {
			if !slices.Contains(merged.Catalogs, s.catalog) {
				s.catalog = nil
			}
		}
	}
	r.stream.SetSources(r.states()...)
	return merged.Entries()
}

func (r *run) merge() catalog.Merged {
	var cats []*catalog.Catalog
	for _, s := range r.sources {
		if s.catalog != nil {
			cats = append(cats, s.catalog)
		}
	}
	return catalog.Merge(cats...)
}

// freshen has modules bring up to date what they only read otherwise, such as a
// package index; never in a run that changes nothing, nor on the way back, where the
// network may be what is gone.
func (r *run) freshen(ctx context.Context, entries []catalog.Entry) {
	if r.agent.config.Mode == Observe || r.partial() {
		return
	}
	if t := r.agent.store.Head().Trial; t != nil && t.Failed != "" {
		return
	}
	for _, m := range r.kit.all() {
		f, ok := m.(resource.Freshener)
		if !ok {
			continue
		}
		var mine []resource.Resource
		for _, e := range entries {
			if e.Module == m && e.Resource != nil {
				mine = append(mine, e.Resource)
			}
		}
		if len(mine) == 0 {
			continue
		}
		if err := f.Freshen(ctx, mine); err != nil {
			r.agent.opt.Log.Warn("what is known of the newest versions may be old", "kind", m.Kind(), "error", err)
		}
	}
}

// plan works out what to do. A catalog that cannot be ordered is one that does
// not load: each source falls back as far as it can.
func (r *run) plan(ctx context.Context, entries []catalog.Entry) (*plan.Plan, error) {
	if err := r.agent.store.Reload(); err != nil {
		return nil, err
	}
	p, err := plan.Make(ctx, r.planInput(entries))
	var cycle *plan.CycleError
	if !errors.As(err, &cycle) {
		return p, err
	}
	for _, s := range r.sources {
		if s.name() == cycle.Origins[0].Source {
			s.fallBack(ctx, r, cycle)
		}
	}
	return plan.Make(ctx, r.planInput(r.merge().Entries()))
}

func (r *run) planInput(entries []catalog.Entry) plan.Input {
	in := plan.Input{
		Entries: entries,
		State:   r.agent.store.Snapshot(),
		Modules: r.kit.byKind,
		Sources: map[string]plan.Source{},
		Digest: func(d plan.Desired) (string, error) {
			return r.kit.digest(d, r.agent.store.Digest)
		},
		Offline:     r.agent.host.Offline(),
		AcceptPrune: r.req.AcceptPrune,
		Hasty:       r.req.Hasty,
		Now:         time.Now(),
		Window:      r.windows(),
	}
	r.leaving(in.State.Inventory)
	if !r.partial() {
		r.agent.host.AllStay() // what leaves is found by the plan
	}
	in.Only, in.Blocked = r.only()
	if name := r.req.PruneSource; name != "" {
		in.Configured = append(in.Configured, name)
		in.Sources[name] = plan.Source{Explains: func(resource.Address) bool { return true }}
	}
	for _, s := range r.sources {
		in.Configured = append(in.Configured, s.name())
		if s.catalog == nil {
			continue
		}
		src := plan.Source{
			Revision: s.revision, From: s.from(in.State.Trial), Modules: r.kit.byKindOf(s.name()),
			Explains: func(a resource.Address) bool { return s.explains(r, a) },
		}
		if s.catalog.PruneLimit != nil {
			src.PruneLimit = *s.catalog.PruneLimit
		}
		in.Sources[s.name()] = src
	}
	return in
}

// finish writes how the run ended, keeps it in the history when it is worth
// it, and brings the events on their way.
func (r *run) finish(ctx context.Context, outcomes []*apply.Outcome, counts report.Counts) (*Result, error) {
	verdict := r.judge(counts)
	r.good = verdict == InOrder || verdict == Differs
	left := r.remaining(outcomes)
	verdict = r.overall(verdict, left)
	past := state.Run{
		ID: r.stream.ID(), Trigger: r.req.Trigger, Started: r.started, Finished: time.Now().UTC(), Partial: r.partial(),
		Verdict: string(verdict), Summary: summary(counts, r.sources), Issues: left,
		Drifts:    r.drifts(),
		Commits:   r.commits(),
		Resources: r.tally(outcomes, left), Phases: r.took.end(),
	}
	if err := r.warnOfPins(past.Finished); err != nil {
		return nil, err
	}
	sources, err := r.newStates(outcomes)
	if err != nil {
		return nil, err
	}
	r.stream.SetSources(r.states()...)
	contests, err := r.contests(outcomes, past.Finished)
	if err != nil {
		return nil, err
	}
	reboot, err := r.rebootWanted(past.Finished)
	if err != nil {
		return nil, err
	}
	end := state.Record{Finished: &past, Reboot: reboot, Sources: sources, Contests: contests, Holds: r.holds(outcomes, past.Finished), Trial: r.trialAfter(past.Finished)}
	if r.unreturned != nil {
		past.Summary = firstLine(r.unreturned.Error()) + "; " + past.Summary
	}
	if err := r.rec.finish(end, counts, r.agent.opt.ExitCode(verdict), problem(r.sources)); err != nil {
		return nil, err
	}
	r.agent.trialMoved(ctx, end.Trial)
	if err := r.agent.store.SaveKey(); err != nil {
		return nil, err
	}
	if r.rec.noteworthy || !sameIssues(r.last, past.Issues) {
		if err := r.agent.store.Keep(state.Past{Run: past, Events: r.rec.events}); err != nil {
			return nil, err
		}
	}
	if err := r.agent.store.Compact(); err != nil {
		return nil, err
	}
	if err := r.boundBackups(); err != nil {
		r.agent.opt.Log.Warn("cannot keep the backups within their bounds", "error", err)
	}
	if r.rec.settle(); !r.cut && !r.partial() {
		r.agent.looked = r.started
	}
	r.keepCaches(verdict, outcomes)
	if r.rec.noteworthy && !r.stood {
		r.watch(r.entries) // links may lead elsewhere now
	}
	if err := r.agent.keepCommits(); err != nil {
		return nil, err
	}
	return &Result{
		trial: r.agent.store.Head().Trial, probes: r.probes(), unproven: r.unproven(), reached: r.reached, late: r.late,
		Verdict: verdict, Stood: r.stood, Loaded: r.loaded, Partial: r.partial(), Run: past, Counts: counts, Outcomes: outcomes, Sources: r.status(), Restart: changesAgent(outcomes),
	}, ctx.Err()
}

// keepCaches saves what makes the next run cheaper. A run needs none of it.
func (r *run) keepCaches(verdict Verdict, outcomes []*apply.Outcome) {
	a := r.agent
	err := errors.Join(a.digests.Save(), a.contents.save(), r.attest(verdict, outcomes), a.store.SaveHead())
	if err != nil {
		a.opt.Log.Debug("cannot save a cache", "error", err)
	}
}

// sameIssues reports whether a run left what the one before it left.
func sameIssues(last *state.Run, now []state.Issue) bool {
	return last != nil && slices.Equal(last.Issues, now)
}

// input is what a revision was loaded with, kept so that the same commit can be
// loaded again when the host's facts no longer allow it.
type input struct {
	Facts   facts.Facts `json:"facts"`
	Group   string      `json:"group,omitempty"`
	Version string      `json:"version"`
}

func (i input) encode() (json.RawMessage, error) {
	data, err := json.Marshal(i)
	if err != nil {
		return nil, fmt.Errorf("cannot keep facts: %w", err)
	}
	return data, nil
}
