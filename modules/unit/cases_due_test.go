package unit

import (
	"fmt"
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
)

// dues asks what of some debts is due.
func (l *lab) dues(t *testing.T, fill Unit, debts ...resource.Debt) int {
	t.Helper()
	m, u := l.unit(t, fill)
	due, err := u.Due(t.Context(), l.Engine.View(m, u), debts)
	if err != nil {
		t.Fatalf("Due: %v", err)
	}
	return len(due)
}

func (l *lab) settled(t *testing.T, after string, fill Unit, debt resource.Debt) {
	t.Helper()
	if l.dues(t, fill, debt) != 0 {
		t.Errorf("%s, the %s of %s is due once more\n%s", after, debt.Reaction, fill.Unit, hosttest.Sh(t, "systemctl show "+fill.Unit))
	}
}

func (l *lab) due(t *testing.T, after string, fill Unit, debt resource.Debt) {
	t.Helper()
	if l.dues(t, fill, debt) != 1 {
		t.Errorf("%s, the %s of %s is not due\n%s", after, debt.Reaction, fill.Unit, hosttest.Sh(t, "systemctl show "+fill.Unit))
	}
}

// placed is a debt whose cause is in place now.
func (l *lab) placed(r resource.Reaction) resource.Debt {
	return resource.Debt{Reaction: r, Placed: l.host.Moment()}
}

func dueAfterStart(t *testing.T, l *lab) {
	foreign(t, "da.service", plainService)
	u := Unit{Unit: "da.service", State: running}
	l.due(t, "before any start", u, l.placed(resource.Restart))
	before := l.placed(resource.Restart)
	l.Converge(t, u)
	l.settled(t, "after a first start", u, before)
	before = l.placed(resource.Restart)
	l.due(t, "before a restart", u, before)
	l.due(t, "before a restart", u, resource.Debt{Reaction: resource.Restart})
	if err := l.react(t, u, resource.Restart); err != nil {
		t.Fatal(err)
	}
	l.settled(t, "after a restart", u, before)
	l.settled(t, "after a restart", u, resource.Debt{Reaction: resource.Reload, Placed: before.Placed})
	l.due(t, "after a cut whose end nobody knows", u, resource.Debt{Reaction: resource.Restart, Begun: before.Placed})
	l.due(t, "after a later cause", u, l.placed(resource.Restart))
	if n := l.dues(t, u, before, l.placed(resource.Restart), before); n != 1 {
		t.Errorf("%d of three debts are due, want the one that is later", n)
	}
	boot := resource.Debt{Reaction: resource.Restart, Placed: resource.Moment{Boot: "another", Micros: 1 << 60}}
	l.settled(t, "in the boot after the cause", u, boot)
	l.settled(t, "in the boot after a cut whose end nobody knows", u, resource.Debt{Reaction: resource.Restart, Begun: boot.Placed})

	// What was started may be of the files that were there before.
	hosttest.Sh(t, "systemctl daemon-reload")
	l.due(t, "after systemd read its files again", u, before)
	l.due(t, "after systemd read its files again", u, boot)
	before = l.placed(resource.Restart)
	hosttest.Sh(t, "systemctl restart da.service; sleep 0.01; touch -d '1 hour' /usr/lib/systemd/system/da.service")
	l.due(t, "with files that systemd has not read", u, before)
	hosttest.Sh(t, "systemctl daemon-reload; systemctl restart da.service")
	l.settled(t, "after a restart with all files read", u, before)

	l.due(t, "where it is not to run", Unit{Unit: "da.service", State: stopped}, before)
	hosttest.Sh(t, "systemctl stop da.service")
	l.due(t, "after a stop", u, before)
}

func dueAfterOwnChange(t *testing.T, l *lab) {
	u := Unit{Unit: "do.service", State: running, Content: ptr(plainService)}
	own := func() resource.Debt {
		return resource.Debt{Reaction: resource.Restart, Own: true, Begun: l.host.Moment()}
	}
	first := own()
	l.Converge(t, u) // writes, has it read, starts
	l.settled(t, "after the start of a new unit", u, first)
	second := own()
	l.due(t, "before a change", u, second)
	hosttest.Sh(t, "systemctl restart do.service")
	l.due(t, "after a restart with the files as they were read before", u, second)
	u.Content = ptr(strings.ReplaceAll(plainService, "infinity", "2h"))
	l.Converge(t, u)
	l.settled(t, "after a change and a restart", u, second)
	second.Begun.Boot = "another"
	l.settled(t, "in the boot after the change", u, second)
	l.due(t, "without a clock", u, resource.Debt{Reaction: resource.Restart, Own: true})
}

func dueAfterReload(t *testing.T, l *lab) {
	foreign(t, "dr.service", "[Service]\nExecStart=/bin/sleep infinity\nExecReload=-/bin/false\nExecReload=/bin/sh -c '! test -e /run/dr.fails'\n")
	u := Unit{Unit: "dr.service", State: running}
	l.Converge(t, u)
	before := l.placed(resource.Reload)
	l.due(t, "before a reload", u, before)
	if err := l.react(t, u, resource.Reload); err != nil {
		t.Fatal(err)
	}
	l.settled(t, "after a reload", u, before)
	l.due(t, "after a reload", u, resource.Debt{Reaction: resource.Restart, Placed: before.Placed})
	l.due(t, "after a later cause", u, l.placed(resource.Reload))
	before = l.placed(resource.Reload)
	hosttest.Sh(t, "touch /run/dr.fails; systemctl reload dr.service; rm /run/dr.fails")
	l.due(t, "after a reload that failed", u, before)
	hosttest.Sh(t, "systemctl restart dr.service")
	l.settled(t, "after a restart", u, before)
}

// What is up, or has done its work, since the cause was placed.
func dueOfKinds(t *testing.T, l *lab) {
	const install = "[Install]\nWantedBy=multi-user.target\n"
	foreign(t, "dk@.service", plainService)
	foreign(t, "dk-done.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n"+install)
	foreign(t, "dk-stays.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"+install)
	foreign(t, "dk-timer.service", plainService)
	foreign(t, "dk-timer.timer", "[Timer]\nOnActiveSec=1h\n")
	foreign(t, "dk-socket.service", plainService)
	foreign(t, "dk-socket.socket", "[Socket]\nListenStream=/run/dk.sock\n")
	foreign(t, "dk-path.service", plainService)
	foreign(t, "dk-path.path", "[Path]\nPathExists=/run/dk.nowhere\n")
	foreign(t, "dk.target", "[Unit]\nDescription=A target of the test\n")
	hosttest.Sh(t, "systemctl enable dk-done.service dk-stays.service")
	for _, name := range []string{
		"dk@one.service", "dk-done.service", "dk-stays.service", "dk-timer.timer", "dk-socket.socket", "dk-path.path", "dk.target",
	} {
		u := Unit{Unit: name, State: running}
		hosttest.Sh(t, "systemctl start "+u.Unit)
		before := l.placed(resource.Restart)
		l.due(t, "before a restart", u, before)
		hosttest.Sh(t, "systemctl restart "+u.Unit)
		l.settled(t, "after a restart", u, before)
	}
	if l.dues(t, Unit{Unit: "dk@.service"}, l.placed(resource.Restart)) != 1 {
		t.Error("a template is taken to have been started")
	}
}

// A start that came to nothing leaves the debt.
func dueAfterFailure(t *testing.T, l *lab) {
	for name, service := range map[string]string{
		"fails":     "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c '! test -e /run/df.fails'\n",
		"dies":      "[Service]\nExecStart=/bin/sh -c 'test -e /run/df.fails || exec /bin/sleep infinity'\nRestart=always\nRestartSec=1h\n",
		"condition": "[Unit]\nConditionPathExists=!/run/df.fails\n" + plainService,
		"assert":    "[Unit]\nAssertPathExists=!/run/df.fails\n" + plainService,
	} {
		u := Unit{Unit: fmt.Sprintf("df-%s.service", name), State: running}
		foreign(t, u.Unit, service)
		hosttest.Sh(t, "systemctl start "+u.Unit)
		before := l.placed(resource.Restart)
		hosttest.Sh(t, "touch /run/df.fails; systemctl restart "+u.Unit+"; until ! systemctl show -P SubState "+u.Unit+" | grep -q running; do sleep 0.05; done; rm /run/df.fails")
		l.due(t, "after a restart of what "+name, u, before)
		hosttest.Sh(t, "systemctl reset-failed "+u.Unit+"; systemctl restart "+u.Unit)
		l.settled(t, "after a restart that went well", u, before)
	}
}

// A start that has been asked for and waits for others settles what is owed.
func dueWhileQueued(t *testing.T, l *lab) {
	foreign(t, "dq-first.service", "[Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart=/bin/sleep infinity\n")
	foreign(t, "dq.service", "[Unit]\nAfter=dq-first.service\n"+plainService)
	u := Unit{Unit: "dq.service", State: running}
	before := l.placed(resource.Restart)
	l.due(t, "before a start", u, before)
	hosttest.Sh(t, "systemctl start --no-block dq-first.service; systemctl start --no-block dq.service")
	hosttest.Expect(t, "systemctl list-jobs | grep dq.service | awk '{print $3, $4}'", "start waiting")
	l.settled(t, "with a start that waits", u, before)
	hosttest.Sh(t, "systemctl stop dq.service dq-first.service")
	l.due(t, "after the start was called off", u, before)
}
