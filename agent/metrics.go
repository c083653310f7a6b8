package agent

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"trued.dev/trued/internal/metrics"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/source"
	"trued.dev/trued/internal/state"
)

// A failure is what a source failed by: a fetch, or a commit that was refused.
type failure struct {
	source, reason string
	refused        bool
}

func (a *Agent) count(f failure) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failures[f]++
}

// fetchFailed counts a fetch that failed by itself.
func (a *Agent) fetchFailed(ctx context.Context, name string, err error) {
	if ctx.Err() != nil {
		return
	}
	reason := "other"
	var known *source.Error
	if errors.As(err, &known) {
		reason = known.Type()
	}
	a.count(failure{source: name, reason: reason})
}

// Metrics returns what tells a Prometheus of the agent and of its sinks; nil
// where the configuration asks for none.
func (a *Agent) Metrics(drain *report.Drain) (*metrics.Exporter, error) {
	if a.config.Metrics == (metrics.Config{}) {
		return nil, nil
	}
	return metrics.NewExporter(func() (metrics.Reading, error) { return a.reading(drain) })
}

// WriteMetrics brings the file for the node exporter up to date, if there is to
// be one. A run does not fail by it.
func (a *Agent) WriteMetrics(ctx context.Context, drain *report.Drain) {
	e, err := a.Metrics(drain)
	if err == nil && e != nil {
		err = a.writeMetrics(ctx, e)
	}
	if err != nil {
		a.opt.Log.Warn("the file for the node exporter is old", "error", err)
	}
}

func (a *Agent) writeMetrics(ctx context.Context, e *metrics.Exporter) error {
	if a.config.Metrics.Textfile == "" {
		return nil
	}
	return e.WriteFile(ctx, a.host, string(a.config.Metrics.Textfile))
}

// exportMetrics answers scrapes, and keeps the file up to date with the news,
// until ctx is done.
func (d *Daemon) exportMetrics(ctx context.Context) {
	e, err := d.agent.Metrics(d.drain)
	if err != nil {
		d.agent.opt.Log.Warn("there are no metrics", "error", err)
	}
	if e == nil || err != nil {
		return
	}
	var all sync.WaitGroup
	defer all.Wait()
	if at := d.agent.config.Metrics.Listen; at != "" {
		e.Rest = unmapProgram
		all.Go(func() { e.Serve(ctx, at, d.agent.opt.Log) })
	}
	if d.agent.config.Metrics.Textfile != "" {
		d.keepTextfile(ctx, e)
	}
}

// keepTextfile says once that the file cannot be written, and of what.
func (d *Daemon) keepTextfile(ctx context.Context, e *metrics.Exporter) {
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.news:
		}
		err := d.agent.writeMetrics(ctx, e)
		unmapProgram()
		switch {
		case err == nil:
			said = ""
		case ctx.Err() == nil && err.Error() != said:
			said = err.Error()
			d.agent.opt.Log.Warn("the file for the node exporter is old", "error", err)
		}
	}
}

// changed says that metrics may be others now. It never waits.
func (d *Daemon) changed() {
	select {
	case d.news <- struct{}{}:
	default:
	}
}

// reading is what is known now.
func (a *Agent) reading(drain *report.Drain) (metrics.Reading, error) {
	if err := a.store.ReloadHead(); err != nil {
		return metrics.Reading{}, err
	}
	snap := a.store.Head()
	now := time.Now()
	suspended, err := a.store.Suspended(now)
	if err != nil {
		return metrics.Reading{}, err
	}
	r := metrics.Reading{
		Version: a.opt.Version, Started: a.started, Resync: a.config.Resync,
		Suspended: suspended != nil, Unhealthy: snap.Unwell != nil, Owed: len(snap.Owed), Contested: len(contested(snap, now)), Reboot: snap.Reboot != nil,
		LastRun: snap.LastRun, Runs: snap.Runs, Told: snap.Told,
	}
	for _, v := range verdicts() {
		r.Verdicts = append(r.Verdicts, string(v))
	}
	for i, src := range a.sources {
		known := snap.Sources[src.Name()]
		s := readSource(a.config.Sources[i], a.statusOf(src, known))
		s.Refused = s.Refused || a.refuses(known, s)
		s.Quarantined = quarantined(known)
		if known.Pin != nil {
			s.Pinned = known.Pin.Since
		}
		if t := snap.Trial; t != nil {
			if _, on := t.Sources[s.Name]; on {
				s.Unconfirmed = t.Since
			}
		}
		s.FailedFetches, s.RefusedCommits = a.failed(s.Name)
		r.Sources = append(r.Sources, s)
	}
	for _, s := range drain.Status() {
		r.Sinks = append(r.Sinks, readSink(s))
	}
	return r, nil
}

// failed counts, by reason, how a source failed since the start.
func (a *Agent) failed(name string) (fetches, commits map[string]uint64) {
	fetches, commits = map[string]uint64{}, map[string]uint64{}
	a.mu.Lock()
	defer a.mu.Unlock()
	for f, n := range a.failures {
		switch {
		case f.source != name:
		case f.refused:
			commits[f.reason] = n
		default:
			fetches[f.reason] = n
		}
	}
	return fetches, commits
}

func readSource(c SourceConfig, s SourceStatus) metrics.Source {
	return metrics.Source{
		Name: s.Name, Group: s.Group, Ref: cmp.Or(c.Branch, c.Tag, c.Commit),
		Applied: s.Applied, Committed: dated(s.Committed), Failures: s.Failures,
		Refused: s.Refused != "", Signer: s.Trust.Signer,
		Newest: dated(s.Fetched.Committed), FreshWithin: time.Duration(c.Trust.FreshWithin),
	}
}

// dated is a commit's date; a directory has none.
func dated(t time.Time) time.Time {
	if t.Unix() <= 0 {
		return time.Time{}
	}
	return t
}

// refuses reports whether the newest commit of a source could not be loaded.
// Where nothing is applied no commit is the one applied, and a problem may be
// that of a fetch.
func (a *Agent) refuses(known state.Source, s metrics.Source) bool {
	return known.Attempted != "" && known.Problem != "" && !quarantined(known) && (a.config.Mode != Observe || s.Failures == 0)
}

// quarantined reports whether the commit that a source would be at is in quarantine.
func quarantined(s state.Source) bool {
	q := s.Quarantine
	return q != nil && (q.Commit == s.Attempted && s.Pin == nil || s.Pin != nil && q.Commit == s.Pin.Commit)
}

func readSink(s report.SinkStatus) metrics.Sink {
	sink := metrics.Sink{Label: s.Label, Waiting: s.Ahead, Failing: s.Error != ""}
	if q := s.Spool; q != nil {
		sink.Waiting += q.Waiting
		sink.Failing = sink.Failing || q.LastFailure.After(q.LastSuccess)
		sink.Spool = &metrics.Spool{Bytes: q.Bytes, Limit: s.Limit, Dropped: q.Lost, LastSuccess: q.LastSuccess}
	}
	return sink
}
