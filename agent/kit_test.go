package agent_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/modules"
)

// A kept is an agent over a source of one file, that counts how often its
// modules were made.
type kept struct {
	*agent.Agent
	t            testing.TB
	source, root string
	made         int
	// health tells how the host does; nil where nobody asks.
	health func(*host.Host) agent.Prober
}

func keep(t testing.TB) *kept {
	t.Helper()
	k := &kept{t: t, source: t.TempDir(), root: t.TempDir()}
	// What is followed has no witness, so each run needs what is loaded.
	k.write("groups/web/a.yaml", "- file: /f\n  source: files/f\n  follow: true\n- file: /n\n  content: \"{{ facts.local.n }}\"\n")
	k.write("groups/web/files/f", "one\n")
	k.fact("n: 1\n")
	k.open()
	return k
}

func (k *kept) open() {
	k.t.Helper()
	c, err := agent.LoadConfig(filepath.Join(k.root, "none"), true)
	if err != nil {
		k.t.Fatal(err)
	}
	if err := c.UseSource(k.source, "groups/web"); err != nil {
		k.t.Fatal(err)
	}
	k.made = 0
	k.Agent, err = agent.New(c, agent.Options{
		Root: k.root, Version: "1.0.0", Health: k.health, Log: slog.New(slog.DiscardHandler),
		ExitCode: func(agent.Verdict) int { return 0 },
		Modules: func(h *host.Host) []resource.Module {
			k.made++
			return modules.All(h)
		},
	})
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(k.Close)
}

func put(t testing.TB, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (k *kept) write(name, text string) { k.t.Helper(); put(k.t, filepath.Join(k.source, name), text) }

func (k *kept) fact(text string) {
	k.t.Helper()
	put(k.t, filepath.Join(k.root, "etc/trued/facts.d/a.yaml"), text)
}

// run brings the host into order and expects the file to hold text afterwards.
func (k *kept) run(name, text string) {
	k.t.Helper()
	ctx := context.Background()
	res, err := k.Run(ctx, ctx, agent.Request{Trigger: "sync", Fetch: true})
	if err != nil {
		k.t.Fatal(err)
	}
	if res.Verdict != agent.InOrder {
		k.t.Fatalf("%s: %s", res.Verdict, res.Run.Summary)
	}
	got, err := os.ReadFile(filepath.Join(k.root, name))
	if err != nil || string(got) != text {
		k.t.Fatalf("%s holds %q, error %v; want %q", name, got, err, text)
	}
}

func (k *kept) wantMade(n int, why string) {
	k.t.Helper()
	if k.made != n {
		k.t.Errorf("modules were made %d times after %s; want %d", k.made, why, n)
	}
}

func TestACommitThatIsLoadedServesTheNextRun(t *testing.T) {
	k := keep(t)
	k.run("f", "one\n")
	k.run("f", "one\n")
	put(t, filepath.Join(k.root, "f"), "drifted\n")
	k.run("f", "one\n")
	k.wantMade(1, "three runs of one commit")
}

func TestWhatIsLoadedIsForOneCommitAndOneSetOfFacts(t *testing.T) {
	k := keep(t)
	k.run("f", "one\n")
	k.write("groups/web/files/f", "two\n")
	k.run("f", "two\n")
	k.wantMade(2, "a new commit")
	k.fact("n: 2\n")
	k.run("n", "2")
	k.wantMade(3, "a new fact")
	k.run("n", "2")
	k.wantMade(3, "nothing new")
}

func TestARunThatFailsLeavesNothingLoaded(t *testing.T) {
	k := keep(t)
	k.run("f", "one\n")
	// A directory is never replaced by a file.
	if err := os.Remove(filepath.Join(k.root, "f")); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(k.root, "f/in-the-way"), "")
	ctx := context.Background()
	if res, err := k.Run(ctx, ctx, agent.Request{Trigger: "sync"}); err != nil || res.Verdict != agent.Failed {
		t.Fatalf("verdict %v, error %v", res, err)
	}
	if err := os.RemoveAll(filepath.Join(k.root, "f")); err != nil {
		t.Fatal(err)
	}
	if res, err := k.Run(ctx, ctx, agent.Request{Trigger: "sync", Hasty: true}); err != nil || res.Verdict != agent.InOrder {
		t.Fatalf("verdict %v, error %v", res, err)
	}
	k.wantMade(2, "a run that failed and one after it")
}

func TestDigestsOfContentsAreNotTrustedWhenDamaged(t *testing.T) {
	k := keep(t)
	k.run("f", "one\n")
	cache := filepath.Join(k.root, agent.StateDir, "cache/contents")
	data, err := os.ReadFile(cache)
	if err != nil {
		t.Fatal(err)
	}
	for what, damaged := range map[string][]byte{
		"changed": append(data[:len(data)-2:len(data)-2], 'x', '\n'),
		"cut off": data[:len(data)-10],
		"empty":   nil,
		"foreign": []byte("trued contents 0\n" + string(data[17:])),
	} {
		put(t, cache, string(damaged))
		put(t, filepath.Join(k.root, "f"), "drifted "+what)
		k.Close()
		k.open()
		k.run("f", "one\n")
		if again, err := os.ReadFile(cache); err != nil || string(again) != string(data) {
			t.Errorf("%s: the cache was not written anew: %q, error %v", what, again, err)
		}
	}
}
