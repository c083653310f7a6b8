package agent

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"trued.dev/trued/internal/apply"
	"trued.dev/trued/internal/metrics"
	"trued.dev/trued/internal/plan"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/source"
	"trued.dev/trued/internal/state"
)

func outcome(kind, name string, s apply.Status) *apply.Outcome {
	return &apply.Outcome{Step: &plan.Step{Address: resource.Address{Kind: kind, Name: name}}, Status: s}
}

// A run that looked at two resources of six tells of all six.
func TestAPartialRunTalliesWhatItDidNotLookAt(t *testing.T) {
	file := func(name string) resource.Address { return resource.Address{Kind: "file", Name: name} }
	r := &run{
		agent: &Agent{},
		req:   Request{Only: []resource.Address{file("/a"), file("/b")}},
		last: &state.Run{
			Resources: state.Tallies{
				{Kind: "file", Outcome: "failed", Count: 2}, {Kind: "file", Outcome: "in_order", Count: 2},
				{Kind: "unit", Outcome: "applied", Count: 1}, {Kind: "unit", Outcome: "in_order", Count: 1},
			},
			Issues: []state.Issue{{Resource: file("/a"), Outcome: "failed"}, {Resource: file("/c"), Outcome: "failed"}},
		},
	}
	outcomes := []*apply.Outcome{outcome("file", "/a", apply.InOrder), outcome("file", "/b", apply.Repaired)}
	want := state.Tallies{
		{Kind: "file", Outcome: "failed", Count: 1}, {Kind: "file", Outcome: "in_order", Count: 2},
		{Kind: "file", Outcome: "repaired", Count: 1}, {Kind: "unit", Outcome: "in_order", Count: 2},
	}
	if d := cmp.Diff(want, r.tally(outcomes, r.remaining(outcomes))); d != "" {
		t.Errorf("the tally is another (-want +got):\n%s", d)
	}
}

func TestFetchesThatFailAreCountedByReason(t *testing.T) {
	a := &Agent{failures: map[failure]uint64{}}
	denied := &source.Error{Source: "infra", Reason: source.ErrDenied, Err: errors.New("401")}
	for range 3 {
		a.fetchFailed(t.Context(), "infra", denied)
	}
	a.fetchFailed(t.Context(), "infra", errors.New("odd"))
	a.fetchFailed(t.Context(), "other", denied)
	// The end of the daemon is no failure of the source.
	ended, end := context.WithCancel(t.Context())
	end()
	a.fetchFailed(ended, "infra", denied)
	a.fromSource(source.Event{Type: source.EventRefused, Source: "infra"})
	a.fromSource(source.Event{Type: source.EventStale, Source: "infra"})
	fetches, commits := a.failed("infra")
	if d := cmp.Diff(map[string]uint64{"denied": 3, "other": 1}, fetches); d != "" {
		t.Errorf("fetches (-want +got):\n%s", d)
	}
	if d := cmp.Diff(map[string]uint64{"history": 1}, commits); d != "" {
		t.Errorf("commits (-want +got):\n%s", d)
	}
}

// Where nothing is applied there always is a newer commit, and a problem may be
// that of a fetch.
func TestAnUnreachableSourceIsNoRefusedCommit(t *testing.T) {
	known := state.Source{Applied: "a", Attempted: "b", Problem: "cannot fetch"}
	for _, c := range []struct {
		mode     Mode
		failures int
		want     bool
	}{{Enforce, 0, true}, {Enforce, 2, true}, {Observe, 0, true}, {Observe, 2, false}} {
		a := &Agent{config: Config{Mode: c.mode}}
		if got := a.refuses(known, metrics.Source{Failures: c.failures}); got != c.want {
			t.Errorf("%s, %d failures: %v", c.mode, c.failures, got)
		}
	}
	if (&Agent{config: Config{Mode: Enforce}}).refuses(state.Source{Applied: "a", Problem: "cannot fetch"}, metrics.Source{Failures: 1}) {
		t.Error("a source that cannot be fetched is taken for a commit that was refused")
	}
}
