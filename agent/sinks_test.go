package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/state"
)

// BenchmarkEventsThroughASpool is what one event costs from the ledger through a
// spool to a receiver that takes it at once.
func BenchmarkEventsThroughASpool(b *testing.B) {
	store, err := state.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	if err := store.Enroll([]string{"taker"}); err != nil {
		b.Fatal(err)
	}
	drain := report.NewDrain(eventLog{store}, []report.Route{{Sink: taker{}, Spool: filepath.Join(b.TempDir(), "spool")}}, report.Hooks{})
	const batch = 1000
	var events []json.RawMessage
	for i := range batch {
		events = append(events, json.RawMessage(fmt.Sprintf(`{"event_id":"%036d","type":"resource.drifted","severity":"warning","message":"%0500d"}`, i, i)))
	}
	n := 0
	for b.Loop() {
		if err := store.Append(state.Record{Events: events}); err != nil {
			b.Fatal(err)
		}
		if err := drain.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := store.Compact(); err != nil {
			b.Fatal(err)
		}
		n += batch
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}

// taker takes everything.
type taker struct{}

func (taker) Name() string { return "taker" }

func (taker) Send(_ context.Context, events []report.Stored) (int, error) { return len(events), nil }
