package apply

import (
	"slices"
	"strings"
	"testing"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/state"
)

// A restart that came after its last cause is not made once more by the run
// after the one that was cut off, wherever that was, and none is lost. What is
// still in doubt is made: a cause that was cut off itself, in the same boot.
func TestACrashAtAnyMomentRepeatsNoRestart(t *testing.T) {
	catalogs := map[string]func(l *lab, v string) []catalog.Entry{
		"by others": func(l *lab, v string) []catalog.Entry {
			return []catalog.Entry{l.pack("p", v), l.thing("a", v), l.starting("s", "running", "thing:a", "pack:*")}
		},
		"by itself": func(l *lab, v string) []catalog.Entry {
			return []catalog.Entry{l.starting("s", v)}
		},
		"by both": func(l *lab, v string) []catalog.Entry {
			return []catalog.Entry{l.thing("a", v), l.starting("s", v, "thing:a"), l.thing("b", v)}
		},
		"in a chain": func(l *lab, v string) []catalog.Entry {
			return []catalog.Entry{l.thing("a", v), l.starting("r", "running", "thing:a"), l.starting("s", v, "thing:a", "svc:r")}
		},
		"by what leaves": func(l *lab, v string) []catalog.Entry {
			if v == "1" {
				return []catalog.Entry{l.thing("a", v), l.starting("s", "running", "thing:a")}
			}
			return []catalog.Entry{l.starting("s", "running")}
		},
	}
	for name, entries := range catalogs {
		for _, first := range []string{"", "1"} {
			for _, reboots := range []bool{false, true} {
				t.Run(strings.Join([]string{name, "after", first, map[bool]string{true: "reboot"}[reboots]}, " "), func(t *testing.T) {
					t.Parallel()
					for n := 1; cutOff(t, entries, first, reboots, n); n++ {
					}
				})
			}
		}
	}
}

// cutOff cuts a run off at a point, and looks at what it and the next one did.
// It returns false when the run came to its end before.
func cutOff(t *testing.T, entries func(*lab, string) []catalog.Entry, first string, reboots bool, n int) bool {
	w, dir := newWorld(), t.TempDir()
	l := openLab(t, w, dir)
	if first != "" {
		l.run(entries(l, first)...)
	}
	w.log, w.points, w.crashAt = nil, 0, n
	crashed := crashes(func() { l.run(entries(l, "2")...) })
	w.crashAt = 0
	cut := len(w.log)
	after := openLab(t, w, dir)
	inDoubt := after.store.Snapshot().Open != nil && !reboots
	if reboots {
		w.reboot()
	}
	after.now = l.now.Add(state.LastPause)
	after.runAs(options{explains: true, hasty: true}, entries(after, "2")...)
	for _, e := range entries(after, "2") {
		if e.Address.Kind == "svc" {
			checkStarts(t, w, e.Address.Name, cut, inDoubt, n)
		}
	}
	if owed := after.store.Snapshot().Owed; len(owed) != 0 {
		t.Errorf("cut off at %d: still owed: %v", n, owed)
	}
	return crashed
}

// checkStarts holds the starts of a service against its causes.
func checkStarts(t *testing.T, w *world, name string, cut int, inDoubt bool, n int) {
	t.Helper()
	changed := -1
	for i, act := range w.log {
		what, _, set := strings.Cut(strings.TrimPrefix(act, "set "), "=")
		if set && what != "b" && (name == "s" || what == "a" || what == "r") {
			changed = i
		}
	}
	if changed < 0 {
		return
	}
	starts, boots := 0, 0
	for i, act := range w.log {
		switch {
		case i < changed:
		case act == "restart "+name, act == "start "+name:
			starts++
		case act == "boot starts "+name:
			boots++
		}
	}
	afterwards := slices.Contains(w.log[cut:], "restart "+name) || slices.Contains(w.log[cut:], "start "+name)
	switch {
	case starts+boots == 0:
		t.Errorf("cut off at %d: no start of %s after its last cause: %q", n, name, w.log)
	case boots == 0 && starts > 1:
		t.Errorf("cut off at %d: %d starts of %s after its last cause: %q", n, starts, name, w.log)
	case boots > 0 && afterwards && !inDoubt:
		t.Errorf("cut off at %d: %s was started by the boot, and again: %q", n, name, w.log)
	}
}

// A run looks at what earlier ones owed before it has files read again, by which
// nobody could tell any more what was started with what.
func TestWhatTheRunDoesDoesNotBlurWhatItFound(t *testing.T) {
	entries := func(l *lab, v string) []catalog.Entry {
		return []catalog.Entry{l.thing("a", v), l.starting("x", v), l.starting("s", "running", "thing:a")}
	}
	looked := 0
	for n, crashed := 1, true; crashed; n++ {
		w, dir := newWorld(), t.TempDir()
		l := openLab(t, w, dir)
		l.run(entries(l, "1")...)
		w.log, w.points, w.crashAt = nil, 0, n
		crashed = crashes(func() { l.run(entries(l, "2")...) })
		w.crashAt = 0
		if !crashed || !slices.Contains(w.log, "set a=2") || slices.Contains(w.log, "set x=2") {
			continue
		}
		looked++
		w.log = nil
		w.reboot()
		w.broken["blurs"] = true
		after := openLab(t, w, dir)
		after.now = l.now.Add(state.LastPause)
		after.runAs(options{explains: true, hasty: true}, entries(after, "2")...)
		if !slices.Contains(w.log, "read x") || slices.Contains(w.log, "restart s") {
			t.Errorf("cut off at %d: %q", n, w.log)
		}
	}
	if looked == 0 {
		t.Error("no run was cut off between a and x")
	}
}

// Who cannot tell what was done, or is in doubt, does it once more.
func TestInDoubtARestartIsMadeAgain(t *testing.T) {
	for name, breaks := range map[string]func(*world){
		"no clock":  func(w *world) { w.broken["clock"] = true },
		"no memory": func(w *world) { w.broken["doubt"] = true },
	} {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n++ {
				w, dir := newWorld(), t.TempDir()
				breaks(w)
				l := openLab(t, w, dir)
				entries := func(l *lab, v string) []catalog.Entry {
					return []catalog.Entry{l.thing("a", v), l.starting("s", "running", "thing:a")}
				}
				l.run(entries(l, "1")...)
				w.log, w.points, w.crashAt = nil, 0, n
				if !crashes(func() { l.run(entries(l, "2")...) }) {
					t.Fatal("no run was cut off after the restart")
				}
				w.crashAt = 0
				if !slices.Contains(w.log, "restart s") {
					continue
				}
				w.log = nil
				after := openLab(t, w, dir)
				after.run(entries(after, "2")...)
				after.wantLog("restart s")
				return
			}
		})
	}
}

// What a later cause owes is not settled by what was done for an earlier one.
func TestALaterCauseIsOwedAnew(t *testing.T) {
	l := newLab(t)
	entries := func(v string) []catalog.Entry {
		return []catalog.Entry{l.thing("a", v), l.starting("s", "running", "thing:a")}
	}
	l.run(entries("1")...)
	l.world.broken["restart s"] = true
	l.run(entries("2")...)
	l.world.start("s")() // by hand
	l.world.log = nil
	l.world.broken["restart s"] = false
	l.runAs(options{explains: true, hasty: true}, entries("3")...)
	l.wantLog("set a=3", "restart s")
}

// A restart that somebody else made since settles the debt, and is told of.
func TestARestartBySomebodyElseSettlesTheDebt(t *testing.T) {
	l := newLab(t)
	entries := func(v string) []catalog.Entry {
		return []catalog.Entry{l.thing("a", v), l.starting("s", "running", "thing:a")}
	}
	l.run(entries("1")...)
	l.world.broken["restart s"] = true
	l.run(entries("2")...)
	l.world.start("s")()
	l.world.log = nil
	l.runAs(options{explains: true, hasty: true}, entries("2")...)
	l.wantLog()
	l.wantTold("svc:s applied intended")
	if owed := l.store.Snapshot().Owed; len(owed) != 0 {
		t.Errorf("still owed: %v", owed)
	}
}
