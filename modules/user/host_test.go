package user

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

// TestOnHost runs what follows as root of a booted host, whose accounts may
// change.
func TestOnHost(t *testing.T) {
	if !hosttest.Inside(t, hosttest.Options{Name: "user"}, "mkdir -p /srv/elsewhere; groupadd -f www") {
		return
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			sh(t, "rm -rf /srv/new /srv/moved /home/old; userdel old || true; groupdel old || true; "+
				"useradd -m -u 1000 -s /bin/sh -c Old -G adm,staff -p '"+oldHash+"' old")
			conform(t, running(t), "/", c)
		})
	}
	t.Run("somebody who is logged in", loggedIn)
	t.Run("a home on another file system", otherFileSystem)
	t.Run("accounts that another program has locked", lockedAccounts)
	t.Run("subordinate ids come and go", subordinateIDs)
	t.Run("a login shell that is not there", missingShell)
}

func running(t *testing.T) *host.Host {
	t.Helper()
	return host.New("/", host.Options{Backups: host.OpenBackups(t.TempDir())})
}

func sh(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return strings.TrimSpace(string(out))
}

// A lab is a host with what an engine remembers of it.
type lab struct {
	host   *host.Host
	engine resourcetest.Engine
}

func newLab(t *testing.T) *lab { return &lab{host: running(t)} }

func (l *lab) user(fill Resource) (resource.Module, *Resource) {
	m := New(l.host)
	fill.host = l.host
	return m, &fill
}

func (l *lab) converge(t *testing.T, fill Resource) error {
	t.Helper()
	m, r := l.user(fill)
	return l.engine.Converge(t.Context(), m, r)
}

func (l *lab) leave(t *testing.T, fill Resource) error {
	t.Helper()
	m, r := l.user(fill)
	gone, err := l.engine.Absent(m, r)
	if err != nil {
		t.Fatal(err)
	}
	return l.engine.Leave(t.Context(), m, r, gone)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// loggedIn: what can be changed is changed; what cannot says who is in the way.
func loggedIn(t *testing.T) {
	l := newLab(t)
	must(t, l.converge(t, Resource{User: "busy", Comment: ptr("a"), RemoveHome: true}))
	session := exec.Command("su", "-", "busy", "-s", "/bin/sh", "-c", "echo in; exec cat")
	in, err := session.StdinPipe()
	must(t, err)
	out, err := session.StdoutPipe()
	must(t, err)
	must(t, session.Start())
	if _, err := out.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	must(t, l.converge(t, Resource{User: "busy", Comment: ptr("b"), Shell: "/bin/sh", Groups: []string{"adm"}, Password: newHash, RemoveHome: true}))
	err = l.converge(t, Resource{User: "busy", Comment: ptr("c"), UID: ptr(4321), RemoveHome: true})
	if err == nil || !strings.Contains(err.Error(), `user "busy" is logged in`) {
		t.Errorf("another number gave %v", err)
	}
	if got := sh(t, "getent passwd busy"); !strings.Contains(got, ":c:") {
		t.Errorf("what could be changed was not: %s", got)
	}
	if err = l.leave(t, Resource{User: "busy"}); err == nil || !strings.Contains(err.Error(), `user "busy" is logged in`) {
		t.Errorf("leaving gave %v", err)
	}
	sh(t, "test -d /home/busy")
	must(t, in.Close())
	must(t, session.Wait())
	must(t, l.leave(t, Resource{User: "busy"}))
	sh(t, "! getent passwd busy; ! getent group busy; test ! -e /home/busy")
}

// otherFileSystem: a home that is a mount is used, moved across file systems,
// and never emptied with what is mounted on it.
func otherFileSystem(t *testing.T) {
	for _, dir := range []string{"/srv/disk", "/srv/mounted"} {
		must(t, os.MkdirAll(dir, 0o755))
		must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, ""))
		defer func() { must(t, syscall.Unmount(dir, 0)) }()
	}
	l := newLab(t)
	must(t, l.converge(t, Resource{User: "far", Home: "/srv/disk/far"}))
	sh(t, "test $(stat -c %U:%G:%a /srv/disk/far) = far:far:700; echo x >/srv/disk/far/x")
	must(t, l.converge(t, Resource{User: "far", Home: "/srv/near", MoveHome: true}))
	sh(t, "grep -q x /srv/near/x; test ! -e /srv/disk/far; test $(stat -c %U /srv/near/x) = root")
	moved := Resource{User: "far", Home: "/srv/mounted", MoveHome: true}
	if err := l.converge(t, moved); err == nil || !strings.Contains(err.Error(), "there is a directory at /srv/mounted") {
		t.Errorf("moving to what is there gave %v", err)
	}
	// One that does not fit stays, and so does what is known of it.
	must(t, os.MkdirAll("/srv/small", 0o755))
	must(t, syscall.Mount("tmpfs", "/srv/small", "tmpfs", 0, "size=64k"))
	defer func() { must(t, syscall.Unmount("/srv/small", 0)) }()
	sh(t, "head -c 200000 /dev/zero >/srv/near/big")
	moved.Home = "/srv/small/far"
	for range 2 {
		if err := l.converge(t, moved); err == nil {
			t.Error("it fits")
		}
		sh(t, "getent passwd far | grep -q :/srv/near:; grep -q x /srv/near/x; rm -rf /srv/small/far")
	}
	must(t, l.converge(t, Resource{User: "far", Home: "/srv/mounted", RemoveHome: true}))
	sh(t, "chown far: /srv/mounted; echo precious >/srv/mounted/x")
	must(t, l.leave(t, Resource{User: "far"}))
	sh(t, "! getent passwd far; grep -q precious /srv/mounted/x")
}

// lockedAccounts: the lock of another is waited for.
func lockedAccounts(t *testing.T) {
	f, err := os.OpenFile("/etc/.pwd.lock", os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	defer f.Close()
	must(t, syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK}))
	done := make(chan error, 1)
	l := newLab(t)
	go func() { done <- l.converge(t, Resource{User: "patient", CreateHome: ptr(false)}) }()
	for waits := false; !waits; time.Sleep(10 * time.Millisecond) { // until it stands in line
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
		locks, err := os.ReadFile("/proc/locks")
		must(t, err)
		waits = strings.Contains(string(locks), "-> POSIX")
	}
	must(t, syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_UNLCK}))
	must(t, <-done)
	must(t, l.leave(t, Resource{User: "patient"}))
}

func subordinateIDs(t *testing.T) {
	l := newLab(t)
	must(t, l.converge(t, Resource{User: "rootless", RemoveHome: true}))
	sh(t, "grep -q ^rootless: /etc/subuid; grep -q ^rootless: /etc/subgid")
	must(t, l.leave(t, Resource{User: "rootless"}))
	sh(t, "! grep ^rootless: /etc/subuid /etc/subgid")
}

// missingShell: who could log in still can; once the shell is there, it is theirs.
func missingShell(t *testing.T) {
	l := newLab(t)
	fill := Resource{User: "admin", Shell: "/bin/bash"}
	must(t, l.converge(t, fill))
	fill.Shell = "/usr/local/bin/zsh"
	if err := l.converge(t, fill); err == nil || !strings.Contains(err.Error(), `user "admin" would be locked out: there is no program /usr/local/bin/zsh`) {
		t.Errorf("returned %v", err)
	}
	sh(t, "getent passwd admin | grep -q :/bin/bash$")
	sh(t, "cp /bin/sh /usr/local/bin/zsh")
	must(t, l.converge(t, fill))
	sh(t, "getent passwd admin | grep -q :/usr/local/bin/zsh$; rm /usr/local/bin/zsh")
	m, r := l.user(fill)
	if found, err := l.engine.Check(t.Context(), m, r); err != nil || !strings.Contains(found.Note, "there is no program") {
		t.Errorf("found %+v, error %v", found, err)
	}
	must(t, l.leave(t, fill))
}
