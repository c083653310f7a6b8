package state_test

import (
	"encoding/json"
	"testing"

	"trued.dev/trued/internal/state"
)

func TestWhatIsOnTrialIsThereAfterACrash(t *testing.T) {
	dir := t.TempDir()
	s, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	back := &state.Standing{Commit: "a", Input: json.RawMessage(`{"version":"1"}`), Group: "groups/web"}
	trial := &state.Trial{Run: "r", Sources: map[string]state.Probation{"infra": {Commit: "b", Back: back}}}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.Append(state.Record{Begin: &state.Begin{Run: "r"}, Trial: trial, Sources: map[string]state.Source{"infra": {Applied: "b"}}}))
	again, err := state.OpenHead(dir)
	must(err)
	snap := again.Head()
	if !snap.Trial.SameAs(trial) || !snap.Trial.HasWayBack() || snap.Confirmed("infra").Group != "groups/web" {
		t.Errorf("%+v is on trial", snap.Trial)
	}
	must(again.Append(state.Record{Trial: &state.Trial{}}))
	must(s.Reload())
	snap = s.Snapshot()
	if snap.Trial != nil || snap.Confirmed("infra").Commit != "b" {
		t.Errorf("%+v is on trial, and %+v confirmed", snap.Trial, snap.Confirmed("infra"))
	}
	if snap.Confirmed("other") != nil {
		t.Error("a source that nothing was applied of has a confirmed commit")
	}
}

func TestOfTheCommitsThatWereLeftTheLastAreRemembered(t *testing.T) {
	var src state.Source
	for _, commit := range []string{"a", "b", "c", "b", "d", "e"} {
		src.Leave(state.Standing{Commit: commit})
	}
	got := ""
	for _, p := range src.Previous {
		got += p.Commit
	}
	if got != "edb" {
		t.Errorf("remembered are %q", got)
	}
}
