package scenario_test

import (
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
)

const worker = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"

// A commit brings a package, files and units; its revert takes them away, and
// gives back what was there before.
func TestCommitIsAppliedAndItsRevertUndone(t *testing.T) {
	t.Parallel()
	lab := hosttest.New(t)
	git := lab.GitServer(t)
	repo := git.Repository(t, "infra")
	h := lab.Boot(t, hosttest.Options{Name: "web-1", Net: true})
	install(t, h)
	h.Write(t, "/etc/own.conf", "mine\n")
	h.Run(t, "chmod 0640 /etc/own.conf; chown games:mail /etc/own.conf")
	h.Write(t, "/etc/systemd/system/worker.service", worker)
	h.Run(t, "systemctl daemon-reload; systemctl enable --quiet --now worker.service")

	first := repo.Commit(t, "Begin", map[string]string{"groups/web/10-motd.yaml": "- file: /etc/motd\n  content: \"first\\n\"\n"})
	config{url: repo.HTTP(), group: "groups/web"}.write(t, h)
	h.Run(t, "systemctl start trued.service")
	awaitCommit(t, h, first)

	look := `cd /; stat -c '%a %U %G %n' /etc/own.conf /etc/issue.net; cat /etc/own.conf /etc/issue.net
systemctl is-enabled worker.service || true; systemctl is-active worker.service || true
dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' procps tree 2>/dev/null || true
ls -d /etc/site /etc/systemd/system/beat.* /etc/systemd/system/*/beat.* /etc/systemd/system/worker.service.d 2>/dev/null || true
systemctl list-units --all --plain --no-legend 'beat.*'`
	before := h.Run(t, look)
	told := events(t, h)

	second := repo.Commit(t, "More", map[string]string{
		"groups/web/20-more.yaml": `
- package: [tree, procps]
- file: /etc/own.conf
  content: "theirs\n"
  owner: root
  group: root
  mode: "0600"
- file: /etc/issue.net
  content: "go away\n"
- directory: /etc/site
- file: /etc/site/new.conf
  content: "new\n"
- unit: worker.service
  enabled: false
  state: stopped
  drop_ins:
    10-nice.conf: |
      [Service]
      Nice=5
- unit: beat.service
  content: |
    [Service]
    Type=oneshot
    ExecStart=/bin/true
- unit: beat.timer
  content: |
    [Timer]
    OnCalendar=daily
    [Install]
    WantedBy=timers.target
  enabled: true
  state: running
`,
	})
	awaitCommit(t, h, second)
	trued(t, h, 0, "status")
	h.Run(t, "command -v tree; systemctl is-active --quiet beat.timer; systemctl is-enabled --quiet beat.timer; grep -q theirs /etc/own.conf; test -e /etc/site/new.conf")
	if got, _ := h.Try(t, "systemctl is-enabled worker.service; systemctl is-active worker.service"); got != "disabled\ninactive" {
		t.Errorf("the unit that is to be stopped and disabled is %q", got)
	}
	came := events(t, h).since(told)
	for _, e := range came.only(func(e report.Event) bool { return e.Resource != "" }) {
		if e.Type != report.ResourceChanged || e.Cause != "intended" || e.Revision != second {
			t.Errorf("a commit is told of as %s with cause %s at %s: %s", e.Type, e.Cause, e.Revision, e.Message)
		}
	}
	if run := came.last(t, report.RunStarted); run.Reason != "commit" {
		t.Errorf("the run started because of %q", run.Reason)
	}

	told = events(t, h)
	third := repo.Revert(t)
	awaitCommit(t, h, third)
	trued(t, h, 0, "status")
	if after := h.Run(t, look); after != before {
		t.Errorf("after the revert the host is\n%s\nand was\n%s", after, before)
	}
	if _, code := h.Try(t, "command -v tree"); code == 0 {
		t.Errorf("the package stayed")
	}
	gone := events(t, h).since(told)
	for _, address := range []string{
		"package:tree", "file:/etc/own.conf", "file:/etc/issue.net", "directory:/etc/site",
		"file:/etc/site/new.conf", "unit:worker.service", "unit:beat.service", "unit:beat.timer",
	} {
		if e := gone.about(address); len(e) != 1 || e[0].Type != report.ResourceChanged || e[0].Cause != "prune" || e[0].Outcome != report.Applied {
			t.Errorf("the prune of %s is told of as:\n%s", address, e)
		}
	}
	if finished := gone.last(t, report.RunFinished); *finished.ExitCode != 0 || finished.Failed != 0 || finished.Revision != third {
		t.Errorf("the run ended with exit code %d: %s", *finished.ExitCode, finished.Message)
	}
	if t.Failed() {
		t.Logf("the revert's events:\n%s", gone)
	}

	// What moves from one kind to another is neither removed nor restarted.
	told = events(t, h)
	moved := strings.ReplaceAll("[Service]\nExecStart=/bin/sleep infinity\n", "\n", "\n    ")
	fourth := repo.Commit(t, "A unit file of its own", map[string]string{"groups/web/30-unit.yaml": "- file: /etc/systemd/system/moved.service\n  content: |\n    " + moved + "\n- unit: moved.service\n  state: running\n"})
	awaitCommit(t, h, fourth)
	pid := property(t, h, "moved.service", "MainPID")
	fifth := repo.Commit(t, "As the unit's", map[string]string{"groups/web/30-unit.yaml": "- unit: moved.service\n  state: running\n  content: |\n    " + moved + "\n"})
	awaitCommit(t, h, fifth)
	if now := property(t, h, "moved.service", "MainPID"); now != pid || pid == "0" {
		t.Errorf("the unit's process was %s and is %s:\n%s", pid, now, events(t, h).since(told))
	}
	sixth := repo.Remove(t, "Without", "groups/web/30-unit.yaml")
	awaitCommit(t, h, sixth)
	if out, _ := h.Try(t, "ls /etc/systemd/system/moved.service; systemctl is-active moved.service"); !strings.HasSuffix(out, "inactive") || !strings.Contains(out, "No such file") {
		t.Errorf("what left with its unit: %s", out)
	}
}
