package culprit

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
)

// patience is how long a test waits for what must come.
const patience = 3 * time.Minute

// prepare makes an account that may do all, and files to change.
const prepare = `useradd -m -s /bin/bash alice
echo 'alice ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/alice
mkdir -p /srv/www /usr/share/low/deep; echo x >/srv/www/index.html; echo x >/usr/share/low/deep/file`

// A sighting is something that somebody does, and who is to be named for it.
type sighting struct {
	do    string
	claim resource.Claim
	// what is done, where that is clear; by which program, as whom.
	what, name, user string
	// login is who is behind it, via what; unit is the unit that it is of.
	login, via, unit string
}

var (
	motd    = resource.Path("/etc/motd")
	cron    = resource.Claim{Space: resource.SpaceUnit, Name: "cron.service"}
	passwd  = resource.Claim{Space: resource.SpaceUser, Name: "bob"}
	watched = []resource.Claim{motd, cron, passwd, resource.Path("/srv/www/index.html"), resource.Path("/usr/share/low/deep/file")}
)

func pkg(name string) resource.Claim { return resource.Claim{Space: resource.SpacePackage, Name: name} }

// session runs a line of shell as alice, in a session as a login makes it.
func session(line string) string {
	return "systemd-run --quiet --wait --pipe --property=PAMName=login --property=User=alice bash -c '" + line + "; :'"
}

const call = "busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager"

func sightings() map[string]sighting {
	return map[string]sighting{
		"a shell":           {do: "echo x >>/etc/motd; :", claim: motd, what: "edited", name: "sh", user: "root"},
		"sed -i":            {do: "sed -i s/x/y/ /etc/motd", claim: motd, what: "replaced", name: "sed", user: "root"},
		"cp":                {do: "cp /etc/passwd /etc/motd", claim: motd, what: "edited", name: "cp", user: "root"},
		"mv":                {do: "cp /etc/passwd /root/new; mv /root/new /etc/motd", claim: motd, what: "replaced", name: "mv", user: "root"},
		"rename away":       {do: "touch /etc/motd; sleep 0.1; mv /etc/motd /etc/motd.old", claim: motd, what: "moved away", name: "mv", user: "root"},
		"rm":                {do: "touch /etc/motd; sleep 0.1; rm /etc/motd", claim: motd, what: "removed", name: "rm", user: "root"},
		"chmod":             {do: "touch /etc/motd; sleep 0.1; chmod 604 /etc/motd", claim: motd, what: "owner or mode changed", name: "chmod", user: "root"},
		"vim":               {do: "vim.tiny -u NONE -es -c 'normal Ax' -c wq /etc/motd", claim: motd, what: "edited", name: "vim.tiny", user: "root"},
		"useradd":           {do: "userdel bob; useradd bob", claim: passwd, name: "useradd", user: "root"},
		"below a lower dir": {do: "echo x >>/usr/share/low/deep/file; :", claim: resource.Path("/usr/share/low/deep/file"), what: "edited", name: "sh", user: "root"},
		"sudo": {
			do: `su alice -c 'sudo sh -c "echo x >>/etc/motd; :"; :'`, claim: motd,
			what: "edited", name: "sh", user: "root", login: "alice", via: "sudo"},
		"sudo in a script": {
			do: `su alice -c "sudo sed -i s/x/y/ /etc/motd"`, claim: motd,
			what: "replaced", name: "sed", user: "root", login: "alice", via: "sudo"},
		"sudo su": {
			do: `su alice -c 'sudo su root -c "sed -i s/x/y/ /etc/motd; :"; :'`, claim: motd,
			what: "replaced", name: "sed", user: "root", login: "alice", via: "sudo"},
		"su": {
			do: `chmod 666 /etc/motd; sleep 0.1; su alice -c 'echo x >>/etc/motd; :'`, claim: motd,
			what: "edited", name: "bash", user: "alice", login: "root", via: "su"},
		"a service": {
			do: "systemd-run --quiet --wait --unit=worker sh -c 'echo x >>/etc/motd; sleep 1'", claim: motd,
			what: "edited", name: "sh", user: "root", unit: "worker.service"},
		"systemctl": {do: "systemctl start cron; systemctl stop cron", claim: cron, what: "stopped", name: "systemctl", user: "root"},
		"sudo systemctl": {
			do: `su alice -c 'sudo systemctl disable --now --quiet cron.service 2>/dev/null; :'`, claim: cron,
			what: "disabled", name: "systemctl", user: "root", login: "alice", via: "sudo"},
		"mask":          {do: "systemctl mask --quiet cron; sleep 0.2; systemctl unmask --quiet cron", claim: cron, what: "unmasked", name: "systemctl", user: "root"},
		"the bus":       {do: call + " StopUnit ss cron.service replace", claim: cron, what: "stopped", name: "busctl", user: "root"},
		"who is denied": {do: "su alice -c '" + call + " StopUnit ss cron.service replace; :' || :", claim: cron, what: "asked to be stopped", name: "busctl", user: "alice", login: "root", via: "su"},
		"apt":           {do: "dpkg -l tree | grep -q ^ii || exit 0; apt-get -q -y remove tree", claim: pkg("tree"), what: "removed", name: "apt-get"},
		"apt by sudo":   {do: `dpkg -l bc | grep -q ^ii || exit 0; su alice -c "sudo apt-get -q -y purge bc"`, claim: pkg("bc"), what: "purged", name: "apt-get", user: "root", login: "alice", via: "sudo"},
		"dpkg":          {do: "dpkg -l less | grep -q ^ii || exit 0; dpkg --remove less", claim: pkg("less"), what: "removed", name: "dpkg"},
		"a login":       {do: session("sudo sed -i s/x/y/ /etc/motd"), claim: motd, what: "replaced", name: "sed", user: "root", login: "alice", via: "sudo"},
		// Nobody above it is alice any more: that the session is hers is written down.
		"a login alone": {
			do:    "systemd-run --quiet --wait --pipe --property=PAMName=login --property=User=alice sudo sed -i s/x/y/ /etc/motd",
			claim: motd, what: "replaced", name: "sed", user: "root", login: "alice", via: "sudo"},
		"a login's root": {do: session("sudo systemd-run --quiet --wait --pipe --unit=other sed -i s/x/y/ /etc/motd"), claim: motd, what: "replaced", name: "sed", user: "root", unit: "other.service"},
	}
}

// TestWhoOnAHost has things done by hand on a booted host, and holds the hint
// against who did them.
func TestWhoOnAHost(t *testing.T) {
	packages := []string{"sudo", "cron", "vim-tiny", "tree", "bc", "less"}
	if !hosttest.Inside(t, hosttest.Options{Name: "culprit", Packages: packages}, prepare) {
		return
	}
	f := start(t)
	for name, s := range sightings() {
		t.Run(name, func(t *testing.T) { s.see(t, f) })
	}
	t.Run("cron", func(t *testing.T) { cronJob(t, f) })
	t.Run("its own", func(t *testing.T) { ownWork(t, f) })
	t.Run("what nobody watches", func(t *testing.T) { unwatched(t, f) })
	t.Run("a directory that is replaced", func(t *testing.T) { replaced(t, f) })
	t.Run("a storm", func(t *testing.T) { storm(t, f) })
}

func start(t *testing.T) *Finder {
	t.Helper()
	f := New(host.New("/", host.Options{}), slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug})))
	stop := f.Start()
	t.Cleanup(stop)
	f.Watch(watched)
	return f
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Helper()
	w.t.Log(string(p))
	return len(p), nil
}

// see does something until who did it is known. The process may be gone before
// it is looked at, or while it is, so that no more than its name was seen; a wrong
// hint is a fault.
func (s sighting) see(t *testing.T, f *Finder) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		// By its own hand, which is not told of.
		if err := os.WriteFile("/etc/motd", []byte("x\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		since := time.Now()
		shell(t, s.do)
		c := await(f, s.claim, since)
		switch {
		case c != nil && c.Name() != "" && (c.Executable != "" || s.is(c)):
			s.compare(t, c)
			return
		case time.Now().After(end):
			t.Fatalf("nobody is known: %+v", c)
		}
	}
}

func (s sighting) compare(t *testing.T, c *Culprit) {
	t.Helper()
	t.Log(c.Text(time.Now()))
	if !s.is(c) {
		t.Errorf("it is %+v, want %+v", *c, s)
	}
	if s.unit != "" && c.Unit != s.unit {
		t.Errorf("it is of the unit %q, want %q", c.Unit, s.unit)
	}
	if s.claim.Space != resource.SpacePackage && c.PID <= 1 {
		t.Errorf("it is process %d", c.PID)
	}
}

// is reports whether the hint says who did it, and what.
func (s sighting) is(c *Culprit) bool {
	return (s.what == "" || c.What == s.what) && c.Name() == s.name && c.User == s.user &&
		c.LoginUser == s.login && (s.login == "" || c.Via == s.via)
}

// await waits a while for somebody who is known, and returns whom there is.
func await(f *Finder, claim resource.Claim, since time.Time) *Culprit {
	var c *Culprit
	for range 100 {
		if c = f.Who([]resource.Claim{claim}, since); c != nil {
			return c
		}
		time.Sleep(20 * time.Millisecond)
	}
	return c
}

func shell(t *testing.T, line string) {
	t.Helper()
	cmd := exec.Command("setsid", "--wait", "setpriv", "--reset-env", "sh", "-c", detached, "sh", line)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// detached runs a line as a child of the host's first process: what this process
// starts is its own, and not told of.
const detached = `out=$(mktemp); rm -f "$out.done"
(sh -c 'sh -c "$1" >"$2" 2>&1; echo $? >"$2.code"; mv "$2.code" "$2.done"' sh "$1" "$out" &)
until [ -e "$out.done" ]; do sleep 0.02; done
cat "$out"; exit "$(cat "$out.done")"`

// cronJob has cron do it.
func cronJob(t *testing.T, f *Finder) {
	since := time.Now()
	shell(t, "echo '* * * * * root echo x >>/etc/motd; sleep 1' >/etc/cron.d/job; systemctl start cron")
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		c := f.Who([]resource.Claim{motd}, since)
		if c != nil && c.Name() != "" {
			sighting{what: "edited", name: "sh", user: "root", login: c.LoginUser, via: c.Via, unit: "cron.service"}.compare(t, c)
			if c.LoginUser != "" && c.LoginUser != "root" {
				t.Errorf("%s is behind it", c.LoginUser)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatalf("cron's job is not seen: %+v", c)
		}
	}
	shell(t, "rm /etc/cron.d/job; systemctl stop cron")
}

// ownWork does what the agent does: by itself, and by a command that it starts.
func ownWork(t *testing.T, f *Finder) {
	since := time.Now()
	if err := os.WriteFile("/etc/motd", []byte("own\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sh", "-c", "echo x >>/etc/motd; sh -c 'echo x >>/etc/motd; sleep 0.5'").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// What comes after it in the same queue is seen once that was.
	sighting{do: "echo x >>/srv/www/index.html; :", claim: resource.Path("/srv/www/index.html"), what: "edited", name: "sh", user: "root"}.see(t, f)
	if c := f.Who([]resource.Claim{motd}, since); c != nil && c.Name() != "" {
		t.Errorf("it is told of: %+v", c)
	}
}

func unwatched(t *testing.T, f *Finder) {
	since := time.Now()
	shell(t, "echo x >/etc/other; echo x >/srv/other")
	sighting{do: "echo x >>/srv/www/index.html; :", claim: resource.Path("/srv/www/index.html"), what: "edited", name: "sh", user: "root"}.see(t, f)
	for _, name := range []string{"/etc/other", "/srv/other"} {
		if c := f.Who([]resource.Claim{resource.Path(name)}, since); c != nil {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

// replaced puts another directory in the place of one that is watched.
func replaced(t *testing.T, f *Finder) {
	shell(t, "mv /srv/www /srv/gone; cp -a /srv/gone /srv/www")
	f.Watch(watched)
	sighting{do: "echo x >>/srv/www/index.html; :", claim: resource.Path("/srv/www/index.html"), what: "edited", name: "sh", user: "root"}.see(t, f)
	since := time.Now()
	shell(t, "rm /srv/gone/index.html")
	sighting{do: "echo x >>/etc/motd; :", claim: motd, what: "edited", name: "sh", user: "root"}.see(t, f)
	if c := f.Who([]resource.Claim{resource.Path("/srv/www/index.html")}, since); c != nil {
		t.Errorf("what happened elsewhere is told of: %+v", c)
	}
}

// storm makes a hundred thousand events, half of which are of interest.
func storm(t *testing.T, f *Finder) {
	names := make([]resource.Claim, 2000)
	for i := range names {
		names[i] = resource.Path(fmt.Sprintf("/srv/storm/told-%d", i))
	}
	shell(t, "mkdir /srv/storm")
	f.Watch(append(names, watched...))
	shell(t, `cd /srv/storm; i=0; while [ $i -lt 20000 ]; do echo x >other-$((i % 100)); echo x >told-$((i % 2000)); i=$((i + 1)); done`)
	f.mu.Lock()
	w := f.watcher
	f.mu.Unlock()
	w.mu.Lock()
	touched, size, dirs := w.touches.order.Len(), w.touches.bytes, len(w.dirs)
	w.mu.Unlock()
	if touched > mostTouches || size > mostBytes {
		t.Errorf("%d touches of %d bytes", touched, size)
	}
	t.Logf("after the storm there are %d touches of %d bytes, and %d directories", touched, size, dirs)
	f.Watch(watched)
	sighting{do: "echo x >>/etc/motd; :", claim: motd, what: "edited", name: "sh", user: "root"}.see(t, f)
	if n := descriptors(t); n > 64 {
		t.Errorf("%d file descriptors are open", n)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// Where the kernel, the bus or the right is missing nothing is told, and nothing
// fails: in turn who may not ask the kernel, and who may not listen to others
// on the bus either.
func TestWithoutTheRightThereIsNoHint(t *testing.T) {
	if !hosttest.Inside(t, hosttest.Options{Name: "culprit"}, "") {
		return
	}
	if os.Getenv("TRUED_TEST_BOUND") == "" {
		self, err := os.ReadFile("/proc/self/exe")
		if err == nil {
			err = os.WriteFile("/usr/local/bin/self", self, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, bound := range [][]string{{"--bounding-set=-sys_admin", "--inh-caps=-all"}, {"--reuid=65534", "--clear-groups"}} {
			cmd := exec.Command("setpriv", append(bound, "/usr/local/bin/self", "-test.v", "-test.run", "^"+t.Name()+"$")...)
			cmd.Env = append(os.Environ(), "TRUED_TEST_BOUND=1")
			cmd.Dir = "/"
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "--- PASS") {
				t.Errorf("with %s: %v\n%s", bound, err, out)
			}
		}
		return
	}
	var said strings.Builder
	f := New(host.New("/", host.Options{}), slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug})))
	stop := f.Start()
	f.Watch(watched)
	if c := f.Who(watched, time.Time{}); c != nil {
		t.Errorf("somebody is known: %+v", c)
	}
	stop()
	if n := strings.Count(said.String(), "level=DEBUG"); n == 0 || strings.Count(said.String(), "\n") > 2 ||
		!strings.Contains(said.String(), "operation not permitted") && !strings.Contains(said.String(), "AccessDenied") {
		t.Errorf("it says:\n%s", said.String())
	}
}
