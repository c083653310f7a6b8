package pkg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/hosttest"
)

// The contract of the interface manager, kept by each one over the real program
// and a repository of its own. There is no host with all: dnf's plugins and
// zypper do not go together on Debian.
func TestEachManagerKeepsTheContract(t *testing.T) {
	t.Parallel()
	o := hosttest.Options{
		Name: "managers", Packages: []string{"createrepo-c", "dnf", "makepkg", "pacman-package-manager", "rpm", "zypper"},
	}
	if hosttest.Inside(t, o, "") {
		for _, l := range labs() {
			t.Run(l.name, func(t *testing.T) { contract(t, l) })
		}
		t.Run("vercmp", versionsCompareAsVercmpComparesThem)
	}
}

func TestDnfWithItsPluginsKeepsTheContract(t *testing.T) {
	t.Parallel()
	o := hosttest.Options{Name: "dnf", Packages: []string{"createrepo-c", "dnf", "dnf-plugins-core", "rpm"}}
	if hosttest.Inside(t, o, "") {
		contract(t, dnfLab())
	}
}

func contract(t *testing.T, l lab) {
	write(t, "/etc/os-release", l.osRelease, 0o644)
	l.begin(t)
	for _, s := range []struct {
		name string
		run  func(*testing.T, lab)
	}{
		{"a missing package is installed and removed", contractPresence},
		{"what a package brought is known to be its own", contractOwned},
		{"a version follows its constraint", contractConstraint},
		{"latest follows the index", contractLatest},
		{"a held package stays and moves when told", contractHold},
		{"what cannot be had keeps nothing else away", contractCulprits},
		{"what cannot be fetched keeps nothing else away", contractFetch},
		{"conffiles are answered as declared", contractConffiles},
		{"recommends are left out", contractRecommends},
		{"a virtual name is told apart", contractVirtual},
		{"removals that nobody declared are refused", contractRefusals},
		{"what trued installed goes with what it brought", contractPrune},
		{"an agent lets go and another attaches", contractLetGo},
		{"the lock of another is waited for", contractLock},
		{"an index is signed with a key that is known", contractSigned},
		{"a tree is brought into order by its own manager", contractTree},
	} {
		if only := os.Getenv("TRUED_PKG_ONLY"); only == "" || strings.Contains(s.name, only) {
			t.Run(strings.ReplaceAll(s.name, " ", "-"), func(t *testing.T) {
				began := time.Now()
				s.run(t, l)
				t.Logf("took %s", time.Since(began).Round(time.Millisecond))
			})
		}
	}
}

// contractOwned: a path is a package's for as long as that is installed, whatever
// is at the path.
func contractOwned(t *testing.T, l lab) {
	h, name := host.New("/", host.Options{}), "owned-"+l.name // what others left behind is not this one's
	owned := func(want bool) {
		t.Helper()
		for path, want := range map[string]bool{"/etc/" + name + ".conf": want, "/etc/" + name + ".conf.d": false, "/etc/nobody's own.conf": false} {
			if got, err := h.Packaged(path); got != want || err != nil {
				t.Errorf("that a package owns %s is %v, error %v", path, got, err)
			}
		}
	}
	write(t, "/etc/nobody's own.conf", "x", 0o644)
	l.ready(t, parcel{name: name, version: "1.0-1", conffile: "a\n"}, parcel{name: "beside", version: "1-1"})
	w := l.world(t)
	w.converge(Resource{Package: "beside"})
	owned(false)
	w.converge(Resource{Package: name})
	owned(true)
	shell(t, "rm /etc/"+name+".conf")
	owned(true)
	w.converge(Resource{Package: name, State: "purged"})
	owned(false)
	w.converge(Resource{Package: "beside", State: "absent"})
}

// world is the host under the manager that it chooses by itself.
func (l lab) world(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.manager = choose(host.New("/", host.Options{}))
	if got := strings.TrimPrefix(fmt.Sprintf("%T", w.manager), "*pkg."); got != l.name {
		t.Fatalf("a host of %q chooses %s", l.osRelease, got)
	}
	return w
}

// has expects versions of packages; empty for one that is not there.
func (l lab) has(t *testing.T, want map[string]string) {
	t.Helper()
	for name, version := range want {
		out, err := exec.Command("sh", "-c", fmt.Sprintf(l.version, name)).Output()
		got := strings.TrimSpace(string(out))
		if err != nil || strings.Contains(got, "not installed") {
			got = ""
		}
		if got != version {
			t.Errorf("package %s is at %q, want %q", name, got, version)
		}
	}
}

func (l lab) holds(t *testing.T, name string, want bool) {
	t.Helper()
	list := shell(t, l.held)
	got := strings.Contains(" "+strings.NewReplacer("\n", " ", "|", " ", "-", " ").Replace(list)+" ", " "+name+" ")
	if got != want {
		t.Errorf("held are %q; that %s is among them: %t, want %t", list, name, got, want)
	}
}

// transacted is how many transactions the manager itself has noted.
func (l lab) transacted(t *testing.T) int {
	t.Helper()
	n, _ := strconv.Atoi(shell(t, "{ "+l.transactions+"; } 2>/dev/null || true")) // of none there may be no list
	return n
}

func (l lab) ready(t *testing.T, parcels ...parcel) {
	t.Helper()
	l.publish(t, parcels...)
	shell(t, l.refresh)
}

func (t tale) want(tb *testing.T, name string, words ...string) {
	tb.Helper()
	if t.err == nil {
		tb.Errorf("%s: no error", name)
		return
	}
	for _, word := range words {
		if !strings.Contains(t.err.Error(), word) {
			tb.Errorf("%s: error is %v, want one with %q", name, t.err, word)
		}
	}
}

func contractPresence(t *testing.T, l lab) {
	l.publish(t, parcel{name: "plain", version: "1.0-1", conffile: "a\n"}, parcel{name: "second", version: "1-1"})
	w := l.world(t)
	before := l.transacted(t)
	// The index is older than the package: it is refreshed because the name is unknown.
	out := w.converge(Resource{Package: "plain"}, Resource{Package: "second"})
	l.has(t, map[string]string{"plain": "1.0-1", "second": "1-1"})
	if n := l.transacted(t) - before; n != 1 {
		t.Errorf("two packages took %d transactions", n)
	}
	if !strings.Contains(out["plain"].found.Note, "does not know it") {
		t.Errorf("note is %q", out["plain"].found.Note)
	}
	if again := w.converge(Resource{Package: "plain"}); !again["plain"].found.InOrder() {
		t.Errorf("second run found %+v", again["plain"].found)
	}
	w.converge(Resource{Package: "plain", State: "absent"})
	l.has(t, map[string]string{"plain": "", "second": "1-1"})
	if again := w.converge(Resource{Package: "plain", State: "absent"}); !again["plain"].found.InOrder() {
		t.Errorf("removed, Check found %+v", again["plain"].found)
	}
	w.converge(Resource{Package: "plain"})
	out = w.converge(Resource{Package: "plain", State: "purged"}, Resource{Package: "second", State: "absent"})
	if _, rpm := w.manager.(remainder); rpm != strings.Contains(out["plain"].found.Note, "cannot purge") {
		t.Errorf("to be purged, it has note %q", out["plain"].found.Note)
	}
	l.has(t, map[string]string{"plain": "", "second": ""})
	if _, err := os.Stat("/etc/plain.conf"); err == nil {
		t.Error("the configuration of a purged package is there")
	}
}

func contractConstraint(t *testing.T, l lab) {
	l.ready(t, parcel{name: "vers", version: "1.5-2"})
	w := l.world(t)
	w.converge(Resource{Package: "vers", Version: ">= 1, < 2"})
	l.has(t, map[string]string{"vers": "1.5-2"})
	l.ready(t, parcel{name: "vers", version: "2.0-1"})
	w.converge(Resource{Package: "vers"})
	l.has(t, map[string]string{"vers": "1.5-2"})
	w.converge(Resource{Package: "vers", Version: ">= 2"})
	l.has(t, map[string]string{"vers": "2.0-1"})
	w.run(t.Context(), []Resource{{Package: "vers", Version: "= 1.5"}})["vers"].want(t, "vers", "allow_downgrade")
	l.has(t, map[string]string{"vers": "2.0-1"})
	w.converge(Resource{Package: "vers", Version: "= 1.5", AllowDowngrade: true})
	l.has(t, map[string]string{"vers": "1.5-2"})
	w.run(t.Context(), []Resource{{Package: "vers", Version: "> 7"}})["vers"].want(t, "vers", "2.0-1")
}

func contractLatest(t *testing.T, l lab) {
	l.ready(t, parcel{name: "newest", version: "1-1"})
	w := l.world(t)
	w.converge(Resource{Package: "newest", State: "latest"})
	l.has(t, map[string]string{"newest": "1-1"})
	l.publish(t, parcel{name: "newest", version: "2-1"})
	if out := w.converge(Resource{Package: "newest", State: "latest"}); !out["newest"].found.InOrder() {
		t.Errorf("an index that is fresh was refreshed: %+v", out["newest"].found)
	}
	shell(t, l.age)
	out := w.converge(Resource{Package: "newest", State: "latest"})
	l.has(t, map[string]string{"newest": "2-1"})
	if diff := out["newest"].found.Diff; len(diff) != 1 || diff[0].Cause != "intended" {
		t.Errorf("difference is %+v", diff)
	}
}

func contractHold(t *testing.T, l lab) {
	l.ready(t, parcel{name: "kept", version: "1-1"}, parcel{name: "other", version: "1-1"})
	w := l.world(t)
	w.converge(Resource{Package: "kept", Hold: yes()}, Resource{Package: "other", Hold: yes()})
	l.holds(t, "kept", true)
	l.ready(t, parcel{name: "kept", version: "2-1"}, parcel{name: "other", version: "2-1"},
		parcel{name: "pulls", version: "1-1", depends: []string{"other>=2"}})
	if again := w.converge(Resource{Package: "kept", Hold: yes()}); !again["kept"].found.InOrder() {
		t.Errorf("held, Check found %+v", again["kept"].found)
	}
	// No other hold is broken for a dependency.
	out := w.run(t.Context(), []Resource{{Package: "pulls"}, {Package: "kept", Version: "2", Hold: yes()}})
	out["pulls"].want(t, "pulls")
	if err := out["kept"].err; err != nil {
		t.Errorf("kept: %v", err)
	}
	l.has(t, map[string]string{"kept": "2-1", "other": "1-1", "pulls": ""})
	l.holds(t, "kept", true)
	l.holds(t, "other", true)
	w.converge(Resource{Package: "kept", Version: "1", AllowDowngrade: true})
	l.has(t, map[string]string{"kept": "1-1"})
	l.holds(t, "kept", true)
	w.converge(Resource{Package: "kept", Hold: no()})
	l.holds(t, "kept", false)
	l.holds(t, "other", true)
	w.run(t.Context(), nil, "other", "kept")
	l.has(t, map[string]string{"kept": "", "other": ""})
	// It is held no longer, which would keep it away for good.
	w.converge(Resource{Package: "other"})
	l.has(t, map[string]string{"other": "2-1"})
}

func contractCulprits(t *testing.T, l lab) {
	l.ready(t, parcel{name: "good-a", version: "1-1"}, parcel{name: "good-b", version: "1-1"}, parcel{name: "good-c", version: "1-1"},
		parcel{name: "lacking", version: "1-1", depends: []string{"not-to-be-had"}})
	w := l.world(t)
	out := w.run(t.Context(), []Resource{
		{Package: "good-a"}, {Package: "lacking"}, {Package: "good-b"}, {Package: "never-heard-of"}, {Package: "good-c"},
	})
	out["lacking"].want(t, "lacking", "not-to-be-had")
	out["never-heard-of"].want(t, "never-heard-of", "does not know it")
	l.has(t, map[string]string{"good-a": "1-1", "good-b": "1-1", "good-c": "1-1", "lacking": ""})
	for _, name := range []string{"good-a", "good-b", "good-c"} {
		if out[name].err != nil {
			t.Errorf("%s: %v", name, out[name].err)
		}
	}
}

func contractFetch(t *testing.T, l lab) {
	l.ready(t, parcel{name: "vanished", version: "1-1"}, parcel{name: "good-d", version: "1-1"}, parcel{name: "moved", version: "1-1"})
	shell(t, fmt.Sprintf(l.withdraw, "vanished", "1-1"))
	shell(t, fmt.Sprintf(l.withdraw, "moved", "1-1"))
	if l.name != "pacman" { // whose index we write, and would have to take it out of
		l.publish(t, parcel{name: "moved", version: "2-1"})
	}
	w := l.world(t)
	if l.name != "pacman" {
		w.converge(Resource{Package: "moved"})
		l.has(t, map[string]string{"moved": "2-1"})
	}
	l.publish(t, parcel{name: "vanished", version: "1-1"})
	shell(t, l.refresh)
	shell(t, fmt.Sprintf(l.withdraw, "vanished", "1-1"))
	out := w.run(t.Context(), []Resource{{Package: "vanished"}, {Package: "good-d"}})
	out["vanished"].want(t, "vanished")
	if out["good-d"].err != nil {
		t.Errorf("good-d: %v", out["good-d"].err)
	}
	l.has(t, map[string]string{"vanished": "", "good-d": "1-1"})
	l.ready(t)
}

func contractConffiles(t *testing.T, l lab) {
	of := func(version, content string) parcel {
		return parcel{name: "conf", version: version, conffile: content}
	}
	l.ready(t, of("1-1", "one\n"))
	w := l.world(t)
	w.converge(Resource{Package: "conf", Version: "1"})
	write(t, "/etc/conf.conf", "mine\n", 0o644)
	l.ready(t, of("2-1", "two\n"))
	w.converge(Resource{Package: "conf", Version: "2"})
	if got := shell(t, "cat /etc/conf.conf"); got != "mine" {
		t.Errorf("kept, it is %q", got)
	}
	l.ready(t, of("3-1", "three\n"))
	w.converge(Resource{Package: "conf", Version: "3", Conffiles: "replace"})
	if got := shell(t, "cat /etc/conf.conf"); got != "three" {
		t.Errorf("replaced, it is %q; beside it are %s", got, shell(t, "ls /etc/conf.conf*"))
	}
}

func contractRecommends(t *testing.T, l lab) {
	if !l.recommends {
		return // it has none
	}
	l.ready(t, parcel{name: "suggested", version: "1-1"}, parcel{name: "spare", version: "1-1", recommends: []string{"suggested"}})
	w := l.world(t)
	w.converge(Resource{Package: "spare", Recommends: no()})
	l.has(t, map[string]string{"spare": "1-1", "suggested": ""})
	w.converge(Resource{Package: "spare", State: "absent"})
	w.converge(Resource{Package: "spare", Recommends: yes()})
	l.has(t, map[string]string{"spare": "1-1", "suggested": "1-1"})
}

func contractVirtual(t *testing.T, l lab) {
	l.ready(t, parcel{name: "one-mta", version: "1-1", provides: []string{"lone-service=2.5"}},
		parcel{name: "prov-a", version: "1-1", provides: []string{"twin-service"}},
		parcel{name: "prov-b", version: "1-1", provides: []string{"twin-service"}})
	w := l.world(t)
	w.converge(Resource{Package: "lone-service"})
	l.has(t, map[string]string{"one-mta": "1-1"})
	w.run(t.Context(), []Resource{{Package: "twin-service"}})["twin-service"].want(t, "twin-service", "prov-a, prov-b")
	out := w.converge(Resource{Package: "prov-b"}, Resource{Package: "lone-service", Version: ">= 2"})
	if !out["lone-service"].found.InOrder() {
		t.Errorf("a version that is provided: %+v", out["lone-service"].found)
	}
	if out = w.converge(Resource{Package: "twin-service"}); !out["twin-service"].found.InOrder() {
		t.Errorf("a provider is there: %+v", out["twin-service"].found)
	}
	w.run(t.Context(), nil, "lone-service", "twin-service")
	l.has(t, map[string]string{"one-mta": "", "prov-b": "1-1"})
}

func contractRefusals(t *testing.T, l lab) {
	l.ready(t, parcel{name: "base-lib", version: "1-1"}, parcel{name: "user-app", version: "1-1", depends: []string{"base-lib"}},
		parcel{name: "rival", version: "1-1", conflicts: []string{"user-app"}}, parcel{name: "innocent", version: "1-1"},
		parcel{name: "trued", version: "1-1", depends: []string{"base-lib"}})
	shell(t, l.install+" user-app trued")
	w := l.world(t)
	out := w.run(t.Context(), []Resource{
		{Package: "rival"}, {Package: "innocent"}, {Package: "base-lib", State: "absent"},
		{Package: "trued", State: "absent"}, {Package: l.vital, State: "purged"},
	})
	out["rival"].want(t, "rival", "user-app")
	out["base-lib"].want(t, "base-lib")
	if err := out["base-lib"].err; err != nil && !strings.Contains(err.Error(), "user-app") && !strings.Contains(err.Error(), "trued itself") {
		t.Errorf("base-lib: error is %v, and names nobody", err)
	}
	out["trued"].want(t, "trued", "trued itself")
	out[l.vital].want(t, l.vital, l.vital)
	if err := out["innocent"].err; err != nil {
		t.Errorf("innocent: %v", err)
	}
	l.has(t, map[string]string{"user-app": "1-1", "trued": "1-1", "base-lib": "1-1", "rival": "", "innocent": "1-1"})
	w.converge(Resource{Package: "user-app", State: "absent"}, Resource{Package: "rival"})
	l.has(t, map[string]string{"user-app": "", "rival": "1-1"})
}

func contractPrune(t *testing.T, l lab) {
	l.ready(t, parcel{name: "app", version: "1-1", depends: []string{"app-common", "app-shared", "app-old"}},
		parcel{name: "app-common", version: "1-1"}, parcel{name: "app-shared", version: "1-1"}, parcel{name: "app-old", version: "1-1"},
		parcel{name: "app-declared", version: "1-1", depends: []string{"app-shared"}}, parcel{name: "was-there", version: "1-1"})
	shell(t, l.install+" was-there app-old")
	if l.auto != "" {
		shell(t, fmt.Sprintf(l.auto, "was-there"))
	}
	w := l.world(t)
	w.converge(Resource{Package: "app"}, Resource{Package: "app-declared"}, Resource{Package: "was-there"})
	for name, o := range w.run(t.Context(), []Resource{{Package: "app-declared"}}, "app", "was-there") {
		if o.err != nil {
			t.Errorf("%s: %v", name, o.err)
		}
	}
	l.has(t, map[string]string{"app": "", "app-common": "", "app-shared": "1-1", "app-old": "1-1", "was-there": "1-1"})
}

func contractLetGo(t *testing.T, l lab) {
	const busy, begun = "/srv/lengthy-busy", "/srv/lengthy"
	l.ready(t, parcel{name: "lengthy", version: "1-1", script: "echo working >" + begun +
		"; for i in $(seq 3000); do test -e " + busy + " || break; sleep 0.05; done"})
	_ = os.Remove(begun)
	write(t, busy, "", 0o644)
	w := l.world(t)
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		awaitFile(t, begun)
		stop()
	}()
	if err := w.run(ctx, []Resource{{Package: "lengthy"}})["lengthy"].err; !errors.Is(err, context.Canceled) {
		t.Errorf("a run that was stopped gave %v", err)
	}
	if got := shell(t, "systemctl is-active "+transactionUnit); got != "active" {
		t.Errorf("the transaction is %s", got)
	}
	brief, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := w.manager.Attach(brief); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Attach to a transaction under way returned %v", err)
	}
	if err := os.Remove(busy); err != nil {
		t.Fatal(err)
	}
	if err := w.manager.Attach(t.Context()); err != nil {
		t.Errorf("Attach: %v", err)
	}
	l.has(t, map[string]string{"lengthy": "1-1"})
	if again := l.world(t).converge(Resource{Package: "lengthy"}); !again["lengthy"].found.InOrder() {
		t.Errorf("afterwards Check found %+v", again["lengthy"].found)
	}
}

// patience sets how long a manager waits for the locks of others.
func patience(m manager, wait time.Duration) {
	switch m := m.(type) {
	case *apt:
		m.lockWait = wait
	case *dnf:
		m.lockWait = wait
	case *zypper:
		m.lockWait = wait
	case *pacman:
		m.lockWait = wait
	}
}

func contractLock(t *testing.T, l lab) {
	l.ready(t, parcel{name: "patient", version: "1-1"})
	// Another process has the lock: one's own is not seen, and is lost at the
	// first look at its file.
	hold := func(name string) (release func()) {
		_ = os.Remove("/srv/locked")
		cmd := exec.Command("python3", "-c", "import fcntl, sys, time\n"+
			"f = open('"+name+"', 'a'); fcntl.lockf(f, fcntl.LOCK_EX); open('/srv/locked', 'w')\nsys.stdin.read()")
		in, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		awaitFile(t, "/srv/locked")
		return func() {
			if name == pacmanLock {
				_ = os.Remove(name)
			}
			_ = in.Close()
			_ = cmd.Wait()
		}
	}
	file := map[string]string{"apt": dpkgLock, "dnf": "/var/lib/rpm/" + rpmLock, "zypper": "/var/lib/rpm/" + rpmLock, "pacman": pacmanLock}[l.name]
	release := hold(file)
	w := l.world(t)
	if !w.manager.Busy() {
		t.Error("a lock that is held is not seen")
	}
	patience(w.manager, 0)
	w.run(t.Context(), []Resource{{Package: "patient"}})["patient"].want(t, "patient")
	l.has(t, map[string]string{"patient": ""})
	go func() {
		time.Sleep(time.Second) // a while in which it is refused
		release()
	}()
	w = l.world(t)
	w.converge(Resource{Package: "patient"})
	l.has(t, map[string]string{"patient": "1-1"})
	if w.manager.Busy() {
		t.Error("nobody is at work, and it is busy")
	}
	if l.name != "pacman" {
		return
	}
	write(t, pacmanLock, "", 0o644)
	w.run(t.Context(), []Resource{{Package: "patient", State: "absent"}})["patient"].want(t, "patient", "left behind", pacmanLock)
	if _, err := os.Stat(pacmanLock); err != nil {
		t.Error("a lock that was left behind was removed")
	}
	shell(t, "rm "+pacmanLock)
}

func contractTree(t *testing.T, l lab) {
	l.ready(t, parcel{name: "image", version: "1-1"})
	root := tree(t)
	for _, dir := range []string{repository, rpmRepository, pacmanRepository} {
		shell(t, "[ ! -e "+dir+" ] || cp -a "+dir+" "+root+"/srv/")
	}
	w := newWorld(t)
	w.manager = choose(host.New(root, host.Options{}))
	w.converge(Resource{Package: "image"})
	l.has(t, map[string]string{"image": ""})
	if got := shell(t, "chroot "+root+" sh -c \""+strings.ReplaceAll(fmt.Sprintf(l.version, "image"), "$", `\$`)+"\""); got != "1-1" {
		t.Errorf("in the tree it is %q", got)
	}
	program := map[string]string{"apt": "apt-get"}[l.name]
	if program == "" {
		program = l.name
	}
	shell(t, "mv "+root+"/usr/bin/"+program+" "+root+"/usr/bin/gone")
	out := w.run(t.Context(), []Resource{{Package: "image", State: "absent"}})
	if found := out["image"].found; !strings.Contains(found.Pending, "no "+program) {
		t.Errorf("without its manager: %+v", found)
	}
}

// versionsCompareAsVercmpComparesThem compares some hundred pairs with pacman's
// own program.
func versionsCompareAsVercmpComparesThem(t *testing.T) {
	versions := strings.Fields(`0 1 1.0 1.0-1 1.0-2 1.0rc1 1.0rc1-1 1.0a 1.0b 1.0.1 1.0.a 1.0a1 1..0 1_0 1.0. 1.0.. a b 1a a1 01 001.0
		1.10 1.9 1:0.1 0:1 2:0 10 r12.abc 20200101 1.0+git1 1.0~rc1 1.0^1 1- 1.0-1.1 1.0_1-1 1-1-1 1:1-1 :1 a:1 1:`)
	var script strings.Builder
	for _, a := range versions {
		for _, b := range versions {
			script.WriteString("vercmp '" + a + "' '" + b + "'\n")
		}
	}
	answers := strings.Fields(shell(t, script.String()))
	if len(answers) != len(versions)*len(versions) {
		t.Fatalf("%d answers to %d questions", len(answers), len(versions)*len(versions))
	}
	for i, a := range versions {
		for j, b := range versions {
			if got, want := fmt.Sprint(compareAlpm(a, b)), answers[i*len(versions)+j]; got != want {
				t.Errorf("%s against %s is %s, vercmp says %s", a, b, got, want)
			}
		}
	}
	if !slices.IsSortedFunc([]string{"1.0a", "1.0rc1", "1.0", "1.0.1", "1:0"}, compareAlpm) {
		t.Error("the order is not what the manual says")
	}
}
