package source

import (
	"math"
	"math/rand/v2"
	"time"
)

// A Schedule says when to poll, so that the polls of many hosts that start
// together, or see the server come back together, spread evenly.
type Schedule struct {
	Interval time.Duration
	// Longest is the longest pause after failures; zero is 15 minutes.
	Longest time.Duration
	// Random returns a number from [0, 1); nil is a source of its own.
	Random func() float64
}

const jitter = 0.1

func (s Schedule) random() float64 {
	if s.Random == nil {
		return rand.Float64() //nolint:gosec // no secret
	}
	return s.Random()
}

// First returns the pause between a start and the first poll: what is left of
// a pause in whose middle somebody starts to look. Hosts that start together
// are from the first second on as if they had been polling for ever.
func (s Schedule) First() time.Duration {
	// The pause that one falls into is longer than the average one, in
	// proportion to its length.
	const low, high = 1 - jitter, 1 + jitter
	pause := math.Sqrt(low*low + s.random()*(high*high-low*low))
	return time.Duration(s.random() * pause * float64(s.Interval))
}

// After returns the pause after a poll. failures counts those in a row,
// recovered says that this poll ended such a row.
func (s Schedule) After(failures int, recovered bool) time.Duration {
	switch {
	case recovered:
		return s.First()
	case failures == 0:
		return time.Duration((1 - jitter + 2*jitter*s.random()) * float64(s.Interval))
	}
	longest := s.Longest
	if longest == 0 {
		longest = 15 * time.Minute
	}
	pause := max(longest, s.Interval)
	if doubled := float64(s.Interval) * math.Pow(2, float64(failures)); doubled < float64(pause) {
		pause = time.Duration(doubled)
	}
	return time.Duration((0.5 + 0.5*s.random()) * float64(pause))
}
