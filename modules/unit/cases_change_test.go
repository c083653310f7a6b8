package unit

import (
	"slices"
	"strings"
	"testing"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
)

func ownFile(t *testing.T, l *lab) {
	u := Unit{Unit: "mine.service", Enabled: ptr(true), State: running, Content: ptr(plainService), DropIns: map[string]string{"10-nice.conf": "[Service]\nNice=1\n"}}
	l.Converge(t, u)
	const pid = "systemctl show -P MainPID mine.service"
	first := hosttest.Sh(t, pid)
	u.DropIns = map[string]string{"10-nice.conf": "[Service]\nNice=2\n"}
	found := l.Check(t, u)
	if len(found.Diff) != 1 || !strings.Contains(found.Diff[0].Unified, "+Nice=2") || !slices.Equal(found.Owes, []resource.Reaction{resource.Restart}) {
		t.Errorf("Check found %+v", found)
	}
	l.Converge(t, u)
	if second := hosttest.Sh(t, pid); second == first {
		t.Error("a changed drop-in caused no restart")
	}
	hosttest.Expect(t, "systemctl show -P Nice mine.service", "2")
	u.Content = ptr(strings.ReplaceAll(plainService, "infinity", "1h"))
	l.Converge(t, u)
	hosttest.Expect(t, sleeps("$("+pid+")"), "/bin/sleep 1h")
	l.Leave(t, u)
	hosttest.Expect(t, "systemctl show -P LoadState,ActiveState mine.service; ls -d /etc/systemd/system/mine* /etc/systemd/system/*/mine* 2>/dev/null", "not-found\ninactive")
}

// sleeps is the line that prints the sleep that a process runs, once it does:
// for a moment after its start it is still systemd's own image.
func sleeps(pid string) string {
	return "until tr '\\0' ' ' </proc/" + pid + "/cmdline | grep ^/bin/sleep; do sleep 0.05; done"
}

func dropInLeaves(t *testing.T, l *lab) {
	foreign(t, "di.service", plainService)
	two := Unit{Unit: "di.service", State: running, DropIns: map[string]string{"a": "[Service]\nRestartSec=7s\n", "b": "[Service]\nUMask=0027\n"}}
	l.Converge(t, two)
	one := Unit{Unit: "di.service", State: running, DropIns: map[string]string{"b": "[Service]\nUMask=0027\n"}}
	found := l.Check(t, one)
	if len(found.Diff) != 1 || found.Diff[0].Cause != resource.Prune || found.Diff[0].Field != "drop_ins:a.conf" {
		t.Errorf("Check found %+v", found)
	}
	l.Converge(t, one)
	hosttest.Expect(t, "ls /etc/systemd/system/di.service.d; systemctl show -P RestartUSec di.service", "b.conf\n100ms")
}

func foreignFileChanges(t *testing.T, l *lab) {
	foreign(t, "ff.service", plainService)
	u := Unit{Unit: "ff.service", State: running}
	l.Converge(t, u)
	// As a file: resource does, without a reload.
	hosttest.Sh(t, "sed -i 's/infinity/2h/' /usr/lib/systemd/system/ff.service")
	if err := l.react(t, u, resource.Restart); err != nil {
		t.Fatal(err)
	}
	hosttest.Expect(t, sleeps("$(systemctl show -P MainPID ff.service)"), "/bin/sleep 2h")
}

func restartAndReload(t *testing.T, l *lab) {
	foreign(t, "rr.service", "[Service]\nExecStart=/bin/sleep infinity\nExecReload=/bin/sh -c 'echo reload >>/run/rr'\nExecStartPost=/bin/sh -c 'echo start >>/run/rr'\n")
	u := Unit{Unit: "rr.service", State: running}
	l.Converge(t, u)
	for _, owed := range [][]resource.Reaction{{resource.Reload}, {resource.Reload, resource.Restart}} {
		if err := l.react(t, u, owed...); err != nil {
			t.Fatal(err)
		}
	}
	hosttest.Expect(t, "cat /run/rr", "start\nreload\nstart")
	foreign(t, "nr.service", plainService)
	l.Converge(t, Unit{Unit: "nr.service", State: running})
	before := hosttest.Sh(t, "systemctl show -P MainPID nr.service")
	if err := l.react(t, Unit{Unit: "nr.service", State: running}, resource.Reload); err != nil {
		t.Fatal(err)
	}
	if hosttest.Sh(t, "systemctl show -P MainPID nr.service") == before {
		t.Error("a unit that cannot reload was not restarted")
	}
}

func owesNothing(t *testing.T, l *lab) {
	foreign(t, "on.service", plainService)
	for _, u := range []Unit{
		{Unit: "on.service"}, {Unit: "on.service", State: stopped}, {Unit: "nowhere.service"}, {Unit: "on.service", Masked: ptr(true)},
	} {
		for _, owed := range []resource.Reaction{resource.Restart, resource.Reload} {
			if err := l.react(t, u, owed); err != nil {
				t.Errorf("%s of %+v: %v", owed, u, err)
			}
		}
	}
	hosttest.Expect(t, "systemctl is-active on.service", "inactive")
	hosttest.Sh(t, "systemctl start on.service")
	before := hosttest.Sh(t, "systemctl show -P MainPID on.service")
	if err := l.react(t, Unit{Unit: "on.service"}, resource.Restart); err != nil {
		t.Fatal(err)
	}
	if hosttest.Sh(t, "systemctl show -P MainPID on.service") == before {
		t.Error("an active unit without `state` was not restarted")
	}
}

// A unit that leaves is stopped before anything else changes, and runs on when
// its removal has to wait.
func leavesAndStays(t *testing.T, l *lab) {
	fill := Unit{Unit: "ls.service", State: running, Enabled: ptr(true), Content: ptr(plainService)}
	l.Converge(t, fill)
	m, u := l.unit(t, fill)
	gone, err := l.Engine.Absent(m, u)
	if err != nil {
		t.Fatal(err)
	}
	leaver, ok := gone.(resource.Leaver)
	if !ok {
		t.Fatal("a unit that leaves cannot be stopped first")
	}
	view := l.Engine.View(m, u)
	if err := leaver.Leave(t.Context(), view); err != nil {
		t.Fatal(err)
	}
	hosttest.Expect(t, "systemctl is-active ls.service; systemctl is-enabled ls.service", "inactive\nenabled")
	if err := leaver.Stay(t.Context(), view); err != nil {
		t.Fatal(err)
	}
	hosttest.Expect(t, "systemctl is-active ls.service", "active")
	l.Leave(t, fill)
	hosttest.Expect(t, "systemctl is-active ls.service; test -e /etc/systemd/system/ls.service || echo gone", "inactive\ngone")

	foreign(t, "ls-idle.service", plainService)
	idle := Unit{Unit: "ls-idle.service", State: stopped}
	l.Converge(t, idle)
	m, u = l.unit(t, idle)
	if gone, err = l.Engine.Absent(m, u); err != nil {
		t.Fatal(err)
	}
	if err := gone.(resource.Leaver).Stay(t.Context(), view); err != nil {
		t.Fatal(err)
	}
	hosttest.Expect(t, "systemctl is-active ls-idle.service", "inactive")
}

func givesBack(t *testing.T, l *lab) {
	foreign(t, "gb.service", plainService)
	hosttest.Sh(t, "systemctl enable --now gb.service")
	off := Unit{Unit: "gb.service", Enabled: ptr(false), State: stopped}
	l.Converge(t, off)
	hosttest.Expect(t, "systemctl is-enabled gb.service; systemctl is-active gb.service", "disabled\ninactive")
	l.Leave(t, off)
	hosttest.Expect(t, "systemctl is-enabled gb.service; systemctl is-active gb.service", "enabled\nactive")
	mask := Unit{Unit: "gb.service", Masked: ptr(true), State: stopped}
	l.Converge(t, mask)
	l.Leave(t, mask)
	hosttest.Expect(t, "systemctl is-enabled gb.service; systemctl is-active gb.service", "enabled\nactive")
}

func replacesPackagedFile(t *testing.T, l *lab) {
	foreign(t, "pk.service", plainService)
	hosttest.Sh(t, "systemctl enable --now pk.service")
	u := Unit{Unit: "pk.service", Enabled: ptr(true), State: running, Content: ptr(strings.ReplaceAll(plainService, "infinity", "1h"))}
	l.Converge(t, u)
	cmdline := sleeps("$(systemctl show -P MainPID pk.service)") + "; systemctl is-enabled pk.service"
	hosttest.Expect(t, cmdline, "/bin/sleep 1h \nenabled")
	l.Leave(t, u)
	hosttest.Expect(t, cmdline, "/bin/sleep infinity \nenabled")
}

func reconnects(t *testing.T, l *lab) {
	foreign(t, "reco.service", plainService)
	u := Unit{Unit: "reco.service", State: running}
	l.Converge(t, u)
	hosttest.Sh(t, "systemctl daemon-reexec")
	l.InOrder(t, u)
	hosttest.Sh(t, "systemctl restart dbus.service; until busctl --system list >/dev/null 2>&1; do sleep 0.05; done")
	l.InOrder(t, u)
	l.Converge(t, Unit{Unit: "reco.service", State: stopped})
}

func cancelled(t *testing.T, l *lab) {
	foreign(t, "cn.service", "[Service]\nType=oneshot\nExecStart=/bin/sleep infinity\nTimeoutStartSec=infinity\n")
	m, u := l.unit(t, Unit{Unit: "cn.service", State: running})
	ctx, cancel := contextUntil(t, "systemctl is-active cn.service | grep -q activating")
	defer cancel()
	found, err := l.Engine.Check(t.Context(), m, u)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Engine.Apply(ctx, m, u, found); err == nil || !strings.Contains(err.Error(), "context canceled") {
		t.Errorf("Apply says %v", err)
	}
	l.Converge(t, Unit{Unit: "cn.service", State: stopped})
}

func agentItself(t *testing.T, l *lab) {
	foreign(t, "trued.service", plainService)
	hosttest.Sh(t, "systemctl start trued.service")
	pid := hosttest.Sh(t, "systemctl show -P MainPID trued.service")
	m, u := l.unit(t, Unit{Unit: "trued.service", State: running})
	res, err := u.React(t.Context(), l.Engine.View(m, u), []resource.Reaction{resource.Restart})
	if err != nil || res.Pending == "" {
		t.Errorf("React says %+v, %v", res, err)
	}
	l.InOrder(t, Unit{Unit: "trued.service", State: stopped})
	hosttest.Expect(t, "systemctl show -P MainPID trued.service", pid)
	hosttest.Sh(t, "systemctl stop trued.service")
}

func unreadFiles(t *testing.T, l *lab) {
	u := Unit{Unit: "ur.service", State: running, Content: ptr(plainService)}
	l.Converge(t, u)
	hosttest.Sh(t, "sed -i s/infinity/3h/ /etc/systemd/system/ur.service; systemctl daemon-reload")
	// A run that is cut off after it wrote the file and before the reload.
	spec := host.FileSpec{Content: resource.Bytes([]byte(plainService))}
	if err := l.host.WriteFile(t.Context(), "/etc/systemd/system/ur.service", spec); err != nil {
		t.Fatal(err)
	}
	if found := l.Check(t, u); !found.Diff.Has("daemon-reload") {
		t.Errorf("Check found %+v", found)
	}
	l.Converge(t, u)
}

func runtimeEnablement(t *testing.T, l *lab) {
	foreign(t, "rt.service", plainService)
	hosttest.Sh(t, "systemctl enable --runtime rt.service")
	found := l.Check(t, Unit{Unit: "rt.service", Enabled: ptr(true)})
	if len(found.Diff) != 1 || found.Diff[0].Old != "until the next boot" {
		t.Errorf("Check found %+v", found)
	}
	l.Converge(t, Unit{Unit: "rt.service", Enabled: ptr(true)})
	hosttest.Sh(t, "systemctl disable rt.service; systemctl enable --runtime rt.service")
	l.Converge(t, Unit{Unit: "rt.service", Enabled: ptr(false)})
	hosttest.Expect(t, "systemctl is-enabled rt.service", "disabled")
}
