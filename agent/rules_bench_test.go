package agent_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"trued.dev/trued/agent"
)

// benchRules are rules about every resource, none of which is broken.
const benchRules = `
rules:
  - name: no setuid
    deny: setuid or setgid
  - name: nobody touches /etc/trued
    deny: touches("/etc/trued", "/var/lib/trued")
  - name: stays
    sources: ["*"]
    require: within("/srv") and kind in ["file", "directory"]
`

// processorTime is what this process has used, which is worth more on a busy
// machine than what a clock says.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkRules is what rules cost: a first run, which writes every file; one of a
// commit that is loaded and judged anew on a host in order; one that looks at every
// file again, and one over witnesses.
func BenchmarkRules(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		for _, rules := range []string{"", benchRules} {
			name := fmt.Sprintf("files=%d/rules=%v", n, rules != "")
			fresh := func(b *testing.B, source string) (*agent.Agent, string) {
				b.Helper()
				root := b.TempDir()
				if rules != "" {
					put(b, filepath.Join(root, "etc/trued/policy.yaml"), rules)
				}
				return open(b, source, root), root
			}
			b.Run("first/"+name, func(b *testing.B) {
				source := benchTree(b, n)
				for b.Loop() {
					b.StopTimer()
					a, root := fresh(b, source)
					b.StartTimer()
					run(b, a)
					b.StopTimer()
					a.Close()
					_ = os.RemoveAll(filepath.Join(root, "srv"))
					b.StartTimer()
				}
			})
			b.Run("anew/"+name, func(b *testing.B) {
				source := benchTree(b, n)
				a, root := fresh(b, source)
				run(b, a)
				for b.Loop() {
					b.StopTimer()
					a.Close()
					_ = os.Remove(filepath.Join(root, "var/lib/trued/witnesses"))
					a = open(b, source, root)
					put(b, filepath.Join(source, "groups/web/z.yaml"), "- file: /srv/followed\n  content: x\n  follow: true\n")
					b.StartTimer()
					run(b, a)
				}
			})
			b.Run("looked/"+name, func(b *testing.B) {
				source := benchTree(b, n)
				put(b, filepath.Join(source, "groups/web/z.yaml"), "- file: /srv/followed\n  content: x\n  follow: true\n")
				a, _ := fresh(b, source)
				run(b, a)
				b.ReportAllocs()
				used := processorTime(b)
				for b.Loop() {
					run(b, a)
				}
				b.ReportMetric((processorTime(b)-used).Seconds()*1000/float64(b.N), "cpu-ms/op")
			})
			b.Run("witnesses/"+name, func(b *testing.B) {
				a, _ := fresh(b, benchTree(b, n))
				for deadline := time.Now().Add(2 * time.Minute); !run(b, a).Stood; {
					if time.Now().After(deadline) {
						b.Fatal("the witnesses never were enough")
					}
				}
				b.ReportAllocs()
				used := processorTime(b)
				for b.Loop() {
					run(b, a)
				}
				b.ReportMetric((processorTime(b)-used).Seconds()*1000/float64(b.N), "cpu-ms/op")
			})
		}
	}
}
