package metrics

import (
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// families are the names, and what they mean.
type families struct {
	build, started, resync, suspended, owed, contested, reboot *prometheus.Desc
	applied, committed, failures, refused, fetches, refusals   *prometheus.Desc
	newest, freshWithin                                        *prometheus.Desc
	runs, lastRun, success, verdict, phase                     *prometheus.Desc
	resources, outcomes                                        *prometheus.Desc
	waiting, failing, bytes, limit, dropped, arrived           *prometheus.Desc
	unhealthy, quarantined, unconfirmed, pinned                *prometheus.Desc
}

func newFamilies() *families {
	name := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("trued_"+name, help, labels, nil)
	}
	return &families{
		build:     name("build_info", "Always 1; the labels say which program this is.", "version", "goversion"),
		started:   name("start_timestamp_seconds", "When the program started, or last read a new configuration."),
		resync:    name("resync_interval_seconds", "The longest time between two runs of the daemon, give or take a tenth."),
		suspended: name("suspended", "1 while convergence is suspended."),
		owed:      name("owed_reactions", "Restarts, reloads and the like that are owed and not carried out yet."),

		reboot:      name("reboot_required", "1 while something that was installed asks for a reboot."),
		unhealthy:   name("unhealthy", "1 while the host is not healthy, and there is nothing to go back from."),
		quarantined: name("source_quarantined", "1 while the newest commit is not used: the host went back from it.", "source"),
		unconfirmed: name("source_unconfirmed_timestamp_seconds", "Since when a commit is on trial: applied, and not seen to be healthy yet.", "source"),
		pinned:      name("source_pinned_timestamp_seconds", "Since when an operator keeps the source at one commit.", "source"),

		contested: name("contested_resources", "Resources that somebody changes as often as they are put back."),

		applied: name("applied_info", "Always 1; the labels say which commit the host was last brought to, in which group, and who signed it.",
			"source", "ref", "group", "revision", "signer"),
		committed:   name("applied_commit_timestamp_seconds", "When the commit came to be that the host was last brought to.", "source", "ref"),
		newest:      name("source_commit_timestamp_seconds", "When the newest commit came to be that the host has accepted.", "source"),
		freshWithin: name("source_fresh_within_seconds", "How old that commit may become before somebody is taken to hold back newer ones.", "source"),
		failures:    name("source_consecutive_failures", "Fetches that failed in a row, up to now.", "source"),
		refused:     name("source_refused", "1 while the newest commit is not used for what is in it: it does not load, or may not follow the one applied.", "source"),
		fetches:     name("source_failures_total", "Fetches that failed, by reason, since the start.", "source", "reason"),
		refusals:    name("source_refused_commits_total", "Commits that were refused, by reason, since the start.", "source", "reason"),

		runs:    name("runs_total", "Runs that finished, by how they ended.", "verdict"),
		lastRun: name("last_run_timestamp_seconds", "When the last run finished: the heartbeat."),
		success: name("last_run_success", "1 when the last run left the host in the desired state."),
		verdict: name("last_run_verdict", "1 for how the last run ended, 0 for how else it might have.", "verdict"),
		phase:   name("last_run_duration_seconds", "How long each part of the last run took.", "phase"),

		resources: name("resources", "Resources in the last run, by kind and outcome.", "kind", "outcome"),
		outcomes: name("resource_events_total", "Events about resources: what drifted, changed, failed or waits, by kind, cause and outcome.",
			"kind", "cause", "outcome"),

		waiting: name("sink_waiting_events", "Events that a sink has yet to take.", "sink"),
		failing: name("sink_failing", "1 while a sink does not take its events.", "sink"),
		bytes:   name("sink_spool_bytes", "What waits on disk for a receiver.", "sink"),
		limit:   name("sink_spool_limit_bytes", "The most that may wait for it.", "sink"),
		dropped: name("sink_dropped_events_total", "Events that a receiver will never get.", "sink"),
		arrived: name("sink_last_success_timestamp_seconds", "When a receiver last took something.", "sink"),
	}
}

// all returns the descriptions in the order above.
func (f *families) all() []*prometheus.Desc {
	return []*prometheus.Desc{
		f.build, f.started, f.resync, f.suspended, f.owed, f.contested, f.reboot,
		f.unhealthy, f.quarantined, f.unconfirmed, f.pinned,
		f.applied, f.committed, f.newest, f.freshWithin, f.failures, f.refused, f.fetches, f.refusals,
		f.runs, f.lastRun, f.success, f.verdict, f.phase,
		f.resources, f.outcomes,
		f.waiting, f.failing, f.bytes, f.limit, f.dropped, f.arrived,
	}
}

// A page takes the values of one reading.
type page struct {
	*families
	out chan<- prometheus.Metric
}

func (p page) gauge(d *prometheus.Desc, v float64, labels ...string) {
	p.out <- metric(d, prometheus.GaugeValue, v, labels)
}

func (p page) counter(d *prometheus.Desc, v uint64, labels ...string) {
	p.out <- metric(d, prometheus.CounterValue, float64(v), labels)
}

// metric makes one value. Labels may come from a file that the operator wrote:
// what is no text does not spoil the rest.
func metric(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels []string) prometheus.Metric {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "\uFFFD")
	}
	m, err := prometheus.NewConstMetric(d, kind, v, labels...)
	if err != nil {
		return prometheus.NewInvalidMetric(d, err)
	}
	return m
}

// moment leaves out a time that is not known.
func (p page) moment(d *prometheus.Desc, t time.Time, labels ...string) {
	if !t.IsZero() {
		p.gauge(d, float64(t.UnixMilli())/1000, labels...)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (p page) reading(r Reading) {
	p.gauge(p.build, 1, r.Version, runtime.Version())
	p.moment(p.started, r.Started)
	p.gauge(p.resync, r.Resync.Seconds())
	p.gauge(p.suspended, truth(r.Suspended))
	p.gauge(p.owed, float64(r.Owed))
	p.gauge(p.contested, float64(r.Contested))
	p.gauge(p.reboot, truth(r.Reboot))
	p.gauge(p.unhealthy, truth(r.Unhealthy))
	for _, s := range r.Sources {
		p.source(s)
	}
	p.run(r)
	for _, t := range r.Told {
		p.counter(p.outcomes, t.Count, t.Kind, string(t.Cause), t.Outcome)
	}
	for _, s := range r.Sinks {
		p.sink(s)
	}
}

func (p page) source(s Source) {
	if s.Applied != "" {
		p.gauge(p.applied, 1, s.Name, s.Ref, s.Group, s.Applied, s.Signer)
		p.moment(p.committed, s.Committed, s.Name, s.Ref)
	}
	p.moment(p.newest, s.Newest, s.Name)
	if s.FreshWithin > 0 {
		p.gauge(p.freshWithin, s.FreshWithin.Seconds(), s.Name)
	}
	p.gauge(p.failures, float64(s.Failures), s.Name)
	p.gauge(p.refused, truth(s.Refused), s.Name)
	p.gauge(p.quarantined, truth(s.Quarantined), s.Name)
	p.moment(p.unconfirmed, s.Unconfirmed, s.Name)
	p.moment(p.pinned, s.Pinned, s.Name)
	for reason, n := range s.FailedFetches {
		p.counter(p.fetches, n, s.Name, reason)
	}
	for reason, n := range s.RefusedCommits {
		p.counter(p.refusals, n, s.Name, reason)
	}
}

func (p page) run(r Reading) {
	for _, v := range r.Verdicts {
		p.counter(p.runs, r.Runs[v], word(v))
	}
	if r.LastRun == nil {
		return
	}
	p.moment(p.lastRun, r.LastRun.Finished)
	p.gauge(p.success, truth(len(r.Verdicts) > 0 && r.LastRun.Verdict == r.Verdicts[0]))
	for _, v := range r.Verdicts {
		p.gauge(p.verdict, truth(r.LastRun.Verdict == v), word(v))
	}
	for phase, took := range r.LastRun.Phases {
		p.gauge(p.phase, took.Seconds(), phase)
	}
	for _, t := range r.LastRun.Resources {
		p.gauge(p.resources, float64(t.Count), t.Kind, t.Outcome)
	}
}

// word is a verdict as a label has it.
func word(verdict string) string { return strings.ReplaceAll(verdict, " ", "_") }

func (p page) sink(s Sink) {
	p.gauge(p.waiting, float64(s.Waiting), s.Label)
	p.gauge(p.failing, truth(s.Failing), s.Label)
	if s.Spool != nil {
		p.gauge(p.bytes, float64(s.Spool.Bytes), s.Label)
		p.gauge(p.limit, float64(s.Spool.Limit), s.Label)
		p.counter(p.dropped, s.Spool.Dropped, s.Label)
		p.moment(p.arrived, s.Spool.LastSuccess, s.Label)
	}
}
