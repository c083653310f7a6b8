package agent_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/state"
)

// order has an order carried out, in a process of its own.
func (s *standing) order(o agent.Order) (*agent.Result, error) {
	s.t.Helper()
	s.open()
	o.Reason, o.By = "because", "ada"
	ctx := context.Background()
	return s.Converge(ctx, ctx, agent.Request{Trigger: o.Do, Order: &o, Hasty: true})
}

// mustOrder is order that must come to a verdict.
func (s *standing) mustOrder(o agent.Order, want agent.Verdict) {
	s.t.Helper()
	res, err := s.order(o)
	s.must(err)
	if res.Verdict != want {
		s.t.Errorf("%s: %s: %s", o.Do, res.Verdict, res.Run.Summary)
	}
}

func (s *standing) wantRefused(o agent.Order, says string) {
	s.t.Helper()
	before := s.ledger()
	_, err := s.order(o)
	var refused *agent.OrderError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), says) {
		s.t.Errorf("%+v: %v, want a refusal that says %q", o, err, says)
	}
	if s.ledger() != before {
		s.t.Errorf("%+v was refused, and changed the state", o)
	}
}

// versions makes a host that was healthy with some versions of a file, and returns
// their commits.
func versions(t *testing.T, names ...string) (*standing, []string) {
	t.Helper()
	s, _ := tried(t, goodManifest)
	var commits []string
	for _, name := range names {
		s.write("groups/web/a.yaml", "- file: /kept\n  content: \""+name+"\\n\"\n- file: /of-"+name+"\n  content: x\n")
		s.converge()
		commits = append(commits, s.snapshot().Sources[s.source].Applied)
	}
	return s, commits
}

func TestAnOperatorGoesBackAndForth(t *testing.T) {
	s, commits := versions(t, "one", "two", "three")
	s.mustOrder(agent.Order{Do: agent.OrderRollback}, agent.Behind)
	s.wantFile("kept", "two\n")
	s.wantFile("of-three", "")
	s.wantFile("of-two", "x")
	st, err := s.Status(t.Context())
	s.must(err)
	if src := st.Sources[0]; src.Applied != commits[1] || src.Quarantine.Commit != commits[2] || src.Quarantine.By != "ada" || !strings.Contains(st.Line, "by ada: because") {
		t.Errorf("%s %+v", st.Line, src)
	}
	s.wantRefused(agent.Order{Do: agent.OrderRollback}, "already")
	// It stays there, and other commits are named.
	s.open()
	s.converge()
	s.wantFile("kept", "two\n")
	s.mustOrder(agent.Order{Do: agent.OrderRollback, Commit: commits[0][:9]}, agent.Behind)
	s.wantFile("kept", "one\n")
	s.mustOrder(agent.Order{Do: agent.OrderRetry}, agent.InOrder)
	s.wantFile("kept", "three\n")
	s.wantRefused(agent.Order{Do: agent.OrderRetry}, "no commit is in quarantine")
	s.wantRefused(agent.Order{Do: agent.OrderRollback, Commit: commits[2]}, "is the newest")
	s.wantRefused(agent.Order{Do: agent.OrderRollback, Commit: "abcdef"}, "knows no commit")
	s.wantRefused(agent.Order{Do: agent.OrderRollback, Commit: strings.Repeat("a", 40)}, "was never at commit")
	s.wantRefused(agent.Order{Do: agent.OrderUnpin}, "is not pinned")
	s.wantRefused(agent.Order{Do: agent.OrderRollback, Source: "other"}, "no source")
	if got, want := s.told("commit."), []string{"commit.quarantined", "commit.quarantined", "commit.released"}; !slices.Equal(slices.DeleteFunc(got, func(e string) bool { return e == "commit.confirmed" }), want) {
		t.Errorf("told %v, want %v", got, want)
	}
}

func TestAPinOutlivesNewerCommits(t *testing.T) {
	s, commits := versions(t, "one", "two")
	s.mustOrder(agent.Order{Do: agent.OrderPin, Commit: commits[0]}, agent.InOrder)
	s.wantFile("kept", "one\n")
	s.wantFile("of-two", "")
	s.write("groups/web/a.yaml", strings.ReplaceAll(goodManifest, "good", "three"))
	s.converge()
	s.wantFile("kept", "one\n")
	s.wantRefused(agent.Order{Do: agent.OrderRollback}, "is pinned")
	st, err := s.Status(t.Context())
	s.must(err)
	if !strings.Contains(st.Line, "pinned") || st.Sources[0].Pin.Reason != "because" {
		t.Errorf("%s %+v", st.Line, st.Sources[0].Pin)
	}
	s.mustOrder(agent.Order{Do: agent.OrderUnpin}, agent.InOrder)
	s.wantFile("kept", "three\n")
	if got := s.told("commit.pin"); len(got) != 1 {
		t.Errorf("told %v", got)
	}
}

func TestAPinThatIsOldIsWarnedOfOnceAWeek(t *testing.T) {
	s, commits := versions(t, "one", "two")
	s.mustOrder(agent.Order{Do: agent.OrderPin, Commit: commits[0]}, agent.InOrder)
	store, err := state.Open(s.at("var/lib/trued"))
	s.must(err)
	src := store.Snapshot().Sources[s.source]
	src.Pin.Since = time.Now().Add(-8 * 24 * time.Hour)
	s.must(store.Append(state.Record{Sources: map[string]state.Source{s.source: src}}))
	store.Close()
	s.open()
	s.converge()
	s.converge()
	if got := s.told("commit.pinned"); len(got) != 2 {
		t.Errorf("told %d times, want once and one warning", len(got))
	}
}

// A pin is no way around the proof of health.
func TestAPinnedCommitThatMakesTheHostSickIsGoneBackFrom(t *testing.T) {
	s, commits := versions(t, "one", "two")
	s.mustOrder(agent.Order{Do: agent.OrderPin, Commit: commits[1]}, agent.InOrder)
	s.write("groups/web/a.yaml", badManifest)
	s.converge()
	bad := s.snapshot().Sources[s.source].Attempted
	s.mustOrder(agent.Order{Do: agent.OrderPin, Commit: bad}, agent.Behind)
	s.wantFile("kept", "two\n")
	s.wantFile("sick", "")
}

// What is bad stays so while the host is pinned to something older.
func TestAPinDoesNotReleaseTheNewestCommit(t *testing.T) {
	s, commits := versions(t, "one", "two")
	s.write("groups/web/a.yaml", badManifest)
	s.converge()
	bad := s.newest()
	s.mustOrder(agent.Order{Do: agent.OrderPin, Commit: commits[0]}, agent.InOrder)
	s.wantFile("kept", "one\n")
	s.wantSource(commits[0], bad)
	s.mustOrder(agent.Order{Do: agent.OrderUnpin}, agent.Behind)
	s.wantSource(commits[0], bad)
	if got := s.told("commit.quarantined"); len(got) != 1 {
		t.Errorf("told %v", got)
	}
}

// One bad commit after another, and one that comes back: each is gone back from to
// the last good one.
func TestBadCommitsFollowEachOther(t *testing.T) {
	s, _ := versions(t, "one")
	good := s.newest()
	s.write("groups/web/a.yaml", badManifest)
	s.converge()
	first := s.newest()
	s.wantSource(good, first)
	s.write("groups/web/a.yaml", strings.ReplaceAll(badManifest, "bad", "worse"))
	s.converge()
	s.wantSource(good, s.newest())
	// A force-push brings the first one back: there was a newer one, so it is tried.
	s.write("groups/web/a.yaml", badManifest)
	s.converge()
	if back := s.newest(); back != first {
		t.Fatalf("the newest commit is %s and was %s", back, first)
	}
	s.wantSource(good, first)
	s.wantFile("kept", "one\n")
	s.converge()
	if got := s.told("commit.quarantined"); len(got) != 3 {
		t.Errorf("told %d times, want each time that one was tried", len(got))
	}
	// And a good one on top of it is good.
	s.write("groups/web/a.yaml", goodManifest)
	s.converge()
	s.wantSource(s.newest(), "")
}

// A good commit that comes while a bad one is on trial takes its place.
func TestANewerCommitEndsATrial(t *testing.T) {
	s, _ := versions(t, "one")
	good := s.newest()
	s.write("groups/web/a.yaml", badManifest)
	s.run() // and nobody has looked yet
	s.write("groups/web/a.yaml", goodManifest)
	s.converge()
	next := s.newest()
	s.wantSource(next, "")
	s.wantFile("sick", "")
	if got := s.told("commit.quarantined"); len(got) > 0 {
		t.Errorf("told %v", got)
	}
	if was := s.snapshot().Sources[s.source].Previous; len(was) == 0 || was[0].Commit != good {
		t.Errorf("before it was %+v, want the last one that was confirmed", was)
	}
}

func TestGoingBackByHandFromWhatIsOnTrial(t *testing.T) {
	s, _ := tried(t, goodManifest)
	s.converge()
	s.write("groups/web/a.yaml", badManifest)
	s.run() // and nobody has looked yet
	s.must(os.Remove(filepath.Join(s.root, "sick")))
	s.mustOrder(agent.Order{Do: agent.OrderRollback}, agent.Behind)
	s.wantFile("kept", "good\n")
	if snap := s.snapshot(); snap.Trial != nil || snap.Sources[s.source].Quarantine == nil {
		t.Errorf("%+v %+v", snap.Trial, snap.Sources[s.source])
	}
}
