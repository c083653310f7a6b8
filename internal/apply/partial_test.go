package apply

import (
	"context"
	"testing"

	"trued.dev/trued/internal/resource"
)

func only(addresses ...string) options {
	o := options{only: map[resource.Address]bool{}}
	for _, text := range addresses {
		a, err := resource.ParseAddress(text)
		if err != nil {
			panic(err)
		}
		o.only[a] = true
	}
	return o
}

// wantOutcomes compares the resources that were looked at.
func wantOutcomes(t *testing.T, outcomes []*Outcome, want ...string) {
	t.Helper()
	var got []string
	for _, o := range outcomes {
		got = append(got, o.Step.Address.String()+" "+string(o.Status))
	}
	if len(got) != len(want) {
		t.Errorf("looked at %v, want %v", got, want)
		return
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("looked at %v, want %v", got, want)
		}
	}
}

func TestAPartialRunTouchesOnlyWhatItIsAskedFor(t *testing.T) {
	l := newLab(t)
	l.run(l.thing("gone", "1"), l.thing("a", "1"), l.thing("b", "1"), l.pack("p", "1"))
	l.world.log = nil
	l.world.values["a"], l.world.values["b"] = "broken", "broken"
	entries := append(l.entries("a", "b"), l.pack("p", "1")) // and "gone" has left Git
	wantOutcomes(t, l.runAs(only("thing:a", "thing:unknown"), entries...), "thing:a repaired")
	l.wantLog("set a=1")
	l.wantTold("thing:a repaired drift")
	if l.world.values["gone"] != "1" || len(l.store.Snapshot().Inventory) != 4 {
		t.Error("something left the host")
	}
	wantOutcomes(t, l.runAs(only("thing:a"), entries...), "thing:a in_order")
	l.wantTold()
}

func TestAPartialRunMakesTheDebtsOfAFullOne(t *testing.T) {
	l := newLab(t)
	entries := l.entries("a")
	entries = append(entries, l.starting("s", "running", "thing:a"), l.svc("other"))
	l.run(entries...)
	l.world.log = nil
	l.world.values["a"] = "broken"
	wantOutcomes(t, l.runAs(only("thing:a"), entries...), "thing:a repaired", "svc:s repaired")
	l.wantLog("set a=1", "restart s")
	if owed := l.store.Snapshot().Owed; len(owed) != 0 {
		t.Errorf("still owed: %v", owed)
	}
	// What came into it by a debt is known as well as before.
	l.world.values["s"] = "broken"
	l.runAs(only("svc:s"), entries...)
	l.wantTold("svc:s repaired drift")
}

func TestWhatDiffersIsLookedAtWithWhatItStandsOn(t *testing.T) {
	l := newLab(t)
	entries := append(l.entries("ground", "aside"), l.thing("house", "1", "thing:ground"))
	l.run(entries...)
	l.world.log = nil
	l.world.values["ground"], l.world.values["house"], l.world.values["aside"] = "broken", "broken", "broken"
	wantOutcomes(t, l.runAs(only("thing:house"), entries...), "thing:ground repaired", "thing:house repaired")
	l.wantLog("set ground=1", "set house=1")
}

func TestWhatFailedBeforeIsLeftToTheFullRun(t *testing.T) {
	l := newLab(t)
	entries := append(l.entries("ground"), l.thing("house", "1", "thing:ground"), l.thing("free", "1"))
	l.run(entries...)
	l.world.values["ground"], l.world.broken["ground"] = "broken", true
	l.run(entries...)
	l.world.log, l.world.values["house"], l.world.values["free"] = nil, "broken", "broken"
	l.world.broken["ground"] = false
	wantOutcomes(t, l.runAs(only("thing:ground", "thing:house", "thing:free"), entries...), "thing:free repaired")
	l.wantLog("set free=1")

	blocked := only("thing:free")
	blocked.blocked = blocked.only
	wantOutcomes(t, l.runAs(blocked, entries...))
}

func TestNothingIsBegunWhileTheHostMayNotBeChanged(t *testing.T) {
	l := newLab(t)
	entries := l.entries("a", "b")
	l.run(entries...)
	l.world.log = nil
	l.world.values["a"], l.world.values["b"] = "broken", "broken"
	o := only("thing:a", "thing:b")
	o.may = func(context.Context) bool { return false }
	l.runAs(o, entries...)
	l.wantLog()
	if s := l.store.Snapshot(); s.Open != nil || l.world.values["a"] != "broken" {
		t.Error("something was begun")
	}
}
