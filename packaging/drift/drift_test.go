// Package drift_test is the proof, on booted hosts with the project's own package
// and service, that what drifts is put back as it happens: each change once, told
// of once, and none missed.
package drift_test

import (
	"fmt"
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/report/reporttest"
)

const eventFile = "/var/log/trued/events.jsonl"

// A world is a host that is kept true to a directory of its own.
type world struct {
	*hosttest.Host
}

// begin boots a host, installs the package, and starts the daemon with the
// manifest. Nothing but drift makes it run for the next hour.
func begin(t *testing.T, name string, files map[string]string, packages ...string) world {
	t.Helper()
	h := hosttest.New(t).Boot(t, hosttest.Options{Name: name, Net: true, Packages: packages})
	w := world{h}
	h.Copy(t, hosttest.Deb(t), "/root/trued.deb")
	h.Write(t, "/etc/dpkg/dpkg.cfg.d/unsafe-io", "force-unsafe-io\n")
	h.Run(t, "dpkg -i /root/trued.deb")
	for name, content := range files {
		h.Write(t, "/srv/desired/groups/web/"+name, content)
	}
	w.configure(t, "1h")
	h.Run(t, "systemctl start trued.service")
	w.await(t, inOrder)
	return w
}

// inOrder succeeds when the last run left nothing undone.
const inOrder = "trued status | sed -n 1p | grep -q '^In order'"

// configure has the daemon look for commits that often, once it is started anew.
func (w world) configure(t *testing.T, interval string) {
	t.Helper()
	w.Write(t, "/etc/trued/trued.yaml", "sources:\n  - name: local\n    dir: /srv/desired\n    group: groups/web\n"+
		"interval: "+interval+"\nresync: 1h\nreport:\n  - journal\n  - file: "+eventFile+"\n")
}

// await waits until a line of shell succeeds.
func (w world) await(t *testing.T, line string) {
	t.Helper()
	if _, code := w.Try(t, "look() { "+line+"; }; for i in $(seq 1200); do if look >/dev/null 2>&1; then exit 0; fi; sleep 0.1; done; exit 1"); code != 0 {
		out, _ := w.Try(t, line+"; trued status; journalctl -u trued -n 30 --no-pager")
		t.Fatalf("host %s: not within minutes: %s\n%s", w.Name(), line, out)
	}
}

// A story is what a host has told.
type story []report.Event

func (w world) events(t *testing.T) story {
	t.Helper()
	w.Await(t, `id=$(trued status -o json | sed -n 's/^    "id": "\(.*\)",/\1/p'); [ -n "$id" ]; grep -F "$id" `+eventFile+` | grep -q '"run\.finished"\|"run\.interrupted"'`)
	return reporttest.ValidLines(t, strings.NewReader(w.Read(t, eventFile)))
}

func (s story) about(address string) story {
	var out story
	for _, e := range s {
		if e.Resource == address {
			out = append(out, e)
		}
	}
	return out
}

func (s story) String() string {
	var b strings.Builder
	for _, e := range s {
		fmt.Fprintf(&b, "%s %-18s %-8s %-8s %s\n", e.Time, e.Type, e.Cause, e.Outcome, e.Message)
	}
	return b.String()
}

func TestWhatDriftsIsPutBackBetweenPolls(t *testing.T) {
	t.Parallel()
	w := begin(t, "web-1", map[string]string{"all.yaml": `
- directory: /srv/app
- file: /srv/app/one
  content: "as declared\n"
  mode: "0644"
- file: /etc/only-seen
  content: "as declared\n"
  drift: report
- link: /srv/app/link
  target: one
- unit: worker.service
  enabled: true
  state: running
  content: |
    [Service]
    ExecStart=/bin/sleep infinity
    [Install]
    WantedBy=multi-user.target
`})
	for _, change := range []struct{ address, do, back string }{
		{"file:/srv/app/one", "echo broken >/srv/app/one", `grep -qx 'as declared' /srv/app/one`},
		{"file:/srv/app/one", "chmod 0600 /srv/app/one", `[ "$(stat -c %a /srv/app/one)" = 644 ]`},
		{"file:/srv/app/one", "echo new >/srv/app/.x; mv /srv/app/.x /srv/app/one", `grep -qx 'as declared' /srv/app/one`},
		{"file:/srv/app/one", "rm /srv/app/one", `grep -qx 'as declared' /srv/app/one`},
		{"link:/srv/app/link", "ln -sfn other /srv/app/link", `[ "$(readlink /srv/app/link)" = one ]`},
		{"unit:worker.service", "systemctl stop worker.service", "systemctl is-active worker.service"},
		{"unit:worker.service", "systemctl disable worker.service", "systemctl is-enabled worker.service"},
	} {
		before := w.events(t)
		w.Run(t, change.do)
		w.await(t, change.back)
		w.await(t, fmt.Sprintf("[ \"$(grep -c '\"run.finished\"' %s)\" -gt %d ]", eventFile, strings.Count(before.String(), "run.finished")))
		now := w.events(t)[len(before):]
		told := now.about(change.address).of(report.ResourceDrifted) // one is changed often enough to be contested
		if len(told) != 1 || told[0].Type != report.ResourceDrifted || told[0].Outcome != report.Repaired || now[0].Reason != "drift" {
			t.Errorf("after %q:\n%s", change.do, now)
		}
	}
}
