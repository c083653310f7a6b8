package torture_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/report/reporttest"
)

// A tale is what a host has told in its file of events.
type tale struct {
	seen map[string]report.Event
	size int
	// repeats are events that were told again, with the same id.
	repeats int
	last    map[string]uint64 // of each run, its last event
	ended   map[string]bool
}

// read takes what is new. The sinks may have it a moment after the run.
func (s *tale) read(t *testing.T, w *hostWorld, when string) (fresh []report.Event) {
	t.Helper()
	w.until(t, `id=$(trued status -o json | sed -n 's/^    "id": "\(.*\)",/\1/p'); [ -n "$id" ] && grep -F "$id" `+eventFile+` | grep -q '"run\.finished"\|"run\.interrupted"'`)
	text := w.Read(t, eventFile)
	if s.seen == nil {
		s.seen, s.last, s.ended = map[string]report.Event{}, map[string]uint64{}, map[string]bool{}
	}
	for _, e := range reporttest.ValidLines(t, strings.NewReader(text[s.size:])) {
		if before, ok := s.seen[e.ID]; ok {
			s.repeats++
			if fmt.Sprint(before.Time, before.Message) != fmt.Sprint(e.Time, e.Message) {
				t.Errorf("%s: two events have the id %s:\n%s\n%s", when, e.ID, before.Message, e.Message)
			}
			continue
		}
		s.seen[e.ID] = e
		fresh = append(fresh, e)
		s.follow(t, e, when)
	}
	s.size = len(text)
	return fresh
}

func (s *tale) skip(t *testing.T, w *hostWorld) { s.read(t, w, "at the start") }

// follow fails when an event of a run is missing, or follows its end.
func (s *tale) follow(t *testing.T, e report.Event, when string) {
	t.Helper()
	if e.RunID == "" {
		return
	}
	if e.Seq != s.last[e.RunID]+1 {
		t.Errorf("%s: event %d of run %s follows event %d: %s", when, e.Seq, e.RunID, s.last[e.RunID], e.Message)
	}
	if s.ended[e.RunID] {
		t.Errorf("%s: run %s had ended before event %d: %s", when, e.RunID, e.Seq, e.Message)
	}
	s.last[e.RunID] = e.Seq
	s.ended[e.RunID] = e.Type == report.RunFinished || e.Type == report.RunInterrupted
}

// told fails when a change was not told, or more than once, or something that
// was none.
func (w *hostWorld) told(t *testing.T, old *desire, when string) {
	t.Helper()
	fresh := w.tale.read(t, w, when)
	times := map[string]int{}
	var story strings.Builder
	for _, e := range fresh {
		fmt.Fprintf(&story, "%s %s %s %s %s %s\n", e.Time, e.RunID[max(0, len(e.RunID)-6):], e.Type, e.Cause, e.Outcome, e.Message)
		if e.Resource == "" {
			continue
		}
		times[e.Resource]++
		if e.Outcome != report.Applied || e.Cause != "intended" && e.Cause != "prune" {
			t.Errorf("%s: %s is told as %s, %s: %s", when, e.Resource, e.Outcome, e.Cause, e.Message)
		}
	}
	want := map[string]int{}
	for _, address := range changed(old, w.state) {
		want[address] = 1
	}
	wrong := false
	for _, address := range slices.Sorted(maps.Keys(want)) {
		if times[address] != want[address] {
			wrong = true
			t.Errorf("%s: the change of %s is told %d times", when, address, times[address])
		}
	}
	for _, address := range slices.Sorted(maps.Keys(times)) {
		if want[address] == 0 {
			wrong = true
			t.Errorf("%s: %s is told %d times, and was not to change", when, address, times[address])
		}
	}
	if wrong {
		t.Logf("all that was told:\n%s", &story)
	}
}
