package scenario_test

import (
	"fmt"
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
)

// What leaves a host's catalog although nobody took it out of Git stays until
// somebody says that it may go: when the host's name or facts change, and when
// most of what there is leaves at once.
func TestPruneThatNoCommitExplainsIsHeld(t *testing.T) {
	t.Parallel()
	lab := hosttest.New(t)
	git := lab.GitServer(t)
	repo := git.Repository(t, "infra")
	var many strings.Builder
	for i := range 30 {
		fmt.Fprintf(&many, "- file: /etc/many/%02d\n  content: x\n  parents: true\n", i)
	}
	files := map[string]string{
		"hosts.yaml":             "web-1: {group: groups/web}\n\"*\": {group: groups/other}\n",
		"groups/common/all.yaml": strings.ReplaceAll(many.String(), "  parents: true\n", ""),
		"groups/common/00.yaml":  "- directory: /etc/many\n",
		"groups/web/group.yaml":  "include: [groups/common]\n",
		"groups/web/web.yaml":    "- file: /etc/web\n  content: web\n- file: /etc/rack\n  content: here\n  when: get(\"facts.local.rack\", \"\") != \"\"\n",
		"groups/other/all.yaml":  "- file: /etc/other\n  content: other\n",
	}
	first := repo.Commit(t, "Begin", files)
	h := lab.Boot(t, hosttest.Options{Name: "web-1", Net: true})
	install(t, h)
	h.Write(t, "/etc/trued/facts.d/place.yaml", "rack: r7\n")
	config{url: repo.HTTP()}.write(t, h)
	h.Run(t, "systemctl start trued.service")
	awaitCommit(t, h, first)
	h.Run(t, "test -e /etc/rack; test -e /etc/web; test -e /etc/many/29")

	held := func(told story, addresses ...string) {
		t.Helper()
		now := events(t, h).since(told)
		for _, address := range addresses {
			if e := now.about(address); len(e) != 1 || e[0].Type != report.ResourcePending || e[0].Outcome != report.Held || e[0].Cause != "prune" || e[0].Severity != report.Warning {
				t.Errorf("%s is not told of as held:\n%s\nall:\n%s", address, e, now)
			}
		}
		if finished := now.last(t, report.RunFinished); *finished.ExitCode != 2 || finished.Held != len(addresses) {
			t.Errorf("the run ended with exit code %d and %d held, want 2 and %d: %s", *finished.ExitCode, finished.Held, len(addresses), finished.Message)
		}
		if out := trued(t, h, 2, "status"); !strings.Contains(out, "held      ") || !strings.HasPrefix(out, "Not in order") {
			t.Errorf("status does not say what is held:\n%s", out)
		}
	}

	// A fact goes.
	told := events(t, h)
	h.Run(t, "rm /etc/trued/facts.d/place.yaml")
	trued(t, h, 2, "sync")
	held(told, "file:/etc/rack")
	told = events(t, h)
	trued(t, h, 2, "sync") // still
	h.Run(t, "test -e /etc/rack")
	trued(t, h, 0, "sync --accept-prune")
	h.Run(t, "test ! -e /etc/rack")
	if e := events(t, h).since(told).about("file:/etc/rack").of(report.ResourceChanged); len(e) != 1 || e[0].Cause != "prune" {
		t.Errorf("what was let go is told of as\n%s", e)
	}

	// The name changes, and with it the group: what the other group brings is
	// applied, and nothing goes.
	told = events(t, h)
	h.Run(t, "hostname renamed; echo renamed >/etc/hostname")
	trued(t, h, 2, "sync")
	h.Run(t, "test -e /etc/web; test -e /etc/many/00; test -e /etc/other")
	all := []string{"file:/etc/web", "directory:/etc/many"}
	for i := range 30 {
		all = append(all, fmt.Sprintf("file:/etc/many/%02d", i))
	}
	held(told, all...)
	h.Run(t, "hostname web-1; echo web-1 >/etc/hostname")
	told = events(t, h)
	trued(t, h, 2, "sync") // now the other group's file is what no commit explains
	h.Run(t, "test -e /etc/other")
	held(told, "file:/etc/other")
	trued(t, h, 0, "sync --accept-prune")
	h.Run(t, "test ! -e /etc/other; test -e /etc/web; test -e /etc/many/29")

	// An include is dropped by mistake: a commit explains it, and it is too much
	// at once all the same.
	told = events(t, h)
	second := repo.Commit(t, "A mistake", map[string]string{"groups/web/group.yaml": "vars: {}\n"})
	awaitCommit(t, h, second)
	held(told, all[1:]...)
	h.Run(t, "test -e /etc/many/00; test -e /etc/many/29")
	third := repo.Revert(t)
	awaitCommit(t, h, third)
	trued(t, h, 0, "status")

	// The same on purpose.
	fourth := repo.Commit(t, "On purpose", map[string]string{"groups/web/group.yaml": "vars: {}\n"})
	awaitCommit(t, h, fourth)
	trued(t, h, 2, "status")
	trued(t, h, 0, "sync --accept-prune")
	h.Run(t, "test ! -e /etc/many; test -e /etc/web")
	trued(t, h, 0, "status")
}
