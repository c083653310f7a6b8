// Package scenario_test is the proof of the whole on real hosts: the package
// that `make packages` built, a Git server, and packages of Debian. Each file is
// one story of what an operator does and sees.
package scenario_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/report/reporttest"
)

// eventFile is where the hosts' events go, beside the journal.
const eventFile = "/var/log/trued/events.jsonl"

// install installs the project's own package. It stays in the host.
func install(t *testing.T, h *hosttest.Host) {
	t.Helper()
	h.Copy(t, hosttest.Deb(t), "/root/trued.deb")
	// A host that is thrown away need not survive a power cut.
	h.Write(t, "/etc/dpkg/dpkg.cfg.d/unsafe-io", "force-unsafe-io\n")
	h.Run(t, "dpkg -i /root/trued.deb")
}

// A config is the agent's own file, as the hosts here have it.
type config struct {
	url, dir, group string
	// source has further keys of the source, and agent of the whole, as lines.
	source, agent []string
	// blind has the daemon see no drift before it runs: what a test breaks stays
	// broken until then.
	blind bool
}

// write makes it the configuration of a host. The daemon is quick to look for
// commits, and slow to look at the host again when there is none, so that a test
// knows what caused a run.
func (c config) write(t *testing.T, h *hosttest.Host) {
	t.Helper()
	var b strings.Builder
	b.WriteString("sources:\n  - name: infra\n")
	add := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "    %s: %s\n", key, value)
		}
	}
	add("url", c.url)
	add("dir", c.dir)
	add("group", c.group)
	for _, line := range c.source {
		b.WriteString("    " + line + "\n")
	}
	fmt.Fprintf(&b, "interval: 1s\nresync: 1h\nwatch: %t\nreport:\n  - journal\n  - file: %s\n", !c.blind, eventFile)
	for _, line := range c.agent {
		b.WriteString(line + "\n")
	}
	// At once, since a running daemon reads it as soon as it changes.
	h.Write(t, "/etc/trued/.new", b.String())
	h.Run(t, "mv /etc/trued/.new /etc/trued/trued.yaml")
}

// awaitCommit waits until the daemon has brought a host to a commit. Packages
// take their time.
func awaitCommit(t *testing.T, h *hosttest.Host, commit string) {
	t.Helper()
	await(t, h, "(trued status || true) | sed -n 1p | grep -q 'at "+commit[:10]+"'")
}

// await waits until a line of shell succeeds in a host, for a few minutes.
func await(t *testing.T, h *hosttest.Host, line string) {
	t.Helper()
	if _, code := h.Try(t, "look() { "+line+"; }; for i in $(seq 600); do if look >/dev/null 2>&1; then exit 0; fi; sleep 0.2; done; exit 1"); code != 0 {
		out, _ := h.Try(t, line+"; trued status")
		t.Fatalf("host %s: not within minutes: %s\n%s", h.Name(), line, out)
	}
}

// trued runs a command of the program, whose exit code must be the given one,
// and returns what it wrote.
func trued(t *testing.T, h *hosttest.Host, code int, words string) string {
	t.Helper()
	out, got := h.Try(t, "trued "+words)
	if got != code {
		t.Fatalf("host %s: trued %s: exit code %d, want %d\n%s", h.Name(), words, got, code, out)
	}
	return out
}

// A story is the events of a host, in the order of their file.
type story []report.Event

// events returns those that a host has reported so far, each held against the
// schema: all of the last run, too, which the sinks may not have had when it
// ended.
func events(t *testing.T, h *hosttest.Host) story {
	t.Helper()
	h.Await(t, `id=$(trued status -o json | sed -n 's/^    "id": "\(.*\)",/\1/p'); [ -n "$id" ]; grep -F "$id" `+eventFile+` | grep -q '"run\.finished"\|"run\.interrupted"'`)
	return reporttest.ValidLines(t, strings.NewReader(h.Read(t, eventFile)))
}

// only returns the events that match.
func (s story) only(match func(report.Event) bool) story {
	var out story
	for _, e := range s {
		if match(e) {
			out = append(out, e)
		}
	}
	return out
}

// of returns the events of one type.
func (s story) of(kind report.Type) story {
	return s.only(func(e report.Event) bool { return e.Type == kind })
}

// about returns the events of one resource.
func (s story) about(address string) story {
	return s.only(func(e report.Event) bool { return e.Resource == address })
}

// since returns the events that came after the first n.
func (s story) since(before story) story { return s[len(before):] }

// last returns the last event of a type.
func (s story) last(t *testing.T, kind report.Type) report.Event {
	t.Helper()
	found := s.of(kind)
	if len(found) == 0 {
		t.Fatalf("there is no event %s in:\n%s", kind, s)
	}
	return found[len(found)-1]
}

func (s story) String() string {
	var b strings.Builder
	for _, e := range s {
		fmt.Fprintf(&b, "%s %-18s cause %-8s outcome %-8s %s\n", e.Time, e.Type, e.Cause, e.Outcome, e.Message)
	}
	return b.String()
}

// inJournal returns the ids of the events that a host's journal has.
func inJournal(t *testing.T, h *hosttest.Host) map[string]bool {
	t.Helper()
	ids := map[string]bool{}
	for line := range strings.Lines(h.Run(t, "journalctl --sync; journalctl -t trued -o json --output-fields=EVENT_ID | grep EVENT_ID")) {
		var entry struct {
			ID string `json:"EVENT_ID"`
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		ids[entry.ID] = true
	}
	return ids
}

// example is the repository that the project shows to people.
func example(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../testdata/example")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// property returns a property of a unit.
func property(t *testing.T, h *hosttest.Host, unit, name string) string {
	t.Helper()
	return h.Run(t, "systemctl show --value -p "+name+" "+unit)
}
