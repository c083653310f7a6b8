package scenario_test

import (
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
)

// A host that is suspended is left alone, by the boot too, until it is resumed.
func TestSuspensionOutlastsAReboot(t *testing.T) {
	t.Parallel()
	h := hosttest.Boot(t, hosttest.Options{Name: "web-1"})
	install(t, h)
	h.Write(t, "/srv/lab/groups/web/all.yaml", "- file: /etc/motd\n  content: kept\n")
	config{dir: "/srv/lab", group: "groups/web"}.write(t, h)
	h.Run(t, "systemctl start trued.service")
	trued(t, h, 0, "sync")

	trued(t, h, 0, "suspend --reason 'moving the database' --for 2h")
	h.Await(t, "grep -q '\"agent.suspended\".*moving the database' "+eventFile)
	h.Run(t, "echo broken >/etc/motd")
	for _, words := range []string{"sync", "apply", "status"} {
		if out := trued(t, h, 6, words); !strings.Contains(out, "moving the database") {
			t.Errorf("trued %s does not say why:\n%s", words, out)
		}
	}
	trued(t, h, 2, "plan")
	h.Reboot(t)
	h.Await(t, "systemctl is-active --quiet trued.service")
	trued(t, h, 6, "status")
	if got := h.Run(t, "cat /etc/motd; systemctl show --value -p Result trued-boot.service; systemctl --failed --plain --no-legend"); got != "broken\nsuccess" {
		t.Errorf("a suspended host came up with %q", got)
	}
	trued(t, h, 0, "resume")
	h.Await(t, "grep -q '\"agent.resumed\"' "+eventFile)
	trued(t, h, 0, "sync")
	h.Run(t, "grep -q kept /etc/motd")
}

// A source that leaves the configuration takes nothing along; what it held is
// pruned, or forgotten, when somebody says so.
func TestSourceThatLeavesTheConfigurationPrunesNothing(t *testing.T) {
	t.Parallel()
	h := hosttest.Boot(t, hosttest.Options{Name: "web-1"})
	install(t, h)
	h.Write(t, "/etc/two", "before\n")
	h.Write(t, "/srv/infra/groups/web/all.yaml", "- file: /etc/motd\n  content: kept\n")
	h.Write(t, "/srv/one/groups/web/all.yaml", "- file: /etc/one\n  content: one\n")
	h.Write(t, "/srv/two/groups/web/all.yaml", "- file: /etc/two\n  content: two\n")
	h.Write(t, "/etc/trued/trued.yaml", `sources:
  - {name: infra, dir: /srv/infra, group: groups/web}
  - {name: one, dir: /srv/one, group: groups/web}
  - {name: two, dir: /srv/two, group: groups/web}
interval: 1s
resync: 1h
watch: false
report: [journal, {file: `+eventFile+`}]
`)
	h.Run(t, "systemctl start trued.service")
	trued(t, h, 0, "sync")
	h.Run(t, "grep -q one /etc/one; grep -q two /etc/two")

	config{dir: "/srv/infra", group: "groups/web"}.write(t, h)
	h.Await(t, "(trued status || true) | grep -q file:/etc/one")
	trued(t, h, 0, "sync")
	h.Run(t, "grep -q one /etc/one; grep -q two /etc/two; grep -q kept /etc/motd")
	if out := trued(t, h, 0, "status -o json"); !strings.Contains(out, `"file:/etc/two"`) {
		t.Errorf("status does not list the orphans:\n%s", out)
	}
	trued(t, h, 1, "forget --source infra")
	trued(t, h, 0, "forget --source one")
	trued(t, h, 0, "prune --source two")
	trued(t, h, 0, "sync")
	if got := h.Run(t, "cat /etc/one /etc/two /etc/motd"); got != "onebefore\nkept" {
		t.Errorf("what was forgotten, pruned and kept is %q", got)
	}
	if out := trued(t, h, 0, "status -o json"); strings.Contains(out, "/etc/one") || strings.Contains(out, "/etc/two") {
		t.Errorf("status still has orphans:\n%s", out)
	}
	for _, e := range events(t, h) {
		if e.Resource == "file:/etc/one" && e.Cause == "prune" {
			t.Errorf("what was forgotten was pruned: %s", e.Message)
		}
	}
}
