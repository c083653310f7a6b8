package torture_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
)

// trial has a copy of the tree tortured. Several are under way at a time: most of
// each is waiting.
func (w *world) trial(t *testing.T, name string, do func(t *testing.T, root string)) {
	t.Helper()
	parent := t
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		if parent.Failed() {
			return // one is enough to look into
		}
		root, err := os.MkdirTemp(w.scratch, "trial-")
		must(t, err)
		w.copyTo(t, w.tree, root)
		do(t, root)
		must(t, os.RemoveAll(root))
	})
}

// count returns how many writing calls a whole run makes, and proves on the way
// that at none of them a path is anything but as it was or as it will be.
func (w *world) count(t *testing.T) int {
	t.Helper()
	calls := 0
	root := filepath.Join(w.scratch, "counted")
	w.copyTo(t, w.tree, root)
	code, out := tripwire{dir: root, before: func(n int, call string) syscall.Errno {
		calls = n
		w.holds(t, root, fmt.Sprintf("before call %d, %s", n, call))
		return 0
	}}.run(t, w.apply(root)...)
	if code != 0 {
		t.Fatalf("the run ended with %d\n%s", code, out)
	}
	w.after(t, root, "after a whole run")
	t.Logf("a run makes %d writing calls", calls)
	return calls
}

// chosen returns the calls that are tried: all, or so many, spread over the run,
// from a place that the seed has chosen.
func chosen(calls, some int, what string) []int {
	step := max(1, float64(calls)/float64(some))
	var all []int
	for at := dice(what, 0).Float64() * step; int(at) < calls; at += step {
		all = append(all, int(at)+1)
	}
	return all
}

// sample is what is tried in place of all.
func sample(all, some int) int {
	if full() {
		return all
	}
	return some
}

// TestTree cuts one run over a tree off in every way, at each of its writing
// calls.
func TestTree(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	calls := w.count(t)
	t.Run("killed", func(t *testing.T) { w.killed(t, calls) })
	t.Run("failing", func(t *testing.T) { w.fails(t, calls) })
	t.Run("powerless", func(t *testing.T) { w.losesPower(t, calls) })
}

// killed kills a run before each of its calls; the next one mends it.
func (w *world) killed(t *testing.T, calls int) {
	var kills atomic.Int32
	t.Run("at", func(t *testing.T) {
		for _, at := range chosen(calls, sample(calls, 40), "killed") {
			w.trial(t, fmt.Sprint(at), func(t *testing.T, root string) {
				when := ""
				code, _ := tripwire{dir: root, before: func(n int, call string) syscall.Errno {
					if n != at {
						return 0
					}
					when = fmt.Sprintf("killed before call %d, %s", n, call)
					return kill
				}}.run(t, w.apply(root)...)
				if code != -1 {
					return // a run makes a few calls more or less
				}
				kills.Add(1)
				w.holds(t, root, when)
				w.after(t, root, when)
			})
		}
	})
	figure(t, "runs over a tree killed at a writing call: %d", kills.Load())
}

// fails has each call fail, with one error after the other; another seed begins
// with another. That leaves all as it was or as it will be, and the next run
// mends it.
func (w *world) fails(t *testing.T, calls int) {
	errnos := []syscall.Errno{syscall.ENOSPC, syscall.EIO, syscall.EROFS, syscall.EDQUOT, syscall.EPERM}
	var failures atomic.Int32
	t.Run("at", func(t *testing.T) {
		for i, at := range chosen(calls, sample(calls, 45), "failing") {
			errno := errnos[(i+int(seed()%5))%len(errnos)]
			w.trial(t, fmt.Sprintf("%d-%d", at, errno), func(t *testing.T, root string) {
				w.failsOnce(t, root, at, errno)
				failures.Add(1)
			})
		}
	})
	figure(t, "runs over a tree in which a writing call failed: %d", failures.Load())
}

func (w *world) failsOnce(t *testing.T, root string, at int, errno syscall.Errno) {
	t.Helper()
	when := ""
	code, out := tripwire{dir: root, before: func(n int, call string) syscall.Errno {
		if n != at {
			return 0
		}
		when = fmt.Sprintf("call %d, %s, failed with %v", n, call, errno)
		return errno
	}}.run(t, w.apply(root)...)
	if code < 0 || code > 4 {
		t.Errorf("%s: exit code %d\n%s", when, code, out)
	}
	w.holds(t, root, when)
	w.after(t, root, when)
	if t.Failed() {
		t.Logf("exit code %d\n%s", code, out)
	}
}

// losesPower shows what a killed process cannot, that what was never synced is
// gone: the image of the file system, copied at any call, is mended by the next
// run, and nothing in it is half written. A run that is stopped too often would
// run out of its time, so there are several.
func (w *world) losesPower(t *testing.T, calls int) {
	cuts := 0
	for run := range sample(8, 1) {
		t.Run(fmt.Sprint("run-", run), func(t *testing.T) {
			cuts += w.losesPowerOften(t, chosen(calls, sample(50, 20), fmt.Sprint("power", run)))
		})
	}
	figure(t, "images of a file system that lost power: %d", cuts)
}

func (w *world) losesPowerOften(t *testing.T, calls []int) (cuts int) {
	t.Helper()
	dir, err := os.MkdirTemp(w.scratch, "power-")
	must(t, err)
	image, root := filepath.Join(dir, "image"), filepath.Join(dir, "root")
	must(t, os.Mkdir(root, 0o755))
	shell(t, "truncate -s 48M "+image+" && mkfs.ext4 -q -F "+image)
	// The file system's own guess at what must be durable is switched off.
	mount(t, image, root, "noauto_da_alloc,commit=600")
	w.copyTo(t, w.tree, root)
	shell(t, "sync -f "+root)
	code, out := tripwire{dir: root, before: func(n int, call string) syscall.Errno {
		if !slices.Contains(calls, n) || t.Failed() {
			return 0
		}
		cuts++
		w.cut(t, image, dir, n, fmt.Sprintf("power lost before call %d, %s", n, call))
		return 0
	}}.run(t, w.apply(root)...)
	if code != 0 {
		t.Errorf("the run ended with %d\n%s", code, out)
	}
	for name, is := range look(t, root) {
		if is != w.new[name] {
			t.Errorf("on the file system that lost no power, %s is %q, want %q", name, is, w.new[name])
		}
	}
	w.cut(t, image, dir, 0, "power lost after the run")
	shell(t, "umount "+root+" && rm -r "+dir)
	return cuts + 1
}

// cut looks into a copy of the image and lets the next run mend it.
func (w *world) cut(t *testing.T, image, dir string, n int, when string) {
	t.Helper()
	lost, at := filepath.Join(dir, fmt.Sprint("lost-", n)), filepath.Join(dir, fmt.Sprint("at-", n))
	// A copy is of one moment when nothing was written meanwhile.
	shell(t, "for i in $(seq 50); do cp --sparse=always "+image+" "+lost+"; ! cmp -s "+image+" "+lost+" || exit 0; done; exit 1")
	must(t, os.MkdirAll(at, 0o755))
	mount(t, lost, at, "defaults")
	w.holds(t, at, when)
	w.after(t, at, when)
	// Each copy is a file of its own. A mount namespace that was made meanwhile
	// still holds this mount, and so the loop device: another copy in the same
	// file would be seen through what the kernel remembers of this one.
	shell(t, "umount "+at+" && rm "+lost)
}

func mount(t *testing.T, image, at, options string) {
	t.Helper()
	out, err := exec.Command("mount", "-o", "loop,"+options, image, at).CombinedOutput()
	if err != nil {
		t.Fatalf("cannot mount: %v\n%s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", at).Run() })
}

func shell(t *testing.T, line string) {
	t.Helper()
	if out, err := exec.Command("sh", "-ec", line).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}
