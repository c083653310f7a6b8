package report

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"trued.dev/trued/internal/report/spool"
)

// A Log holds the events that sinks have yet to take. Its methods are called
// from several goroutines.
type Log interface {
	// EventsAfter returns up to max events that come after seq, in order.
	EventsAfter(seq uint64, max int) ([]Stored, error)
	// Newest returns the number of the newest event; 0 when there was none yet.
	Newest() uint64
	// Cursor returns up to where the named sink has taken events; 0 for a
	// sink that is new.
	Cursor(sink string) uint64
	// SetCursor notes, for good, up to where the named sink has taken events.
	SetCursor(sink string, seq uint64) error
}

const (
	// batchSize bounds the memory that a sink takes: an event has at most some
	// 50 KiB.
	batchSize = 64
	// sendTimeout is how long a sink may take over one batch.
	sendTimeout = 30 * time.Second
	// leaveAfter is how long a sink has to heed that its time is over.
	leaveAfter = time.Second
	firstPause = time.Second
	longPause  = 5 * time.Minute
	// longestAsked is how long a receiver may ask to be left alone.
	longestAsked = time.Hour
)

// A Drain delivers the events of a log to sinks: to each in order, at least
// once, and to none later because of another.
type Drain struct {
	log   Log
	lanes []*lane
	hooks Hooks
}

// A Route is a sink, and what goes to it.
type Route struct {
	Sink Sink
	// Label stands for the sink where its receiver is not to be named.
	Label  string
	Filter Filter
	// Spool is the directory where events wait for a sink that is a network
	// away, within the limits. Without one they wait in the log.
	Spool  string
	Limits spool.Limits
}

// Hooks tell of what happens to sinks. Any of them may be nil.
type Hooks struct {
	// Changed is told once when a sink begins to fail, and once with a nil error
	// when it works again.
	Changed func(sink string, err error)
	// Lost returns the event that tells a sink of events that it will never get.
	// It returns the same one for the same loss.
	Lost func(sink string, l spool.Loss) (json.RawMessage, error)
	// Told is told when a sink has taken that event.
	Told func(sink string, l spool.Loss)
}

// NewDrain returns a drain. Sinks of one name have one place in the log, so they
// are one.
func NewDrain(log Log, routes []Route, hooks Hooks) *Drain {
	d := &Drain{log: log, hooks: hooks}
	seen := map[string]bool{}
	for _, r := range routes {
		if seen[r.Sink.Name()] {
			continue
		}
		seen[r.Sink.Name()] = true
		d.lanes = append(d.lanes, &lane{
			Route: r, news: make(chan struct{}, 1), turn: make(chan struct{}, 1), most: batchSize,
		})
	}
	return d
}

// lane is one sink's way out.
type lane struct {
	Route
	// news has an element when there may be something new.
	news chan struct{}
	// turn has an element while somebody delivers.
	turn chan struct{}
	// most is how many events go at once: fewer while the sink is slow. Whoever
	// has the turn may use it.
	most int
	// moved is true when something arrived since the last pause.
	moved atomic.Bool

	mu     sync.Mutex
	failed error
	since  time.Time
}

// Notify says that the log has new events. It never waits.
func (d *Drain) Notify() {
	for _, l := range d.lanes {
		select {
		case l.news <- struct{}{}:
		default:
		}
	}
}

// Run delivers what there is, and then whatever Notify announces, until ctx is
// done. A sink that fails is tried again after a growing pause.
func (d *Drain) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, l := range d.lanes {
		all.Go(func() { d.serve(ctx, l) })
	}
	all.Wait()
}

func (d *Drain) serve(ctx context.Context, l *lane) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = firstPause, longPause
	for {
		if err := d.deliver(ctx, l); err != nil {
			if l.moved.Swap(false) {
				pause.Reset()
			}
			if !d.rest(ctx, l, pauseAfter(err, pause.NextBackOff())) {
				return
			}
			continue
		}
		pause.Reset()
		select {
		case <-ctx.Done():
			return
		case <-l.news:
		}
	}
}

// pauseAfter is how long a sink that failed is left alone: as long as it asked
// for, within reason, and no shorter than planned.
func pauseAfter(err error, planned time.Duration) time.Duration {
	var busy *BusyError
	if errors.As(err, &busy) {
		return max(planned, min(busy.After, longestAsked))
	}
	return planned
}

// rest leaves a sink alone. What happens meanwhile does not hasten it, and goes
// into its spool. It returns false when ctx is done first.
func (d *Drain) rest(ctx context.Context, l *lane, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	news := l.news
	if l.Spool == "" {
		news = nil
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-news:
			d.collect(ctx, l)
		}
	}
}

// Flush tries each sink once, all at the same time, and returns when all are
// done, or soon after ctx is. What a sink did not take stays in the log.
func (d *Drain) Flush(ctx context.Context) error {
	errs := make([]error, len(d.lanes))
	var all sync.WaitGroup
	for i, l := range d.lanes {
		all.Go(func() { errs[i] = d.deliver(ctx, l) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// deliver sends what one sink has not taken yet. A sink that does not heed ctx
// is left behind; nobody else uses it until it comes back.
func (d *Drain) deliver(ctx context.Context, l *lane) error {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	result := make(chan error, 1)
	go func() {
		defer func() { <-l.turn }()
		err := d.deliverAll(ctx, l)
		if ctx.Err() == nil || err == nil {
			d.note(l, err)
		}
		result <- err
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-result:
		return err
	case <-time.After(leaveAfter):
		return fmt.Errorf("sink %q did not take its events in time: %w", l.Sink.Name(), ctx.Err())
	}
}

// deliverAll sends what there is. A sink without a spool is served from the log.
func (d *Drain) deliverAll(ctx context.Context, l *lane) error {
	if l.Spool != "" {
		return d.deliverSpooled(ctx, l)
	}
	return d.deliverDirect(ctx, l)
}

func (d *Drain) deliverDirect(ctx context.Context, l *lane) error {
	name := l.Sink.Name()
	for at := d.log.Cursor(name); ; {
		events, err := d.log.EventsAfter(at, batchSize)
		if err != nil || len(events) == 0 {
			return err
		}
		n, err := sendMatching(ctx, l, events)
		if n > 0 {
			at = events[n-1].Seq
			err = errors.Join(err, d.log.SetCursor(name, at))
		}
		if err != nil {
			return err
		}
	}
}

// sendMatching sends those that the filter lets through, and returns how many of
// all are done with.
func sendMatching(ctx context.Context, l *lane, events []Stored) (int, error) {
	matching, places := l.Filter.pick(events)
	if len(matching) == 0 {
		return len(events), nil
	}
	n, err := send(ctx, l.Sink, matching)
	if n == len(matching) {
		return len(events), err
	}
	return places[n], err
}

func send(ctx context.Context, sink Sink, events []Stored) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	n, err := sink.Send(ctx, events)
	n = max(0, min(n, len(events)))
	if err == nil && n < len(events) {
		err = fmt.Errorf("sink %q took %d of %d events", sink.Name(), n, len(events))
	}
	return n, err
}

// note keeps how the sink stands, and tells of a change.
func (d *Drain) note(l *lane, err error) {
	l.mu.Lock()
	changed := (err == nil) != (l.failed == nil)
	l.failed = err
	if changed {
		l.since = time.Now()
	}
	l.mu.Unlock()
	if changed && d.hooks.Changed != nil {
		d.hooks.Changed(l.Sink.Name(), err)
	}
}

// Test sends one event, made for it, past its spool to each sink, and returns what
// came of it.
func (d *Drain) Test(ctx context.Context, event func(sink string) (json.RawMessage, error)) []TestResult {
	results := make([]TestResult, len(d.lanes))
	var all sync.WaitGroup
	for i, l := range d.lanes {
		all.Go(func() {
			results[i] = TestResult{Name: l.Sink.Name()}
			e, err := event(l.Sink.Name())
			if err == nil {
				_, err = send(ctx, l.Sink, []Stored{{Event: e}})
			}
			if err != nil {
				results[i].Error = err.Error()
			}
		})
	}
	all.Wait()
	return results
}

// A TestResult is what came of a test of a sink; an error that is empty says that
// the event arrived, as far as the sink can tell.
type TestResult struct {
	Name  string `json:"name"`
	Error string `json:"error,omitempty"`
}

// SinkStatus is how a sink stands.
type SinkStatus struct {
	Name   string `json:"name"`
	Label  string `json:"label,omitempty"`
	Cursor uint64 `json:"cursor"`
	// Ahead is how many events the ledger holds that the sink, or its spool, has
	// yet to take.
	Ahead uint64    `json:"ahead"`
	Error string    `json:"error,omitempty"`
	Since time.Time `json:"since,omitzero"`
	// Spool is how its spool stands, for one that has it.
	Spool *spool.Status `json:"spool,omitempty"`
	// Limit is the most bytes that may be in it.
	Limit int64 `json:"limit,omitempty"`
}

// Status tells how each sink stands.
func (d *Drain) Status() []SinkStatus {
	all := make([]SinkStatus, 0, len(d.lanes))
	for _, l := range d.lanes {
		s := SinkStatus{Name: l.Sink.Name(), Label: l.Label, Cursor: d.log.Cursor(l.Sink.Name())}
		if newest := d.log.Newest(); newest > s.Cursor {
			s.Ahead = newest - s.Cursor
		}
		l.mu.Lock()
		if l.failed != nil {
			s.Error, s.Since = l.failed.Error(), l.since
		}
		l.mu.Unlock()
		if l.Spool != "" {
			s.Limit = cmp.Or(l.Limits.Bytes, spool.UsualBytes)
			st, err := spool.Look(l.Spool)
			if s.Spool = &st; err != nil && s.Error == "" {
				s.Error = err.Error()
			}
		}
		all = append(all, s)
	}
	return all
}
