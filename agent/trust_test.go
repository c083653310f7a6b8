package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/state"
	"trued.dev/trued/modules"
)

// A guarded is a host that trusts signed commits alone, and the repository that
// it follows. Commits are made by git, ssh-keygen and gpg.
type guarded struct {
	*agent.Agent
	t               *testing.T
	dir, root, work string
	openpgp         bool
	lines           []string
}

func guard(t *testing.T, openpgp bool, lines ...string) *guarded {
	t.Helper()
	g := &guarded{t: t, dir: t.TempDir(), root: t.TempDir(), openpgp: openpgp, lines: lines}
	g.work = filepath.Join(g.dir, "work")
	g.sh("git init -q --bare -b main hosts.git; git init -q -b main work; git -C work remote add origin ../hosts.git")
	for _, key := range []string{"ada", "bob", "old", "new", "lost", "stranger"} {
		if openpgp {
			g.sh("mkdir -m 700 " + key)
			when := map[string]string{"old": "--faked-system-time 20200101T000000!", "new": "--faked-system-time 20900101T000000!"}[key]
			expires := map[string]string{"old": "1d"}[key]
			if expires == "" {
				expires = "0"
			}
			home := "--homedir " + filepath.Join(g.dir, key)
			g.sh("gpg -q --batch " + home + " " + when + " --passphrase '' --quick-generate-key '" + key + " <" + key + "@example.com>' ed25519 sign " + expires)
			g.sh("printf '#!/bin/sh\\nexec gpg --batch " + home + " " + when + " \"$@\"\\n' >" + key + ".sh; chmod +x " + key + ".sh")
			g.sh("gpg -q --batch --armor " + home + " --export >" + key + ".asc")
		} else {
			g.sh("ssh-keygen -q -t ed25519 -N '' -C '' -f " + key)
		}
	}
	if openpgp {
		g.sh("mkdir -m 700 all; sed 's/^://' lost/openpgp-revocs.d/*.rev >rev; gpg -q --batch --homedir $PWD/all --import lost.asc rev")
		g.sh("gpg -q --batch --armor --homedir $PWD/all --export >lost.asc; cat ada.asc bob.asc old.asc new.asc lost.asc >keyring.asc")
	} else {
		g.sh(`line() { echo "$1@example.com ${2-} $(cat $1.pub)"; }
			{ line ada; line bob 'namespaces="git"'; line old 'valid-before="20200101Z"'; line new 'valid-after="20900101Z"'; line lost; } >allowed_signers
			cp lost.pub revoked`)
	}
	g.open()
	t.Cleanup(func() { g.Close() })
	return g
}

func (g *guarded) sh(script string) string {
	g.t.Helper()
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = g.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		g.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

// open begins a new process, with the configuration as it is now.
func (g *guarded) open() {
	g.t.Helper()
	if g.Agent != nil {
		g.Close()
	}
	lines := g.lines
	if len(lines) == 0 {
		lines = []string{"trust:", "  require: signature", g.files()}
	}
	put(g.t, filepath.Join(g.dir, "trued.yaml"), fmt.Sprintf("sources:\n  - name: infra\n    url: %s/hosts.git\n    branch: main\n    group: groups/web\n    %s\n",
		g.dir, strings.Join(lines, "\n    ")))
	c, err := agent.LoadConfig(filepath.Join(g.dir, "trued.yaml"), false)
	if err != nil {
		g.t.Fatal(err)
	}
	g.Agent, err = agent.New(c, agent.Options{
		Root: g.root, Version: "1.0.0", Modules: modules.All, Log: slog.New(slog.DiscardHandler),
		ExitCode: func(agent.Verdict) int { return 0 },
	})
	if err != nil {
		g.t.Fatal(err)
	}
}

// files are the lines of the configuration that say who may sign.
func (g *guarded) files() string {
	if g.openpgp {
		return "  keyring: " + g.dir + "/keyring.asc"
	}
	return "  allowed_signers: " + g.dir + "/allowed_signers\n      revoked: " + g.dir + "/revoked"
}

// by are git's options that sign as somebody.
func (g *guarded) by(key string) string {
	if g.openpgp {
		return "-c gpg.program=" + g.dir + "/" + key + ".sh -c user.signingkey=" + key + "@example.com"
	}
	return "-c gpg.format=ssh -c user.signingkey=" + g.dir + "/" + key
}

// commit writes a text that the host is to have, and commits it; nobody signs it
// for "".
func (g *guarded) commit(key, text string) string {
	g.t.Helper()
	put(g.t, filepath.Join(g.work, "groups/web/a.yaml"), fmt.Sprintf("- file: /motd\n  content: %q\n", text))
	sign := "git -C work commit -q --allow-empty -m 'Say " + text + "'"
	if key != "" {
		sign = "git -C work " + g.by(key) + " commit -q --allow-empty -S -m 'Say " + text + "'"
	}
	return g.sh("git -C work add -A; " + sign + "; git -C work push -q -f origin HEAD:main; git -C work rev-parse HEAD")
}

func (g *guarded) run(req agent.Request) *agent.Result {
	g.t.Helper()
	req.Trigger, req.Fetch, req.Hasty = "sync", true, true
	r, err := g.Run(context.Background(), context.Background(), req)
	if err != nil {
		g.t.Fatal(err)
	}
	return r
}

func (g *guarded) motd() string {
	data, _ := os.ReadFile(filepath.Join(g.root, "motd"))
	return string(data)
}

// events are those of a type that were told since the last call.
func (g *guarded) events(kind report.Type) []report.Event {
	g.t.Helper()
	past, err := g.History(1000)
	if err != nil {
		g.t.Fatal(err)
	}
	var all []report.Event
	slices.SortFunc(past, func(a, b state.Past) int { return a.Run.Started.Compare(b.Run.Started) })
	for _, p := range past {
		for _, raw := range p.Events {
			var e report.Event
			if err := json.Unmarshal(raw, &e); err != nil {
				g.t.Fatal(err)
			}
			if e.Type == kind {
				all = append(all, e)
			}
		}
	}
	return all
}

// accept brings the host to a commit.
func (g *guarded) accept(commit, text string, req agent.Request) {
	g.t.Helper()
	r := g.run(req)
	if r.Verdict != agent.InOrder || r.Sources[0].Applied != commit || g.motd() != text {
		g.t.Fatalf("verdict %q at %s with %q and %s, want commit %s with %q", r.Verdict, r.Sources[0].Applied, g.motd(), r.Sources[0].Problem, commit, text)
	}
}

// refuse has the host refuse a commit, twice, and tell of it once.
func (g *guarded) refuse(commit, reason, signer string) {
	g.t.Helper()
	before, motd := len(g.events(report.SourceRefused)), g.motd()
	g.run(agent.Request{})
	g.open()
	r := g.run(agent.Request{})
	if motd == "" {
		if r.Verdict != agent.Unusable {
			g.t.Errorf("verdict %q, want %q", r.Verdict, agent.Unusable)
		}
	} else if r.Verdict != agent.Behind {
		g.t.Errorf("verdict %q, want %q", r.Verdict, agent.Behind)
	}
	if g.motd() != motd {
		g.t.Errorf("the host has %q and had %q", g.motd(), motd)
	}
	told := g.events(report.SourceRefused)[before:]
	if len(told) != 1 || told[0].ErrorType != reason || !strings.Contains(told[0].Message, commit) || !strings.Contains(told[0].Signer, signer) {
		g.t.Errorf("told %+v, want one refusal of %s as %q, signed by %q", told, commit, reason, signer)
	}
	status, err := g.Status(context.Background())
	if err != nil {
		g.t.Fatal(err)
	}
	if motd != "" && !strings.Contains(status.Line, commit) {
		g.t.Errorf("status says %q and not which commit is refused", status.Line)
	}
}

func TestOnlyWhatWasSignedByAListedKeyIsApplied(t *testing.T) {
	for _, openpgp := range []bool{false, true} {
		t.Run(map[bool]string{false: "SSH", true: "OpenPGP"}[openpgp], func(t *testing.T) {
			t.Parallel()
			g := guard(t, openpgp)
			first := g.commit("ada", "first")
			g.refuse(first, "no_anchor", "ada")
			g.accept(first, "first", agent.Request{AcceptHistory: true})

			for name, c := range map[string]struct {
				reason, signer string
				make           func() string
			}{
				"unsigned":      {"unsigned", "", func() string { return g.commit("", "bad") }},
				"of a stranger": {"unknown_key", "", func() string { return g.commit("stranger", "bad") }},
				"tampered with": {"bad_signature", "", func() string {
					g.commit("ada", "bad")
					return g.sh(`git -C work cat-file commit HEAD | sed 's/^Say bad$/Say worse/' >raw
						git -C work update-ref refs/heads/main $(git -C work hash-object -t commit -w ../raw)
						git -C work push -q -f origin main; git -C work rev-parse main`)
				}},
				"by a key that expired":          {"expired", "old", func() string { return g.commit("old", "bad") }},
				"by a key that is not yet valid": {"not_yet_valid", "new", func() string { return g.commit("new", "bad") }},
				"by a revoked key":               {"revoked", "lost", func() string { return g.commit("lost", "bad") }},
				"from the future": {"future", "", func() string {
					t.Helper()
					return g.sh("export GIT_COMMITTER_DATE='2035-01-01T00:00:00Z'; git -C work " + g.by("ada") +
						" commit -q --allow-empty -S -m Future; git -C work push -q -f origin HEAD:main; git -C work rev-parse HEAD")
				}},
				"dated before its parent": {"rewound", "", func() string {
					return g.sh("export GIT_COMMITTER_DATE='2021-01-01T00:00:00Z'; git -C work " + g.by("ada") +
						" commit -q --allow-empty -S -m Back; git -C work push -q -f origin HEAD:main; git -C work rev-parse HEAD")
				}},
			} {
				good := g.sh("git -C work rev-parse HEAD")
				bad := c.make()
				t.Log(name)
				g.refuse(bad, c.reason, c.signer)
				g.sh("git -C work reset -q --hard " + good)
				g.accept(g.commit("bob", "after "+name), "after "+name, agent.Request{})
			}
			status, err := g.Status(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if s := status.Sources[0].Trust; s.Level != "signature" || !strings.Contains(s.Signer, "bob@example.com") {
				t.Errorf("status says that the commit is trusted as %+v", s)
			}
			finished := g.events(report.RunFinished)
			if e := finished[len(finished)-1]; !strings.Contains(e.Signer, "bob@example.com") || e.Trust != "signature" {
				t.Errorf("the run's event says %q signed it, trust %q", e.Signer, e.Trust)
			}
		})
	}
}

// What a server has by the time that an operator accepts a commit is not what he
// looked at.
func TestAnOperatorAcceptsTheCommitThatHeLookedAt(t *testing.T) {
	t.Parallel()
	g := guard(t, false)
	earlier := g.commit("ada", "earlier")
	seen := g.commit("ada", "seen")
	g.refuse(seen, "no_anchor", "ada")
	serve := func(commit string) { g.sh("git -C hosts.git update-ref refs/heads/main " + commit) }
	serve(earlier)
	if r := g.run(agent.Request{AcceptCommit: seen[:12]}); r.Verdict != agent.Unusable || g.motd() != "" {
		t.Errorf("verdict %q with %q", r.Verdict, g.motd())
	}
	serve(seen)
	g.accept(seen, "seen", agent.Request{AcceptCommit: seen[:12]})
}

// A key that is revoked later stops what it signed from being new, and leaves the
// host as it is.
func TestAKeyThatIsRevokedTakesNothingAway(t *testing.T) {
	t.Parallel()
	g := guard(t, false)
	first := g.commit("ada", "first")
	g.accept(first, "first", agent.Request{AcceptHistory: true})
	g.sh("cat ada.pub >>revoked")
	before := len(g.events(report.SourceRefused))
	for _, script := range []string{"true", "true", "mv hosts.git away.git", "mv away.git hosts.git"} {
		g.sh(script)
		g.open()
		if r := g.run(agent.Request{}); r.Verdict != agent.Behind || g.motd() != "first" {
			t.Errorf("verdict %q with %q", r.Verdict, g.motd())
		}
	}
	if told := g.events(report.SourceRefused)[before:]; len(told) != 1 || told[0].ErrorType != "revoked" {
		t.Errorf("told %+v, want one refusal as revoked", told)
	}
	g.accept(g.commit("bob", "second"), "second", agent.Request{})
}

func TestEveryCommitSinceTheLastTrustedOneIsAskedForItsSignature(t *testing.T) {
	t.Parallel()
	g := guard(t, false)
	g.lines = []string{"trust:", "  require: history", g.files()}
	g.open()
	first := g.commit("ada", "first")
	g.accept(first, "first", agent.Request{AcceptHistory: true})

	// Signed, on top of one that is not.
	g.commit("", "sneaked in")
	g.commit("ada", "on top")
	evil := g.sh("git -C work rev-parse HEAD~1")
	g.refuse(evil, "unsigned", "")
	g.sh("git -C work reset -q --hard " + first)

	// A merge of what nobody signed, beside a good one.
	g.sh("git -C work checkout -q -b side; echo x >work/side; git -C work add -A; git -C work commit -q -m Side; git -C work checkout -q main")
	g.commit("ada", "beside")
	g.sh("git -C work " + g.by("ada") + " merge -q --no-ff -S -m Merge side; git -C work push -q -f origin HEAD:main")
	g.refuse(g.sh("git -C work rev-parse side"), "unsigned", "")
	g.sh("git -C work reset -q --hard " + first)

	for i := range 12 {
		g.commit([]string{"ada", "bob"}[i%2], fmt.Sprint("step ", i))
	}
	g.sh("git -C work checkout -q -b other HEAD~9; echo y >work/other; git -C work add -A; git -C work " + g.by("bob") + " commit -q -S -m Other; git -C work checkout -q main")
	g.sh("git -C work " + g.by("bob") + " merge -q --no-ff -S -m Merge other; git -C work push -q -f origin HEAD:main")
	g.accept(g.sh("git -C work rev-parse HEAD"), "step 11", agent.Request{})
}

func TestTheRepositoryListsItsOwnSigners(t *testing.T) {
	t.Parallel()
	g := guard(t, false)
	list := func(keys ...string) {
		var b strings.Builder
		for _, k := range keys {
			fmt.Fprintf(&b, "%s@example.com %s\n", k, g.sh("cat "+k+".pub"))
		}
		put(t, filepath.Join(g.work, ".trued/allowed_signers"), b.String())
	}
	list("ada")
	introduction := g.commit("ada", "first")
	g.lines = []string{"trust:", "  require: signature", "  signers: repository", "  introduction: " + introduction, "repository: infra-prod"}
	g.open()
	g.refuse(introduction, "foreign_repository", "")
	put(t, filepath.Join(g.work, "repository.yaml"), "name: infra-prod\n")
	g.accept(g.commit("ada", "named"), "named", agent.Request{})

	// Who adds a key is who is listed, not who comes.
	list("ada", "stranger")
	bad := g.commit("stranger", "let me in")
	g.refuse(bad, "unknown_key", "")
	g.sh("git -C work reset -q --hard HEAD~1")

	list("ada", "bob")
	g.accept(g.commit("ada", "bob comes"), "bob comes", agent.Request{})
	g.accept(g.commit("bob", "by bob"), "by bob", agent.Request{})
	list("ada")
	g.commit("ada", "bob goes")
	g.commit("ada", "one")
	g.commit("ada", "two")
	last := g.sh("git -C work rev-parse HEAD")
	g.accept(last, "two", agent.Request{})
	g.refuse(g.commit("bob", "bob was removed"), "unknown_key", "")
	g.sh("git -C work reset -q --hard " + last)

	put(t, filepath.Join(g.work, "repository.yaml"), "name: infra-dev\n")
	g.refuse(g.commit("ada", "of dev"), "foreign_repository", "")
	g.sh("git -C work reset -q --hard " + last)

	// All that the host knew is lost: it begins at the introduction again.
	if err := os.RemoveAll(filepath.Join(g.root, agent.StateDir)); err != nil {
		t.Fatal(err)
	}
	g.open()
	g.accept(g.commit("ada", "again"), "again", agent.Request{})
}

func TestASourceThatIsHeldBackIsToldOfOnce(t *testing.T) {
	t.Parallel()
	g := guard(t, false)
	g.lines = []string{"trust:", "  require: signature", "  fresh_within: 14d", g.files()}
	g.open()
	put(t, filepath.Join(g.work, "groups/web/a.yaml"), "- file: /motd\n  content: old\n")
	old := g.sh("export GIT_COMMITTER_DATE='" + time.Now().Add(-30*24*time.Hour).Format(time.RFC3339) + "'; git -C work add -A; git -C work " +
		g.by("ada") + " commit -q -S -m Old; git -C work push -q -f origin HEAD:main; git -C work rev-parse HEAD")
	g.accept(old, "old", agent.Request{AcceptHistory: true})
	for range 2 {
		g.open()
		g.accept(old, "old", agent.Request{})
	}
	if told := g.events(report.SourceStale); len(told) != 1 || told[0].ErrorType != "not_fresh" {
		t.Errorf("told %+v, want once that the source is stale", told)
	}
	put(t, filepath.Join(g.root, "motd"), "drifted")
	g.accept(old, "old", agent.Request{})
	g.accept(g.commit("ada", "new"), "new", agent.Request{})
}

// pin has an operator pin the host to a commit.
func (g *guarded) pin(commit string) (*agent.Result, error) {
	g.t.Helper()
	ctx := context.Background()
	return g.Run(ctx, ctx, agent.Request{Trigger: agent.OrderPin, Hasty: true, Order: &agent.Order{Do: agent.OrderPin, Commit: commit, Reason: "because"}})
}

func (g *guarded) wantNoPin(commit, says string) {
	g.t.Helper()
	var refused *agent.OrderError
	if _, err := g.pin(commit); !errors.As(err, &refused) || !strings.Contains(err.Error(), says) {
		g.t.Errorf("pinned to %s: %v, want a refusal that says %q", commit, err, says)
	}
}

// A pin, or a way back, to a commit that the host never had asks for its signature
// like any other, and for nothing else: it may be as old as it likes.
func TestAPinIsNoWayAroundASignature(t *testing.T) {
	for name, require := range map[string]string{"signature": "signature", "history": "history"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := guard(t, false)
			g.lines = []string{"trust:", "  require: " + require, g.files()}
			g.open()
			old := g.commit("bob", "old")
			unsigned := g.commit("", "unsigned")
			lost := g.commit("lost", "lost")
			stranger := g.commit("stranger", "stranger")
			g.commit("ada", "first")
			g.accept(g.sh("git -C work rev-parse HEAD"), "first", agent.Request{AcceptHistory: true})
			g.sh("git -C hosts.git config uploadpack.allowReachableSHA1InWant true")
			g.wantNoPin(unsigned, "it is not signed")
			g.wantNoPin(lost, "revoked")
			g.wantNoPin(stranger, "is not listed")
			g.open()
			if r, err := g.pin(old); err != nil || r.Verdict != agent.InOrder || g.motd() != "old" {
				t.Fatalf("%v, %+v and the host has %q", err, r, g.motd())
			}
			if s := g.run(agent.Request{}).Sources[0]; s.Applied != old || s.Problem != "" || !strings.Contains(s.Trust.Signer, "bob@example.com") {
				t.Errorf("at %s by %+v: %s", s.Applied, s.Trust, s.Problem)
			}
			// What the host was pinned to is not what trust goes on from: all that is
			// newer is held against the newest one.
			g.commit("", "sneaked in")
			sneaked := g.sh("git -C work rev-parse HEAD")
			if require == "history" {
				g.commit("ada", "on top")
			}
			g.run(agent.Request{})
			told := g.events(report.SourceRefused)
			if len(told) == 0 || !strings.Contains(told[len(told)-1].Message, sneaked) {
				t.Errorf("told %+v, want that %s is refused", told, sneaked)
			}
		})
	}
}

// What the host had before anything was required of it is asked for its signature
// when it is named.
func TestAPinToWhatTheHostHadBeforeIsJudged(t *testing.T) {
	t.Parallel()
	g := guard(t, false)
	g.lines = []string{"limits: {}"}
	g.open()
	signed := g.commit("ada", "signed")
	g.accept(signed, "signed", agent.Request{})
	unsigned := g.commit("", "unsigned")
	g.accept(unsigned, "unsigned", agent.Request{})
	last := g.commit("ada", "last")
	g.accept(last, "last", agent.Request{})
	g.lines = nil
	g.open()
	g.run(agent.Request{})
	g.sh("git -C hosts.git config uploadpack.allowReachableSHA1InWant true")
	g.wantNoPin(unsigned, "it is not signed")
	if r, err := g.pin(signed); err != nil || r.Verdict != agent.InOrder || g.motd() != "signed" {
		t.Errorf("%v, %+v and the host has %q", err, r, g.motd())
	}
}
