package agent_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/wayback"
)

const (
	rulesFile   = "etc/trued/policy.yaml"
	someRules   = "rules:\n  - name: not here\n    deny: touches(\"/opt\")\n"
	breaksRules = "- file: /etc/trued/policy.yaml\n  content: nonsense\n"
)

// A commit that breaks the host's own rules, without which nothing is enforced, is gone
// back from, by the rules that there were.
func TestACommitThatBreaksTheHostsRulesIsGoneBackFrom(t *testing.T) {
	for name, before := range map[string]string{"there were some": someRules, "there were none": ""} {
		t.Run(name, func(t *testing.T) {
			s, _ := tried(t, goodManifest)
			if before != "" {
				s.put(rulesFile, before)
			}
			s.converge()
			good := s.newest()
			s.write("groups/web/a.yaml", strings.ReplaceAll(goodManifest, "good", "bad")+breaksRules)
			s.run()
			bad := s.newest()
			// This is what arms the way back, on a host that runs.
			way := wayback.Dir(s.at("var/lib/trued/wayback"))
			old := filepath.Join(t.TempDir(), "rules")
			if before != "" {
				put(t, old, before)
			}
			s.must(way.Arm(wayback.Order{Run: s.snapshot().Trial.Run}, "/proc/self/exe", s.at("none"), old))

			res := s.converge()
			if res.Run.Trigger != "rollback" {
				t.Errorf("%s after %s: %s", res.Verdict, res.Run.Trigger, res.Run.Summary)
			}
			s.wantSource(good, bad)
			s.wantFile("kept", "good\n")
			s.wantFile(rulesFile, before)
			if why := s.snapshot().Sources[s.source].Quarantine.Why; !strings.Contains(why, "rules: ") {
				t.Errorf("in quarantine because of %q", why)
			}
		})
	}
}

// Who does not write the rules has not broken them: an operator's slip of the pen is
// no reason to go back from a good commit.
func TestACommitIsNotBlamedForRulesThatAnOperatorBreaks(t *testing.T) {
	s, _ := tried(t, goodManifest)
	s.put(rulesFile, someRules)
	s.converge()
	s.write("groups/web/a.yaml", strings.ReplaceAll(goodManifest, "good", "better"))
	s.run()
	s.put(rulesFile, "nonsense")
	s.converge()
	s.wantFile("kept", "better\n")
	if q := s.snapshot().Sources[s.source].Quarantine; q != nil {
		t.Errorf("in quarantine because of %q", q.Why)
	}
}

// A link to the directory, and a directory that others may write to, are the rules
// as well.
func TestACommitIsBlamedForWhatIsAboveTheRules(t *testing.T) {
	for name, manifest := range map[string]string{
		"by a link": "- {file: /link/policy.yaml, content: nonsense}\n", "above": "- {directory: /etc/trued, mode: \"0777\"}\n",
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := tried(t, goodManifest)
			s.put(rulesFile, someRules)
			s.must(os.Symlink("/etc/trued", s.at("link")))
			s.converge()
			s.write("groups/web/a.yaml", strings.ReplaceAll(goodManifest, "good", "bad")+manifest)
			s.converge()
			if q := s.snapshot().Sources[s.source].Quarantine; q == nil || !strings.Contains(q.Why, "rules: ") {
				t.Errorf("in quarantine: %v", q)
			}
		})
	}
}

// Rules that somebody else broke count all the same: nobody knows any that do.
func TestWithoutRulesFromBeforeNothingIsGoneBackFrom(t *testing.T) {
	s, _ := tried(t, goodManifest)
	s.put(rulesFile, someRules)
	s.converge()
	s.write("groups/web/a.yaml", badManifest)
	s.run()
	s.put(rulesFile, "nonsense")
	ctx := context.Background()
	res, err := s.GoBack(ctx, ctx, "bad", agent.Request{})
	s.must(err)
	if res.Verdict != agent.Unusable || !strings.Contains(res.Run.Summary, "rules") {
		t.Errorf("%s: %s", res.Verdict, res.Run.Summary)
	}
	s.wantFile("kept", "bad\n")
	s.must(os.Remove(s.at(rulesFile)))
	s.converge()
	s.wantFile("kept", "good\n")
}

// Whoever finds an order that nobody can read knows that there is one.
func TestAnOrderToGoBackThatCannotBeReadCountsAnew(t *testing.T) {
	s, _ := tried(t, goodManifest)
	s.converge()
	s.put("var/lib/trued/wayback/armed", "{\"run\":")
	ctx := context.Background()
	if res, err := s.Rescue(ctx, ctx, agent.Request{}); res != nil || err != nil {
		t.Fatal(res, err)
	}
	o, err := wayback.Dir(s.at("var/lib/trued/wayback")).Order()
	if err != nil || o == nil || o.Phase != wayback.Waiting || o.ConfirmWithin == 0 {
		t.Errorf("%+v, %v", o, err)
	}
}
