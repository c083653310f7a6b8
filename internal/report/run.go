package report

import (
	"cmp"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Context is what every event says about where it comes from.
type Context struct {
	HostID   string
	HostName string
	Version  string
	Sources  []SourceState

	// Now and NewID are the clock and the source of ids; nil means the real
	// ones.
	Now   func() time.Time
	NewID func() string
}

// A Stream makes events and numbers them. Its methods may be called from
// several goroutines; the order of numbers is that of the calls.
type Stream struct {
	mu      sync.Mutex
	context Context
	runID   string
	seq     uint64
}

// NewStream returns a stream for what happens outside of runs: the agent's own
// events, and those of sources while it polls.
func NewStream(c Context) *Stream {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewID == nil {
		c.NewID = newID
	}
	s := &Stream{context: c}
	s.SetSources(c.Sources...)
	return s
}

// newID returns a UUID of version 7: unique for good, and in order of time.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// SetSources replaces what later events say about the sources.
func (s *Stream) SetSources(sources ...SourceState) {
	clean := make([]SourceState, len(sources))
	for i, src := range sources {
		src.URL = PublicURL(src.URL)
		if src.Attempted == src.Applied {
			src.Attempted = ""
		}
		clean[i] = src
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.context.Sources = clean
}

// stamp completes an event: id, number, time, host. The keys about source and
// repository are those of the named source; events of runs and resources, which
// say what the host is kept true to, have them also when there is but one.
func (s *Stream) stamp(e Event, source string) Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	e.SchemaVersion = SchemaVersion
	e.ID = s.context.NewID()
	e.RunID, e.Seq = s.runID, s.seq
	e.Time = timestamp(s.context.Now())
	e.HostID, e.HostName, e.Version = s.context.HostID, s.context.HostName, s.context.Version
	e.Message = oneLine(e.Message)
	e.Reason = cutTo(public(e.Reason, maxValue), maxValue)
	e.Resource = cutTo(e.Resource, maxName)
	e.ErrorMessage = cutTo(public(e.ErrorMessage, maxError), maxError)
	only := source == "" && s.runID != "" && len(s.context.Sources) == 1
	for _, src := range s.context.Sources {
		if src.Name == source || only {
			e.Source, e.Group, e.URL, e.Branch = src.Name, src.Group, src.URL, src.Branch
			e.Revision, e.Attempted = src.Applied, cmp.Or(e.Attempted, src.Attempted)
			if e.Attempted == e.Revision {
				e.Attempted = ""
			}
			e.Trust = src.Trust
			if e.Type != SourceRefused {
				e.Signer = src.Signer
			}
			if strings.HasPrefix(string(e.Type), "source.") {
				e.Sources = []SourceState{src}
			}
		}
	}
	if e.Source == "" {
		e.Source = source
	}
	if strings.HasPrefix(string(e.Type), "run.") {
		e.Sources = s.context.Sources
	}
	return e
}

// timestamp is RFC 3339 with all nine digits, so that it sorts as text.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000000Z07:00") }

// An Incident is something that happened to a source, the agent or a sink.
type Incident struct {
	Type Type
	// Source is the name of the source that it is about.
	Source string
	// Message is one line for a person.
	Message string
	Reason  string
	Until   time.Time
	// Severity is in place of the one that the type has, where it is given.
	Severity Severity
	// ErrType is the class of Err, one word; empty leaves it to the error.
	ErrType string
	Err     error
	// Commit is the one that it is about, where that is newer than what is known of
	// the source; Signer is who signed it, as far as that is known.
	Commit, Signer string
	// Sink is the sink that it is about, and Dropped how many events it will
	// never get.
	Sink    string
	Dropped uint64
}

// Incident returns the event for something that happened to a source or the
// agent.
func (s *Stream) Incident(i Incident) Event {
	e := Event{
		Type:     i.Type,
		Severity: cmp.Or(i.Severity, incidentSeverity(i.Type)),
		Message:  i.Message,
		Reason:   i.Reason,

		Attempted: i.Commit,
		Signer:    cutTo(public(i.Signer, maxValue), maxValue),
		Sink:      cutTo(public(i.Sink, maxValue), maxValue),
		Dropped:   i.Dropped,
	}
	if !i.Until.IsZero() {
		e.Until = timestamp(i.Until)
	}
	setError(&e, i.ErrType, i.Err)
	if e.Message == "" {
		e.Message = strings.ReplaceAll(string(i.Type), ".", " ")
		if i.Source != "" {
			e.Message = fmt.Sprintf("source %q %s", i.Source, strings.TrimPrefix(string(i.Type), "source."))
		}
	}
	if first, _, _ := strings.Cut(e.ErrorMessage, "\n"); first != "" && !strings.Contains(e.Message, first) {
		e.Message += ": " + firstLine(e.ErrorMessage)
	}
	return s.stamp(e, i.Source)
}

// firstLine is what a message of one line says of an error of many.
func firstLine(s string) string {
	line, rest, more := strings.Cut(s, "\n")
	if !more {
		return s
	}
	return fmt.Sprintf("%s (and %d more)", line, strings.Count(rest, "\n")+1)
}

func incidentSeverity(t Type) Severity {
	switch t {
	case SourceRefused, ConfigRefused, CommitQuarantined, HealthFailed:
		return Error
	case SourceUnreachable, SourceStale, RunInterrupted, ReportDropped, WatchLimited, RebootRequired, RebootBegun:
		return Warning
	case SourceRepaired, SourceRecovered, AgentSuspended, AgentResumed,
		CommitReleased, CommitPinned, CommitUnpinned, HealthRecovered:
		return Notice
	default:
		return Info
	}
}

func setError(e *Event, class string, err error) {
	if err == nil {
		return
	}
	e.ErrorType, e.ErrorMessage = class, err.Error()
	if e.ErrorType == "" {
		e.ErrorType = errorType(err)
	}
}

// A Run is the stream of one run.
type Run struct {
	*Stream
	// Partial is true for a run that looks at a few resources alone.
	Partial bool
}

// NewRun returns the stream of a new run.
func NewRun(c Context) *Run {
	s := NewStream(c)
	return ContinueRun(s.context, s.context.NewID(), 0)
}

// ContinueRun returns the stream of a run that was cut off after its event
// number seq, so that what is still to be said about it has its id.
func ContinueRun(c Context, runID string, seq uint64) *Run {
	s := NewStream(c)
	s.runID, s.seq = runID, seq
	return &Run{Stream: s}
}

// ID is the run's id.
func (r *Run) ID() string { return r.runID }

// Seq is the number of the last event.
func (r *Run) Seq() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seq
}

// Started returns the event that opens a run. The reason is what caused it: a
// new commit, drift, resync, boot, sync, apply.
func (r *Run) Started(reason string) Event {
	return r.stamp(Event{
		Type:     RunStarted,
		Severity: Info,
		Message:  "run started: " + reason,
		Reason:   reason,
		Partial:  r.Partial,
	}, "")
}

// Interrupted returns the event for a run that was cut off. The reason says
// what it was in the middle of.
func (r *Run) Interrupted(reason string) Event {
	return r.stamp(Event{
		Type:     RunInterrupted,
		Severity: Warning,
		Message:  "a run was cut off: " + reason,
		Reason:   reason,
	}, "")
}

// A Result is how a run ended.
type Result struct {
	Counts   Counts
	Duration time.Duration
	ExitCode int
	// Message is put before the counts: what kept the run from its end, or
	// from the newest commit.
	Message string
	// ErrType is the class of Err, one word; empty leaves it to the error.
	ErrType string
	Err     error
}

// Finished returns the event that closes a run.
func (r *Run) Finished(res Result) Event {
	ms, code, counts := res.Duration.Milliseconds(), res.ExitCode, res.Counts
	e := Event{
		Type:       RunFinished,
		Severity:   runSeverity(code),
		DurationMS: &ms,
		ExitCode:   &code,
		Counts:     &counts,
		Partial:    r.Partial,
	}
	setError(&e, res.ErrType, res.Err)
	message := fmt.Sprintf("run finished in %s: %s", res.Duration.Round(time.Millisecond), counts)
	if res.Message != "" {
		message += "; " + res.Message
	}
	if e.ErrorMessage != "" {
		message += "; " + firstLine(e.ErrorMessage)
	}
	e.Message = message
	return r.stamp(e, "")
}

// runSeverity follows the exit codes: 2 differences not applied, 3 a resource
// failed, 4 the newest commit not used, 1 and the rest nothing could be done.
func runSeverity(code int) Severity {
	switch code {
	case 0:
		return Info
	case 2, 4, 5, 6:
		return Warning
	default:
		return Error
	}
}

// String names the outcomes that there are: "12 in order, 1 failed".
func (c Counts) String() string {
	var parts []string
	for _, p := range []struct {
		n    int
		word string
	}{
		{c.InOrder, "in order"}, {c.Applied, "applied"}, {c.Repaired, "repaired"}, {c.Reported, "reported"}, {c.Held, "held"},
		{c.Pending, "pending"}, {c.Failed, "failed"}, {c.Skipped, "skipped"},
	} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.word))
		}
	}
	if len(parts) == 0 {
		return "no resources"
	}
	return strings.Join(parts, ", ")
}
