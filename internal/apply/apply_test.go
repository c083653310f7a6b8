package apply

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/state"
)

func TestARunBringsTheHostToTheDesiredStateOnce(t *testing.T) {
	l := newLab(t)
	l.run(l.thing("a", "1"), l.thing("b", "2"))
	l.wantLog("set a=1", "set b=2")
	l.wantTold("thing:a applied intended", "thing:b applied intended")
	seq := l.store.Snapshot().Seq
	l.run(l.thing("a", "1"), l.thing("b", "2"))
	l.wantLog()
	l.wantTold()
	if got := l.store.Snapshot().Seq; got != seq {
		t.Errorf("a run without changes wrote %d records", got-seq)
	}
}

func TestCauseIsDriftOnlyWhenTheDesiredStateStayed(t *testing.T) {
	l := newLab(t)
	l.run(l.thing("a", "1"), l.thing("b", "1"))
	l.world.values["a"] = "by hand"
	l.world.values["b"] = "by hand"
	l.run(l.thing("a", "1"), l.thing("b", "2"))
	l.wantTold("thing:a repaired drift", "thing:b applied intended")
}

func TestWhatFailedIsIntendedUntilItSucceededOnce(t *testing.T) {
	l := newLab(t)
	l.world.broken["a"] = true
	l.run(l.thing("a", "1"))
	l.wantTold("thing:a failed intended")
	l.world.broken["a"] = false
	l.runAs(options{explains: true, hasty: true}, l.thing("a", "1"))
	l.wantTold("thing:a applied intended")
}

func TestWhatRequiresAFailureIsSkippedAndTheRestGoesOn(t *testing.T) {
	l := newLab(t)
	l.world.broken["a"] = true
	l.run(l.thing("a", "1"), l.thing("b", "1", "thing:a"), l.thing("c", "1", "thing:b"), l.thing("d", "1"))
	l.wantLog("set d=1")
	l.wantTold("thing:a failed intended", "thing:b skipped intended", "thing:c skipped intended", "thing:d applied intended")
}

func TestAModuleThatPanicsHasFailedAndTheRestGoesOn(t *testing.T) {
	l := newLab(t)
	out := l.run(l.thing("a", "panic"), l.thing("b", "1"))
	l.wantTold("thing:a failed intended", "thing:b applied intended")
	if err := out[0].Err; err == nil || !strings.Contains(err.Error(), `module "thing" panicked: a bug`) {
		t.Errorf("the panic is not told: %v", err)
	}
}

func TestAFailureIsTriedAgainAfterAPauseOrWhenItChanges(t *testing.T) {
	l := newLab(t)
	l.world.broken["a"] = true
	l.run(l.thing("a", "1"))
	l.world.broken["a"] = false
	l.run(l.thing("a", "1"))
	l.wantTold("thing:a failed intended")
	l.wantLog()
	l.now = l.now.Add(firstPause)
	l.run(l.thing("a", "1"))
	l.wantLog("set a=1")

	l.world.broken["b"] = true
	l.run(l.thing("a", "1"), l.thing("b", "1"))
	l.world.broken["b"] = false
	l.run(l.thing("a", "1"), l.thing("b", "2"))
	l.wantLog("set b=2")
}

func TestAClockThatWasSetBackDoesNotPutATryOff(t *testing.T) {
	l := newLab(t)
	l.world.broken["a"] = true
	l.run(l.thing("a", "1"))
	l.world.broken["a"] = false
	l.now = l.now.AddDate(-1, 0, 0)
	l.run(l.thing("a", "1"))
	l.wantLog("set a=1")
}

func TestSeveralCausesMakeOneRestartAfterAllOfThem(t *testing.T) {
	l := newLab(t)
	l.run(l.svc("s", "thing:*"), l.thing("a", "1"), l.thing("b", "1"))
	l.wantLog("set a=1", "set b=1", "set s=running", "restart s")
	l.run(l.svc("s", "thing:*"), l.thing("a", "2"), l.thing("b", "2"))
	l.wantLog("set a=2", "set b=2", "restart s")
	l.wantTold("thing:a applied intended", "thing:b applied intended", "svc:s applied intended")
	l.world.values["a"] = "by hand"
	l.run(l.svc("s", "thing:*"), l.thing("a", "2"), l.thing("b", "2"))
	l.wantTold("thing:a repaired drift", "svc:s repaired drift")
}

func TestARestartThatFailedIsStillOwed(t *testing.T) {
	l := newLab(t)
	l.run(l.thing("a", "1"), l.svc("s", "thing:a"))
	l.world.log = nil
	l.world.broken["restart s"] = true
	l.run(l.thing("a", "2"), l.svc("s", "thing:a"))
	l.wantTold("thing:a applied intended", "svc:s failed intended")
	l.world.broken["restart s"] = false
	l.runAs(options{explains: true, hasty: true}, l.thing("a", "2"), l.svc("s", "thing:a"))
	l.wantLog("set a=2", "restart s")
	if owed := l.store.Snapshot().Owed; len(owed) != 0 {
		t.Errorf("still owed: %v", owed)
	}
}

func TestACauseThatFailedWithoutAChangeOwesNothing(t *testing.T) {
	l := newLab(t)
	l.run(l.thing("a", "1"), l.svc("s", "thing:a"))
	l.world.log = nil
	l.world.broken["a"] = true
	l.run(l.thing("a", "2"), l.svc("s", "thing:a"))
	l.wantLog()
	if owed := l.store.Snapshot().Owed; len(owed) != 0 {
		t.Errorf("owed although nothing changed: %v", owed)
	}
}

func TestADebtOfWhatLeftTheCatalogIsStruckOff(t *testing.T) {
	l := newLab(t)
	l.run(l.thing("a", "1"), l.svc("s", "thing:a"))
	l.world.broken["restart s"] = true
	l.run(l.thing("a", "2"), l.svc("s", "thing:a"))
	l.run(l.thing("a", "2"))
	if owed := l.store.Snapshot().Owed; len(owed) != 0 {
		t.Errorf("still owed: %v", owed)
	}
}

func TestWhatLeavesIsGivenBackInReverseOrder(t *testing.T) {
	l := newLab(t)
	l.world.values["b"] = "before"
	l.run(l.thing("a", "1"), l.thing("b", "1"), l.thing("c", "1"), l.svc("s"))
	l.world.log = nil
	l.run(l.thing("a", "2"))
	l.wantLog("stop s", "set a=2", "set s=", "set c=", "set b=before")
	l.wantTold("thing:a applied intended", "svc:s applied prune", "thing:c applied prune", "thing:b applied prune")
	if inv := l.store.Snapshot().Inventory; len(inv) != 1 {
		t.Errorf("the inventory still has %v", slices.Collect(maps.Keys(inv)))
	}
}

func TestPruneWaitsWhenSomethingFailed(t *testing.T) {
	l := newLab(t)
	l.run(l.thing("old", "1"), l.svc("s"))
	l.world.log = nil
	l.world.broken["new"] = true
	l.run(l.thing("new", "1"))
	l.wantLog("stop s", "start s again")
	l.wantTold("thing:new failed intended", "svc:s held prune", "thing:old held prune")
	// The commit is no news any more when the failure is gone, and explains the
	// prune all the same.
	l.world.broken["new"] = false
	l.runAs(options{hasty: true}, l.thing("new", "1"))
	l.wantLog("stop s", "set new=1", "set s=", "set old=")
}

func TestPruneThatNoCommitExplainsIsHeldUntilAccepted(t *testing.T) {
	l := newLab(t)
	l.run(l.thing("a", "1"), l.thing("b", "1"))
	l.world.log = nil
	l.runAs(options{}, l.thing("a", "1"))
	l.wantLog()
	l.wantTold("thing:b held prune")
	l.runAs(options{acceptPrune: true}, l.thing("a", "1"))
	l.wantLog("set b=")
}

func TestPruneOfMostOfTheInventoryIsHeld(t *testing.T) {
	for _, c := range []struct {
		stay, limit int
		held        bool
	}{{10, 0, false}, {9, 0, true}, {9, 21, false}, {25, 4, true}} {
		l := newLab(t)
		var all []catalog.Entry
		for i := range 30 {
			all = append(all, l.thing(fmt.Sprintf("t%02d", i), "1"))
		}
		l.run(all...)
		l.runAs(options{explains: true, limit: c.limit}, all[:c.stay]...)
		if held := strings.Contains(strings.Join(l.told, "\n"), "held"); held != c.held {
			t.Errorf("%d of 30 leave with limit %d: held %v, want %v", 30-c.stay, c.limit, held, c.held)
		}
	}
}

func TestAClaimThatMovesIsNotPrunedAndKeepsItsPrior(t *testing.T) {
	l := newLab(t)
	l.world.values["a"] = "before"
	l.run(l.thing("a", "1"))
	l.world.log = nil
	l.run(l.pack("a", "2"))
	l.wantLog("set a=2", "transaction of a")
	l.run()
	l.wantLog("set a=before", "transaction of a")
}

func TestPruneFalseLeavesItOnTheHost(t *testing.T) {
	l := newLab(t)
	no := false
	e := l.thing("a", "1")
	e.Resource.Common().Prune = &no
	l.run(e)
	l.world.log = nil
	l.run()
	l.wantLog()
	if inv := l.store.Snapshot().Inventory; len(inv) != 0 {
		t.Errorf("it is still held: %v", inv)
	}
}

func TestPackagesGoTogetherAsFarAsOrderAllows(t *testing.T) {
	l := newLab(t)
	l.run(l.pack("p1", "1"), l.thing("a", "1"), l.pack("p2", "1"), l.thing("b", "1", "pack:p1"), l.pack("p3", "1", "thing:b"))
	l.wantLog("set a=1", "set p1=1", "set p2=1", "transaction of p1 p2", "set b=1", "set p3=1", "transaction of p3")
}

func TestRemovalsShareTheTransactionWithInstalls(t *testing.T) {
	l := newLab(t)
	l.run(l.pack("old", "1"), l.thing("a", "1"))
	l.world.log = nil
	l.run(l.pack("new", "1"), l.thing("a", "1"))
	l.wantLog("set new=1", "set old=", "transaction of new old")
}

func TestOneThatFailsInATransactionDoesNotKeepTheOthers(t *testing.T) {
	l := newLab(t)
	l.world.broken["p1"] = true
	l.run(l.pack("p1", "1"), l.pack("p2", "1"))
	l.wantTold("pack:p1 failed intended", "pack:p2 applied intended")
}

func TestDriftThatIsOnlyReportedIsToldOnceUntilItChanges(t *testing.T) {
	l := newLab(t)
	entry := func() catalog.Entry {
		e := l.thing("a", "1")
		e.Resource.Common().Drift = "report"
		return e
	}
	l.run(entry())
	for _, c := range []struct {
		value string
		told  []string
	}{
		{"x", []string{"thing:a reported drift"}}, {"x", nil}, {"y", []string{"thing:a reported drift"}},
		{"1", nil}, {"y", []string{"thing:a reported drift"}},
	} {
		l.world.values["a"], l.world.log = c.value, nil
		l.run(entry())
		l.wantLog()
		l.wantTold(c.told...)
	}
}

func TestIgnoredAttributesCountOnlyOnceItExists(t *testing.T) {
	l := newLab(t)
	entry := func(value string) catalog.Entry {
		e := l.thing("a", value)
		e.Resource.Common().Ignore = []string{"value"}
		return e
	}
	l.run(entry("1"))
	l.wantLog("set a=1")
	l.run(entry("2"))
	l.wantLog()
}

func TestWhatWasStartedAndDiesIsAFailureAndHoldsThePrune(t *testing.T) {
	l := newLab(t)
	l.run(l.thing("old", "1"))
	l.world.log = nil
	e := l.svc("s")
	e.Resource.(*svc).dies = true
	l.run(e)
	l.wantLog("set s=running")
	l.wantTold("svc:s applied intended", "svc:s failed intended", "thing:old held prune")
}

// After a crash at any moment the next run ends in the desired state, what
// changed since the last restart is followed by one, and what was there before
// is still known.
func TestACrashAtAnyMomentLosesNothing(t *testing.T) {
	type story struct {
		name  string
		first func(*lab) []catalog.Entry
		then  func(*lab) []catalog.Entry
	}
	full := func(v string) func(*lab) []catalog.Entry {
		return func(l *lab) []catalog.Entry {
			return []catalog.Entry{
				l.pack("p", v), l.thing("a", v), l.thing("b", v, "thing:a"), l.svc("s", "thing:*", "pack:*"), l.thing("c", v),
			}
		}
	}
	for _, st := range []story{
		{"first", func(*lab) []catalog.Entry { return nil }, full("1")},
		{"change", full("1"), full("2")},
		{"prune", full("1"), func(l *lab) []catalog.Entry {
			return []catalog.Entry{l.thing("c", "2"), l.svc("s", "thing:*")}
		}},
	} {
		t.Run(st.name, func(t *testing.T) {
			for n := 1; ; n++ {
				w, dir := newWorld(), t.TempDir()
				w.values["a"], w.values["p"] = "before", "before"
				l := openLab(t, w, dir)
				l.run(st.first(l)...)
				w.log, w.points, w.crashAt = nil, 0, n
				crashed := crashes(func() { l.run(st.then(l)...) })
				w.crashAt = 0
				told := l.told
				after := openLab(t, w, dir)
				after.now = l.now.Add(state.LastPause)
				after.runAs(options{explains: true, hasty: true}, st.then(after)...)
				checkStory(t, after, st.then(after), n)
				checkTold(t, w, append(told, after.told...), n)
				after.run()
				if w.values["a"] != "before" || w.values["p"] != "before" || len(w.values) != 2 {
					t.Errorf("crash at point %d: after everything left the host has %v", n, w.values)
				}
				if !crashed {
					return
				}
			}
		})
	}
}

func crashes(f func()) (crashed bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(crash); !ok {
				panic(r)
			}
			crashed = true
		}
	}()
	f()
	return false
}

// checkTold holds what was done to the host against what was told: each change
// once, whichever of the two runs tells of it.
func checkTold(t *testing.T, w *world, told []string, n int) {
	t.Helper()
	changed := map[string]bool{}
	for _, act := range w.log {
		if name, _, ok := strings.Cut(strings.TrimPrefix(act, "set "), "="); ok && strings.HasPrefix(act, "set ") {
			changed[name] = true
		}
	}
	for name := range changed {
		times := 0
		for _, line := range told {
			if strings.Contains(line, ":"+name+" applied") {
				times++
			}
		}
		if times != 1 {
			t.Errorf("crash at point %d: the change of %s is told %d times: %q", n, name, times, told)
		}
	}
}

func checkStory(t *testing.T, l *lab, entries []catalog.Entry, n int) {
	t.Helper()
	for _, e := range entries {
		want := "running"
		if th, ok := e.Resource.(*thing); ok {
			want = th.Value
		}
		if got := l.world.values[e.Address.Name]; got != want {
			t.Errorf("crash at point %d: %s is %q, want %q", n, e.Address, got, want)
		}
	}
	changed, restarted := -1, -1
	for i, act := range l.world.log {
		switch {
		case act == "restart s":
			restarted = i
		case strings.HasPrefix(act, "set ") && !strings.HasPrefix(act, "set s=") && !strings.HasSuffix(act, "=") && !strings.HasSuffix(act, "=before"):
			changed = i
		}
	}
	if changed >= 0 && restarted < changed {
		t.Errorf("crash at point %d: no restart after the last change: %v", n, l.world.log)
	}
	snap := l.store.Snapshot()
	if snap.Open != nil || len(snap.Owed) != 0 {
		t.Errorf("crash at point %d: open %v, owed %v", n, snap.Open, snap.Owed)
	}
	if len(snap.Inventory) != len(entries) {
		t.Errorf("crash at point %d: the inventory has %d resources, want %d", n, len(snap.Inventory), len(entries))
	}
}
