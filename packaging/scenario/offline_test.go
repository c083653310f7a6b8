package scenario_test

import (
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
)

// Without a network a host is kept to the last commit that it has, and says so.
func TestHostWithoutANetworkIsKeptToTheLastCommit(t *testing.T) {
	t.Parallel()
	lab := hosttest.New(t)
	git := lab.GitServer(t)
	repo := git.Repository(t, "infra")
	first := repo.Commit(t, "Begin", map[string]string{"groups/web/all.yaml": "- file: /etc/motd\n  content: first\n"})
	h := lab.Boot(t, hosttest.Options{Name: "web-1", Net: true})
	install(t, h)
	config{url: repo.HTTP(), group: "groups/web", source: []string{"limits: {time: 5s, idle: 2s}"}}.write(t, h)
	h.Run(t, "systemctl start trued.service")
	awaitCommit(t, h, first)

	h.Cut(t)
	told := events(t, h)
	for _, words := range []string{"apply --wait 1m", "sync"} {
		h.Run(t, "echo broken >/etc/motd")
		if out := trued(t, h, 4, words); !strings.Contains(out, "fetch") && !strings.Contains(out, "reach") {
			t.Errorf("trued %s does not say what is wrong:\n%s", words, out)
		}
		h.Run(t, "grep -q first /etc/motd")
	}
	if out := trued(t, h, 4, "status"); !strings.Contains(strings.SplitN(out, "\n", 2)[0], first[:10]) {
		t.Errorf("the first line of status does not name the commit:\n%s", out)
	}
	now := events(t, h).since(told)
	for _, stale := range now.of(report.SourceStale) {
		if !strings.Contains(stale.Message, first[:12]) || stale.ErrorMessage == "" {
			t.Errorf("the loss of the source is told of as %q: %s", stale.Message, stale.ErrorMessage)
		}
	}
	runs := now.of(report.RunFinished)
	if len(runs) != 2 || len(now.of(report.SourceStale)) < 2 {
		t.Errorf("two runs without a network are told of as\n%s", now)
	}
	for _, finished := range runs {
		if *finished.ExitCode != 4 || finished.Revision != first || !strings.Contains(finished.Message, "cannot fetch") {
			t.Errorf("a run ended with exit code %d at %s: %s", *finished.ExitCode, finished.Revision, finished.Message)
		}
	}

	h.Heal(t)
	second := repo.Commit(t, "More", map[string]string{"groups/web/all.yaml": "- file: /etc/motd\n  content: second\n"})
	trued(t, h, 0, "sync")
	awaitCommit(t, h, second)
	h.Run(t, "grep -q second /etc/motd")
	trued(t, h, 0, "status")
}
