package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/report/spool"
	"trued.dev/trued/internal/state"
)

func TestASpoolOutlivesItsSinkForAsLongAsWhatIsInIt(t *testing.T) {
	store, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	a := &Agent{store: store}
	long := time.Now().Add(-spool.UsualAge - time.Hour)
	for name, used := range map[string]time.Time{"kept": long, "gone": long, "young": time.Now()} {
		q, err := spool.Open(t.Context(), filepath.Join(store.Dir(), spoolDir, name), spool.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(q.Close(), os.Chtimes(filepath.Join(store.Dir(), spoolDir, name, "mark"), used, used)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.sweepSpools(map[string]bool{"kept": true}); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(store.Dir(), spoolDir, "*"))
	if err != nil || len(left) != 2 || filepath.Base(left[0]) != "kept" || filepath.Base(left[1]) != "young" {
		t.Errorf("left: %q, %v", left, err)
	}
}

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
