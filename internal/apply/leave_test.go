package apply

import (
	"testing"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/state"
)

// What reacted to a resource reacts once more when that goes back to what it was,
// with the commit gone that said so: else it would go on with what has left.
func TestWhatHasReactedReactsToTheWayBack(t *testing.T) {
	cases := map[string]struct {
		// had is what the host had before, then what a commit makes of it, and
		// reverted what is left of that after its revert.
		had            map[string]string
		then, reverted func(l *lab) []catalog.Entry
		want           []string
	}{
		"to one that leaves": {
			then:     func(l *lab) []catalog.Entry { return []catalog.Entry{l.thing("a", "1"), l.svc("s", "thing:a")} },
			reverted: func(l *lab) []catalog.Entry { return []catalog.Entry{l.svc("s")} },
			want:     []string{"set a=", "restart s"},
		},
		"to one that a glob names": {
			then: func(l *lab) []catalog.Entry {
				return []catalog.Entry{l.thing("a", "1"), l.thing("b", "1"), l.svc("s", "thing:*")}
			},
			reverted: func(l *lab) []catalog.Entry { return []catalog.Entry{l.thing("b", "1"), l.svc("s", "thing:*")} },
			want:     []string{"set a=", "restart s"},
		},
		"to one that is adopted, and given back": {
			had:      map[string]string{"a": "0"},
			then:     func(l *lab) []catalog.Entry { return []catalog.Entry{l.thing("a", "1"), l.svc("s", "thing:a")} },
			reverted: func(l *lab) []catalog.Entry { return []catalog.Entry{l.svc("s")} },
			want:     []string{"set a=0", "restart s"},
		},
		"to a value, and is told no more what for": {
			then:     func(l *lab) []catalog.Entry { return []catalog.Entry{l.thing("a", "1"), l.svc("s", "thing:a")} },
			reverted: func(l *lab) []catalog.Entry { return []catalog.Entry{l.svc("s"), l.thing("a", "0")} },
			want:     []string{"set a=0", "restart s"},
		},
		"to both a value and what leaves, each once": {
			then: func(l *lab) []catalog.Entry {
				return []catalog.Entry{l.thing("a", "1"), l.thing("b", "1"), l.svc("s", "thing:*")}
			},
			reverted: func(l *lab) []catalog.Entry { return []catalog.Entry{l.thing("b", "0"), l.svc("s", "thing:*")} },
			want:     []string{"set b=0", "restart s", "set a=", "restart s"},
		},
		"when it leaves as well, and the host had it": {
			had:      map[string]string{"s": "running"},
			then:     func(l *lab) []catalog.Entry { return []catalog.Entry{l.thing("a", "1"), l.svc("s", "thing:a")} },
			reverted: func(l *lab) []catalog.Entry { return nil },
			want:     []string{"set a=", "restart s"},
		},
		"but not when it leaves, and came along": {
			then:     func(l *lab) []catalog.Entry { return []catalog.Entry{l.thing("a", "1"), l.svc("s", "thing:a")} },
			reverted: func(l *lab) []catalog.Entry { return nil },
			want:     []string{"stop s", "set a=", "set s="},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			for k, v := range c.had {
				l.world.values[k] = v
			}
			l.run(c.then(l)...)
			l.world.log = nil
			l.run(c.reverted(l)...)
			l.wantLog(c.want...)
			if owed := l.store.Snapshot().Owed; len(owed) != 0 {
				t.Errorf("still owed: %v", owed)
			}
			l.run(c.reverted(l)...)
			l.wantLog()
		})
	}
}

// Wherever a run is cut off that takes back a service with what it reacted to, the
// service has reacted when the next run is over.
func TestACrashLosesNoReactionOfWhatLeaves(t *testing.T) {
	for n := 1; ; n++ {
		w, dir := newWorld(), t.TempDir()
		w.values["s"] = "running"
		l := openLab(t, w, dir)
		l.run(l.thing("a", "1"), l.svc("s", "thing:a"))
		w.log, w.points, w.crashAt = nil, 0, n
		crashed := crashes(func() { l.run() })
		w.crashAt = 0
		after := openLab(t, w, dir)
		after.now = l.now.Add(state.LastPause)
		after.runAs(options{explains: true, hasty: true})
		at := map[string]int{}
		for i, act := range w.log {
			at[act] = i + 1
		}
		if at["restart s"] < at["set a="] || at["set a="] == 0 {
			t.Errorf("cut off at %d: %q", n, w.log)
		}
		if snap := after.store.Snapshot(); len(snap.Owed)+len(snap.Inventory) != 0 {
			t.Errorf("cut off at %d: still there: %v %v", n, snap.Owed, snap.Inventory)
		}
		if !crashed {
			return
		}
	}
}
