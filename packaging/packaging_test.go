// Package packaging_test installs the packages that `make packages` built on
// real hosts.
package packaging_test

import (
	"fmt"
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
)

const config = `sources:
  - name: lab
    dir: /srv/lab
    group: groups/lab
report: [journal]
`

// configure gives a host a configuration, and a group with one file.
func configure(t *testing.T, h *hosttest.Host) {
	t.Helper()
	h.Write(t, "/srv/lab/groups/lab/motd.yaml", "- file: /etc/motd\n  content: \"kept true\\n\"\n")
	h.Write(t, "/etc/trued/trued.yaml", config)
}

// upgrade returns the line that installs the package with a higher version.
const makeUpgrade = `rm -rf /root/x; dpkg-deb -R /root/trued.deb /root/x; sed -i 's/^Version: .*/Version: 999.0/' /root/x/DEBIAN/control
dpkg-deb --root-owner-group -Znone -b /root/x /root/upgrade.deb >/dev/null`

func mainPID(t *testing.T, h *hosttest.Host) string {
	t.Helper()
	return h.Run(t, "systemctl show --value -p MainPID trued.service")
}

func TestDebLife(t *testing.T) {
	deb := hosttest.Deb(t)
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			h := hosttest.Boot(t, hosttest.Options{Name: suite, Suite: suite})
			h.Copy(t, deb, "/root/trued.deb")

			h.Run(t, "dpkg -i /root/trued.deb")
			if got := h.Run(t, "systemctl is-enabled trued.service trued-boot.service trued-rollback.timer"); got != "enabled\nenabled\nenabled" {
				t.Errorf("after the installation the units are %q", got)
			}
			if got, _ := h.Try(t, "systemctl is-active trued.service trued-boot.service trued-rollback.timer"); got != "inactive\ninactive\ninactive" {
				t.Errorf("without a configuration the units are %q", got)
			}
			if got := h.Run(t, "stat -c %a:%U:%n /etc/trued /etc/trued/trued.yaml.example /var/lib/trued /usr/bin/trued"); got != "755:root:/etc/trued\n644:root:/etc/trued/trued.yaml.example\n700:root:/var/lib/trued\n755:root:/usr/bin/trued" {
				t.Errorf("modes and owners are\n%s", got)
			}
			if got := h.Run(t, "systemd-analyze verify --man=no trued.service trued-boot.service trued-rollback.timer trued-rollback.service 2>&1"); got != "" {
				t.Errorf("systemd-analyze verify says\n%s", got)
			}
			h.Run(t, "trued history --config /etc/trued/trued.yaml.example") // it is a configuration
			h.Run(t, "test -e /usr/share/bash-completion/completions/trued; test -z \"$(dpkg -V trued | grep -v /usr/share/man)\"")

			configure(t, h)
			h.Run(t, "systemctl start trued.service")
			h.Await(t, "grep -q 'kept true' /etc/motd")
			h.Run(t, makeUpgrade)
			before := mainPID(t, h)
			h.Run(t, "dpkg -i /root/upgrade.deb")
			h.Await(t, `[ "$(systemctl show --value -p MainPID trued.service)" != `+before+" ] && systemctl is-active --quiet trued.service")

			h.Run(t, "systemctl disable --quiet --now trued.service; dpkg -i /root/upgrade.deb")
			if got, _ := h.Try(t, "systemctl is-enabled trued.service; systemctl is-active trued.service"); got != "disabled\ninactive" {
				t.Errorf("an upgrade turned a disabled unit into %q", got)
			}
			h.Run(t, "systemctl enable --quiet --now trued.service")

			h.Write(t, "/var/lib/trued/state-of-a-test", "")
			h.Run(t, "dpkg --remove trued")
			if got, code := h.Try(t, "systemctl is-active trued.service"); code == 0 {
				t.Errorf("after the removal the daemon is %s", got)
			}
			h.Run(t, "test ! -e /usr/bin/trued; test -e /etc/trued/trued.yaml; test -e /var/lib/trued/state-of-a-test")

			h.Run(t, "dpkg -i /root/trued.deb")
			h.Await(t, "systemctl is-active --quiet trued.service")

			h.Run(t, "dpkg --purge trued")
			h.Run(t, "test ! -e /etc/trued; test ! -e /var/lib/trued; test ! -e /etc/systemd/system/trued.service; test -e /srv/lab; grep -q 'kept true' /etc/motd")
			if got, _ := h.Try(t, "systemctl --failed --no-legend --plain; find /etc/systemd/system -name '*trued*'; systemctl list-unit-files --no-legend 'trued*'"); got != "" {
				t.Errorf("purging left\n%s", got)
			}
		})
	}
}

func TestDebInstallsIntoATreeThatIsNotBooted(t *testing.T) {
	t.Parallel()
	deb := hosttest.Deb(t)
	h := hosttest.Boot(t, hosttest.Options{})
	h.Run(t, "mkdir /run/t; mount -t tmpfs tmpfs /run/t; cd /run/t; mkdir u w r; mount -t overlay -o lowerdir=/,upperdir=u,workdir=w overlay r")
	h.Copy(t, deb, "/run/t/r/trued.deb")
	h.Run(t, "chroot /run/t/r dpkg -i /trued.deb")
	h.Run(t, "cd /run/t/r/etc/systemd/system/multi-user.target.wants; test -L trued.service; test -L trued-boot.service")
	h.Run(t, "chroot /run/t/r dpkg --purge trued; test ! -L /run/t/r/etc/systemd/system/multi-user.target.wants/trued.service; test ! -e /run/t/r/var/lib/trued")
}

func TestUpgradeDoesNotWaitForTheDaemon(t *testing.T) {
	t.Parallel()
	deb := hosttest.Deb(t)
	h := hosttest.Boot(t, hosttest.Options{})
	h.Copy(t, deb, "/root/trued.deb")
	h.Run(t, "dpkg -i /root/trued.deb")
	configure(t, h)
	// A daemon that does not stop before the package transaction ends, which
	// would end only when the daemon has stopped.
	h.Write(t, "/etc/systemd/system/trued.service.d/test.conf",
		"[Service]\nExecStop=/bin/sh -c 'while [ -e /run/transaction ]; do sleep 0.1; done'\nTimeoutStopSec=infinity\n")
	h.Run(t, "systemctl daemon-reload; systemctl start trued.service; touch /run/transaction")
	h.Run(t, makeUpgrade)
	before := mainPID(t, h)
	h.Run(t, "timeout 60 dpkg -i /root/upgrade.deb; rm /run/transaction")
	h.Await(t, `[ "$(systemctl show --value -p MainPID trued.service)" != `+before+" ] && systemctl is-active --quiet trued.service")
}

func TestBootRunComesBeforeTheDaemonAndHoldsNothingUp(t *testing.T) {
	deb := hosttest.Deb(t)
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			h := hosttest.Boot(t, hosttest.Options{Suite: suite})
			h.Copy(t, deb, "/root/trued.deb")
			h.Run(t, "dpkg -i /root/trued.deb")
			configure(t, h)
			// The run starts, and waits for, a unit that waits for the boot.
			h.Write(t, "/etc/systemd/system/late.service", "[Unit]\nAfter=multi-user.target\n[Service]\nType=oneshot\nExecStart=/bin/true\nRemainAfterExit=yes\n")
			h.Write(t, "/etc/systemd/system/trued-boot.service.d/test.conf", "[Service]\nExecStartPre=/bin/systemctl start late.service\nTimeoutStartSec=30\n")
			h.Run(t, "rm /etc/motd")
			h.Reboot(t)
			if got := h.Read(t, "/etc/motd"); got != "kept true\n" {
				t.Errorf("after the boot the file holds %q", got)
			}
			if got := h.Run(t, "systemctl is-active late.service trued-boot.service trued.service"); got != "active\nactive\nactive" {
				t.Errorf("after the boot the units are %q", strings.ReplaceAll(got, "\n", " "))
			}
			at := func(unit, property string) (µs int64) {
				t.Helper()
				if _, err := fmt.Sscan(h.Run(t, "systemctl show --value -p "+property+" "+unit), &µs); err != nil {
					t.Fatal(err)
				}
				return µs
			}
			booted, ran := at("multi-user.target", "ActiveEnterTimestampMonotonic"), at("trued-boot.service", "ExecMainExitTimestampMonotonic")
			if started := at("trued.service", "ExecMainStartTimestampMonotonic"); started < ran {
				t.Errorf("the daemon started at %d µs, before the boot run ended at %d µs", started, ran)
			}
			if booted > ran {
				t.Errorf("multi-user.target was reached at %d µs, after the boot run ended at %d µs", booted, ran)
			}
		})
	}
}

func TestRPMLife(t *testing.T) {
	t.Parallel()
	rpm := hosttest.RPM(t)
	h := hosttest.Boot(t, hosttest.Options{Packages: []string{"rpm"}})
	h.Copy(t, rpm, "/root/trued.rpm")
	h.Run(t, "rpm -i --nodeps /root/trued.rpm")
	if got := h.Run(t, "systemctl is-enabled trued.service trued-boot.service trued-rollback.timer; stat -c %a /var/lib/trued /etc/trued"); got != "enabled\nenabled\nenabled\n700\n755" {
		t.Errorf("after the installation the units and directories are %q", got)
	}
	configure(t, h)
	h.Run(t, "systemctl start trued.service")
	before := mainPID(t, h)
	h.Run(t, "rpm -U --nodeps --force /root/trued.rpm")
	h.Await(t, `[ "$(systemctl show --value -p MainPID trued.service)" != `+before+" ] && systemctl is-active --quiet trued.service")
	h.Run(t, "systemctl disable --quiet trued-rollback.timer; rpm -U --nodeps --force /root/trued.rpm")
	if got, _ := h.Try(t, "systemctl is-enabled trued-rollback.timer"); got != "disabled" {
		t.Errorf("an upgrade turned a disabled timer into one that is %s", got)
	}
	h.Run(t, "rm /var/lib/trued/.rollback-timer; rpm -U --nodeps --force /root/trued.rpm") // as from a version that had none
	if got, _ := h.Try(t, "systemctl is-enabled trued-rollback.timer"); got != "enabled" {
		t.Errorf("an upgrade from a version without the timer leaves it %s", got)
	}
	h.Run(t, "rpm -e trued; test ! -e /usr/bin/trued; test -e /etc/trued/trued.yaml")
	if got, code := h.Try(t, "systemctl is-active trued.service"); code == 0 {
		t.Errorf("after the removal the daemon is %s", got)
	}
}

// Where there is no package of either kind, the program registers itself.
func TestInstallBringsTheWayBackAlong(t *testing.T) {
	t.Parallel()
	deb := hosttest.Deb(t)
	h := hosttest.Boot(t, hosttest.Options{})
	h.Copy(t, deb, "/root/trued.deb")
	h.Run(t, "dpkg-deb -x /root/trued.deb /root/x; mkdir -p /etc/trued; mv /root/x/usr/bin/trued /usr/local/bin/; trued install; trued install")
	if got := h.Run(t, "systemctl is-enabled trued.service trued-rollback.timer; systemd-analyze verify --man=no trued.service trued-rollback.timer trued-rollback.service 2>&1"); got != "enabled\nenabled" {
		t.Errorf("after the installation the units are %q", got)
	}
	h.Run(t, "grep -q 'exec /usr/local/bin/trued wayback' /etc/systemd/system/trued-rollback.service")
	configure(t, h)
	h.Run(t, "systemctl start trued.service")
	h.Await(t, "grep -q 'kept true' /etc/motd")
	h.Run(t, "trued uninstall")
	if got, _ := h.Try(t, "find /etc/systemd/system -name '*trued*'; systemctl list-units --no-legend 'trued*'"); got != "" {
		t.Errorf("taking it out left\n%s", got)
	}
}

// TestUnitLeavesTheDaemonWhatItNeeds has the daemon do, within the limits of its
// unit, the work that a limit too many would spoil.
func TestUnitLeavesTheDaemonWhatItNeeds(t *testing.T) {
	deb := hosttest.Deb(t)
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			h := hosttest.Boot(t, hosttest.Options{Suite: suite, Net: true, Packages: []string{"sudo"}})
			h.Copy(t, deb, "/root/trued.deb")
			h.Run(t, "dpkg -i /root/trued.deb; apt-get -qq update")
			h.Write(t, "/srv/lab/groups/lab/all.yaml", `
- package: [tree, cron]
- file: /usr/local/bin/special
  content: "#!/bin/sh\n"
  mode: "04755"
  owner: nobody
  group: nogroup
- file: /home/someone/.profile
  content: "x\n"
  parents: true
- file: /tmp/seen-by-all
  content: "x\n"
- file: /etc/checked
  content: "x\n"
  validate: sudo -u nobody test -s {path}
- unit: own.service
  content: |
    [Service]
    ExecStart=/bin/sleep infinity
    [Install]
    WantedBy=multi-user.target
  enabled: true
  state: running
`)
			h.Write(t, "/etc/trued/trued.yaml", config)
			h.Run(t, "systemctl start trued.service")
			h.Await(t, "test -x /usr/bin/tree && systemctl is-active --quiet own.service && trued status >/dev/null")
			if got := h.Run(t, "stat -c %a:%U:%G /usr/local/bin/special; cat /tmp/seen-by-all /etc/checked /home/someone/.profile; systemctl is-enabled own.service"); got != "4755:nobody:nogroup\nx\nx\nx\nenabled" {
				t.Errorf("the host is\n%s", got)
			}
			h.Run(t, "systemctl reload trued.service; systemctl is-active trued.service")
			h.Await(t, "trued status >/dev/null")
		})
	}
}

// TestDaemonUpgradesItselfWithinATransaction has a change in the source upgrade
// the agent and install other packages, all in one transaction.
func TestDaemonUpgradesItselfWithinATransaction(t *testing.T) {
	deb := hosttest.Deb(t)
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			h := hosttest.Boot(t, hosttest.Options{Suite: suite, Net: true})
			h.Copy(t, deb, "/root/trued.deb")
			h.Run(t, "dpkg -i /root/trued.deb")
			h.Write(t, "/root/slow/DEBIAN/control", "Package: slow\nVersion: 1\nArchitecture: all\nMaintainer: t <t@example.com>\nDescription: slow\n")
			h.Write(t, "/root/slow/DEBIAN/postinst", "#!/bin/sh\nsleep 3\n")
			h.Run(t, "chmod 755 /root/slow/DEBIAN/postinst; "+makeUpgrade+`
mkdir /srv/deb; mv /root/upgrade.deb /srv/deb/trued.deb; dpkg-deb --root-owner-group -b /root/slow /srv/deb/slow.deb >/dev/null
cd /srv/deb; for f in *.deb; do dpkg-deb -f $f; echo "Filename: ./$f"; echo "Size: $(stat -c %s $f)"; echo "SHA256: $(sha256sum $f | cut -d' ' -f1)"; echo; done >Packages
echo 'deb [trusted=yes] file:/srv/deb ./' >/etc/apt/sources.list.d/local.list; apt-get -qq update`)
			configure(t, h)
			h.Run(t, "systemctl start trued.service")
			h.Await(t, "trued status >/dev/null")
			before := mainPID(t, h)

			h.Write(t, "/srv/lab/groups/lab/packages.yaml", "- package: trued\n  version: '= 999.0'\n- package: [slow, tree]\n- file: /etc/after\n  content: x\n  requires: [package:tree]\n")
			h.Try(t, "trued sync") // the daemon that is asked goes in between
			h.Await(t, `[ "$(systemctl show --value -p MainPID trued.service)" != `+before+" ] && test -e /etc/after && trued status >/dev/null")
			if got := h.Run(t, `dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\n' slow trued; dpkg-query -W tree >/dev/null; dpkg --audit`); got != "slow 1 ii \ntrued 999.0 ii " {
				t.Errorf("the packages are\n%s", got)
			}
			if out, code := h.Try(t, "trued plan"); code != 0 {
				t.Errorf("after the upgrade there is still something to do (%d):\n%s", code, out)
			}
		})
	}
}
