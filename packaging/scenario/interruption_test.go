package scenario_test

import (
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
)

// gated is a group in whose middle a run waits for as long as /run/gate is
// there.
func gated(word string) string {
	return strings.ReplaceAll(`
- file: /etc/worker.conf
  content: "WORD\n"
- file: /etc/gated.conf
  content: "WORD\n"
  validate: /usr/local/sbin/gate {path}
  requires: [file:/etc/worker.conf]
- file: /etc/after.conf
  content: "WORD\n"
  requires: [file:/etc/gated.conf]
- unit: worker.service
  state: running
  content: |
    [Service]
    ExecStart=/bin/sleep infinity
  restart_on: [file:/etc/worker.conf]
`, "WORD", word)
}

// A run that is stopped ends after what is in hand, one that is killed does not
// even that: the next takes up what is owed.
func TestRunThatIsCutOffIsTakenUp(t *testing.T) {
	t.Parallel()
	h := hosttest.Boot(t, hosttest.Options{Name: "web-1"})
	install(t, h)
	h.Write(t, "/usr/local/sbin/gate", "#!/bin/sh\n[ ! -e /run/gate ] || touch /run/waiting\nwhile [ -e /run/gate ]; do sleep 0.05; done\n")
	h.Run(t, "chmod 755 /usr/local/sbin/gate")
	h.Write(t, "/srv/lab/groups/web/all.yaml", gated("one"))
	config{dir: "/srv/lab", group: "groups/web"}.write(t, h)
	h.Run(t, "systemctl start trued.service")
	trued(t, h, 0, "sync")
	pid := property(t, h, "worker.service", "MainPID")

	into := func(word string) {
		t.Helper()
		h.Run(t, "touch /run/gate; rm -f /run/waiting")
		h.Write(t, "/srv/lab/groups/web/all.yaml", gated(word))
		h.Await(t, "test -e /run/waiting") // the daemon has seen it by itself
	}
	restarted := func() {
		t.Helper()
		now := property(t, h, "worker.service", "MainPID")
		if now == pid || now == "0" {
			t.Errorf("the unit's process was %s and is %s", pid, now)
		}
		pid = now
	}

	// Killed in the middle.
	told := events(t, h)
	into("two")
	trued(t, h, 5, "apply")
	trued(t, h, 0, "status")
	trued(t, h, 2, "plan")
	h.Run(t, `systemctl kill --signal=KILL trued.service; rm /run/gate; test "$(cat /etc/worker.conf /etc/gated.conf)" = "two
one"`)
	h.Run(t, "systemctl reset-failed trued.service; systemctl restart trued.service")
	trued(t, h, 0, "sync")
	h.Run(t, "test \"$(cat /etc/worker.conf /etc/gated.conf /etc/after.conf | uniq)\" = two; test -z \"$(find /etc -name '.trued-*')\"")
	restarted()
	now := events(t, h).since(told)
	cut := now.last(t, report.RunInterrupted)
	if len(now.of(report.RunInterrupted)) != 1 || !strings.Contains(cut.Message, "/etc/gated.conf") {
		t.Errorf("the run that was cut off is told of as\n%s", now.of(report.RunInterrupted))
	}
	for _, address := range []string{"file:/etc/worker.conf", "file:/etc/gated.conf", "file:/etc/after.conf", "unit:worker.service"} {
		if e := now.about(address); len(e) != 1 || e[0].Outcome != report.Applied || e[0].Cause != "intended" {
			t.Errorf("%s is told of as\n%s", address, e)
		}
	}

	// Stopped in the middle.
	told = events(t, h)
	into("three")
	h.Run(t, "systemctl stop --no-block trued.service")
	h.Await(t, `test "$(systemctl show --value -p ActiveState trued.service)" = deactivating`)
	h.Run(t, "rm /run/gate")
	h.Await(t, `test "$(systemctl show --value -p ActiveState trued.service)" = inactive`)
	if got := property(t, h, "trued.service", "Result"); got != "success" {
		t.Errorf("the daemon was stopped with result %s", got)
	}
	h.Run(t, `test "$(cat /etc/worker.conf /etc/gated.conf /etc/after.conf)" = "three
three
two"`)
	trued(t, h, 3, "status")
	h.Run(t, "systemctl start trued.service")
	trued(t, h, 0, "sync")
	h.Run(t, "test \"$(cat /etc/after.conf)\" = three")
	restarted()
	now = events(t, h).since(told)
	if e := now.of(report.RunInterrupted); len(e) != 0 {
		t.Errorf("a run that was stopped in order is told of as cut off:\n%s", e)
	}
	if t.Failed() {
		t.Logf("all events:\n%s", events(t, h))
	}
}
