package agent

import (
	"fmt"
	"path/filepath"
	"testing"

	"trued.dev/trued/internal/source"
	"trued.dev/trued/internal/source/object"
	"trued.dev/trued/internal/trust"
)

// However much comes while a host is kept at one commit, it knows that it may be there.
func TestVerdictsOnWhatTheHostIsKeptAtAreNotForgotten(t *testing.T) {
	commit := func(n int) object.ID { return object.ID{0: byte(n), 19: 1} }
	w := &warden{
		judge: trust.NewJudge(trust.Config{}, source.ErrNoDescendant), file: filepath.Join(t.TempDir(), "trust.json"),
		applied: func() string { return commit(1).String() },
		kept:    func() []string { return []string{commit(3).String(), commit(7).String()} },
	}
	const all = 3 * keptVerdicts
	for n := range all {
		w.pending = trust.Verdict{Commit: commit(n).String(), Signer: fmt.Sprint(n)}
		if err := w.Tree(commit(n), nil); err != nil {
			t.Fatal(err)
		}
	}
	known := w.load().Verdicts
	if len(known) != keptVerdicts+3 || known[len(known)-1].Commit != commit(all-1).String() {
		t.Errorf("%d verdicts are known, the last on %s", len(known), known[len(known)-1].Commit)
	}
	for _, n := range []int{1, 3, 7, all - keptVerdicts} {
		if !w.knows(commit(n)) {
			t.Errorf("commit %d is forgotten", n)
		}
	}
	if w.knows(commit(2)) {
		t.Error("what the host is not brought to again is kept")
	}
}

func (w *warden) knows(id object.ID) bool {
	for _, v := range w.load().Verdicts {
		if v.Commit == id.String() {
			return true
		}
	}
	return false
}
