package torture_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// The tree that a test tortures is thrown away after each trial.
func (w *world) trial(t *testing.T, n int, do func(root string)) {
	t.Helper()
	root := filepath.Join(t.TempDir(), fmt.Sprint(n))
	w.copyTo(t, w.tree, root)
	do(root)
	must(t, os.RemoveAll(root))
}

// count returns how many writing calls a whole run makes, and proves on the way
// that at none of them a path is anything but as it was or as it will be.
func (w *world) count(t *testing.T) int {
	t.Helper()
	calls := 0
	w.trial(t, 0, func(root string) {
		code, out := tripwire{dir: root, before: func(n int, call string) syscall.Errno {
			calls = n
			w.holds(t, root, fmt.Sprintf("before call %d, %s", n, call))
			return 0
		}}.run(t, w.apply(root)...)
		if code != 0 {
			t.Fatalf("the run ended with %d\n%s", code, out)
		}
		w.after(t, root, "after a whole run")
	})
	t.Logf("a run makes %d writing calls", calls)
	return calls
}

// step is the distance between the calls that are tried.
func step(calls, sample int) int {
	if full() {
		return 1
	}
	return max(1, calls/sample)
}

// TestTorture cuts one run off in every way, at each of its writing calls.
func TestTorture(t *testing.T) {
	w := newWorld(t)
	calls := w.count(t)
	t.Run("killed", func(t *testing.T) { w.killed(t, calls) })
	t.Run("failing", func(t *testing.T) { w.fails(t, calls) })
	t.Run("powerless", func(t *testing.T) { w.losesPower(t, calls) })
}

// killed kills a run before each of its calls; the next one mends it.
func (w *world) killed(t *testing.T, calls int) {
	kills := 0
	for at := 1; at <= calls && !t.Failed(); at += step(calls, 40) {
		w.trial(t, at, func(root string) {
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
			kills++
			w.holds(t, root, when)
			w.after(t, root, when)
		})
	}
	t.Logf("killed %d times", kills)
}

// fails has each call fail: that leaves all as it was or as it will be, and the next run
// mends it.
func (w *world) fails(t *testing.T, calls int) {
	errnos := []syscall.Errno{syscall.ENOSPC, syscall.EIO, syscall.EROFS, syscall.EDQUOT, syscall.EPERM}
	failures := 0
	for i, at := 0, 1; at <= calls && !t.Failed(); i, at = i+1, at+step(calls, 45) {
		tried := errnos[i%len(errnos) : i%len(errnos)+1]
		if full() {
			tried = errnos
		}
		for _, errno := range tried {
			w.trial(t, at, func(root string) {
				when := ""
				code, out := tripwire{dir: root, before: func(n int, call string) syscall.Errno {
					if n != at {
						return 0
					}
					when = fmt.Sprintf("call %d, %s, failed with %v", n, call, errno)
					return errno
				}}.run(t, w.apply(root)...)
				failures++
				if code < 0 || code > 4 {
					t.Errorf("%s: exit code %d\n%s", when, code, out)
				}
				w.holds(t, root, when)
				w.after(t, root, when)
				if t.Failed() {
					t.Logf("exit code %d\n%s", code, out)
				}
			})
		}
	}
	t.Logf("failed %d times", failures)
}

// losesPower shows what a killed process cannot, that what was never synced is
// gone: the image of the file
// system, copied at any call, is mended by the next run, and nothing in it is
// half written.
func (w *world) losesPower(t *testing.T, calls int) {
	dir := t.TempDir()
	image, root := filepath.Join(dir, "image"), filepath.Join(dir, "root")
	must(t, os.Mkdir(root, 0o755))
	shell(t, "truncate -s 48M "+image+" && mkfs.ext4 -q -F "+image)
	// The file system's own guess at what must be durable is switched off.
	mount(t, image, root, "noauto_da_alloc,commit=600")
	w.copyTo(t, w.tree, root)
	shell(t, "sync -f "+root)
	cuts := 0
	every := step(calls, 30)
	code, out := tripwire{dir: root, before: func(n int, call string) syscall.Errno {
		if n%every != 0 || t.Failed() {
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
	t.Logf("%d images", cuts+1)
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
