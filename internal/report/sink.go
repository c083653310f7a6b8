package report

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Stored is an event as the log holds it. Sinks pass on what is stored and not
// what this version knows of it, so that an event written by another version
// arrives whole.
type Stored struct {
	Seq   uint64
	Event json.RawMessage
}

// A Sink takes events away. Send returns how many, from the first on, have
// arrived for good; it is called from one goroutine at a time, and returns when
// ctx is done if it can.
type Sink interface {
	// Name is the key of the sink's place in the log; it stays the same for
	// the same destination.
	Name() string
	Send(ctx context.Context, events []Stored) (n int, err error)
}

// The kinds of sinks that are of this machine.
const (
	KindJournal = "journal"
	KindStdout  = "stdout"
	KindFile    = "file"
)

// A RefusedError says that the receiver will not take the first event that has
// not arrived, whatever it is asked again.
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string { return e.Err.Error() }

func (e *RefusedError) Unwrap() error { return e.Err }

// A BusyError says that the receiver asked to be left alone for a while.
type BusyError struct {
	After time.Duration
	Err   error
}

func (e *BusyError) Error() string { return e.Err.Error() }

func (e *BusyError) Unwrap() error { return e.Err }

// A PartialError says that the receiver is done with all that arrived, but kept
// fewer.
type PartialError struct {
	Lost uint64
	Err  error
}

func (e *PartialError) Error() string { return e.Err.Error() }

func (e *PartialError) Unwrap() error { return e.Err }

// Stdout writes events to standard output.
type Stdout struct {
	w      io.Writer
	asJSON bool
}

// NewStdout returns a sink that writes one line for each event: the event
// itself, or its message.
func NewStdout(w io.Writer, asJSON bool) *Stdout { return &Stdout{w: w, asJSON: asJSON} }

// Name implements Sink.
func (*Stdout) Name() string { return KindStdout }

// Send implements Sink.
func (s *Stdout) Send(ctx context.Context, events []Stored) (int, error) {
	for i, stored := range events {
		if err := ctx.Err(); err != nil {
			return i, err
		}
		if _, err := s.w.Write(append(s.line(stored), '\n')); err != nil {
			return i, fmt.Errorf("cannot report to standard output: %w", err)
		}
	}
	return len(events), nil
}

func (s *Stdout) line(stored Stored) []byte {
	if s.asJSON {
		return compact(stored.Event)
	}
	var e Event
	if err := json.Unmarshal(stored.Event, &e); err != nil {
		return []byte(oneLine(string(stored.Event)))
	}
	const wholeSeconds = len("2006-01-02T15:04:05")
	when := e.Time
	if len(when) > wholeSeconds {
		when = when[:wholeSeconds] + "Z"
	}
	return fmt.Appendf(nil, "%s %-7s %s", when, e.Severity, oneLine(e.Message))
}
