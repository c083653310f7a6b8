package scenario_test

import (
	"testing"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
)

// hosts.yaml says which host is in which group; one commit reaches both, each
// with what is its own.
func TestOneCommitReachesHostsOfTwoGroups(t *testing.T) {
	t.Parallel()
	lab := hosttest.New(t)
	git := lab.GitServer(t)
	repo := git.Repository(t, "infra")
	files := map[string]string{
		"hosts.yaml": `
"*": {group: groups/base}
"db-*": {group: groups/db, vars: {role: database}}
web-1: {group: groups/web, vars: {role: web}}
`,
		"groups/base/group.yaml": "vars: {role: none, port: 1}\n",
		"groups/base/all.yaml":   "- file: /etc/role\n  content: \"{{ vars.role }} {{ vars.port }}\\n\"\n",
		"groups/web/group.yaml":  "include: [groups/base]\nvars: {port: 80}\n",
		"groups/web/web.yaml":    "- file: /etc/web\n  content: \"old\\n\"\n",
		"groups/db/group.yaml":   "include: [groups/base]\nvars: {port: 5432}\n",
		"groups/db/db.yaml":      "- file: /etc/db\n  content: \"old\\n\"\n",
	}
	first := repo.Commit(t, "Begin", files)
	hosts := []*hosttest.Host{
		lab.Boot(t, hosttest.Options{Name: "web-1", Net: true}),
		lab.Boot(t, hosttest.Options{Name: "db-1", Net: true}),
	}
	for _, h := range hosts {
		install(t, h)
		config{url: repo.HTTP()}.write(t, h)
		h.Run(t, "systemctl start trued.service")
	}
	for _, h := range hosts {
		awaitCommit(t, h, first)
	}
	second := repo.Commit(t, "One for all", map[string]string{
		"groups/base/all.yaml": "- file: /etc/role\n  content: \"role {{ vars.role }} {{ vars.port }}\\n\"\n",
		"groups/web/web.yaml":  "- file: /etc/web\n  content: \"new\\n\"\n",
		"groups/db/db.yaml":    "- file: /etc/db\n  content: \"new\\n\"\n",
	})
	for i, want := range []string{"role web 80\nnew", "role database 5432\nnew"} {
		h := hosts[i]
		awaitCommit(t, h, second)
		if got := h.Run(t, "cat /etc/role; cat /etc/web /etc/db 2>/dev/null || true"); got != want {
			t.Errorf("%s has %q, want %q", h.Name(), got, want)
		}
		group := map[string]string{"web-1": "groups/web", "db-1": "groups/db"}[h.Name()]
		for _, e := range events(t, h).of(report.ResourceChanged) {
			if e.HostName != h.Name() || e.Group != group {
				t.Errorf("an event of %s in %s says that it is of %s in %s", h.Name(), group, e.HostName, e.Group)
			}
		}
		if _, code := h.Try(t, "test -e /etc/web -a -e /etc/db"); code == 0 {
			t.Errorf("%s has what is the other's", h.Name())
		}
	}
}
