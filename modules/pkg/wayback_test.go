package pkg

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// census is all that a return has to bring back: packages with versions and
// marks, and all of the configuration.
const census = `dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\n'; echo; apt-mark showauto; apt-mark showhold; echo
cd /etc; find . -path './ld.so.cache' -prune -o -path './apt' -prune -o -type f -print | sort | while read -r f; do stat -c '%n %a %U:%G' "$f"; md5sum <"$f"; done`

// away runs the declared packages with the old ones kept, and then brings all back.
func away(t *testing.T, dir string, declared []Resource, leave ...string) {
	t.Helper()
	w := newWorld(t)
	w.keepIn = dir
	for name, tale := range w.run(t.Context(), declared, leave...) {
		if tale.err != nil {
			t.Fatalf("%s: %v", name, tale.err)
		}
	}
}

func back(t *testing.T, dir string) []resource.Returned {
	t.Helper()
	m := newModule(newApt(host.New("/", host.Options{})))
	list, err := m.Return(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if r.Err != nil {
			t.Errorf("%s did not come back: %v", r.Name, r.Err)
		}
	}
	again, err := m.Return(t.Context(), dir)
	if err != nil || len(again) > 0 {
		t.Errorf("a second return changed %v, error %v", again, err)
	}
	return list
}

func TestInsideWhatACommitMovedGoesBack(t *testing.T) {
	inside(t)
	useRepository(t)
	t.Cleanup(func() {
		shell(t, "apt-mark unhold wb-held; dpkg --purge wb-app wb-lib wb-gone wb-held wb-new wb-dep; rm -f /srv/wb")
	})
	t.Setenv("DEBIAN_FRONTEND", "noninteractive")
	app := deb{
		name: "wb-app", version: "1:1.0-1", fields: "Depends: wb-lib\n",
		files:     map[string]string{"/usr/share/wb/app": "one\n", "/usr/share/wb/tool": "#!/bin/sh\n"},
		conffiles: map[string]string{"/etc/wb/plain.conf": "plain 1\n", "/etc/wb/edited.conf": "edited 1\n"},
		scripts:   map[string]string{"postinst": "echo one >/srv/wb", "prerm": ":"},
	}
	publish(t, app, deb{name: "wb-lib", version: "1", arch: "amd64"}, deb{name: "wb-gone", version: "3", conffiles: map[string]string{"/etc/wb-gone.conf": "gone\n"}},
		deb{name: "wb-held", version: "1"})
	refresh(t)
	shell(t, "apt-get -y install wb-app wb-gone wb-held && apt-mark hold wb-held")
	shell(t, "echo mine >/etc/wb/edited.conf; chmod 600 /etc/wb/edited.conf; echo mine >/etc/wb-gone.conf; chown daemon:daemon /etc/wb-gone.conf")
	shell(t, "rm -f /var/cache/apt/archives/*.deb; rm "+repository+"/wb-*.deb") // neither cache nor index has them
	newer := app
	newer.version = "1:2.0-1"
	newer.files = map[string]string{"/usr/share/wb/app": "two\n"}
	newer.conffiles = map[string]string{"/etc/wb/plain.conf": "plain 2\n", "/etc/wb/edited.conf": "edited 2\n", "/etc/wb/late.conf": "late\n"}
	newer.scripts = map[string]string{"postinst": "echo two >/srv/wb"}
	newer.fields = "Depends: wb-lib (>= 2), wb-dep\n"
	publish(t, newer, deb{name: "wb-lib", version: "2", arch: "amd64"}, deb{name: "wb-held", version: "2"},
		deb{name: "wb-new", version: "1", conffiles: map[string]string{"/etc/wb-new.conf": "new\n"}}, deb{name: "wb-dep", version: "1"})
	refresh(t)
	before := shell(t, census)

	dir := t.TempDir()
	yes := true
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(shell(t, "cat /var/log/apt/term.log; tail -200 /var/log/apt/history.log"))
		}
	})
	away(t, dir, []Resource{
		{Package: "wb-app", Version: ">= 1:2", Conffiles: "replace"}, {Package: "wb-new"}, {Package: "wb-gone", State: "purged"},
		{Package: "wb-held", Version: ">= 2", Hold: &yes},
	})
	expectState(t, "wb-app", "ii 1:2.0-1")
	expectState(t, "wb-gone", "")
	shell(t, "rm -f /var/cache/apt/archives/*.deb "+repository+"/wb-*.deb") // and no network
	list := back(t, dir)
	write(t, "/tmp/before", before, 0o644)
	if after := shell(t, census); after != before {
		write(t, "/tmp/after", after, 0o644)
		t.Errorf("the host is not as before:\n%s", shell(t, "diff /tmp/before /tmp/after || true"))
	}
	if got := shell(t, "cat /srv/wb /usr/share/wb/app /usr/share/wb/tool; dpkg --audit"); got != "one\none\n#!/bin/sh" {
		t.Errorf("the files of the package are %q", got)
	}
	var names []string
	for _, r := range list {
		names = append(names, r.Name)
	}
	if got := strings.Join(names, " "); !strings.Contains(got, "wb-dep") || strings.Contains(got, "bash") {
		t.Errorf("%s came back", got)
	}
	// So it is again for what was made of what is installed.
	publish(t, newer, deb{name: "wb-lib", version: "2", arch: "amd64"}, deb{name: "wb-dep", version: "1"})
	refresh(t)
	dir = t.TempDir()
	away(t, dir, []Resource{{Package: "wb-app", Version: ">= 1:2"}})
	shell(t, "rm -f /var/cache/apt/archives/*.deb "+repository+"/wb-*.deb")
	back(t, dir)
	if after := shell(t, census); after != before {
		write(t, "/tmp/after", after, 0o644)
		t.Errorf("the second time the host is not as before:\n%s", shell(t, "diff /tmp/before /tmp/after || true"))
	}
	for name, file := range map[string]string{"wb-app": "/etc/wb/edited.conf", "wb-gone": "/etc/wb-gone.conf"} {
		if list := shell(t, "dpkg-query -W -f '${Conffiles}' "+name); !strings.Contains(list, file) {
			t.Errorf("%s has lost a configuration file: %s", name, list)
		}
	}
	// What somebody wrote is theirs still, for the next version too.
	shell(t, "rm -f "+repository+"/wb-*.deb")
	publish(t, newer, deb{name: "wb-lib", version: "2", arch: "amd64"}, deb{name: "wb-dep", version: "1"})
	refresh(t)
	shell(t, "apt-get -y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install wb-app")
	if got := shell(t, "cat /etc/wb/edited.conf /etc/wb/plain.conf"); got != "mine\nplain 2" {
		t.Errorf("after a later upgrade the configuration is %q", got)
	}
}

func TestInsideASecondChangeDoesNotChangeWhatIsKept(t *testing.T) {
	inside(t)
	useRepository(t)
	t.Cleanup(func() { shell(t, "dpkg --purge wb-twice wb-came") })
	publish(t, deb{name: "wb-twice", version: "1"}, deb{name: "wb-twice", version: "2"}, deb{name: "wb-twice", version: "3"}, deb{name: "wb-came", version: "1"})
	refresh(t)
	shell(t, "apt-get -y install wb-twice=1")
	dir := t.TempDir()
	away(t, dir, []Resource{{Package: "wb-twice", Version: "= 2"}, {Package: "wb-came"}})
	away(t, dir, []Resource{{Package: "wb-twice", Version: "= 3"}}, "wb-came")
	back(t, dir)
	expectState(t, "wb-twice", "ii 1")
	expectState(t, "wb-came", "")
	files, err := filepath.Glob(dir + "/*.deb")
	if err != nil || len(files) != 1 {
		t.Errorf("kept are %v, error %v", files, err)
	}
}

// A script that never ends does not keep the version that it is of.
func TestInsideAPackageWhoseScriptHangsGoesBack(t *testing.T) {
	inside(t)
	useRepository(t)
	t.Cleanup(func() { shell(t, "dpkg --purge wb-hangs; rm -f /srv/wb-hangs") })
	publish(t, deb{name: "wb-hangs", version: "1"},
		deb{name: "wb-hangs", version: "2", scripts: map[string]string{"postinst": "echo x >>/srv/wb-hangs; sleep 86400"}})
	refresh(t)
	shell(t, "apt-get -y install wb-hangs=1")
	before := shell(t, census)
	dir := t.TempDir()
	w := newWorld(t)
	w.keepIn = dir
	ctx, letGo := context.WithCancel(t.Context())
	go func() {
		awaitFile(t, "/srv/wb-hangs")
		letGo()
	}()
	if out := w.run(ctx, []Resource{{Package: "wb-hangs", Version: "= 2"}}); out["wb-hangs"].err == nil {
		t.Fatal("it came to its end")
	}
	m := newModule(newApt(host.New("/", host.Options{})))
	m.patience = 3 * time.Second // what is waited for is time itself
	brief, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := m.Attach(brief); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Attach returned %v", err)
	}
	if err := m.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Attach(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := m.Return(t.Context(), dir)
	if err != nil || len(list) != 1 || list[0].Err != nil {
		t.Fatalf("%+v, error %v", list, err)
	}
	if after := shell(t, census); after != before {
		t.Errorf("the host is not as before:\n%s\n%s", before, after)
	}
	if got := shell(t, "dpkg --audit; pgrep -f '[s]leep 86400' || true"); got != "" {
		t.Errorf("there is still: %s", got)
	}
	if tried := shell(t, "wc -l </srv/wb-hangs"); tried != "2" {
		t.Errorf("its script ran %s times, want 2: by the commit, and to be repaired", tried)
	}
}

func TestInsideWhatCannotBeKeptIsNotChanged(t *testing.T) {
	inside(t)
	useRepository(t)
	t.Cleanup(func() { shell(t, "dpkg --purge wb-full; umount /srv/full") })
	publish(t, deb{name: "wb-full", version: "1"}, deb{name: "wb-full", version: "2"})
	refresh(t)
	shell(t, "apt-get -y install wb-full=1; mkdir -p /srv/full; mount -t tmpfs -o size=1m tmpfs /srv/full")
	w := newWorld(t)
	w.keepIn = "/srv/full/kept"
	out := w.run(t.Context(), []Resource{{Package: "wb-full", Version: "= 2"}})
	if err := out["wb-full"].err; err == nil || !strings.Contains(err.Error(), "for the way back") || !host.OutOfSpace(err) {
		t.Errorf("returned %v", err)
	}
	expectState(t, "wb-full", "ii 1")
}

func TestInsideAPackageOfDebianIsRepackedWhole(t *testing.T) {
	inside(t)
	dir := t.TempDir()
	a := newApt(host.New("/", host.Options{}))
	db, err := a.Installed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bash", "base-files", "login", "libc6", "dpkg", "apt", "systemd"} {
		r := db.find(name)
		if r == nil {
			t.Fatalf("%s is not installed", name)
		}
		file := dir + "/" + name + ".deb"
		if err := a.repack(r, file); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !a.whole(t.Context(), file) {
			t.Errorf("%s: what was made cannot be unpacked", name)
			continue
		}
		if got := shell(t, "dpkg-deb -f "+file+" Package Version"); got != "Package: "+name+"\nVersion: "+r.Version {
			t.Errorf("%s: it says\n%s", name, got)
		}
		tree := t.TempDir()
		shell(t, "dpkg-deb -x "+file+" "+tree)
		// All that dpkg knows of it and that is there, byte for byte.
		missing := shell(t, "dpkg -L "+name+" | while read -r f; do if [ -f \"$f\" ] && ! [ -L \"$f\" ]; then cmp \"$f\" "+tree+"\"$f\" || echo \"$f\"; fi; done 2>&1")
		if missing != "" {
			t.Errorf("%s: it lacks\n%s", name, missing)
		}
	}
	shell(t, "dpkg -i "+dir+"/bash.deb && dpkg --audit")
}

func TestALineThatWasCutOffIsOfAPackageThatWasNotChanged(t *testing.T) {
	dir := t.TempDir()
	if err := appendKept(dir, kept{Name: "a", Version: "1"}); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, keptList), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"name":"cut`); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	if err := appendKept(dir, kept{Name: "b", Status: configFiles}); err != nil {
		t.Fatal(err)
	}
	list, err := readKept(dir)
	if err != nil || len(list) != 2 || list[0].Name != "a" || list[1].Name != "b" {
		t.Errorf("read %v, error %v", list, err)
	}
}
