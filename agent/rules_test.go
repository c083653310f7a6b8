package agent_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"trued.dev/trued/agent"
)

func (k *kept) rules(text string) {
	k.t.Helper()
	put(k.t, filepath.Join(k.root, "etc/trued/policy.yaml"), text)
}

// ask runs once and returns the verdict and the summary.
func (k *kept) ask() (agent.Verdict, string) {
	k.t.Helper()
	ctx := context.Background()
	res, err := k.Run(ctx, ctx, agent.Request{Trigger: "sync", Fetch: true, Hasty: true})
	if err != nil {
		k.t.Fatal(err)
	}
	summary := res.Run.Summary
	for _, i := range res.Run.Issues {
		summary += fmt.Sprintf("\n%s: %s", i.Resource, i.Why)
	}
	return res.Verdict, summary
}

func (k *kept) holds(name, want string) {
	k.t.Helper()
	got, err := os.ReadFile(filepath.Join(k.root, name))
	if want == "" && os.IsNotExist(err) {
		return
	}
	if err != nil || string(got) != want {
		k.t.Errorf("%s holds %q, error %v; want %q", name, got, err, want)
	}
}

const (
	good      = "- file: /srv/app/a\n  content: one\n  parents: true\n"
	underApp  = "rules:\n  - name: stays\n    require: within(\"/srv/app\")\n"
	noLonger  = "rules:\n  - name: nothing\n    deny: len(paths) > 0\n"
	elsewhere = "- file: /etc/passwd\n  content: mine\n"
)

func ruled(t *testing.T) *kept {
	t.Helper()
	k := keep(t)
	if err := os.Remove(filepath.Join(k.source, "groups/web/files/f")); err != nil {
		t.Fatal(err)
	}
	k.write("groups/web/a.yaml", good)
	if err := os.MkdirAll(filepath.Join(k.root, "srv/app"), 0o755); err != nil {
		t.Fatal(err)
	}
	return k
}

func TestACommitThatBreaksARuleIsRefusedAsAWhole(t *testing.T) {
	k := ruled(t)
	k.rules(underApp)
	k.run("srv/app/a", "one")
	k.write("groups/web/a.yaml", "- file: /srv/app/a\n  content: two\n"+elsewhere)
	verdict, summary := k.ask()
	if verdict != agent.Behind || !strings.Contains(summary, `groups/web/a.yaml:3:3: file:/etc/passwd breaks the rule "stays"`) {
		t.Errorf("%s: %s", verdict, summary)
	}
	k.holds("srv/app/a", "one")
	k.holds("etc/passwd", "")
	if err := os.Remove(filepath.Join(k.root, "srv/app/a")); err != nil {
		t.Fatal(err)
	}
	if verdict, summary = k.ask(); verdict != agent.Behind {
		t.Errorf("%s: %s", verdict, summary)
	}
	k.holds("srv/app/a", "one") // the last good one is still enforced
	k.write("groups/web/a.yaml", "- file: /srv/app/a\n  content: three\n")
	k.run("srv/app/a", "three")
}

func TestOtherRulesCountFromTheNextRunOn(t *testing.T) {
	k := ruled(t)
	k.run("srv/app/a", "one")
	k.run("srv/app/a", "one") // by its witnesses
	k.rules(noLonger)
	if verdict, summary := k.ask(); verdict != agent.Unusable {
		t.Errorf("%s: %s", verdict, summary)
	}
	k.holds("srv/app/a", "one") // what is there stays
	k.rules(underApp)
	k.run("srv/app/a", "one")
	if err := os.Remove(filepath.Join(k.root, "etc/trued/policy.yaml")); err != nil {
		t.Fatal(err)
	}
	k.write("groups/web/a.yaml", elsewhere)
	k.run("etc/passwd", "mine")
}

func TestRulesThatOthersCanChangeOrThatAreBrokenEnforceNothing(t *testing.T) {
	k := ruled(t)
	name := filepath.Join(k.root, "etc/trued/policy.yaml")
	k.rules(underApp)
	for what, spoil := range map[string]func() error{
		"group's":   func() error { return os.Chmod(name, 0o620) },
		"directory": func() error { return os.Chmod(filepath.Dir(name), 0o777) },
		"broken":    func() error { return os.WriteFile(name, []byte("rules: [{name: a, deny: x}]"), 0o600) },
		"empty":     func() error { return os.WriteFile(name, nil, 0o600) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if verdict, summary := k.ask(); verdict != agent.Unusable || !strings.Contains(summary, "policy.yaml") {
			t.Errorf("%s: %s: %s", what, verdict, summary)
		}
		k.holds("srv/app/a", "")
		if err := os.Chmod(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		k.rules(underApp)
	}
	k.run("srv/app/a", "one")
}

func TestALinkOfTheHostLeadsAroundNoRule(t *testing.T) {
	k := ruled(t)
	k.rules(underApp)
	if err := os.Symlink("/etc", filepath.Join(k.root, "srv/app/etc")); err != nil {
		t.Fatal(err)
	}
	k.write("groups/web/a.yaml", "- file: /srv/app/etc/passwd\n  content: mine\n")
	if verdict, summary := k.ask(); verdict != agent.Unusable || !strings.Contains(summary, `breaks the rule "stays"`) {
		t.Errorf("%s: %s", verdict, summary)
	}
	k.holds("etc/passwd", "")
}

func TestWhatLeavesGoesUnderRules(t *testing.T) {
	k := ruled(t)
	k.rules(underApp)
	k.write("groups/web/a.yaml", good+"- file: /srv/app/d/b\n  content: b\n  parents: true\n")
	k.run("srv/app/d/b", "b")
	k.write("groups/web/a.yaml", good)
	k.run("srv/app/a", "one")
	k.holds("srv/app/d/b", "")
}

func TestWhatMovesLeavesItsOldPlaceUnderRules(t *testing.T) {
	for kind, text := range map[string]string{
		"line":  "- line: x\n  path: %s\n  text: x = 1\n  create: true\n",
		"block": "- block: x\n  path: %s\n  content: x = 1\n  create: true\n",
		"ini":   "- ini: x\n  path: %s\n  section: s\n  key: x\n  value: \"1\"\n  create: true\n",
	} {
		t.Run(kind, func(t *testing.T) {
			k := ruled(t)
			k.rules("rules: [{name: no setuid, deny: setuid}]\n")
			put(t, filepath.Join(k.root, "etc/a"), "mine\n")
			put(t, filepath.Join(k.root, "etc/b"), "mine\n")
			k.write("groups/web/a.yaml", fmt.Sprintf(text, "/etc/a"))
			if verdict, summary := k.ask(); verdict != agent.InOrder {
				t.Fatalf("%s: %s", verdict, summary)
			}
			there, err := os.ReadFile(filepath.Join(k.root, "etc/a"))
			if err != nil {
				t.Fatal(err)
			}
			k.write("groups/web/a.yaml", fmt.Sprintf(text, "/etc/b"))
			for range 2 {
				if verdict, summary := k.ask(); verdict != agent.InOrder {
					t.Errorf("%s: %s", verdict, summary)
				}
				k.holds("etc/a", "mine\n")
				k.holds("etc/b", string(there))
			}
		})
	}
}

func TestAnEntryOfCronLeavesItsOwnFileUnderRules(t *testing.T) {
	k := ruled(t)
	k.rules("rules: [{name: no setuid, deny: setuid}]\n")
	put(t, filepath.Join(k.root, "etc/passwd"), "root:x:0:0::/root:/bin/sh\n")
	if err := os.MkdirAll(filepath.Join(k.root, "var/spool/cron/crontabs"), 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(k.root, "var/spool/cron/crontabs/root"), "")
	for _, crontab := range []bool{false, true, false} {
		k.write("groups/web/a.yaml", fmt.Sprintf("- {cron: x, schedule: '@daily', run: 'true', user: root, crontab: %t}\n", crontab))
		if verdict, summary := k.ask(); verdict != agent.InOrder {
			t.Errorf("%s: %s", verdict, summary)
		}
		if _, err := os.Stat(filepath.Join(k.root, "etc/cron.d/x")); (err == nil) == crontab {
			t.Errorf("with crontab %t its own file: %v", crontab, err)
		}
	}
	k.holds("var/spool/cron/crontabs/root", "")
}

func TestWhatIgnoresItsTextLeavesItsOldPlaceAllTheSame(t *testing.T) {
	for kind, text := range map[string]string{
		"line":  "- line: x\n  path: %s\n  text: x = 1\n  ignore: [text]\n",
		"block": "- block: x\n  path: %s\n  content: x = 1\n  ignore: [content]\n",
		"ini":   "- ini: x\n  path: %s\n  section: s\n  key: x\n  value: \"1\"\n  ignore: [value]\n",
	} {
		t.Run(kind, func(t *testing.T) {
			k := ruled(t)
			put(t, filepath.Join(k.root, "etc/a"), "mine\n")
			put(t, filepath.Join(k.root, "etc/b"), "others\n")
			before, _, _ := strings.Cut(text, "  ignore")
			k.write("groups/web/a.yaml", fmt.Sprintf(before, "/etc/a"))
			if verdict, summary := k.ask(); verdict != agent.InOrder {
				t.Fatalf("%s: %s", verdict, summary)
			}
			k.write("groups/web/a.yaml", fmt.Sprintf(text, "/etc/b"))
			if verdict, summary := k.ask(); verdict != agent.InOrder {
				t.Errorf("%s: %s", verdict, summary)
			}
			k.holds("etc/a", "mine\n")
			k.holds("etc/b", "others\n")
		})
	}
}

func TestWhatMovesGivesNothingBackOverALink(t *testing.T) {
	k := ruled(t)
	k.rules("rules: [{name: no setuid, deny: setuid}]\n")
	at := filepath.Join(k.root, "etc/a")
	put(t, at, "mine\n")
	k.write("groups/web/a.yaml", "- line: x\n  path: /etc/a\n  text: x = 1\n")
	k.run("etc/a", "mine\nx = 1\n")
	put(t, filepath.Join(k.root, "etc/victim"), "x = 1\n")
	if err := os.Remove(at); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/victim", at); err != nil {
		t.Fatal(err)
	}
	k.write("groups/web/a.yaml", "- line: x\n  path: /etc/b\n  text: x = 1\n  create: true\n")
	if verdict, summary := k.ask(); verdict == agent.InOrder || !strings.Contains(summary, "may not write") {
		t.Errorf("%s: %s", verdict, summary)
	}
	k.holds("etc/victim", "x = 1\n")
}
