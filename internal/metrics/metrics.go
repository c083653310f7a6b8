// Package metrics tells a Prometheus how the host stands: over a socket of this
// machine, and in a file for the node exporter.
//
// It is given what is known, as plain data, each time that somebody asks, and
// keeps none of it. It decides nothing and looks at nothing by itself. Its labels
// have few values: never an address of a resource, a path or a receiver.
package metrics

import (
	"time"

	"trued.dev/trued/internal/state"
)

// A Reading is what is known of a host at one moment.
type Reading struct {
	Version string
	// Started is when the program started, or read its configuration last.
	Started time.Time
	// Resync is the longest time between two runs.
	Resync    time.Duration
	Suspended bool
	// Unhealthy is true while the host is not healthy and goes nowhere.
	Unhealthy bool
	// Owed counts the reactions that are, Contested the resources that somebody
	// changes as often as they are put back.
	Owed, Contested int
	// Reboot is true while one is asked for.
	Reboot bool
	// LastRun is the run that finished last; nil before the first.
	LastRun *state.Run
	// Verdicts are all that a run may end with; Runs counts those that did, and
	// Told the events about resources, since the state was made.
	Verdicts []string
	Runs     map[string]uint64
	Told     state.Tallies
	Sources  []Source
	Sinks    []Sink
}

// A Source is how a source stands.
type Source struct {
	Name, Group string
	// Ref is what the configuration follows: a branch, a tag or a pattern of one, a
	// commit; empty for the server's default branch.
	Ref string
	// Applied is the revision that the host was brought to, Committed when that
	// came to be, zero for a directory, and Signer who is known to have signed it.
	Applied   string
	Committed time.Time
	Signer    string
	// Newest is when the newest commit came to be that the host has accepted, zero for
	// a directory; FreshWithin how old that may become, zero for ever.
	Newest      time.Time
	FreshWithin time.Duration
	// Failures counts the fetches that failed in a row, up to now.
	Failures int
	// Refused is true while the newest commit is not used for what is in it.
	Refused bool
	// Quarantined is true while the newest commit, or the one that it is pinned to, is
	// not used since the host was not healthy with it, or an operator said so.
	Quarantined bool
	// Unconfirmed is since when a commit is on trial, Pinned since when the source is
	// kept at one; zero while none is.
	Unconfirmed, Pinned time.Time
	// FailedFetches and RefusedCommits count by reason, since Started.
	FailedFetches, RefusedCommits map[string]uint64
}

// A Sink is how a sink stands.
type Sink struct {
	// Label is its kind, or the operator's name for it.
	Label string
	// Waiting is how many events have not arrived.
	Waiting uint64
	Failing bool
	// Spool is that of a receiver; nil for a sink of this machine.
	Spool *Spool
}

// A Spool is what waits on disk for a receiver.
type Spool struct {
	Bytes, Limit int64
	// Dropped counts the events that will never arrive.
	Dropped     uint64
	LastSuccess time.Time
}
