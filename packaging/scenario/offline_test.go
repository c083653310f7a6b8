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
	config{url: repo.HTTP(), group: "groups/web", source: []string{"limits: {time: 5s, idle: 2s}"}, blind: true}.write(t, h)
	h.Run(t, "systemctl start trued.service")
	awaitCommit(t, h, first)

	told := events(t, h)
	h.Cut(t)
	h.Await(t, "grep -q '\"source.stale\"' "+eventFile)
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
	// It is told once, and again only when it is lost in another way.
	stale := now.of(report.SourceStale)
	for i := 1; i < len(stale); i++ {
		if stale[i].ErrorType == stale[i-1].ErrorType {
			t.Errorf("the loss of the source is told twice:\n%s", now)
		}
	}
	runs := now.of(report.RunFinished)
	if len(runs) != 2 || len(stale) == 0 || len(now.of(report.SourceRecovered)) > 0 {
		t.Errorf("two runs without a network are told of as\n%s", now)
	}
	wantTold(t, h, stale[0])
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
	if back := events(t, h).since(told).of(report.SourceRecovered); len(back) != 1 || back[0].Source != "infra" {
		t.Errorf("the end of the outage is told of as\n%s", back)
	}
}

// wantTold checks what is said of a source that cannot be fetched, in an event
// and by status.
func wantTold(t *testing.T, h *hosttest.Host, e report.Event) {
	t.Helper()
	if len(e.Sources) != 1 {
		t.Fatalf("the event has the sources %+v", e.Sources)
	}
	s := e.Sources[0]
	if s.Author != "Ada Admin" || s.Date == "" || s.Checked == "" || s.Moved == "" || s.Failed == "" || s.Failures < 1 || s.Branch == "" || s.Next == "" {
		t.Errorf("the event says %+v", s)
	}
	// While the daemon polls, the next poll is that one.
	h.Await(t, `(trued status || true) | grep -E '^  failing +[0-9]+ times in a row since .*, the last .* ago$'
(trued status || true) | grep -E '^  checked +[0-9].* ago, moved .* ago, next in [0-9]'
(trued status -o json || true) | grep '^      "next": "20'`)
}
