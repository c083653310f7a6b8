// Package sinktest is what every sink that is a network away must hold to,
// whatever goes wrong at the receiver: one suite for all of them.
package sinktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"trued.dev/trued/internal/report"
)

// A Kind is a sink and the receiver that speaks its protocol.
type Kind struct {
	// Sink returns the sink that sends to an address, host and port.
	Sink func(t *testing.T, addr string) report.Sink
	// Serve serves connections until the listener is closed. It calls took with
	// the id of each event that it has taken for good.
	Serve func(l net.Listener, r *Receiver)
	// Answers is true when the protocol has words for "later": Serve asks the
	// receiver for Refusal.
	Answers bool
}

// sample is how many events pass a receiver that fails all the time; all of them
// with TORTURE=full.
func sample() int {
	if os.Getenv("TORTURE") == "full" {
		return 10_000
	}
	return 600
}

// Run runs the suite.
func Run(t *testing.T, k Kind) {
	t.Run("nothing is wrong", func(t *testing.T) {
		r := start(t, k)
		deliver(t, k, r, events(200))
		if n := r.repeats(); n != 0 {
			t.Errorf("%d events came twice", n)
		}
	})
	for _, f := range faults(k) {
		t.Run(f.name, func(t *testing.T) {
			r := start(t, k)
			sink, all := k.Sink(t, r.addr), events(150)
			sent := attempt(t, sink, r, all, 40) // it worked before
			r.harm(t, f)
			ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
			n, err := sink.Send(ctx, all[sent:])
			cancel()
			if err == nil {
				t.Error("no error")
			}
			r.hasAll(t, all[sent:sent+n])
			r.harm(t, fault{})
			rest := all[sent+n:]
			for len(rest) > 0 {
				rest = rest[attempt(t, sink, r, rest, 64):]
			}
			r.check(t, len(all))
		})
	}
	t.Run("all of it at random", func(t *testing.T) {
		r, n := start(t, k), sample()
		stop := r.chaos(t, faults(k))
		deliver(t, k, r, events(n))
		stop()
	})
	t.Run("it gives up with its context", func(t *testing.T) {
		r := start(t, k)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if n, err := k.Sink(t, r.addr).Send(ctx, events(10)); n != 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("Send = %d, %v", n, err)
		}
	})
	t.Run("what is no event stops nothing", func(t *testing.T) {
		r := start(t, k)
		odd := []report.Stored{{Seq: 1, Event: json.RawMessage("{\"half\": \n")}, {Seq: 2}, {Seq: 3, Event: json.RawMessage(`[1,{"a":"b"}]`)}}
		for i := range odd {
			var refused *report.RefusedError
			n, err := k.Sink(t, r.addr).Send(t.Context(), odd[i:i+1])
			if n != 1 && !errors.As(err, &refused) {
				t.Errorf("%q: %d, %v", odd[i].Event, n, err)
			}
		}
	})
}

// attempt sends at most that many of the events once, and returns how many have
// arrived. Those that the sink says have arrived must be there.
func attempt(t *testing.T, sink report.Sink, r *Receiver, all []report.Stored, most int) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	batch := all[:min(most, len(all))]
	n, err := sink.Send(ctx, batch)
	if n < 0 || n > len(batch) || err == nil && n != len(batch) {
		t.Fatalf("Send = %d of %d, %v", n, len(batch), err)
	}
	r.hasAll(t, batch[:n])
	return n
}

// patience is how long one batch may take while the receiver fails at random:
// some of what it does is to say nothing.
const patience = 2 * time.Second

// deliver sends until all have arrived.
func deliver(t *testing.T, k Kind, r *Receiver, all []report.Stored) {
	t.Helper()
	sink, rest := k.Sink(t, r.addr), all
	for deadline := time.Now().Add(5 * time.Minute); len(rest) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d events did not arrive in five minutes", len(rest), len(all))
		}
		rest = rest[attempt(t, sink, r, rest, 1+rand.IntN(64)):]
	}
	r.check(t, len(all))
}

// events are some events, numbered from 1.
func events(n int) []report.Stored {
	at, seq := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC), 0
	s := report.NewRun(report.Context{
		HostID: "2f1c7a52b9e04f3c8a6d0e1b5c947d38", HostName: "web-1", Version: "1.0.0",
		Now:     func() time.Time { at = at.Add(time.Millisecond); return at },
		NewID:   func() string { seq++; return id(seq - 1) },
		Sources: []report.SourceState{{Name: "infra", Group: "groups/web", URL: "https://git.example.com/infra.git", Branch: "main", Applied: "9a8b7c6d5e4f30211203f4e5d6c7b8a99a8b7c6d"}},
	})
	all := make([]report.Stored, n)
	for i := range all {
		raw, err := json.Marshal(s.Started(fmt.Sprintf("event %d", i+1)))
		if err != nil {
			panic(err)
		}
		all[i] = report.Stored{Seq: uint64(i + 1), Event: raw}
	}
	return all
}

// id is the id of the event numbered n.
func id(n int) string { return fmt.Sprintf("event-%06d", n) }
