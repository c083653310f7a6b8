package report

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
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

// The words for sinks in the configuration.
const (
	KindJournal = "journal"
	KindStdout  = "stdout"
	KindFile    = "file"
)

// SinkConfig is one item of `report` in the agent's configuration: a plain word,
// or a map from the kind to where it goes.
type SinkConfig struct {
	// Kind is a word given alone: journal or stdout.
	Kind string `yaml:"-"`
	// File is the path of a JSON-lines file.
	File string `yaml:"file" doc:"path of a file that takes one JSON object a line"`
}

// UnmarshalText takes a plain word.
func (c *SinkConfig) UnmarshalText(text []byte) error {
	switch word := string(text); word {
	case KindJournal, KindStdout:
		c.Kind = word
		return nil
	case KindFile:
		return fmt.Errorf("the sink %q needs a path: write file: /var/log/trued/events.jsonl", word)
	default:
		return fmt.Errorf("unknown sink %q: write %s, %s, or file: with a path", word, KindJournal, KindStdout)
	}
}

// Validate reports what is wrong with the item.
func (c SinkConfig) Validate() error {
	switch {
	case c.Kind == "" && c.File == "":
		return fmt.Errorf("a sink is %s, %s, or file: with a path", KindJournal, KindStdout)
	case c.File != "" && c.File[0] != '/':
		return fmt.Errorf("file %q is not an absolute path", c.File)
	default:
		return nil
	}
}

// Open returns the sink. Standard output is handed in, with whether it takes
// JSON or lines for a person.
func (c SinkConfig) Open(stdout io.Writer, asJSON bool) (Sink, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	switch {
	case c.File != "":
		return NewFile(c.File), nil
	case c.Kind == KindJournal:
		return NewJournal(), nil
	default:
		return NewStdout(stdout, asJSON), nil
	}
}

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
