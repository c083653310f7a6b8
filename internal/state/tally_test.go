package state

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is counted is there after a restart, also from the ledger alone, and
// whoever had it before keeps what he had.
func TestCountsGoOnAfterARestart(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	told := Tallies{{Kind: "file", Cause: "drift", Outcome: "repaired", Count: 2}}
	event := []json.RawMessage{json.RawMessage(`{}`)}
	run := func(verdict string) {
		t.Helper()
		if err := s.Append(Record{Told: told, Events: event}); err != nil {
			t.Fatal(err)
		}
		if err := s.Append(Record{Finished: &Run{ID: "r", Verdict: verdict}, Events: event}); err != nil {
			t.Fatal(err)
		}
	}
	run("in order")
	before := s.Head()
	run("failed")
	if before.Told[0].Count != 2 || before.Runs["failed"] != 0 {
		t.Errorf("what was handed out has changed: %v, %v", before.Told, before.Runs)
	}
	for _, how := range []string{"ledger", "head", "snapshot"} {
		switch how {
		case "head":
			err = s.SaveHead()
		case "snapshot":
			err = s.writeSnapshot()
		}
		if err != nil {
			t.Fatal(err)
		}
		again, err := OpenHead(dir)
		if err != nil {
			t.Fatal(err)
		}
		got := again.Head()
		again.Close()
		if d := cmp.Diff(map[string]uint64{"in order": 1, "failed": 1}, got.Runs); d != "" {
			t.Errorf("%s: runs (-want +got):\n%s", how, d)
		}
		if d := cmp.Diff(Tallies{{Kind: "file", Cause: "drift", Outcome: "repaired", Count: 4}}, got.Told); d != "" {
			t.Errorf("%s: told (-want +got):\n%s", how, d)
		}
	}
	s.Close()
}
