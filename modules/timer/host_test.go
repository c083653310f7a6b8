package timer

import (
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

// A lab is the host with what an engine remembers of it.
type lab struct {
	*resourcetest.Bench[Resource]
	host *host.Host
}

func newLab(t *testing.T) *lab {
	h := running(t)
	return &lab{&resourcetest.Bench[Resource]{Make: func(fill Resource) (resource.Module, resource.Resource) {
		m := New(h)
		return m, filled(m, fill)
	}}, h}
}

func promises(t *testing.T) {
	h := running(t)
	for name, fill := range map[string]Resource{
		"a new timer": {Title: "fresh", OnCalendar: "daily", RandomDelay: time.Hour, Persistent: true, Line: "true", User: "ada"},
		"one of a package's name": {Title: "vendors", OnCalendar: "Mon 02:30\nTue 03:30", Argv: []string{"/bin/true"},
			Env: map[string]string{"A": "b c"}},
	} {
		t.Run(name, func(t *testing.T) {
			hosttest.Sh(t, "cd /usr/lib/systemd/system; printf '[Service]\nExecStart=/bin/false\n' >vendors.service; "+
				"printf '[Timer]\nOnCalendar=yearly\n[Install]\nWantedBy=timers.target\n' >vendors.timer; systemctl daemon-reload")
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return filled(m, fill) },
				Dirs:     []string{"/etc/systemd", "/usr/lib/systemd/system"},
				State: func(t testing.TB) string {
					return hosttest.Sh(t, "systemctl show -p LoadState,ActiveState,UnitFileState,TimersCalendar "+fill.Title+".timer "+fill.Title+".service | sed 's/next_elapse.*//'")
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
	l.Converge(t, argv)
	hosttest.Sh(t, "systemctl start odd.service")
	if got, want := hosttest.Sh(t, "cat /run/odd"), odd+odd+"root\n/usr"; got != want {
		t.Errorf("the program got %q, want %q", got, want)
	}
	line := Resource{Title: "odd", OnCalendar: "yearly", User: "ada", Line: "id -un\nprintf '%s\\n' \"$HOME\" 'a  \"b\"' $((1 + 1))\n"}
	l.Converge(t, line)
	hosttest.Sh(t, "systemctl start odd.service")
	hosttest.Expect(t, "journalctl --sync; journalctl -q -o cat -t sh -n 4", "ada\n/home/ada\na  \"b\"\n2")
	l.Leave(t, line)
}

func driftIsPutBack(t *testing.T) {
	l := newLab(t)
	fill := Resource{Title: "drifts", OnCalendar: "daily", Line: "true"}
	l.Converge(t, fill)
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
			hosttest.Sh(t, line)
			if found := l.Check(t, fill); len(found.Diff) == 0 {
				t.Fatal("it is not seen")
			}
			l.Converge(t, fill)
			hosttest.Expect(t, state, "enabled\nactive")
			hosttest.Expect(t, "systemctl show -P Type drifts.service; systemctl show -P NeedDaemonReload drifts.service drifts.timer", "oneshot\nno\n\nno")
			hosttest.Expect(t, "systemctl show -P TimersCalendar drifts.timer | grep -o 'OnCalendar=[^;]*'", "OnCalendar=*-*-* 00:00:00")
		})
	}
	l.Leave(t, fill)
	hosttest.Expect(t, state+"; ls /etc/systemd/system | grep drifts", hosttest.Sh(t, "systemctl is-enabled nosuch.timer 2>/dev/null; echo inactive"))
}

func changeRestartsTheTimer(t *testing.T) {
	l := newLab(t)
	fill := Resource{Title: "long", OnCalendar: "daily", Argv: []string{"/bin/sleep", "infinity"}}
	l.Converge(t, fill)
	hosttest.Sh(t, "systemctl start --no-block long.service; until systemctl show -P MainPID long.service | grep -v '^0$'; do sleep 0.05; done")
	const pid, since = "systemctl show -P MainPID long.service", "systemctl show -P InactiveExitTimestampMonotonic long.timer"
	was, began := hosttest.Sh(t, pid), hosttest.Sh(t, since)
	fill.Argv = []string{"/bin/sleep", "1h"}
	l.Converge(t, fill)
	hosttest.Expect(t, pid+"; "+since, was+"\n"+began)
	fill.OnCalendar = "weekly"
	if found := l.Check(t, fill); len(found.Owes) != 1 || found.Owes[0] != resource.Restart {
		t.Errorf("a changed timer owes %v", found.Owes)
	}
	l.Converge(t, fill)
	hosttest.Expect(t, pid, was)
	if hosttest.Sh(t, since) == began {
		t.Error("the timer was not restarted")
	}
	l.Leave(t, fill)
	hosttest.Expect(t, "systemctl is-active long.service long.timer", "inactive\ninactive")
}

func notTaken(t *testing.T) {
	l := newLab(t)
	m, r := l.Load(t, Resource{Title: "mars", OnCalendar: "daily Mars/Phobos", Line: "true"})
	err := l.Engine.Converge(t.Context(), m, r)
	if err == nil || !strings.Contains(err.Error(), `"daily Mars/Phobos" of timer "mars"`) {
		t.Errorf("Apply says %v", err)
	}
	hosttest.Expect(t, "ls /etc/systemd/system | grep mars", "")
}

// unreadFiles is a run that was cut off after it wrote, and before systemd read.
func unreadFiles(t *testing.T) {
	l := newLab(t)
	fill := Resource{Title: "unread", OnCalendar: "daily", Line: "true"}
	l.Converge(t, fill)
	hosttest.Sh(t, "cd /etc/systemd/system; cp unread.service /run/was; sed -i s/true/false/ unread.service; systemctl daemon-reload; cat /run/was >unread.service")
	if found := l.Check(t, fill); !found.Diff.Has("service.daemon-reload") {
		t.Errorf("Check found %+v", found)
	}
	l.Converge(t, fill)
	l.Leave(t, fill)
}

func leavesWhileItRuns(t *testing.T) {
	l := newLab(t)
	fill := Resource{Title: "busy", OnCalendar: "daily", Argv: []string{"/bin/sleep", "infinity"}}
	l.Converge(t, fill)
	hosttest.Sh(t, "systemctl start --no-block busy.service; until systemctl show -P MainPID busy.service | grep -v '^0$'; do sleep 0.05; done")
	m, r := l.Load(t, fill)
	gone, err := l.Engine.Absent(m, r)
	if err != nil {
		t.Fatal(err)
	}
	leaver := gone.(resource.Leaver)
	if err := leaver.Leave(t.Context(), l.Engine.View(m, r)); err != nil {
		t.Fatal(err)
	}
	hosttest.Expect(t, "systemctl is-active busy.timer; systemctl show -P MainPID busy.service", "inactive\n0")
	if err := leaver.Stay(t.Context(), l.Engine.View(m, r)); err != nil {
		t.Fatal(err)
	}
	hosttest.Expect(t, "systemctl is-active busy.timer; systemctl show -P MainPID busy.service", "active\n0")
	l.Leave(t, fill)
	hosttest.Expect(t, "systemctl is-active busy.timer busy.service", "inactive\ninactive")
}
