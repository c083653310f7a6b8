package pkg

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestCulpritsAreLeftOutAndTheRestIsInstalled(t *testing.T) {
	w, f := fakeWorld(t)
	var all []Resource
	for _, name := range strings.Fields("a b c d e f g h") {
		f.index[name] = []string{"1"}
		all = append(all, Resource{Package: name})
	}
	f.depends["c"] = []string{"nowhere"}
	f.fails["g"] = true
	out := w.run(t.Context(), all)
	for _, name := range strings.Fields("a b d e f h") {
		if out[name].err != nil || f.have[name].Status != installed {
			t.Errorf("%s: %v, %s", name, out[name].err, f.have[name].Status)
		}
	}
	if err := out["c"].err; err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("c: %v", err)
	}
	if err := out["g"].err; err == nil || !strings.Contains(err.Error(), "half-configured") {
		t.Errorf("g: %v", err)
	}
}

func TestTransactionTakesNothingThatNobodyDeclared(t *testing.T) {
	tests := map[string]struct {
		prepare func(f *fake)
		declare []Resource
		want    string // in the error of package a; empty for none
	}{
		"a rival that is not declared": {
			func(f *fake) { f.install("b", "1"); f.conflicts["a"] = []string{"b"} },
			[]Resource{{Package: "a"}}, "would remove b",
		},
		"a rival that is declared absent": {
			func(f *fake) { f.install("b", "1"); f.conflicts["a"] = []string{"b"} },
			[]Resource{{Package: "a"}, {Package: "b", State: "absent"}}, "",
		},
		"a rival that is declared present": {
			func(f *fake) {
				f.install("b", "1")
				f.index["b"] = []string{"2"}
				f.conflicts["a"] = []string{"b"}
			},
			[]Resource{{Package: "b", Version: "2"}, {Package: "a"}}, "would remove b",
		},
		"something that needs it": {
			func(f *fake) { f.install("a", "1"); f.install("user", "1"); f.depends["user"] = []string{"a"} },
			[]Resource{{Package: "a", State: "absent"}}, "would remove user",
		},
		"an essential package": {
			func(f *fake) { f.install("a", "1"); r := f.have["a"]; r.Vital = true; f.have["a"] = r },
			[]Resource{{Package: "a", State: "purged"}}, "essential",
		},
		"trued itself": {
			func(f *fake) { f.install("a", "1"); f.install("trued", "1"); f.depends["trued"] = []string{"a"} },
			[]Resource{{Package: "a", State: "absent"}}, "trued itself",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, f := fakeWorld(t)
			f.index["a"] = []string{"1"}
			tt.prepare(f)
			before := f.String()
			out := w.run(t.Context(), tt.declare)
			err := out["a"].err
			if tt.want == "" {
				if err != nil {
					t.Errorf("a: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("a: error is %v, want one with %q", err, tt.want)
			}
			if len(tt.declare) == 1 && f.String() != before {
				t.Errorf("refused, it became %s", f)
			}
		})
	}
}

func TestHeldNeighbourIsNotMoved(t *testing.T) {
	_, f := fakeWorld(t)
	f.install("mine", "1")
	r := f.have["mine"]
	r.Held = true
	f.have["mine"] = r
	a := &attempt{m: newModule(f)}
	db, err := f.Installed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = a.guard(db, nil, nil, effect{Installs: []move{{Name: "mine", From: "1", To: "2"}}})
	var no *refusal
	if !errors.As(err, &no) || !strings.Contains(no.Reason, "held") {
		t.Errorf("guard returned %v", err)
	}
	if err := a.guard(db, nil, nil, effect{Installs: []move{{Name: "other", From: "2", To: "1"}}}); err == nil {
		t.Error("a downgrade that nobody asked for was let through")
	}
}

func TestOptionsPartTransactions(t *testing.T) {
	w, f := fakeWorld(t)
	for _, name := range strings.Fields("a b c d") {
		f.index[name] = []string{"1"}
	}
	f.install("old", "1")
	w.converge(Resource{Package: "a", Recommends: no()}, Resource{Package: "b"}, Resource{Package: "c", Conffiles: "replace"},
		Resource{Package: "d"}, Resource{Package: "old", State: "absent"})
	if len(f.committed) != 3 {
		t.Fatalf("%d transactions", len(f.committed))
	}
	first := f.committed[0]
	if len(first.Install) != 2 || len(first.Remove) != 1 || first.options != (options{}) {
		t.Errorf("the first is %+v", first)
	}
}

func TestPackagesInTheMiddleOfAnotherTransactionArePending(t *testing.T) {
	w, f := fakeWorld(t)
	f.install("a", "1")
	r := f.have["a"]
	r.Status = unpacked
	f.have["a"] = r
	f.busy = true
	out := w.run(t.Context(), []Resource{{Package: "a"}})
	if out["a"].found.Pending == "" || f.repaired != 0 {
		t.Errorf("found %+v, repaired %d times", out["a"].found, f.repaired)
	}
	f.busy = false
	w.converge(Resource{Package: "a"})
	if f.repaired != 1 {
		t.Errorf("repaired %d times", f.repaired)
	}
}

func TestTreeThatCannotBeChangedIsPending(t *testing.T) {
	w, f := fakeWorld(t)
	f.ready = "no apt-get in the tree"
	out := w.run(t.Context(), []Resource{{Package: "a"}})
	if found := out["a"].found; found.Pending != f.ready || len(found.Diff) == 0 {
		t.Errorf("found %+v", found)
	}
}

func TestStoppedTransactionIsNotAPackagesFault(t *testing.T) {
	f := newFake()
	f.index["a"] = []string{"1"}
	ctx, cancel := context.WithCancel(t.Context())
	w := newWorld(t)
	w.manager = &stopping{f, cancel}
	out := w.run(ctx, []Resource{{Package: "a"}})
	if !errors.Is(out["a"].err, context.Canceled) {
		t.Errorf("error is %v", out["a"].err)
	}
}

// stopping is stopped in the middle of a transaction.
type stopping struct {
	*fake
	stop func()
}

func (s *stopping) Commit(ctx context.Context, _ transaction) error {
	s.stop()
	return ctx.Err()
}
