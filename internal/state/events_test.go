package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Whoever reads events in parts gets what there is, across compactions and
// wherever the parts begin.
func TestEventsAreReadInParts(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Enroll([]string{"slow"}); err != nil {
		t.Fatal(err)
	}
	total := uint64(0)
	grow := func(records int) {
		for range records {
			r := Record{}
			for range 1 + rand.IntN(5) {
				total++
				r.Events = append(r.Events, json.RawMessage(fmt.Sprintf(`{"n":%d,"pad":"%0300d"}`, total, 0)))
			}
			if err := s.Append(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(from uint64, limit int) uint64 {
		t.Helper()
		found, err := s.EventsAfter(from, limit)
		if err != nil || len(found) != min(limit, int(total-from)) {
			t.Fatalf("%d events after %d, %v", len(found), from, err)
		}
		for i, e := range found {
			if want := from + uint64(i) + 1; e.Seq != want || !strings.HasPrefix(string(e.Event), fmt.Sprintf(`{"n":%d,`, want)) {
				t.Fatalf("after %d: event %d is %.20s", from, e.Seq, e.Event)
			}
		}
		return from + uint64(len(found))
	}
	for taken := uint64(0); taken < 1000; {
		grow(20)
		taken = check(taken, 1+rand.IntN(100))
		if rand.IntN(3) == 0 {
			check(taken+uint64(rand.IntN(int(total-taken)+1)), 7)
		}
		if rand.IntN(10) == 0 {
			if err := errors.Join(s.SetCursor("slow", taken), s.Compact()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The daemon delivers to one sink while a command delivers to another.
func TestCursorsOfTwoProcessesBothStay(t *testing.T) {
	dir := t.TempDir()
	const turns = 300
	var both sync.WaitGroup
	for _, sink := range []string{"a", "b"} {
		s, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		both.Go(func() {
			for seq := range uint64(turns) {
				if err := s.SetCursor(sink, seq+1); err != nil {
					t.Error(err)
					return
				}
				if got := s.Cursor(sink); got != seq+1 {
					t.Errorf("the cursor of %s is %d after it was set to %d", sink, got, seq+1)
					return
				}
			}
		})
	}
	both.Wait()
}

// What a power cut made of the places must not have events skipped that wait.
func TestWherePlacesCannotBeReadEventsComeOnceMore(t *testing.T) {
	for what, damaged := range map[string]string{"empty": "", "cut off": `{"journal": 1`, "zeros": "\x00\x00\x00\x00"} {
		dir := t.TempDir()
		s, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := errors.Join(s.Enroll([]string{"journal"}), s.Append(Record{Events: []json.RawMessage{json.RawMessage(`{"n":1}`)}})); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, cursorFile), []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Enroll([]string{"journal"}); err != nil {
			t.Fatal(err)
		}
		if events, err := s.EventsAfter(s.Cursor("journal"), 10); err != nil || len(events) != 1 {
			t.Errorf("%s: %d events wait, %v", what, len(events), err)
		}
		if err := s.SetCursor("journal", 1); err != nil || s.Cursor("journal") != 1 {
			t.Errorf("%s: the place is %d, %v", what, s.Cursor("journal"), err)
		}
	}
}
