package timer

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

// TestOnHost holds what follows against the systemd of booted hosts.
func TestOnHost(t *testing.T) {
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			if !hosttest.Inside(t, hosttest.Options{Name: "timer-" + suite, Suite: suite}, "useradd -r ada") {
				return
			}
			t.Run("promises", promises)
			t.Run("what runs is what was written", runsWhatWasWritten)
			t.Run("drift is put back", driftIsPutBack)
			t.Run("a change restarts the timer alone", changeRestartsTheTimer)
			t.Run("what systemd does not take is not written", notTaken)
			t.Run("files that systemd has not read", unreadFiles)
			t.Run("what leaves while it runs", leavesWhileItRuns)
		})
	}
}

func running(t *testing.T) *host.Host {
	t.Helper()
	h := host.New("/", host.Options{Backups: host.OpenBackups(t.TempDir())})
	t.Cleanup(h.Systemd().Close)
	return h
}

// sh runs a line of shell and returns what it printed, whatever its exit code.
func sh(t testing.TB, line string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "bash", "-c", line).CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("%s: %v %v", line, ctx.Err(), err)
	}
	return strings.TrimSpace(string(out))
}

func expect(t *testing.T, line, want string) {
	t.Helper()
	if got := sh(t, line); got != want {
		t.Errorf("%s\nsays %q, want %q", line, got, want)
	}
}

// A lab is the host with what an engine remembers of it.
type lab struct {
	host   *host.Host
	engine resourcetest.Engine
}

func newLab(t *testing.T) *lab { return &lab{host: running(t)} }

func (l *lab) load(t *testing.T, fill Resource) (resource.Module, *Resource) {
	t.Helper()
	m := New(l.host)
	r := filled(m, fill)
	if err := l.engine.Load(r); err != nil {
		t.Fatal(err)
	}
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	return m, r
}

func (l *lab) check(t *testing.T, fill Resource) resource.Finding {
	t.Helper()
	m, r := l.load(t, fill)
	found, err := l.engine.Check(t.Context(), m, r)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func (l *lab) converge(t *testing.T, fill Resource) {
	t.Helper()
	m, r := l.load(t, fill)
	if err := l.engine.Converge(t.Context(), m, r); err != nil {
		t.Fatal(err)
	}
	if found := l.check(t, fill); !found.InOrder() {
		t.Errorf("Check found %+v", found)
	}
}

func (l *lab) leave(t *testing.T, fill Resource) {
	t.Helper()
	m, r := l.load(t, fill)
	gone, err := l.engine.Absent(m, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.engine.Leave(t.Context(), m, r, gone); err != nil {
		t.Fatal(err)
	}
	if found, err := l.engine.CheckAbsent(t.Context(), m, r, gone); err != nil || !found.InOrder() {
		t.Errorf("after it left, Check found %+v, error %v", found, err)
	}
}

func promises(t *testing.T) {
	h := running(t)
	for name, fill := range map[string]Resource{
		"a new timer": {Title: "fresh", OnCalendar: "daily", RandomDelay: time.Hour, Persistent: true, Line: "true", User: "ada"},
		"one of a package's name": {Title: "vendors", OnCalendar: "Mon 02:30\nTue 03:30", Argv: []string{"/bin/true"},
			Env: map[string]string{"A": "b c"}},
	} {
		t.Run(name, func(t *testing.T) {
			sh(t, "cd /usr/lib/systemd/system; printf '[Service]\nExecStart=/bin/false\n' >vendors.service; "+
				"printf '[Timer]\nOnCalendar=yearly\n[Install]\nWantedBy=timers.target\n' >vendors.timer; systemctl daemon-reload")
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return filled(m, fill) },
				Dirs:     []string{"/etc/systemd", "/usr/lib/systemd/system"},
				State: func(t testing.TB) string {
					return sh(t, "systemctl show -p LoadState,ActiveState,UnitFileState,TimersCalendar "+fill.Title+".timer "+fill.Title+".service | sed 's/next_elapse.*//'")
				},
			})
		})
	}
}

// Every character reaches the program as it stands in the manifest.
func runsWhatWasWritten(t *testing.T) {
	l := newLab(t)
	const odd = "a b \"c\" 'd' \\e $HOME ${HOME} $$ %n %% ;\t|ü\n-last"
	argv := Resource{Title: "odd", OnCalendar: "yearly", Argv: []string{"/bin/sh", "-c", `printf %s "$1" "$V" >/run/odd; id -un >>/run/odd; pwd >>/run/odd`, "sh", odd},
		Env: map[string]string{"V": odd}, Dir: "/usr"}
	l.converge(t, argv)
	sh(t, "systemctl start odd.service")
	if got, want := sh(t, "cat /run/odd"), odd+odd+"root\n/usr"; got != want {
		t.Errorf("the program got %q, want %q", got, want)
	}
	line := Resource{Title: "odd", OnCalendar: "yearly", User: "ada", Line: "id -un\nprintf '%s\\n' \"$HOME\" 'a  \"b\"' $((1 + 1))\n"}
	l.converge(t, line)
	sh(t, "systemctl start odd.service")
	expect(t, "journalctl --sync; journalctl -q -o cat -t sh -n 4", "ada\n/home/ada\na  \"b\"\n2")
	l.leave(t, line)
}

func driftIsPutBack(t *testing.T) {
	l := newLab(t)
	fill := Resource{Title: "drifts", OnCalendar: "daily", Line: "true"}
	l.converge(t, fill)
	const state = "systemctl is-enabled drifts.timer 2>/dev/null; systemctl is-active drifts.timer"
	for name, line := range map[string]string{
		"disabled":         "systemctl disable drifts.timer",
		"stopped":          "systemctl stop drifts.timer",
		"masked":           "rm /etc/systemd/system/drifts.*; systemctl mask drifts.timer drifts.service",
		"edited":           "sed -i s/daily/weekly/ /etc/systemd/system/drifts.timer; systemctl daemon-reload",
		"edited, unread":   "sed -i s/oneshot/simple/ /etc/systemd/system/drifts.service",
		"removed":          "systemctl disable --now drifts.timer; rm /etc/systemd/system/drifts.*; systemctl daemon-reload",
		"the service gone": "rm /etc/systemd/system/drifts.service",
	} {
		t.Run(name, func(t *testing.T) {
			sh(t, line)
			if found := l.check(t, fill); len(found.Diff) == 0 {
				t.Fatal("it is not seen")
			}
			l.converge(t, fill)
			expect(t, state, "enabled\nactive")
			expect(t, "systemctl show -P Type drifts.service; systemctl show -P NeedDaemonReload drifts.service drifts.timer", "oneshot\nno\n\nno")
			expect(t, "systemctl show -P TimersCalendar drifts.timer | grep -o 'OnCalendar=[^;]*'", "OnCalendar=*-*-* 00:00:00")
		})
	}
	l.leave(t, fill)
	expect(t, state+"; ls /etc/systemd/system | grep drifts", sh(t, "systemctl is-enabled nosuch.timer 2>/dev/null; echo inactive"))
}

func changeRestartsTheTimer(t *testing.T) {
	l := newLab(t)
	fill := Resource{Title: "long", OnCalendar: "daily", Argv: []string{"/bin/sleep", "infinity"}}
	l.converge(t, fill)
	sh(t, "systemctl start --no-block long.service; until systemctl show -P MainPID long.service | grep -v '^0$'; do sleep 0.05; done")
	const pid, since = "systemctl show -P MainPID long.service", "systemctl show -P InactiveExitTimestampMonotonic long.timer"
	was, began := sh(t, pid), sh(t, since)
	fill.Argv = []string{"/bin/sleep", "1h"}
	l.converge(t, fill)
	expect(t, pid+"; "+since, was+"\n"+began)
	fill.OnCalendar = "weekly"
	if found := l.check(t, fill); len(found.Owes) != 1 || found.Owes[0] != resource.Restart {
		t.Errorf("a changed timer owes %v", found.Owes)
	}
	l.converge(t, fill)
	expect(t, pid, was)
	if sh(t, since) == began {
		t.Error("the timer was not restarted")
	}
	l.leave(t, fill)
	expect(t, "systemctl is-active long.service long.timer", "inactive\ninactive")
}

func notTaken(t *testing.T) {
	l := newLab(t)
	m, r := l.load(t, Resource{Title: "mars", OnCalendar: "daily Mars/Phobos", Line: "true"})
	err := l.engine.Converge(t.Context(), m, r)
	if err == nil || !strings.Contains(err.Error(), `"daily Mars/Phobos" of timer "mars"`) {
		t.Errorf("Apply says %v", err)
	}
	expect(t, "ls /etc/systemd/system | grep mars", "")
}

// unreadFiles is a run that was cut off after it wrote, and before systemd read.
func unreadFiles(t *testing.T) {
	l := newLab(t)
	fill := Resource{Title: "unread", OnCalendar: "daily", Line: "true"}
	l.converge(t, fill)
	sh(t, "cd /etc/systemd/system; cp unread.service /run/was; sed -i s/true/false/ unread.service; systemctl daemon-reload; cat /run/was >unread.service")
	if found := l.check(t, fill); !found.Diff.Has("service.daemon-reload") {
		t.Errorf("Check found %+v", found)
	}
	l.converge(t, fill)
	l.leave(t, fill)
}

func leavesWhileItRuns(t *testing.T) {
	l := newLab(t)
	fill := Resource{Title: "busy", OnCalendar: "daily", Argv: []string{"/bin/sleep", "infinity"}}
	l.converge(t, fill)
	sh(t, "systemctl start --no-block busy.service; until systemctl show -P MainPID busy.service | grep -v '^0$'; do sleep 0.05; done")
	m, r := l.load(t, fill)
	gone, err := l.engine.Absent(m, r)
	if err != nil {
		t.Fatal(err)
	}
	leaver := gone.(resource.Leaver)
	if err := leaver.Leave(t.Context(), l.engine.View(m, r)); err != nil {
		t.Fatal(err)
	}
	expect(t, "systemctl is-active busy.timer; systemctl show -P MainPID busy.service", "inactive\n0")
	if err := leaver.Stay(t.Context(), l.engine.View(m, r)); err != nil {
		t.Fatal(err)
	}
	expect(t, "systemctl is-active busy.timer; systemctl show -P MainPID busy.service", "active\n0")
	l.leave(t, fill)
	expect(t, "systemctl is-active busy.timer busy.service", "inactive\ninactive")
}
