package pkg

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/host"
)

// lockDpkg holds dpkg's lock, as another package manager does, until the
// returned function is called.
func lockDpkg(t *testing.T) (release func()) {
	t.Helper()
	publish(t, deb{name: "slow-foreign", version: "1", scripts: map[string]string{
		"postinst": "echo working >/srv/foreign; for i in $(seq 600); do test -e /srv/foreign-busy || break; sleep 0.05; done",
	}})
	write(t, "/srv/foreign-busy", "", 0o644)
	_ = os.Remove("/srv/foreign")
	cmd := exec.Command("dpkg", "-i", repository+"/slow-foreign_1_all.deb")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitFile(t, "/srv/foreign")
	return func() {
		_ = os.Remove("/srv/foreign-busy")
		if err := cmd.Wait(); err != nil {
			t.Errorf("dpkg: %v", err)
		}
	}
}

func awaitFile(t *testing.T, name string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(name); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come", name)
		}
	}
}

func lock(t *testing.T) {
	publish(t, deb{name: "patient", version: "1"}, deb{name: "hasty", version: "1"})
	refresh(t)
	release := lockDpkg(t)
	w := newWorld(t)
	w.manager.(*apt).lockWait = time.Second
	out := w.run(t.Context(), []Resource{{Package: "hasty"}, {Package: "slow-foreign"}})
	if err := out["hasty"].err; err == nil {
		t.Error("a lock that is held did not stop a transaction")
	}
	if found := out["slow-foreign"].found; !strings.Contains(found.Pending, "another package manager") {
		t.Errorf("a package that another is at work on: %+v", found)
	}
	release()

	// A lock alone, with nothing half done: apt itself waits.
	f, err := os.OpenFile(dpkgLock, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	go func() {
		for !strings.Contains(shellQuiet("cat "+runDir+"/script"), "patient") {
			time.Sleep(10 * time.Millisecond)
		}
		// Not each apt says that it waits: give it a while to come to the lock.
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end) &&
			!strings.Contains(shellQuiet("cat "+runDir+"/output"), "Waiting for cache lock"); {
			time.Sleep(10 * time.Millisecond)
		}
		_ = f.Close() // which gives the lock back
	}()
	w = newWorld(t)
	w.converge(Resource{Package: "patient"})
	expectState(t, "patient", "ii 1")
}

func shellQuiet(line string) string {
	out, _ := exec.Command("sh", "-c", line).CombinedOutput()
	return string(out)
}

// lengthy is a package whose installation takes until its file is removed.
func lengthy(t *testing.T, name string) (busy, begun string) {
	t.Helper()
	busy, begun = "/srv/"+name+"-busy", "/srv/"+name
	publish(t, deb{name: name, version: "1", scripts: map[string]string{
		"postinst": "echo working >" + begun + "; for i in $(seq 600); do test -e " + busy + " || break; sleep 0.05; done",
	}})
	refresh(t)
	write(t, busy, "", 0o644)
	return busy, begun
}

// runAndStop is a run that is stopped, as by SIGTERM, while it installs.
func runAndStop(t *testing.T, w *world, name, begun string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		awaitFile(t, begun)
		stop()
	}()
	out := w.run(ctx, []Resource{{Package: name}})
	if err := out[name].err; !errors.Is(err, context.Canceled) {
		t.Fatalf("a run that was stopped gave %v", err)
	}
}

// attachTo waits for what was left under way, at first in vain.
func attachTo(t *testing.T, a *apt, busy string) {
	t.Helper()
	brief, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := a.Attach(brief); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Attach to a transaction under way returned %v", err)
	}
	if err := os.Remove(busy); err != nil {
		t.Fatal(err)
	}
	if err := a.Attach(t.Context()); err != nil {
		t.Errorf("Attach: %v", err)
	}
}

func letGoAndAttach(t *testing.T) {
	busy, begun := lengthy(t, "lengthy")
	w := newWorld(t)
	runAndStop(t, w, "lengthy", begun)
	if got := shell(t, "systemctl is-active "+transactionUnit); got != "active" {
		t.Errorf("the transaction is %s", got)
	}
	attachTo(t, newApt(host.New("/", host.Options{})), busy)
	expectState(t, "lengthy", "ii 1")
	if again := w.converge(Resource{Package: "lengthy"}); !again["lengthy"].found.InOrder() {
		t.Errorf("afterwards Check found %+v", again["lengthy"].found)
	}
}

func withoutSystemd(t *testing.T) {
	busy, begun := lengthy(t, "enduring")
	// The host's own root under another name: not the running system for us.
	const root = "/mnt"
	shell(t, "mount --bind / "+root)
	t.Cleanup(func() { shell(t, "umount -l "+root) })
	w := newWorld(t)
	w.manager = newApt(host.New(root, host.Options{}))
	runAndStop(t, w, "enduring", begun)
	attachTo(t, newApt(host.New(root, host.Options{})), busy)
	expectState(t, "enduring", "ii 1")
}

func indexLock(t *testing.T) {
	hold := func(name string) (release func()) {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
			t.Fatal(err)
		}
		return func() { _ = f.Close() }
	}
	release := hold(aptLists + "/lock")
	a := newApt(host.New("/", host.Options{}))
	a.lockWait = 0
	if err := a.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "lock") {
		t.Errorf("a lock on the index that is held gave %v", err)
	}
	release()
	if err := a.Refresh(t.Context()); err != nil {
		t.Errorf("Refresh: %v", err)
	}
	publish(t, deb{name: "fetched", version: "1"})
	refresh(t)
	release = hold("/var/cache/apt/archives/lock")
	go func() {
		for !strings.Contains(shellQuiet("cat "+runDir+"/script"), "fetched") {
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(500 * time.Millisecond)
		release()
	}()
	w := newWorld(t)
	w.converge(Resource{Package: "fetched"})
	expectState(t, "fetched", "ii 1")
}

// tree makes a tree that is not the running system: the host's own files, with
// what is written to them elsewhere.
func tree(t *testing.T) string {
	t.Helper()
	base := t.TempDir()
	shell(t, "mount -t tmpfs tree "+base)
	shell(t, "cd "+base+" && mkdir up work root && mount -t overlay -o lowerdir=/,upperdir=up,workdir=work tree root")
	t.Cleanup(func() { shell(t, "umount -l "+base+"/root; umount -l "+base) })
	return base + "/root"
}

func offline(t *testing.T) {
	publish(t, deb{name: "image", version: "1", scripts: map[string]string{
		"postinst": "test -x /usr/sbin/policy-rc.d && ! /usr/sbin/policy-rc.d",
	}})
	refresh(t)
	root := tree(t)
	shell(t, "cp -a "+repository+" "+root+"/srv/")
	w := newWorld(t)
	w.manager = newApt(host.New(root, host.Options{}))
	w.converge(Resource{Package: "image"})
	expectState(t, "image", "")
	if got := shell(t, "chroot "+root+" dpkg-query -W -f '${db:Status-Abbrev}' image"); got != "ii" {
		t.Errorf("in the tree it is %q", got)
	}
	if _, err := os.Stat(root + "/usr/sbin/policy-rc.d"); err == nil {
		t.Error("the policy against starting services stays in the tree")
	}
	shell(t, "mv "+root+"/usr/bin/apt-get "+root+"/usr/bin/no-apt-get")
	out := w.run(t.Context(), []Resource{{Package: "image", State: "absent"}})
	if found := out["image"].found; !strings.Contains(found.Pending, "no apt-get") {
		t.Errorf("without apt: %+v", found)
	}
}
