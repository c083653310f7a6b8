package scenario_test

import (
	"fmt"
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
)

// counted is a group with a unit that counts its starts. The run is killed by
// the first of cutter.service and worker.service that finds its mark in /run:
// before worker.service is restarted, or while that starts.
func counted(conf, definition string) string {
	return strings.NewReplacer("CONF", conf, "DEFINITION", definition).Replace(`
- file: /etc/worker.conf
  content: "CONF\n"
- unit: cutter.service
  state: running
  content: |
    [Service]
    Type=oneshot
    RemainAfterExit=yes
    ExecStart=/usr/local/sbin/cut-off before
- unit: worker.service
  enabled: true
  state: running
  content: |
    [Unit]
    Before=trued-boot.service
    [Service]
    Environment=DEFINITION=DEFINITION
    ExecStart=/bin/sleep infinity
    ExecStartPost=/bin/sh -c 'echo started >>/root/starts'
    ExecStartPost=/usr/local/sbin/cut-off after
    [Install]
    WantedBy=multi-user.target
  restart_on: [file:/etc/worker.conf]
`)
}

// A restart is made once for its causes, wherever the run that owes it is
// killed, and whatever takes its place.
func TestRestartIsNeitherLostNorMadeTwiceWhenARunIsKilled(t *testing.T) {
	t.Parallel()
	h := hosttest.Boot(t, hosttest.Options{Name: "web-1"})
	install(t, h)
	h.Write(t, "/usr/local/sbin/cut-off", "#!/bin/sh\nif [ -e /run/$1 ]; then rm /run/$1; kill -KILL $(cat /run/agent); fi\n")
	h.Run(t, "chmod 755 /usr/local/sbin/cut-off; touch /root/starts")
	config{dir: "/srv/lab", group: "groups/web"}.write(t, h)

	want := func(when, starts string) {
		t.Helper()
		if got := h.Run(t, "wc -l </root/starts"); got != starts {
			t.Errorf("%s the unit was started %s times in all, want %s", when, got, starts)
		}
	}
	run := func(code int) {
		t.Helper()
		if out, got := h.Try(t, "sh -c 'echo $$ >/run/agent; exec trued apply --wait 1m'; exit $?"); got != code {
			t.Fatalf("a run ended with %d, want %d\n%s", got, code, out)
		}
	}
	const killed = 137
	commit := func(conf, definition, cut string) {
		t.Helper()
		h.Write(t, "/srv/lab/groups/web/all.yaml", counted(conf, definition))
		h.Run(t, "systemctl stop cutter.service || true; touch /run/"+cut)
		run(killed)
		h.Run(t, `test "$(cat /etc/worker.conf)" = `+conf)
	}

	commit("one", "one", "after")
	want("when its first run was killed while it started,", "1")
	run(0)
	want("after the next run", "1")

	commit("two", "one", "after")
	want("when the run was killed while it restarted,", "2")
	told := events(t, h)
	run(0)
	want("after the next run", "2")
	now := events(t, h).since(told).about("unit:worker.service")
	if len(now) != 1 || now[0].Type != report.ResourceChanged || now[0].Outcome != report.Applied {
		t.Errorf("the restart is told of as\n%s", now)
	}
	run(0)
	want("after a run that has nothing to do", "2")

	commit("three", "one", "before")
	want("when the run was killed before the restart,", "2")
	run(0)
	want("after the next run", "3")
	run(0)
	want("after a run that has nothing to do", "3")

	commit("three", "two", "after")
	want("when a change of itself was followed by a restart,", "4")
	run(0)
	want("after the next run", "4")

	commit("four", "three", "before")
	want("when the run was killed before both its causes are there,", "4")
	run(0)
	want("after the next run", "5")

	// The host goes down with the run: the boot starts the unit, once.
	for i, cut := range []string{"before", "after"} {
		commit([]string{"five", "six"}[i], "three", cut)
		want("when the host was to go down,", []string{"5", "7"}[i])
		h.Kill(t)
		h.Start(t)
		await(t, h, "trued status")
		h.Run(t, "systemctl stop trued.service")
		run(0)
		want("after the boot", []string{"6", "8"}[i])
	}
	trued(t, h, 0, "status")
}

// A daemon that starts to serve anew every few seconds, since its configuration
// changes, is alive; so is one that waits for what is in hand before it does.
func TestNewConfigurationsAreNoSilenceForTheWatchdog(t *testing.T) {
	t.Parallel()
	h := hosttest.Boot(t, hosttest.Options{Name: "web-1"})
	install(t, h)
	h.Write(t, "/etc/systemd/system/trued.service.d/watchdog.conf", "[Service]\nWatchdogSec=20s\n")
	h.Write(t, "/srv/lab/groups/web/all.yaml", "- file: /etc/motd\n  content: kept\n")
	configure := func(interval int) {
		t.Helper()
		h.Write(t, "/etc/trued/.new", fmt.Sprintf("sources:\n  - {name: infra, dir: /srv/lab, group: groups/web}\ninterval: %ds\n", interval))
		h.Run(t, "mv /etc/trued/.new /etc/trued/trued.yaml")
	}
	configure(2)
	h.Run(t, "systemctl daemon-reload; systemctl start trued.service")
	daemon := h.Run(t, "systemctl show --value -p MainPID trued.service")
	for i := range 13 {
		configure(3 + i)
		h.Run(t, "sleep 2")
	}
	h.Write(t, "/srv/lab/groups/web/slow.yaml", "- command: wait\n  argv: [sh, -c, \"touch /run/begun; sleep 25; touch /run/ended\"]\n  creates: /run/ended\n")
	configure(1)
	h.Await(t, "test -e /run/begun")
	configure(2)
	h.Await(t, "test -e /run/ended")
	trued(t, h, 0, "sync")
	if got := h.Run(t, "systemctl show --value -p MainPID trued.service"); got != daemon {
		t.Errorf("the daemon is process %s, and was %s", got, daemon)
	}
}
