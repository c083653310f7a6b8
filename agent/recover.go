package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
)

// recover takes up what an earlier run left: it waits for transactions that
// went on without it, and tells of a run that was cut off. What that run was
// about to change is in the inventory already, what it owed is still owed, so
// there is nothing to undo: this run goes on from there.
func (r *run) recover(ctx context.Context) error {
	for _, m := range r.kit.modules {
		if a, ok := m.(resource.Attacher); ok {
			if err := r.attach(ctx, a); err != nil {
				return fmt.Errorf("cannot wait for what an earlier run began: %w", err)
			}
		}
	}
	r.agent.sweepState()
	snap := r.agent.store.Head()
	if snap.Running == nil {
		return nil
	}
	doing := "between two changes"
	if snap.Open != nil {
		doing = "while changing " + intents(snap.Open.Items)
		if _, err := r.agent.host.Sweep(claimedPaths(snap.Open.Items)); err != nil {
			// They do no harm but to the eye, and may be swept by a later run.
			r.agent.opt.Log.Warn("cannot remove the temporary files of a run that was cut off", "error", err)
		}
	}
	cut := report.ContinueRun(r.agent.reportContext(r.facts, r.states()), snap.Running.ID, snap.RunEvents)
	data, err := json.Marshal(cut.Interrupted(doing))
	if err != nil {
		return fmt.Errorf("cannot encode event: %w", err)
	}
	past := *snap.Running
	past.Verdict, past.Summary, past.Finished = "interrupted", "cut off "+doing, r.started
	err = r.agent.store.Append(state.Record{Done: true, Finished: &past, Events: []json.RawMessage{data}})
	if err != nil {
		return err
	}
	return r.agent.store.Keep(state.Past{Run: past, Events: []json.RawMessage{data}})
}

const (
	// badWait is how long what a bad commit has under way is waited for on the way back
	// from it, returnWait the same for what brings things back.
	badWait    = 20 * time.Second
	returnWait = 10 * time.Minute
)

// attach waits for what a module has under way. On the way back that is not for ever:
// a script of the bad commit that hangs would keep the host at it.
func (r *run) attach(ctx context.Context, a resource.Attacher) error {
	e, ends := a.(resource.Ender)
	t := r.agent.store.Head().Trial
	if !ends || t == nil || t.Failed == "" {
		return a.Attach(ctx)
	}
	limit := badWait
	if _, err := os.Stat(r.agent.keptPath(returningFile)); err == nil {
		limit = returnWait
	}
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := a.Attach(within)
	if within.Err() == nil || ctx.Err() != nil {
		return err
	}
	r.agent.opt.Log.Warn("ending what is under way: the host goes back", "waited", limit)
	return e.End(ctx)
}

// claimedPaths returns the paths beside which a change that was cut off may have
// left a temporary file: those that it claims, and those that it notes.
func claimedPaths(items []state.Intent) []string {
	seen := map[string]bool{}
	var names []string
	add := func(c resource.Claim) {
		if c.Space == resource.SpacePath && c.Part == "" && !seen[c.Name] {
			seen[c.Name] = true
			names = append(names, c.Name)
		}
	}
	for _, item := range items {
		for _, c := range item.Claims {
			add(c)
		}
		for c := range item.Prior {
			add(c)
		}
	}
	return names
}

// sweepState removes, once, what was being written in the state directory when
// an earlier process was cut off. The lock is held: nobody else writes there.
func (a *Agent) sweepState() {
	a.swept.Do(func() {
		if err := errors.Join(a.store.Sweep(), a.backups.Sweep(), a.digests.Sweep()); err != nil {
			a.opt.Log.Warn("cannot remove the temporary files of a run that was cut off", "error", err)
		}
	})
}

func intents(items []state.Intent) string {
	var first resource.Address
	if len(items) > 0 {
		first = items[0].Address
	}
	if len(items) > 1 {
		return fmt.Sprintf("%s and %d more", first, len(items)-1)
	}
	return first.String()
}
