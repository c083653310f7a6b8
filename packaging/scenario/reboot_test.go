package scenario_test

import (
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
)

// A host that may reboots once for what was installed, when nobody keeps it up, and
// tells of it before it goes down.
func TestAHostRebootsOnceForWhatAsksForIt(t *testing.T) {
	t.Parallel()
	h := hosttest.Boot(t, hosttest.Options{Name: "web-1"})
	install(t, h)
	h.Run(t, "mkdir -p /srv/repo/groups/web")
	h.Write(t, "/srv/repo/groups/web/all.yaml", "- file: /etc/motd\n  content: first\n")
	h.Write(t, "/srv/repo/groups/web/group.yaml", "reboot: {allow: true}\n")
	h.Write(t, "/etc/trued/trued.yaml", "sources: [{name: infra, dir: /srv/repo, group: groups/web}]\nreport: [journal, file: "+eventFile+"]\n")
	h.Run(t, "systemctl start trued.service")
	h.Await(t, "grep -q commit.confirmed "+eventFile) // none is made while it is on trial

	// It is held up by one who blocks it, and goes on without him.
	h.Run(t, "systemd-run -q --unit keeper systemd-inhibit --what shutdown --who keeper --why upgrade --mode block sleep infinity")
	h.Await(t, "systemd-inhibit --list | grep -q keeper")
	h.Run(t, "echo linux-image-amd64 >/run/reboot-required.pkgs; touch /run/reboot-required")
	trued(t, h, 0, "sync")
	h.Await(t, "journalctl -u trued.service | grep -q 'keeper keeps the system up'")
	if out := trued(t, h, 0, "status"); !strings.Contains(out, "asked for since") || !strings.Contains(out, "linux-image-amd64") {
		t.Errorf("status does not say that a reboot is asked for:\n%s", out)
	}
	h.AwaitReboot(t, func() {
		h.Run(t, "systemctl stop keeper.service")
		h.Run(t, "systemd-run -q trued sync")
	})
	h.Await(t, "systemctl is-active trued.service")
	trued(t, h, 0, "sync")
	told := events(t, h)
	if n := len(told.of(report.RebootRequired)); n != 1 {
		t.Errorf("it is told %d times that a reboot is asked for:\n%s", n, told)
	}
	if begun := told.of(report.RebootBegun); len(begun) != 1 || !strings.Contains(begun[0].Message, "linux-image-amd64") {
		t.Errorf("the reboot is told of as\n%s", begun)
	}
	if out := trued(t, h, 0, "status"); strings.Contains(out, "asked for since") {
		t.Errorf("a reboot is asked for still:\n%s", out)
	}
	// A request that was not met by the reboot makes no other one. The boot before
	// had one, as it is noted here.
	boot := h.Run(t, "cat /proc/sys/kernel/random/boot_id")
	h.AwaitReboot(t, func() {
		h.Run(t, "echo d /run/again >/etc/tmpfiles.d/again.conf; echo f /run/reboot-required >>/etc/tmpfiles.d/again.conf; touch /run/reboot-required; systemd-run -q trued sync")
	})
	h.Await(t, "systemctl is-active trued.service")
	h.Await(t, "trued status | grep -q 'was made once, and is asked for again'")
	second := h.Run(t, "cat /proc/sys/kernel/random/boot_id")
	trued(t, h, 0, "sync")
	trued(t, h, 0, "sync")
	if now := h.Run(t, "cat /proc/sys/kernel/random/boot_id"); now != second || now == boot {
		t.Error("the host reboots over and over")
	}
	if n := len(events(t, h).of(report.RebootBegun)); n != 2 {
		t.Errorf("%d reboots are told of, want 2", n)
	}
}
