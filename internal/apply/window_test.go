package apply

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/window"
)

func never(pattern string, causes ...string) window.Set {
	return window.Set{Allow: []window.Window{{Calendar: "2099-01-01 UTC", For: time.Hour, Resources: []string{pattern}, Causes: causes}}}
}

func statuses(outcomes []*Outcome) []string {
	var list []string
	for _, o := range outcomes {
		list = append(list, fmt.Sprintf("%s %s", o.Step.Address, o.Status))
	}
	return list
}

func wantStatuses(t *testing.T, outcomes []*Outcome, want ...string) {
	t.Helper()
	if got := statuses(outcomes); !slices.Equal(got, want) {
		t.Errorf("came to %q, want %q", got, want)
	}
}

func TestWhatWouldMakeAUnitRestartOutsideOfItsWindowWaitsWithIt(t *testing.T) {
	l := newLab(t)
	at := func(v string) []catalog.Entry {
		return []catalog.Entry{l.thing("conf", v), l.svc("web", "thing:conf"), l.svc("proxy", "svc:web"), l.thing("other", v)}
	}
	l.run(at("1")...)
	l.world.log = nil
	wantStatuses(t, l.runAs(options{explains: true, windows: never("svc:web")}, at("2")...),
		"thing:conf held", "svc:web in_order", "svc:proxy in_order", "thing:other applied")
	l.wantLog("set other=2")
	if owed := l.store.Snapshot().Owed; len(owed) > 0 {
		t.Errorf("owed: %v", owed)
	}
	// When it opens, all of it happens.
	wantStatuses(t, l.run(at("2")...),
		"thing:conf applied", "svc:web applied", "svc:proxy in_order", "thing:other in_order")
}

func TestWhatComesAfterWhatWaitsWaitsToo(t *testing.T) {
	l := newLab(t)
	wantStatuses(t, l.runAs(options{explains: true, windows: never("thing:a")}, l.thing("a", "1"), l.thing("b", "1", "thing:a"), l.thing("c", "1", "thing:b"), l.thing("d", "1")),
		"thing:a held", "thing:b held", "thing:c held", "thing:d applied")
}

func TestWhatLeavesWaitsForWhatWasToCome(t *testing.T) {
	l := newLab(t)
	l.run(l.entries("old", "kept")...)
	next := append(l.entries("kept"), l.thing("new", "1"))
	wantStatuses(t, l.runAs(options{explains: true, windows: never("thing:new")}, next...),
		"thing:kept in_order", "thing:new held", "thing:old held")
	wantStatuses(t, l.run(next...), "thing:kept in_order", "thing:new applied", "thing:old applied")
}

func TestDriftWaitsWhereItsWindowSaysSoAndHoldsNoPrune(t *testing.T) {
	l := newLab(t)
	l.run(l.entries("a", "old")...)
	l.world.values["a"] = "drifted"
	o := options{explains: true, windows: never("thing:a", "drift")}
	wantStatuses(t, l.runAs(o, l.entries("a")...), "thing:a held", "thing:old applied")
	// An intended change is another matter.
	wantStatuses(t, l.runAs(o, l.thing("a", "2")), "thing:a applied")
}

func TestARestartThatIsOwedWaitsForItsWindowAndIsNotLost(t *testing.T) {
	l := newLab(t)
	at := func(v string) []catalog.Entry { return []catalog.Entry{l.thing("conf", v), l.svc("web", "thing:conf")} }
	l.run(at("1")...)
	l.world.broken["restart web"] = true
	wantStatuses(t, l.run(at("2")...), "thing:conf applied", "svc:web failed")
	l.world.broken["restart web"] = false
	l.world.log = nil
	o := options{explains: true, hasty: true, windows: never("svc:web")}
	wantStatuses(t, l.runAs(o, at("2")...), "thing:conf in_order", "svc:web held")
	l.wantLog()
	wantStatuses(t, l.runAs(options{explains: true, hasty: true}, at("2")...), "thing:conf in_order", "svc:web applied")
	l.wantLog("restart web")
}
