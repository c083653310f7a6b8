package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/state"
)

// eventLog gives the sinks what waits in the ledger.
type eventLog struct{ store *state.Store }

func (l eventLog) EventsAfter(seq uint64, limit int) ([]report.Stored, error) {
	events, err := l.store.EventsAfter(seq, limit)
	stored := make([]report.Stored, len(events))
	for i, e := range events {
		stored[i] = report.Stored{Seq: e.Seq, Event: e.Event}
	}
	return stored, err
}

func (l eventLog) Cursor(sink string) uint64 { return l.store.Cursor(sink) }

func (l eventLog) SetCursor(sink string, seq uint64) error { return l.store.SetCursor(sink, seq) }

// OpenSinks returns the drain to the configured sinks. Events are kept for
// those and no others from here on.
func (a *Agent) OpenSinks(stdout io.Writer, asJSON bool) (*report.Drain, error) {
	var sinks []report.Sink
	var names []string
	for _, c := range a.config.Report {
		s, err := c.Open(stdout, asJSON)
		if err != nil {
			return nil, err
		}
		sinks = append(sinks, s)
		names = append(names, s.Name())
	}
	if err := a.store.Enroll(names); err != nil {
		return nil, err
	}
	log := a.opt.Log
	return report.NewDrain(eventLog{a.store}, sinks, func(sink string, err error) {
		if err != nil {
			log.Warn("a sink does not take its events; they are kept", "sink", sink, "error", err)
			return
		}
		log.Info("a sink takes its events again", "sink", sink)
	}), nil
}

// tell records an event that belongs to no run. It waits a moment for a run of
// another process.
func (a *Agent) tell(ctx context.Context, i report.Incident) error {
	f, err := a.Facts(ctx)
	if err != nil {
		return err
	}
	var sources []report.SourceState
	snap := a.store.Head()
	for _, src := range a.sources {
		sources = append(sources, reportState(a.statusOf(src, snap.Sources[src.Name()])))
	}
	data, err := json.Marshal(report.NewStream(a.reportContext(f, sources)).Incident(i))
	if err != nil {
		return fmt.Errorf("cannot encode event: %w", err)
	}
	return a.store.Tell(ctx, tellWait, data)
}

// tellWait is how long an event waits for a run of another process.
const tellWait = 2 * time.Second
