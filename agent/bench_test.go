package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/modules"
)

// benchTree writes a source of n files of 1 KiB in 50 directories and two
// groups, a tenth of them templates.
func benchTree(b *testing.B, n int) string {
	b.Helper()
	dir := b.TempDir()
	write := func(name, content string) {
		b.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	write("groups/web/group.yaml", "include: [groups/base]\nvars: {site: example}\n")
	kib := make([]byte, 1024)
	for i := range kib {
		kib[i] = 'x'
	}
	const dirs = 50
	for d := range dirs {
		group := "groups/base"
		if d%2 == 1 {
			group = "groups/web"
		}
		manifest := fmt.Sprintf("- directory: /srv/d%02d\n  parents: true\n", d)
		for i := range n / dirs {
			name := fmt.Sprintf("d%02df%03d", d, i)
			how := "source: files/" + name
			if i%10 == 0 {
				how = "template: templates/" + name
				write(group+"/templates/"+name, "{{ facts.arch }}"+name+string(kib[:1000]))
			} else {
				write(group+"/files/"+name, name+string(kib[:1017]))
			}
			manifest += fmt.Sprintf("- file: /srv/d%02d/f%03d\n  %s\n  mode: \"0644\"\n", d, i, how)
		}
		write(fmt.Sprintf("%s/m%02d.yaml", group, d), manifest)
	}
	return dir
}

func open(b *testing.B, source, root string) *agent.Agent {
	b.Helper()
	c, err := agent.LoadConfig(filepath.Join(root, "none"), true)
	if err != nil {
		b.Fatal(err)
	}
	if err := c.UseSource(source, "groups/web"); err != nil {
		b.Fatal(err)
	}
	a, err := agent.New(c, agent.Options{
		Root: root, Modules: modules.All, Version: "1.0.0",
		ExitCode: func(agent.Verdict) int { return 0 }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(a.Close)
	return a
}

func run(b *testing.B, a *agent.Agent) *agent.Result {
	b.Helper()
	ctx := context.Background()
	res, err := a.Run(ctx, ctx, agent.Request{Trigger: "resync"})
	if err != nil {
		b.Fatal(err)
	}
	if res.Verdict != agent.InOrder {
		b.Fatalf("%s: %s", res.Verdict, res.Run.Summary)
	}
	return res
}

// A run of the daemon over a host that is in order already, and of which one
// resource has no witness, so that all are looked at.
func BenchmarkRunInOrder(b *testing.B) {
	for _, n := range []int{100, 1000, 5000} {
		b.Run(fmt.Sprintf("files=%d", n), func(b *testing.B) {
			dir := benchTree(b, n)
			put(b, filepath.Join(dir, "groups/web/z.yaml"), "- file: /srv/followed\n  content: x\n  follow: true\n")
			a := open(b, dir, b.TempDir())
			run(b, a)
			b.ReportAllocs()
			for b.Loop() {
				run(b, a)
			}
		})
	}
}

// The same where every resource has a witness.
func BenchmarkRunOverWitnesses(b *testing.B) {
	for _, n := range []int{100, 1000, 5000} {
		b.Run(fmt.Sprintf("files=%d", n), func(b *testing.B) {
			a := open(b, benchTree(b, n), b.TempDir())
			// What was written just now is no witness yet.
			for deadline := time.Now().Add(2 * time.Minute); !run(b, a).Stood; {
				if time.Now().After(deadline) {
					b.Fatal("the witnesses never were enough")
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				run(b, a)
			}
		})
	}
}

// A drift among many files, put back by a partial run of a daemon that has to load
// the catalog again, and of one that has it at hand.
func BenchmarkDrift(b *testing.B) {
	for _, n := range []int{100, 1000, 5000} {
		for _, cold := range []bool{true, false} {
			b.Run(fmt.Sprintf("files=%d/loaded=%v", n, !cold), func(b *testing.B) {
				root := b.TempDir()
				source := benchTree(b, n)
				a := open(b, source, root)
				run(b, a)
				only := []resource.Address{{Kind: "file", Name: "/srv/d00/f001"}}
				ctx := context.Background()
				for b.Loop() {
					b.StopTimer()
					if cold {
						a.Close()
						a = open(b, source, root)
					}
					put(b, filepath.Join(root, "srv/d00/f001"), "broken")
					b.StartTimer()
					res, err := a.Run(ctx, ctx, agent.Request{Trigger: "drift", Only: only})
					if err != nil || !res.Partial || res.Counts.Repaired != 1 {
						b.Fatalf("%v %+v", err, res)
					}
				}
			})
		}
	}
}
