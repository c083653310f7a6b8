// Package report is what leaves the host: the events of runs, of sources and of
// the agent, and the sinks that take them away.
//
// It turns outcomes, given as plain data, into events, and delivers events that
// a log holds. It decides nothing, changes nothing that is managed, and knows
// the engine and the ledger only through data and the interface Log.
package report

import "time"

// SchemaVersion is the version of the events' form. It changes when a key
// changes its meaning or goes, not when one is added.
const SchemaVersion = "1"

//go:generate go run ./schemagen ../../packaging/schema/event.schema.json

// SchemaID is the address that the events' schema goes by.
const SchemaID = "https://trued.dev/schema/event-" + SchemaVersion + ".json"

// A Type says what an event is about.
type Type string

// The types of events.
const (
	RunStarted     Type = "run.started"
	RunFinished    Type = "run.finished"
	RunInterrupted Type = "run.interrupted"

	ResourceChanged Type = "resource.changed"
	ResourceDrifted Type = "resource.drifted"
	ResourcePending Type = "resource.pending"
	ResourceFailed  Type = "resource.failed"
	ResourceSkipped Type = "resource.skipped"
	// ResourceContested: it was put back several times in a short while, and the
	// next time comes after a pause; ResourceCalmed: that is over.
	ResourceContested Type = "resource.contested"
	ResourceCalmed    Type = "resource.calmed"

	SourceUpdated     Type = "source.updated"
	SourceRefused     Type = "source.refused"
	SourceRepaired    Type = "source.repaired"
	SourceStale       Type = "source.stale"
	SourceUnreachable Type = "source.unreachable"
	SourceRecovered   Type = "source.recovered"

	// CommitConfirmed: the host is healthy with it; CommitQuarantined: it is not,
	// and the host goes back.
	CommitConfirmed   Type = "commit.confirmed"
	CommitQuarantined Type = "commit.quarantined"
	// CommitReleased: an operator has it tried again; CommitPinned: the host stays
	// at it, until CommitUnpinned.
	CommitReleased Type = "commit.released"
	CommitPinned   Type = "commit.pinned"
	CommitUnpinned Type = "commit.unpinned"

	// HealthFailed: the host is not healthy and stays where it is.
	HealthFailed    Type = "health.failed"
	HealthRecovered Type = "health.recovered"

	AgentStarted   Type = "agent.started"
	AgentStopped   Type = "agent.stopped"
	AgentSuspended Type = "agent.suspended"
	AgentResumed   Type = "agent.resumed"

	ConfigLoaded  Type = "config.loaded"
	ConfigRefused Type = "config.refused"

	// WatchLimited: not all that should be can be watched.
	WatchLimited Type = "watch.limited"

	// RebootRequired: something that was installed asks for a reboot; RebootBegun:
	// trued makes it.
	RebootRequired Type = "reboot.required"
	RebootBegun    Type = "reboot.begun"

	ReportTested  Type = "report.tested"
	ReportDropped Type = "report.dropped"
)

// Types lists every type of event.
func Types() []Type {
	return []Type{
		RunStarted, RunFinished, RunInterrupted,
		ResourceChanged, ResourceDrifted, ResourcePending, ResourceFailed, ResourceSkipped,
		ResourceContested, ResourceCalmed,
		SourceUpdated, SourceRefused, SourceRepaired, SourceStale, SourceUnreachable, SourceRecovered,
		CommitConfirmed, CommitQuarantined, CommitReleased, CommitPinned, CommitUnpinned,
		HealthFailed, HealthRecovered,
		AgentStarted, AgentStopped, AgentSuspended, AgentResumed,
		ConfigLoaded, ConfigRefused, WatchLimited,
		RebootRequired, RebootBegun,
		ReportTested, ReportDropped,
	}
}

// Severity says how much an event asks for attention.
type Severity string

// The severities, which are named like those of syslog.
const (
	Info    Severity = "info"
	Notice  Severity = "notice"
	Warning Severity = "warning"
	Error   Severity = "error"
)

// Severities lists every severity, the least first.
func Severities() []Severity { return []Severity{Info, Notice, Warning, Error} }

// Outcome is what came of a resource.
type Outcome string

// The outcomes. InOrder makes no event and is only counted.
const (
	InOrder  Outcome = "in_order"
	Applied  Outcome = "applied"
	Repaired Outcome = "repaired"
	Reported Outcome = "reported"
	Held     Outcome = "held"
	Pending  Outcome = "pending"
	Failed   Outcome = "failed"
	Skipped  Outcome = "skipped"
)

// Outcomes lists every outcome that an event can have.
func Outcomes() []Outcome {
	return []Outcome{Applied, Repaired, Reported, Held, Pending, Failed, Skipped}
}

// An Event is one thing that happened, as one flat JSON object.
type Event struct {
	SchemaVersion string   `json:"schema_version" jsonschema:"required" jsonschema_description:"version of this form"`
	ID            string   `json:"event_id" jsonschema:"required,minLength=1" jsonschema_description:"unique for good; a repeat carries the same"`
	RunID         string   `json:"run_id,omitempty" jsonschema_description:"the run that the event belongs to"`
	Seq           uint64   `json:"seq" jsonschema:"required,minimum=1" jsonschema_description:"counts within a run; outside of one, within the life of the agent's process"`
	Time          string   `json:"time" jsonschema:"required,format=date-time" jsonschema_description:"RFC 3339 with nanoseconds, in UTC"`
	Type          Type     `json:"type" jsonschema:"required" jsonschema_description:"what the event is about"`
	Severity      Severity `json:"severity" jsonschema:"required" jsonschema_description:"how much it asks for attention"`
	Message       string   `json:"message" jsonschema:"required,minLength=1" jsonschema_description:"one line for a person"`

	HostID   string `json:"host.id" jsonschema:"required" jsonschema_description:"machine id"`
	HostName string `json:"host.name" jsonschema:"required" jsonschema_description:"name of the host"`
	Version  string `json:"trued.version" jsonschema:"required" jsonschema_description:"version of the agent"`

	Source    string        `json:"trued.source,omitempty" jsonschema_description:"name of the source"`
	Group     string        `json:"trued.group,omitempty" jsonschema_description:"the host's group in the source"`
	URL       string        `json:"vcs.repository.url.full,omitempty" jsonschema_description:"the source's repository, without credentials"`
	Branch    string        `json:"vcs.ref.head.name,omitempty" jsonschema_description:"the branch"`
	Revision  string        `json:"vcs.ref.head.revision,omitempty" jsonschema_description:"the commit applied"`
	Attempted string        `json:"trued.revision.attempted,omitempty" jsonschema_description:"the newest commit seen, when it is another"`
	Signer    string        `json:"trued.signer,omitempty" jsonschema_description:"who signed the commit applied; on source.refused: who signed the one refused, as far as that is known"`
	Trust     string        `json:"trued.trust,omitempty" jsonschema:"enum=none,enum=signature,enum=history" jsonschema_description:"what was required of the commit applied: no signature, its own, or that of everything since the last trusted one"`
	Sources   []SourceState `json:"trued.sources,omitempty" jsonschema_description:"on events of runs: every source; on those of a source: how that one stands"`

	Reason  string `json:"trued.reason,omitempty" jsonschema_description:"why a run started, or convergence was suspended"`
	Partial bool   `json:"trued.partial,omitempty" jsonschema_description:"on events of runs: true when the run looked only at what something had happened to; its counts are of that, its exit code is that of the host all the same"`
	Until   string `json:"trued.until,omitempty" jsonschema:"format=date-time" jsonschema_description:"when a suspension ends"`

	Resource   string   `json:"trued.resource,omitempty" jsonschema_description:"address of the resource"`
	Kind       string   `json:"trued.resource.kind,omitempty" jsonschema_description:"kind of the resource"`
	Cause      string   `json:"trued.cause,omitempty" jsonschema:"enum=intended,enum=drift,enum=prune,enum=rollback" jsonschema_description:"why the resource changes"`
	Outcome    Outcome  `json:"trued.outcome,omitempty" jsonschema_description:"what came of it"`
	Reaction   string   `json:"trued.reaction,omitempty" jsonschema_description:"what was done because something else changed: restart, reload, run"`
	DurationMS *int64   `json:"trued.duration_ms,omitempty" jsonschema:"minimum=0" jsonschema_description:"how long it took, in milliseconds"`
	Changes    []Change `json:"trued.changes,omitempty" jsonschema_description:"what differed"`
	// Omitted is not below trued.changes, which is a list.
	Omitted int `json:"trued.changes_omitted,omitempty" jsonschema:"minimum=1" jsonschema_description:"how many changes were left off for their size"`

	// The hint of who did it. It hangs on one key, trued.culprit, and is not below
	// it, since that is text.
	Culprit           string `json:"trued.culprit,omitempty" jsonschema_description:"on drift: a hint of who did it, one line for a person"`
	CulpritAction     string `json:"trued.culprit_action,omitempty" jsonschema_description:"on drift: a hint of what was done: edited, removed, stopped"`
	CulpritTime       string `json:"trued.culprit_time,omitempty" jsonschema:"format=date-time" jsonschema_description:"when that was"`
	CulpritLogin      string `json:"trued.culprit_login,omitempty" jsonschema_description:"who logged in, or stands behind sudo, where that is known"`
	CulpritUnit       string `json:"trued.culprit_unit,omitempty" jsonschema_description:"the systemd unit that the process was of"`
	ProcessPID        int    `json:"process.pid,omitempty" jsonschema:"minimum=1" jsonschema_description:"on drift: a hint of the process that did it"`
	ProcessExecutable string `json:"process.executable.path,omitempty" jsonschema_description:"its program's path"`
	ProcessName       string `json:"process.executable.name,omitempty" jsonschema_description:"its program's name"`
	ProcessUser       string `json:"process.user.name,omitempty" jsonschema_description:"whom it ran as"`

	ErrorType    string `json:"error.type,omitempty" jsonschema_description:"class of the error, one word"`
	ErrorMessage string `json:"error.message,omitempty" jsonschema_description:"the error in full, as far as its bound allows"`

	Sink    string `json:"trued.sink,omitempty" jsonschema_description:"on events of the report: the sink that it is about"`
	Dropped uint64 `json:"trued.dropped,omitempty" jsonschema:"minimum=1" jsonschema_description:"how many events the sink will never get"`

	ExitCode *int `json:"trued.exit_code,omitempty" jsonschema:"minimum=0" jsonschema_description:"on run.finished: what the command would exit with"`
	*Counts
}

// Counts are resources by outcome, on run.finished.
type Counts struct {
	Total    int `json:"trued.counts.total" jsonschema:"minimum=0"`
	InOrder  int `json:"trued.counts.in_order" jsonschema:"minimum=0"`
	Applied  int `json:"trued.counts.applied" jsonschema:"minimum=0"`
	Repaired int `json:"trued.counts.repaired" jsonschema:"minimum=0"`
	Reported int `json:"trued.counts.reported" jsonschema:"minimum=0"`
	Held     int `json:"trued.counts.held" jsonschema:"minimum=0"`
	Pending  int `json:"trued.counts.pending" jsonschema:"minimum=0"`
	Failed   int `json:"trued.counts.failed" jsonschema:"minimum=0"`
	Skipped  int `json:"trued.counts.skipped" jsonschema:"minimum=0"`
}

// Add counts one resource.
func (c *Counts) Add(o Outcome) {
	c.Total++
	switch o {
	case InOrder:
		c.InOrder++
	case Applied:
		c.Applied++
	case Repaired:
		c.Repaired++
	case Reported:
		c.Reported++
	case Held:
		c.Held++
	case Pending:
		c.Pending++
	case Failed:
		c.Failed++
	case Skipped:
		c.Skipped++
	}
}

// A Change is one attribute that differed. Values are cut to a bound, and blank
// when they are sensitive.
type Change struct {
	Field    string `json:"field" jsonschema:"required"`
	Old      string `json:"old,omitempty"`
	New      string `json:"new,omitempty"`
	Unified  string `json:"unified,omitempty" jsonschema_description:"a unified diff of text"`
	Cause    string `json:"cause,omitempty" jsonschema:"enum=intended,enum=drift,enum=prune,enum=rollback" jsonschema_description:"where it is another than the resource's"`
	Redacted bool   `json:"redacted,omitempty" jsonschema_description:"the values are sensitive"`
	Cut      bool   `json:"cut,omitempty" jsonschema_description:"a value was longer"`
}

// A SourceState is how a source stands.
type SourceState struct {
	Name      string `json:"name" jsonschema:"required"`
	Group     string `json:"group,omitempty"`
	URL       string `json:"url,omitempty" jsonschema_description:"without credentials"`
	Branch    string `json:"branch,omitempty"`
	Applied   string `json:"applied,omitempty" jsonschema_description:"the commit applied"`
	Attempted string `json:"attempted,omitempty" jsonschema_description:"the newest commit seen, when it is another"`
	Author    string `json:"author,omitempty" jsonschema_description:"who wrote the newest commit"`
	Signer    string `json:"signer,omitempty" jsonschema_description:"who signed the commit applied"`
	Trust     string `json:"trust,omitempty" jsonschema:"enum=none,enum=signature,enum=history" jsonschema_description:"what was required of it"`
	Date      string `json:"date,omitempty" jsonschema:"format=date-time" jsonschema_description:"when that was"`
	Checked   string `json:"checked,omitempty" jsonschema:"format=date-time" jsonschema_description:"when it was last fetched, or tried"`
	Moved     string `json:"moved,omitempty" jsonschema:"format=date-time" jsonschema_description:"when it last had a new commit"`
	Failed    string `json:"failed,omitempty" jsonschema:"format=date-time" jsonschema_description:"when fetching last failed"`
	Failures  int    `json:"failures,omitempty" jsonschema:"minimum=1" jsonschema_description:"how often in a row it failed, up to now"`
	Next      string `json:"next,omitempty" jsonschema:"format=date-time" jsonschema_description:"when it is tried next"`
}

// Timestamp is a time as events have it, empty for none.
func Timestamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return timestamp(t)
}
