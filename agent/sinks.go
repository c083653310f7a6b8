package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/report/sinks"
	"trued.dev/trued/internal/report/spool"
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

func (l eventLog) Newest() uint64 { return l.store.Head().Events }

func (l eventLog) Cursor(sink string) uint64 { return l.store.Cursor(sink) }

func (l eventLog) SetCursor(sink string, seq uint64) error { return l.store.SetCursor(sink, seq) }

// spoolDir is where events wait for receivers, below the state.
const spoolDir = "spool"

// OpenSinks returns the drain to the configured sinks. Events are kept for
// those and no others from here on.
func (a *Agent) OpenSinks(stdout io.Writer, asJSON bool) (*report.Drain, error) {
	routes, err := a.routes(stdout, asJSON)
	if err != nil {
		return nil, err
	}
	var names []string
	spools := map[string]bool{}
	for _, r := range routes {
		names = append(names, r.Sink.Name())
		spools[filepath.Base(r.Spool)] = true
	}
	if err := a.store.Enroll(names); err != nil {
		return nil, err
	}
	if err := a.sweepSpools(spools); err != nil {
		a.opt.Log.Warn("what nobody needs any more is left", "error", err) // no reason to leave the host alone
	}
	return a.drain(routes), nil
}

// LookAtSinks returns the drain to the configured sinks, to look at it and to
// test them. It writes nothing.
func (a *Agent) LookAtSinks() (*report.Drain, error) {
	routes, err := a.routes(io.Discard, false)
	return a.drain(routes), err
}

func (a *Agent) routes(stdout io.Writer, asJSON bool) ([]report.Route, error) {
	var routes []report.Route
	labels := sinks.Labels(a.config.Report)
	for i, c := range a.config.Report {
		r, err := c.Open(stdout, asJSON, filepath.Join(a.store.Dir(), spoolDir))
		if err != nil {
			return nil, err
		}
		r.Label = labels[i]
		routes = append(routes, r)
	}
	return routes, nil
}

// sweepSpools removes the spools of sinks that left the configuration, once what
// is in them is too old for any.
func (a *Agent) sweepSpools(kept map[string]bool) error {
	dir := filepath.Join(a.store.Dir(), spoolDir)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot look for spools: %w", err)
	}
	for _, e := range entries {
		if kept[e.Name()] {
			continue
		}
		if left, err := spool.Look(filepath.Join(dir, e.Name())); err == nil && left.Waiting > 0 {
			a.opt.Log.Warn("events wait for a sink that is not configured any more", "spool", e.Name(), "events", left.Waiting)
		}
		used, err := spool.Used(filepath.Join(dir, e.Name()))
		if err == nil && time.Since(used) > spool.UsualAge {
			err = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
		if err != nil {
			return fmt.Errorf("cannot remove spool %q: %w", e.Name(), err)
		}
	}
	return nil
}

func (a *Agent) drain(routes []report.Route) *report.Drain {
	log := a.opt.Log
	return report.NewDrain(eventLog{a.store}, routes, report.Hooks{
		Changed: func(sink string, err error) {
			if err != nil {
				log.Warn("a sink does not take its events; they are kept", "sink", sink, "error", err)
				return
			}
			log.Info("a sink takes its events again", "sink", sink)
		},
		Lost: a.lost,
		Told: func(sink string, l spool.Loss) {
			log.Warn("events for a sink were dropped", "sink", sink, "events", l.Records, "since", l.Since)
		},
	})
}

// lost returns the event that tells a sink of events that it will never get. It
// is the same for the same loss, so that a receiver knows a repeat.
func (a *Agent) lost(sink string, l spool.Loss) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lostWait)
	defer cancel()
	f, err := a.Facts(ctx)
	if err != nil {
		return nil, err
	}
	c := a.reportContext(f, nil)
	c.Now = func() time.Time { return l.Last }
	c.NewID = func() string {
		return uuid.NewSHA1(uuid.NameSpaceOID, fmt.Appendf(nil, "%s %s %d %d", f.Host.ID, sink, l.Records, l.Last.UnixNano())).String()
	}
	return json.Marshal(report.NewStream(c).Incident(report.Incident{
		Type: report.ReportDropped, Sink: sink, Dropped: l.Records,
		Message: fmt.Sprintf("%d events for the sink %s were dropped between %s and %s: what waits for a receiver is bounded, or was damaged",
			l.Records, sink, l.Since.UTC().Format(time.DateTime), l.Last.UTC().Format(time.DateTime)),
	}))
}

// lostWait is how long the facts that an event needs may take.
const lostWait = 10 * time.Second

// TestSinks sends one marked event to each sink of the drain.
func (a *Agent) TestSinks(ctx context.Context, drain *report.Drain) ([]report.TestResult, error) {
	f, err := a.Facts(ctx)
	if err != nil {
		return nil, err
	}
	stream := report.NewStream(a.reportContext(f, nil))
	return drain.Test(ctx, func(sink string) (json.RawMessage, error) {
		return json.Marshal(stream.Incident(report.Incident{
			Type: report.ReportTested, Sink: sink, Message: "a test of the sink " + sink + ": nothing has happened",
		}))
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
