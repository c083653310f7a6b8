package source_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"trued.dev/trued/internal/source"
)

// BenchmarkUpdate compares one small update of a repository of 20,000 files
// and 200 MB with what `git fetch --depth 1` takes for the same, the process
// start included in both: wall time, and CPU seconds of all processes on the
// client's side.
//
// An own agent process fetches, so that its CPU time can be told from that of
// the server, which is this process.
func BenchmarkUpdate(b *testing.B) {
	u := &upstream{t: b, bare: filepath.Join(b.TempDir(), "hosts.git"), work: filepath.Join(b.TempDir(), "work")}
	u.run("/", "init", "-q", "--bare", "-b", "main", u.bare)
	u.run("/", "init", "-q", "-b", "main", u.work)
	u.git("remote", "add", "origin", u.bare)
	directories, files := 200, 100
	if testing.Short() {
		directories = 5
	}
	u.fill(directories, files, 10<<10)
	u.put("motd", "0\n")
	url := u.serveHTTP()

	h := &host{cfg: source.Config{Name: "infra", URL: url, Branch: "main"}, dir: filepath.Join(b.TempDir(), "store"), t: b}
	first := fetchFirst(b, h)
	clone := filepath.Join(b.TempDir(), "clone.git")
	u.run("/", "clone", "-q", "--bare", "--depth", "1", url, clone)

	update := map[string]func() *exec.Cmd{
		"trued": func() *exec.Cmd { return exec.Command(os.Args[0], "fetch-once", h.json(), h.dir) },
		"git": func() *exec.Cmd {
			cmd := exec.Command("git", "fetch", "-q", "--depth", "1", "origin", "+main:main")
			cmd.Dir = clone
			return cmd
		},
	}
	wall, cpu := map[string]time.Duration{}, map[string]time.Duration{}
	n := 0
	for b.Loop() {
		u.put("motd", fmt.Sprintln(time.Now().UnixNano()))
		n++
		for _, who := range []string{"trued", "git"} {
			cmd := update[who]()
			cmd.Stderr = os.Stderr
			start := time.Now()
			if err := cmd.Run(); err != nil {
				b.Fatal(err)
			}
			wall[who] += time.Since(start)
			// Of the process and of all that it waited for.
			usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
			cpu[who] += time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
		}
	}
	for _, who := range []string{"trued", "git"} {
		b.ReportMetric(wall[who].Seconds()*1000/float64(n), who+"-wall-ms")
		b.ReportMetric(cpu[who].Seconds()*1000/float64(n), who+"-cpu-ms")
	}
	for i, who := range []string{"parent", "child"} {
		b.ReportMetric(first[i].CPU.Seconds(), "first-"+who+"-cpu-s")
		b.ReportMetric(float64(first[i].Memory>>20), "first-"+who+"-MB")
	}
	b.ReportMetric(wall["trued"].Seconds()/wall["git"].Seconds(), "wall-ratio")
	b.ReportMetric(cpu["trued"].Seconds()/cpu["git"].Seconds(), "cpu-ratio")
}

// fetchFirst fetches into an empty store, and returns what the agent and its
// child took for that.
func fetchFirst(b *testing.B, h *host) []usage {
	b.Helper()
	cmd := exec.Command(os.Args[0], "fetch-once", h.json(), h.dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatal(err)
	}
	var took []usage
	if err := json.Unmarshal(out, &took); err != nil || len(took) != 2 {
		b.Fatalf("%v: %s", err, out)
	}
	return took
}
