package scenario_test

import (
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
)

// A host keeps its own rules against what a Git server serves it: a commit that
// breaks one changes nothing, is told once with the rule, the resource and its
// place, and the good one after it goes through.
func TestHostKeepsItsRulesAgainstTheGitServer(t *testing.T) {
	t.Parallel()
	lab := hosttest.New(t)
	repo := lab.GitServer(t).Repository(t, "app")
	h := lab.Boot(t, hosttest.Options{Name: "ruled", Net: true})
	install(t, h)
	h.Run(t, `useradd -r app; mkdir -p /srv/app /etc/planted; chmod 755 /etc/planted
ln -s /etc /srv/app/link; mkdir /srv/app/mount; mount --bind /etc /srv/app/mount; ln /etc/issue /srv/app/second`)
	h.Write(t, "/etc/trued/policy.yaml", `rules:
  - name: no setuid
    deny: setuid
  - name: the app team stays under /srv/app
    sources: [infra]
    require: within("/srv/app", "/etc/systemd/system")
  - name: the app team runs its own programs
    sources: [infra]
    allow_run: run.program startsWith "/srv/app/bin/"
    as: app
`)
	const good = "- file: /srv/app/a\n  content: one\n"
	first := repo.Commit(t, "Begin", map[string]string{"groups/app/a.yaml": good})
	config{url: repo.HTTP(), group: "groups/app"}.write(t, h)
	h.Run(t, "systemctl start trued.service")
	awaitCommit(t, h, first)
	const look = "find /etc /srv/app /usr/local ! -path '/etc/trued*' -printf '%p %y %m %u %g %l %T@\\n' | sort; sha256sum /etc/issue /etc/shadow /etc/passwd"
	before := h.Run(t, look)

	for _, c := range []struct{ what, resource, rule string }{
		{"a path", "- {file: /etc/new, content: x}", "the app team stays under /srv/app"},
		{"a link", "- {file: /srv/app/link/new, content: x}", "the app team stays under /srv/app"},
		{"a link to follow", "- {line: x, path: /srv/app/link/issue}", "the app team stays under /srv/app"},
		{"a link of its own", "- {link: /srv/app/own, target: ../../etc}\n- {file: /srv/app/own/new, content: x}", "the app team stays under /srv/app"},
		{"a bind mount", "- {file: /srv/app/mount/new, content: x}", "the app team stays under /srv/app"},
		{"setuid", "- {file: /srv/app/s, content: x, mode: \"04755\"}", "no setuid"},
		{"a program of root's", "- unit: app.service\n  content: \"[Service]\\nExecStart=/srv/app/bin/a\\n[Install]\\nUser=app\\n\"", "a confined source runs what a rule allows"},
		{"a generator", "- {file: /etc/systemd/system-generators/x, content: \"#!/bin/sh\\n[Unit]\\nDescription=x touch /etc/new\\n\", mode: \"0755\"}", "the app team stays under /srv/app"},
		{"the rules themselves", "- {file: /etc/trued/policy.yaml, state: absent}", "the app team stays under /srv/app"},
	} {
		told := events(t, h)
		commit := repo.Commit(t, c.what, map[string]string{"groups/app/a.yaml": "- directory: /srv/app/never\n" + c.resource + "\n"})
		await(t, h, "grep source.refused "+eventFile+" | grep -q "+commit[:10])
		status, code := h.Try(t, "trued status")
		line, _, _ := strings.Cut(status, "\n")
		if code != 4 || !strings.Contains(line, `"`+c.rule+`"`) || !strings.Contains(line, "groups/app/a.yaml:") || !strings.Contains(line, first[:10]) {
			t.Errorf("%s: exit code %d, the first line of status is %q", c.what, code, line)
		}
		trued(t, h, 4, "sync")
		refused := events(t, h).since(told).of(report.SourceRefused)
		if len(refused) != 1 || !strings.Contains(refused[0].Message, commit[:10]) || !strings.Contains(refused[0].Message, c.rule) {
			t.Errorf("%s is told of as\n%s", c.what, refused)
		}
		if after := h.Run(t, look); after != before {
			t.Errorf("%s: the host is\n%s\nand was\n%s", c.what, after, before)
		}
	}

	// What leads up is no path, and a second name of another's file is none of theirs.
	dots := repo.Commit(t, "Dots", map[string]string{"groups/app/a.yaml": "- {file: /srv/app/../../etc/new, content: x}\n"})
	await(t, h, "grep source.refused "+eventFile+" | grep -q "+dots[:10])
	second := repo.Commit(t, "Second name", map[string]string{"groups/app/a.yaml": good + "- {file: /srv/app/second, mode: \"0666\", owner: app}\n"})
	await(t, h, "grep run.finished "+eventFile+" | grep -q "+second[:10])
	if got := h.Run(t, "stat -c '%a %U' /etc/issue; test ! -e /etc/new"); got != "644 root" {
		t.Errorf("by its second name /etc/issue became %s", got)
	}

	last := repo.Commit(t, "Good", map[string]string{"groups/app/a.yaml": "- file: /srv/app/a\n  content: two\n"})
	awaitCommit(t, h, last)
	trued(t, h, 0, "status")
	if got := h.Run(t, "cat /srv/app/a"); got != "two" {
		t.Errorf("the good commit left %q", got)
	}
}
