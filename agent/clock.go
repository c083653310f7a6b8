package agent

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"trued.dev/trued/internal/source"
)

// A clock knows when to poll each source and when to run.
type clock struct {
	polls         source.Schedule
	beats         []*beat
	every         time.Duration
	resync, retry time.Time
	// opens is when the next window does that something waits for.
	opens time.Time
}

// A beat is that of one source: one that cannot be reached must not slow down
// the others.
type beat struct {
	name     string
	next     time.Time
	failures int
}

// newClock returns the clock of a daemon that starts now. Sources that were
// never fetched come at once.
func newClock(c Config, unfetched []string) *clock {
	now := time.Now()
	k := &clock{polls: source.Schedule{Interval: c.Interval}, every: c.Resync, resync: now.Add(jitter(c.Resync))}
	for _, s := range c.Sources {
		b := &beat{name: s.Name, next: now}
		if !slices.Contains(unfetched, s.Name) {
			// Hosts that boot together must not poll together.
			b.next = now.Add(k.polls.First())
		}
		k.beats = append(k.beats, b)
	}
	return k
}

// jitter returns the time ±10 %.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration((rand.Float64()-0.5)*0.2*float64(d)) //nolint:gosec // spreading load, not secrets
}

// finished sets the next dates after a piece of work.
func (c *clock) finished(now time.Time, w done, retry time.Time) {
	if w.polled != nil {
		for _, b := range c.beats {
			err, ok := w.polled[b.name]
			switch {
			case ok && err != nil && w.cut:
				b.next = now // it was not the source's fault
			case ok:
				c.polled(now, b, err)
			}
		}
		return
	}
	if w.drift != nil && (w.result == nil || w.result.Partial) {
		c.retry = notPast(now, retry)
		return // everything is checked when it was to be
	}
	if errors.Is(w.err, errNotNow) {
		c.resync, c.retry = now.Add(min(c.every, notNowPause)), time.Time{} // nothing was looked at
		return
	}
	if w.result != nil {
		c.heal(now, w.result.Sources)
	}
	c.resync = now.Add(jitter(c.every))
	c.retry = notPast(now, retry)
}

// notNowPause is how soon a run is tried again that the state of the system forbade.
const notNowPause = time.Minute

// waitFor sets when the next window opens, after a run. When that is past already,
// the run did not take place, and another try has time.
func (c *clock) waitFor(now, opens time.Time) {
	if c.opens = opens; !opens.IsZero() && !opens.After(now) {
		c.opens = now.Add(c.polls.Interval)
	}
}

// notPast returns a date that leaves a moment to breathe; none stays none. A run that
// cannot be recorded, as on a full disk, leaves the date of the next try where it was.
func notPast(now, at time.Time) time.Time {
	if soon := now.Add(time.Second); at.Before(soon) && !at.IsZero() {
		return soon
	}
	return at
}

func (c *clock) polled(now time.Time, b *beat, err error) {
	before := b.failures
	if b.failures = 0; err != nil {
		b.failures = before + 1
	}
	b.next = now.Add(c.polls.After(b.failures, before > 0 && err == nil))
}

// heal ends the long pauses of a source that a run has fetched.
func (c *clock) heal(now time.Time, sources []SourceStatus) {
	for _, b := range c.beats {
		for _, s := range sources {
			if s.Name == b.name && s.Failures == 0 && b.failures > 0 {
				c.polled(now, b, nil)
			}
		}
	}
}

// next returns when each source is polled.
func (c *clock) next() map[string]time.Time {
	all := make(map[string]time.Time, len(c.beats))
	for _, b := range c.beats {
		all[b.name] = b.next
	}
	return all
}

// poll returns when the next source is polled.
func (c *clock) poll() time.Time {
	return earliest(slices.Collect(maps.Values(c.next()))...)
}

// isDue reports whether there is anything to do.
func (c *clock) isDue(now time.Time) bool {
	return !now.Before(earliest(c.poll(), c.resync, c.retry, c.opens))
}

// due returns the trigger of the run that is due, or empty for a poll.
func (c *clock) due(now time.Time) string {
	switch {
	case !c.retry.IsZero() && !now.Before(c.retry):
		return "retry"
	case !c.opens.IsZero() && !now.Before(c.opens):
		return "window"
	case !now.Before(c.resync):
		return "resync"
	}
	return ""
}

// duePolls returns the sources whose turn it is.
func (c *clock) duePolls(now time.Time) []string {
	var names []string
	for _, b := range c.beats {
		if !now.Before(b.next) {
			names = append(names, b.name)
		}
	}
	return names
}

// timer fires when something is due; never while busy.
func (c *clock) timer(busy bool) <-chan time.Time {
	if busy {
		return nil
	}
	return time.After(time.Until(earliest(c.poll(), c.resync, c.retry, c.opens)))
}

func earliest(times ...time.Time) time.Time {
	var first time.Time
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}
