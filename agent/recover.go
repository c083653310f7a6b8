package agent

import (
	"context"
	"encoding/json"
	"fmt"

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
			if err := a.Attach(ctx); err != nil {
				return fmt.Errorf("cannot wait for what an earlier run began: %w", err)
			}
		}
	}
	snap := r.agent.store.Snapshot()
	if snap.Running == nil {
		return nil
	}
	doing := "between two changes"
	if snap.Open != nil {
		doing = "while changing " + intents(snap.Open.Items)
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
