package agent_test

import (
	"strings"
	"testing"
	"time"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/window"
)

// never is a window that is not open for what it names.
func never(patterns ...string) window.Set {
	return window.Set{Allow: []window.Window{{Calendar: "2099-01-01 UTC", For: time.Hour, Resources: patterns}}}
}

// shut closes the windows of what is named, and opens all others.
func (s *standing) shut(patterns ...string) {
	s.t.Helper()
	if s.windows = (window.Set{}); len(patterns) > 0 {
		s.windows = never(patterns...)
	}
	s.open()
}

func (s *standing) wantSource(applied, quarantined string) {
	s.t.Helper()
	snap := s.snapshot()
	src, bad := snap.Sources[s.source], ""
	if src.Quarantine != nil {
		bad = src.Quarantine.Commit
	}
	if snap.Trial != nil || src.Applied != applied || bad != quarantined {
		s.t.Errorf("the host is at %s, %q is in quarantine and %+v on trial; want it at %s, with %q", src.Applied, bad, snap.Trial, applied, quarantined)
	}
}

// newest is the commit that the source has now.
func (s *standing) newest() string {
	s.t.Helper()
	src := s.snapshot().Sources[s.source]
	if src.Attempted != "" {
		return src.Attempted
	}
	return src.Applied
}

// What a commit changes when its window opens is on trial, however long it was
// healthy without.
func TestACommitIsOnTrialAgainForWhatHadToWait(t *testing.T) {
	for name, held := range map[string][]string{
		"a part of it":  {"file:/sick"},
		"the whole":     {"file:/**"},
		"what it takes": {"file:/sick", "file:/only-good"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := tried(t, goodManifest)
			s.converge()
			good := s.snapshot().Sources[s.source].Applied
			s.shut(held...)
			s.write("groups/web/a.yaml", badManifest)
			if res := s.converge(); res.Counts.Held == 0 || res.Verdict != agent.Differs {
				t.Fatalf("%s: %+v", res.Verdict, res.Counts)
			}
			bad := s.newest()
			s.wantSource(bad, "")
			// What drifts meanwhile is no part of it.
			s.put("kept", "drifted\n")
			s.converge()
			if got := s.told("commit.quarantined"); len(got) > 0 {
				t.Errorf("told %v", got)
			}
			s.shut()
			if res := s.converge(); res.Run.Trigger != "rollback" {
				t.Errorf("%s after %s", res.Verdict, res.Run.Trigger)
			}
			s.wantSource(good, bad)
			s.wantFile("kept", "good\n")
			s.wantFile("only-good", "x\n")
			s.wantFile("before", "")
			s.wantFile("sick", "")
		})
	}
}

// The way back leads to the last commit that is known to be good as far as it was
// applied, and makes nothing that waits for its window.
func TestTheWayBackMakesNothingThatWaits(t *testing.T) {
	for name, first := range map[string]bool{"from the first commit on": true, "later": false} {
		t.Run(name, func(t *testing.T) {
			const part = "- file: /kept\n  content: \"part\\n\"\n- file: /night\n  content: \"new\\n\"\n"
			s, _ := tried(t, "- file: /night\n  content: \"old\\n\"\n")
			night := ""
			if !first {
				s.converge()
				night = "old\n"
			}
			s.shut("file:/night")
			s.write("groups/web/a.yaml", part)
			s.converge()
			half := s.newest()
			s.wantFile("night", night)
			s.write("groups/web/a.yaml", part+"- file: /sick\n  content: \"503\"\n")
			if res := s.converge(); res.Run.Trigger != "rollback" || res.Counts.Held != 1 {
				t.Errorf("%s after %s: %+v", res.Verdict, res.Run.Trigger, res.Counts)
			}
			s.wantSource(half, s.newest())
			s.wantFile("kept", "part\n")
			s.wantFile("night", night)
			s.wantFile("sick", "")
			// It is made when its window opens, and is no fault of the bad commit.
			s.shut()
			s.converge()
			s.wantFile("night", "new\n")
			s.wantFile("sick", "")
		})
	}
}

// When what waited for several commits is made at once and is bad, none of these is
// where the host goes back to.
func TestTheWayBackFromWhatWaitedLeadsToWhereNothingDid(t *testing.T) {
	s, _ := tried(t, goodManifest)
	s.converge()
	good := s.newest()
	s.shut("file:/sick")
	s.write("groups/web/a.yaml", goodManifest+"- file: /sick\n  content: \"503\"\n")
	s.converge()
	s.write("groups/web/a.yaml", strings.ReplaceAll(goodManifest, "good", "newer")+"- file: /sick\n  content: \"503\"\n")
	s.converge()
	s.wantFile("kept", "newer\n")
	bad := s.newest()
	s.shut()
	s.converge()
	s.wantSource(good, bad)
	s.wantFile("kept", "good\n")
	s.wantFile("sick", "")
}

func TestGoingBackByHandFromACommitThatWaits(t *testing.T) {
	s, _ := tried(t, goodManifest)
	s.converge()
	good := s.newest()
	s.shut("file:/**")
	s.write("groups/web/a.yaml", strings.ReplaceAll(goodManifest, "good", "newer"))
	s.converge()
	waits := s.newest()
	s.mustOrder(agent.Order{Do: agent.OrderRollback}, agent.Behind)
	s.wantSource(good, waits)
	s.wantFile("kept", "good\n")
}
