package state_test

import (
	"encoding/json"
	"testing"
	"time"

	"trued.dev/trued/internal/resource"
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

func TestWhatLeftTheInventoryOnTrialIsThereForWhoeverGoesBack(t *testing.T) {
	dir := t.TempDir()
	s, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	must := func(r state.Record) {
		t.Helper()
		if err := s.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	address := func(name string) resource.Address { return resource.Address{Kind: "package", Name: name} }
	held := state.Entry{Source: "infra", Digest: "d", Prior: resource.Prior{resource.Path("/x"): json.RawMessage(`{"installed":false}`)}}
	must(state.Record{Put: map[resource.Address]state.Entry{address("before"): held, address("tool"): held, address("other"): {Source: "apps"}}})
	must(state.Record{Drop: []resource.Address{address("before")}})
	if len(s.Head().Dropped) != 0 {
		t.Error("what leaves with nothing on trial is remembered")
	}
	trial := state.Trial{Run: "r", Sources: map[string]state.Probation{
		"infra": {Commit: "b", Back: &state.Standing{Commit: "a"}}, "apps": {Commit: "c"},
	}}
	must(state.Record{Begin: &state.Begin{Run: "r"}, Trial: &trial})
	before := s.Head()
	must(state.Record{Drop: []resource.Address{address("tool"), address("other")}})
	if len(before.Dropped) != 0 {
		t.Error("whoever had the snapshot sees it change")
	}
	back := trial.Regained(s.Head().Dropped)
	if e := back[address("tool")]; len(back) != 1 || e.Digest != "d" || len(e.Prior) != 1 {
		t.Errorf("what comes back is %+v", back)
	}
	trial.Failed = "sick"
	must(state.Record{Trial: &trial, Put: back})
	if snap := s.Snapshot(); len(snap.Dropped) != 0 || len(snap.Inventory) != 1 {
		t.Errorf("on the way back the inventory is %v, and %v is to come back still", snap.Inventory, snap.Dropped)
	}
}

// A host whose clock is set, or that was down for a night, has neither more nor less
// time for it.
func TestNoChangeOfTheClockMakesATrialLongerOrShorter(t *testing.T) {
	began := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	at := func(boot string, s uint64) resource.Moment { return resource.Moment{Boot: boot, Micros: s * 1e6} }
	for name, c := range map[string]struct {
		trial state.Trial
		now   resource.Moment
		wall  time.Duration // since it began
		want  time.Duration
	}{
		"an hour of two":              {state.Trial{Moved: at("a", 100)}, at("a", 3700), time.Hour, time.Hour},
		"the clock is set forward":    {state.Trial{Moved: at("a", 100)}, at("a", 3700), 50 * 365 * 24 * time.Hour, time.Hour},
		"the clock is set back":       {state.Trial{Moved: at("a", 100)}, at("a", 3700), -24 * time.Hour, time.Hour},
		"it is over":                  {state.Trial{Moved: at("a", 100)}, at("a", 100+3*3600), time.Minute, -time.Hour},
		"down for a night":            {state.Trial{Moved: at("a", 100)}, at("b", 10), 9 * time.Hour, 2 * time.Hour},
		"no such clock":               {state.Trial{}, at("a", 10), time.Hour, time.Hour},
		"no such clock after the end": {state.Trial{Ended: began.Add(time.Hour)}, resource.Moment{}, 90 * time.Minute, 90 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			c.trial.Since = began
			if got := c.trial.Left(2*time.Hour, c.now, began.Add(c.wall)); got != c.want {
				t.Errorf("%s are left, want %s", got, c.want)
			}
		})
	}
}
