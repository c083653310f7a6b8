package scenario_test

import (
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
)

// makeRepository makes an apt repository in a host: a higher version of the
// agent's own package, and others that come before and after it and take their
// time.
const makeRepository = `
mkdir -p /srv/apt && cd /srv/apt
for name in aa-slow zz-slow; do
	mkdir -p /root/$name/DEBIAN
	printf 'Package: %s\nVersion: 1.0\nArchitecture: all\nMaintainer: a test <test@example.org>\nDescription: a test\n' $name >/root/$name/DEBIAN/control
	printf '#!/bin/sh\nsleep 2\ndate +%%s.%%N >/var/lib/%s.done\n' $name >/root/$name/DEBIAN/postinst
	chmod 755 /root/$name/DEBIAN/postinst
	dpkg-deb --root-owner-group -Znone -b /root/$name . >/dev/null
done
dpkg-deb -R /root/trued.deb /root/own
sed -i 's/^Version: .*/Version: 999.0/' /root/own/DEBIAN/control
dpkg-deb --root-owner-group -Znone -b /root/own . >/dev/null
for deb in *.deb; do
	dpkg-deb -f $deb
	echo "Filename: ./$deb"
	echo "Size: $(stat -c %s $deb)"
	echo "SHA256: $(sha256sum $deb | cut -d' ' -f1)"
	echo
done >Packages
echo 'deb [trusted=yes] file:/srv/apt ./' >/etc/apt/sources.list
`

// A commit that names a newer version of the agent among other packages: the
// transaction goes to its end although the daemon is restarted in it, and the
// run that it was part of is taken up.
func TestAgentIsUpgradedByACommitWithinALargerTransaction(t *testing.T) {
	t.Parallel()
	lab := hosttest.New(t)
	git := lab.GitServer(t)
	repo := git.Repository(t, "infra")
	h := lab.Boot(t, hosttest.Options{Name: "web-1", Net: true})
	install(t, h)
	h.Run(t, makeRepository)
	old := h.Run(t, "dpkg-query -W -f '${Version}' trued")
	first := repo.Commit(t, "Begin", map[string]string{"groups/web/motd.yaml": "- file: /etc/motd\n  content: old\n"})
	config{url: repo.HTTP(), group: "groups/web"}.write(t, h)
	h.Run(t, "systemctl start trued.service")
	awaitCommit(t, h, first)
	told := events(t, h)
	pid := property(t, h, "trued.service", "MainPID")

	second := repo.Commit(t, "A newer agent", map[string]string{
		"groups/web/motd.yaml": `
- file: /etc/worker.conf
  content: "one\n"
- package: [aa-slow, zz-slow]
- package: trued
  version: "= 999.0"
- file: /etc/motd
  content: "new\n"
  requires: [package:trued, package:zz-slow]
- unit: worker.service
  state: running
  content: |
    [Service]
    ExecStart=/bin/sleep infinity
  restart_on: [file:/etc/worker.conf, package:aa-slow]
`})
	awaitCommit(t, h, second)
	await(t, h, "trued status")
	if got := h.Run(t, "dpkg-query -W -f '${Version} ' aa-slow trued zz-slow; dpkg --audit; cat /etc/motd"); got != "1.0 999.0 1.0 new" {
		t.Errorf("from %s the host has come to %q", old, got)
	}
	if now := property(t, h, "trued.service", "MainPID"); now == pid || now == "0" {
		t.Errorf("the daemon's process was %s and is %s", pid, now)
	}
	now := events(t, h).since(told)
	if starts := h.Run(t, "journalctl -b -o cat _PID=1 UNIT=trued.service | grep -c '^Started'"); starts != "2" {
		t.Errorf("the daemon was started %s times, want 2:\n%s", starts, h.Run(t, "journalctl -b -u trued.service _PID=1"))
	}
	if n := property(t, h, "trued.service", "NRestarts"); n != "0" {
		t.Errorf("the daemon died %s times", n)
	}
	for _, address := range []string{"package:aa-slow", "package:trued", "package:zz-slow", "file:/etc/worker.conf", "file:/etc/motd", "unit:worker.service"} {
		done := now.about(address).only(func(e report.Event) bool { return e.Outcome == report.Applied })
		if len(done) != 1 || done[0].Cause != "intended" {
			t.Errorf("%s is told of as\n%s", address, now.about(address))
		}
	}
	if failed := now.of(report.ResourceFailed); len(failed) != 0 {
		t.Errorf("there are failures:\n%s", failed)
	}
	if t.Failed() {
		t.Logf("all events:\n%s\n%s", now, h.Run(t, "journalctl -b -u trued.service -u trued-packages.service"))
	}
	trued(t, h, 0, "apply --wait 1m")
	if out := trued(t, h, 0, "version"); !strings.Contains(out, "trued") {
		t.Errorf("version says %q", out)
	}
}
