package drift_test

import (
	"fmt"
	"strings"
	"testing"

	"trued.dev/trued/internal/report"
)

const oneAndWorker = worker + `
- file: /srv/one
  content: "one\n"
`

// Who sits at the console of a host in rescue or emergency mode is left alone, and
// what was changed there is put back when the host is up again.
func TestNothingIsRepairedInRescueAndEmergencyMode(t *testing.T) {
	t.Parallel()
	w := begin(t, "web-8", map[string]string{"all.yaml": oneAndWorker})
	w.configure(t, "2s")
	w.Run(t, "systemctl restart trued.service")
	w.settled(t)
	for mode, start := range map[string]string{
		"rescue": "systemctl start trued.service",
		// To start a unit is to leave it, nearly always: the daemon is started by hand.
		"emergency": "mkdir -p /run/trued; setsid -f sh -c 'echo $$ >/run/by-hand; exec trued run' </dev/null >/dev/null 2>&1",
	} {
		// In place of a person, whom the console of this host does not have.
		w.Write(t, "/etc/systemd/system/"+mode+".service.d/console.conf", "[Service]\nExecStart=\nExecStart=/bin/sleep infinity\nStandardInput=null\n")
		w.Run(t, "systemctl daemon-reload")
		w.settled(t)
		before := w.events(t)
		w.Run(t, "systemctl "+mode)
		w.await(t, "systemctl is-active "+mode+".target && ! systemctl is-active worker.service")
		w.Run(t, "echo broken >/srv/one; "+start)
		w.await(t, "trued status | grep -q '^  next '")
		w.Run(t, "sleep 3; echo worse >/srv/one; sleep 3; systemctl is-active "+mode+".target; grep -qx worse /srv/one; ! systemctl is-active worker.service")
		for _, e := range w.events(t)[len(before):] {
			if e.Type == report.RunStarted || e.Resource != "" {
				t.Errorf("in %s mode: %s: %s", mode, e.Type, e.Message)
			}
		}
		w.Run(t, "[ ! -e /run/by-hand ] || kill $(cat /run/by-hand); rm -f /run/by-hand; systemctl default")
		w.await(t, "grep -qx one /srv/one && systemctl is-active worker.service && "+inOrder)
		w.settled(t)
		seen := w.events(t)[len(before):].about("file:/srv/one")
		if len(seen) != 1 || seen[0].Cause != "drift" || seen[0].Outcome != report.Repaired {
			t.Errorf("after %s mode it is told:\n%s", mode, seen)
		}
	}
}

// A broker that goes takes what systemd would have told with it: once it is there
// again everything is checked, and what happens from then on is seen.
func TestAfterTheBrokerOfTheBusWasGoneEverythingIsChecked(t *testing.T) {
	t.Parallel()
	w := begin(t, "web-9", map[string]string{"all.yaml": oneAndWorker})
	w.settled(t)
	for _, gone := range []string{
		"systemctl restart dbus.service",
		"kill -9 $(systemctl show -P MainPID dbus.service); systemctl reset-failed dbus.service || :; systemctl start dbus.service",
		// the unit is stopped while nobody can tell
		"systemctl stop dbus.socket dbus.service; systemctl stop worker.service; systemctl start dbus.socket dbus.service",
	} {
		before := w.events(t)
		was := w.Run(t, "systemctl show -P MainPID trued.service")
		w.Run(t, gone)
		w.await(t, fmt.Sprintf(`tail -n +%d %s | grep '"run.started"' | grep '"trued.reason":"drift"' | grep -vq '"trued.partial":true'`, len(before)+1, eventFile))
		w.await(t, "systemctl is-active worker.service")
		w.settled(t)
		before = w.events(t)
		w.Run(t, "systemctl stop worker.service")
		w.await(t, "systemctl is-active worker.service")
		w.await(t, fmt.Sprintf(`tail -n +%d %s | grep -q '"run.finished"'`, len(before)+1, eventFile))
		if seen := w.events(t)[len(before):].about("unit:worker.service"); len(seen.of(report.ResourceDrifted)) != 1 {
			t.Errorf("after %q it is told:\n%s", gone, seen)
		}
		if now := w.Run(t, "systemctl show -P MainPID trued.service"); now != was {
			t.Errorf("%q ended the daemon", gone)
		}
	}
}

// limited gives the daemon a user namespace with a limit on watches of its own,
// by a /proc that may be written to: the machine's limit is everybody's.
const limited = `#!/bin/sh
set -e
exec unshare --user --map-root-user sh -ec '
	test "$(readlink /proc/self/ns/user)" != "$1"
	echo 20 >/run/proc/sys/user/max_inotify_watches
	exec /usr/bin/trued run
' sh "$(readlink /proc/self/ns/user)"
`

// What the kernel will not watch is polled, and that is told of once; when it will,
// it is watched.
func TestWhereTheKernelsLimitIsReachedTheRestIsPolled(t *testing.T) {
	t.Parallel()
	const all = 40
	var manifest strings.Builder
	for i := range all {
		fmt.Fprintf(&manifest, "- file: /srv/d%d/f\n  content: \"one\\n\"\n  parents: true\n", i)
	}
	w := begin(t, "web-10", map[string]string{"all.yaml": manifest.String()})
	w.Write(t, "/root/limited", limited)
	w.Write(t, "/etc/systemd/system/trued.service.d/limited.conf", "[Service]\nExecStart=\nExecStart=/root/limited\n")
	w.Run(t, "chmod +x /root/limited; mkdir -p /run/proc; mount -t proc proc /run/proc; systemctl daemon-reload; systemctl restart trued.service")
	w.await(t, "trued status | grep -q 'fs.inotify.max_user_watches'")
	w.settled(t)
	before := len(w.events(t))
	w.Run(t, "for d in /srv/d*; do echo broken >$d/f; done")
	w.await(t, fmt.Sprintf("[ $(cat /srv/d*/f | grep -cx one) = %d ]", all))
	w.await(t, fmt.Sprintf(`[ "$(tail -n +%d %s | grep -c '"resource.drifted"')" -ge %d ]`, before+1, eventFile, all))
	told := w.events(t)
	if n := len(told.of(report.WatchLimited)); n != 1 {
		t.Errorf("it is told of %d times", n)
	}
	if seen := told[before:].of(report.ResourceDrifted); len(seen) != all {
		t.Errorf("%d drifts are told of:\n%s", len(seen), seen)
	}
	w.Run(t, "nsenter --user --target $(systemctl show -P MainPID trued.service) sh -c 'echo 1000 >/run/proc/sys/user/max_inotify_watches'")
	w.await(t, "! trued status | grep -q 'fs.inotify.max_user_watches' && trued status | grep watching | grep -vq polled")
}
