package drift_test

import (
	"strings"
	"testing"

	"trued.dev/trued/internal/report"
)

const worker = `
- unit: worker.service
  enabled: true
  masked: false
  state: running
  content: |
    [Service]
    ExecStart=/bin/sleep infinity
    Restart=always
    [Install]
    WantedBy=multi-user.target
`

// of returns the events of one type.
func (s story) of(kind report.Type) story {
	var out story
	for _, e := range s {
		if e.Type == kind {
			out = append(out, e)
		}
	}
	return out
}

// What somebody else restarts, touches or writes anew as it is, is in order: it
// makes no run, and what a run writes makes no further one.
func TestWhatIsAsItShouldBeMakesNoRun(t *testing.T) {
	t.Parallel()
	w := begin(t, "web-3", map[string]string{"all.yaml": worker + `
- file: /srv/one
  content: "one\n"
- directory: /srv/tree
  source: files/tree
`, "files/tree/a": "a\n"})
	w.settled(t)
	before := w.Run(t, "wc -l <"+eventFile+"; sha256sum /var/lib/trued/ledger.jsonl")
	// What is cut to nothing before it is written is another for that moment.
	w.Run(t, `touch /srv/one; echo one | dd of=/srv/one conv=notrunc status=none; echo one >/srv/.x; mv /srv/.x /srv/one; echo y >/srv/unmanaged
echo x >/srv/tree/not-ours; mkdir -p /srv/tree/new/dir; systemctl restart worker.service; systemctl daemon-reload
kill -9 $(systemctl show -P MainPID worker.service)`)
	w.await(t, "systemctl is-active worker.service")
	w.Run(t, "sleep 3")
	if after := w.Run(t, "wc -l <"+eventFile+"; sha256sum /var/lib/trued/ledger.jsonl"); after != before {
		t.Errorf("something was told:\n%s\n%s", w.events(t), w.Run(t, "journalctl -u trued -n 20 --no-pager"))
	}
}

// While somebody holds dpkg's lock nothing is judged that they may be at work on;
// what is none of theirs is.
func TestATransactionOfSomebodyElseIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := begin(t, "web-4", map[string]string{"all.yaml": `
- package: tree
- file: /etc/debian_version
  content: "as declared\n"
- file: /srv/one
  content: "one\n"
`})
	w.settled(t)
	before := len(w.events(t))
	w.Run(t, `systemd-run -q --unit holder perl -MFcntl -e 'open F, "+>>", "/var/lib/dpkg/lock-frontend"; my $l = pack("s s l! l! i", F_WRLCK, 0, 0, 0, 0); fcntl F, F_SETLK, $l or die; open R, ">", "/run/held"; close R; sleep 3600'`)
	w.await(t, "[ -e /run/held ]")
	w.Run(t, "DPKG_FRONTEND_LOCKED=1 dpkg --purge tree; echo broken >/etc/debian_version; echo broken >/srv/one")
	w.await(t, "grep -qx one /srv/one")
	w.Run(t, "sleep 2")
	if told := w.events(t)[before:]; len(told.of(report.ResourceDrifted)) != 1 {
		t.Errorf("it did not wait:\n%s", told)
	}
	w.Run(t, "systemctl stop holder")
	w.await(t, "grep -qx 'as declared' /etc/debian_version && dpkg-query -W -f '${Status}' tree | grep -q 'ok installed'")
	told := w.events(t)[before:]
	for _, address := range []string{"package:tree", "file:/etc/debian_version", "file:/srv/one"} {
		if seen := told.about(address); len(seen) != 1 || seen[0].Outcome != report.Repaired {
			t.Errorf("%s:\n%s", address, seen)
		}
	}
}

// A host that goes down is not fought, and what was changed while it was down is
// put back when it is up.
func TestAShutdownIsNoDrift(t *testing.T) {
	t.Parallel()
	w := begin(t, "web-5", map[string]string{"all.yaml": worker})
	w.settled(t)
	before := len(w.events(t))
	for range 3 {
		w.Reboot(t)
		w.await(t, "systemctl is-active trued.service worker.service")
		w.settled(t)
	}
	for _, e := range w.events(t)[before:] {
		if e.Resource != "" || e.Reason == "drift" {
			t.Errorf("%s: %s", e.Type, e.Message)
		}
	}
}

// Another tool that holds a file for its own is told of once and gets its pauses.
func TestAFightIsToldOfOnceAndSlowsDown(t *testing.T) {
	t.Parallel()
	w := begin(t, "web-6", map[string]string{"all.yaml": `
- file: /srv/one
  content: "one\n"
- file: /srv/other
  content: "other\n"
`})
	w.settled(t)
	before := len(w.events(t))
	w.Run(t, `systemd-run -q --unit fighter sh -c 'while :; do grep -qx one /srv/one && echo mine >/srv/one; sleep 0.1; done'`)
	w.await(t, "trued status | grep -q '^  contested *file:/srv/one'")
	w.Run(t, "systemctl restart trued.service")
	w.await(t, "trued status | grep -q '^  contested *file:/srv/one'")
	w.Run(t, "sleep 15; echo broken >/srv/other")
	w.await(t, "grep -qx other /srv/other")
	w.Run(t, "systemctl stop fighter")
	told := w.events(t)[before:]
	if n := len(told.of("resource.contested")); n != 1 {
		t.Errorf("it is told of %d times", n)
	}
	// 3 at once, then after 1, 2, 4, 8 s, and one of the full run at the start.
	if n := len(told.about("file:/srv/one")); n > 12 {
		t.Errorf("it was put back %d times:\n%s", n, told)
	}
	if !strings.Contains(w.Run(t, "trued status || true"), "contested") {
		t.Error("status does not show it")
	}
}

// What is watched is said, and a directory that is replaced is followed.
func TestADirectoryThatIsReplacedIsFollowed(t *testing.T) {
	t.Parallel()
	w := begin(t, "web-7", map[string]string{"all.yaml": `
- directory: /srv/app/conf
  parents: true
- file: /srv/app/conf/one
  content: "one\n"
- sysctl: net.ipv4.ip_forward
  value: 1
`})
	w.settled(t)
	for _, change := range []string{
		"rm -rf /srv/app/conf", "mv /srv/app/conf /srv/away", "rm -rf /srv/app; mkdir -p /srv/app/conf",
		"mkdir /srv/new; mv /srv/app/conf /srv/old; mv /srv/new /srv/app/conf", "rm -rf /srv/app",
		"sysctl -qw net.ipv4.ip_forward=0 2>/dev/null || echo 0 >/proc/sys/net/ipv4/ip_forward",
	} {
		w.Run(t, "rm -rf /srv/away /srv/old; "+change)
		w.await(t, "grep -qx one /srv/app/conf/one && [ $(cat /proc/sys/net/ipv4/ip_forward) = 1 ]")
	}
	if out := w.Run(t, "trued status"); !strings.Contains(out, "  watching ") || !strings.Contains(out, "1 polled") {
		t.Errorf("status says:\n%s", out)
	}
	if out := w.Run(t, "trued explain file:/srv/app/conf/one"); !strings.Contains(out, "watched   path /srv/app/conf/one") {
		t.Errorf("explain says:\n%s", out)
	}
}
