package report_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"trued.dev/trued/internal/report"
)

// draining makes the test's program drain into a directory in place of running
// tests.
const draining = "TRUED_TEST_DRAIN"

func TestMain(m *testing.M) {
	dir := os.Getenv(draining)
	if dir == "" {
		m.Run()
		return
	}
	sink := report.NewFile(filepath.Join(dir, "events.jsonl"))
	if err := report.NewDrain(&diskLog{filepath.Join(dir, "cursor")}, report.Direct(sink), report.Hooks{}).Flush(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// diskLog is a log of numbered events whose cursor is on the disk.
type diskLog struct{ cursor string }

const onDisk = 5_000

func (*diskLog) EventsAfter(seq uint64, limit int) ([]report.Stored, error) {
	var found []report.Stored
	for n := seq + 1; n <= onDisk && len(found) < limit; n++ {
		found = append(found, report.Stored{Seq: n, Event: json.RawMessage(fmt.Sprintf(`{"seq":%d,"message":"%0500d"}`, n, n))})
	}
	return found, nil
}

func (*diskLog) Newest() uint64 { return onDisk }

func (l *diskLog) Cursor(string) uint64 {
	data, err := os.ReadFile(l.cursor)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(string(data), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (l *diskLog) SetCursor(_ string, seq uint64) error {
	tmp := l.cursor + ".new"
	return errors.Join(os.WriteFile(tmp, strconv.AppendUint(nil, seq, 10), 0o600), os.Rename(tmp, l.cursor))
}

func TestADrainThatIsKilledAtAnyTimeLosesNothing(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	kills := 0
	for {
		// On a slow machine each try has longer, lest none gets anywhere.
		life := time.Duration(10+rand.IntN(40)+2*kills) * time.Millisecond
		ctx, cancel := context.WithTimeout(t.Context(), life)
		cmd := exec.CommandContext(ctx, self)
		// The race detector would have it linger for a second when it is done.
		cmd.Env = append(os.Environ(), draining+"="+dir, "GORACE=atexit_sleep_ms=0")
		out, err := cmd.CombinedOutput()
		killed := ctx.Err() != nil
		cancel()
		if err == nil {
			break
		}
		if !killed {
			t.Fatalf("%v: %s", err, out)
		}
		if kills++; kills == 200 {
			t.Fatal("it makes no progress")
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	next, repeats := uint64(1), 0
	for line := range bytes.Lines(data) {
		var e struct{ Seq uint64 }
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("a line is torn: %v: %.100q", err, line)
		}
		switch {
		case e.Seq == next:
			next++
		case e.Seq < next:
			repeats++
		default:
			t.Fatalf("event %d is missing", next)
		}
	}
	if next != onDisk+1 {
		t.Errorf("the last event is %d, want %d", next-1, onDisk)
	}
	t.Logf("killed %d times, %d events came twice", kills, repeats)
}
