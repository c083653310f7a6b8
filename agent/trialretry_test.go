package agent_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"trued.dev/trued/agent"
)

// retry is a run that tries again what failed, and what comes of it.
func (s *standing) retry() *agent.Result {
	s.t.Helper()
	ctx := context.Background()
	res, err := s.Converge(ctx, ctx, agent.Request{Trigger: "retry", Fetch: true, Hasty: true})
	s.must(err)
	return res
}

// blocked is a host that was healthy with a commit of which one file could not be
// written, and that is sick once it can. bad is the manifest of that one.
func blocked(t *testing.T) (s *standing, good, bad string) {
	t.Helper()
	s, _ = tried(t, goodManifest)
	s.converge()
	good = s.newest()
	const sick = "- file: /sick\n  content: \"503\"\n"
	bad = strings.Replace(badManifest, sick, sick+"  validate: test -e "+s.at("allowed")+"\n", 1)
	s.write("groups/web/a.yaml", bad)
	if res := s.converge(); res.Verdict != agent.Failed {
		t.Fatalf("%s: %s", res.Verdict, res.Run.Summary)
	}
	s.wantSource(s.newest(), "")
	s.wantFile("kept", "bad\n")
	return s, good, bad
}

func (s *standing) unblock() { s.t.Helper(); s.put("allowed", "") }

// What a commit could not change at first is on trial when it can, however long the
// host was healthy without.
func TestACommitIsOnTrialAgainForWhatFailedAtFirst(t *testing.T) {
	s, good, _ := blocked(t)
	bad := s.newest()
	s.retry() // in vain
	s.wantSource(bad, "")
	s.unblock()
	if res := s.retry(); res.Run.Trigger != "rollback" {
		t.Errorf("%s after %s: %s", res.Verdict, res.Run.Trigger, res.Run.Summary)
	}
	s.wantSource(good, bad)
	s.wantFile("kept", "good\n")
	s.wantFile("only-good", "x\n")
	s.wantFile("before", "")
	s.wantFile("sick", "")
}

// A try that comes to nothing is no reason to go back, also where the host is not
// healthy meanwhile.
func TestATryThatFailsAgainIsNotGoneBackFrom(t *testing.T) {
	s, _, _ := blocked(t)
	bad := s.newest()
	s.health.(*doctor).sick = func() string { return "by itself" }
	if res := s.retry(); res.Run.Trigger == "rollback" || res.Unwell == "" {
		t.Errorf("%s after %s", res.Verdict, res.Run.Trigger)
	}
	s.wantSource(bad, "")
	s.wantFile("kept", "bad\n")
}

// What fails for long does not have the host go back over what was good meanwhile.
func TestACommitAfterOneThatFailsIsGoneBackFromToThatOne(t *testing.T) {
	s, _, bad := blocked(t)
	s.write("groups/web/a.yaml", bad+"- file: /more\n  content: x\n")
	s.converge()
	between := s.newest()
	s.wantSource(between, "")
	s.health.(*doctor).sick = func() string {
		if _, err := os.Stat(s.at("sicker")); err == nil {
			return "since the last one"
		}
		return ""
	}
	s.write("groups/web/a.yaml", bad+"- file: /more\n  content: x\n- file: /sicker\n  content: x\n")
	if res := s.retry(); res.Run.Trigger != "rollback" {
		t.Errorf("%s after %s: %s", res.Verdict, res.Run.Trigger, res.Run.Summary)
	}
	s.wantSource(between, s.newest())
	s.wantFile("more", "x")
	s.wantFile("sicker", "")
}

// Commits that are about other hosts do not hide which one it was that could not be
// brought about.
func TestACommitThatChangesNothingDoesNotHideWhatFailedBefore(t *testing.T) {
	s, good, bad := blocked(t)
	s.write("groups/web/a.yaml", bad+"# about something else\n")
	s.converge()
	s.wantSource(s.newest(), "")
	s.unblock()
	s.retry()
	s.wantSource(good, s.newest())
	s.wantFile("kept", "good\n")
	s.wantFile("sick", "")
}
