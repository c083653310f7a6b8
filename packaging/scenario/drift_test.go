package scenario_test

import (
	"testing"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
)

// What is broken by hand while nobody watches is put back by the next run, and told
// of as drift.
func TestDriftIsPutBackAndReported(t *testing.T) {
	t.Parallel()
	lab := hosttest.New(t)
	git := lab.GitServer(t)
	repo := git.Repository(t, "infra")
	h := lab.Boot(t, hosttest.Options{Name: "web-1", Net: true})
	install(t, h)
	commit := repo.Commit(t, "Begin", map[string]string{"groups/web/all.yaml": `
- package: tree
- file: /etc/motd
  content: "as declared\n"
  mode: "0644"
- file: /etc/only-seen
  content: "as declared\n"
  drift: report
- unit: worker.service
  enabled: true
  state: running
  content: |
    [Service]
    ExecStart=/bin/sleep infinity
    [Install]
    WantedBy=multi-user.target
`})
	config{url: repo.HTTP(), group: "groups/web", blind: true}.write(t, h)
	h.Run(t, "systemctl start trued.service")
	awaitCommit(t, h, commit)
	told := events(t, h)

	h.Run(t, `echo broken >/etc/motd; chmod 0666 /etc/motd; dpkg --remove tree
systemctl disable --quiet --now worker.service; echo broken >/etc/only-seen`)
	trued(t, h, 2, "plan")
	if out := trued(t, h, 2, "sync"); out == "" {
		t.Error("sync says nothing")
	}
	h.Run(t, `test "$(cat /etc/motd)" = 'as declared'; test "$(stat -c %a /etc/motd)" = 644; command -v tree; systemctl is-active --quiet worker.service; systemctl is-enabled --quiet worker.service`)
	now := events(t, h).since(told)
	for address, outcome := range map[string]report.Outcome{
		"package:tree": report.Repaired, "file:/etc/motd": report.Repaired, "unit:worker.service": report.Repaired,
		"file:/etc/only-seen": report.Reported,
	} {
		if e := now.about(address); len(e) != 1 || e[0].Type != report.ResourceDrifted || e[0].Cause != "drift" || e[0].Outcome != outcome {
			t.Errorf("%s, want outcome %s:\n%s", address, outcome, e)
		}
	}
	finished := now.last(t, report.RunFinished)
	if finished.Repaired != 3 || finished.Reported != 1 || finished.Failed != 0 || *finished.ExitCode != 2 || finished.Revision != commit {
		t.Errorf("the run ended with %+v: %s", finished.Counts, finished.Message)
	}
	journal := inJournal(t, h)
	for _, e := range now {
		if !journal[e.ID] {
			t.Errorf("the journal lacks %s: %s", e.Type, e.Message)
		}
	}
	if got := h.Run(t, "journalctl -t trued -o cat --output-fields=TRUED_RESOURCE TRUED_CAUSE=drift TRUED_OUTCOME=repaired | sort"); got != "file:/etc/motd\npackage:tree\nunit:worker.service" {
		t.Errorf("the journal's drifts are %q", got)
	}

	// A drift that is only seen is told of once, and is mended by Git's own hand.
	told = events(t, h)
	trued(t, h, 2, "sync")
	if again := events(t, h).since(told).about("file:/etc/only-seen"); len(again) != 0 {
		t.Errorf("it is told of again:\n%s", again)
	}
	trued(t, h, 2, "status")
	h.Run(t, "echo 'as declared' >/etc/only-seen")
	trued(t, h, 0, "sync")
	trued(t, h, 0, "status")
}
