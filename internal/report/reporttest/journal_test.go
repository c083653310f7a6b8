package reporttest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
)

// sending makes the test's program, within a host, send events in place of
// running tests: "story", or "flood".
const sending = "TRUED_TEST_SEND"

func TestMain(m *testing.M) {
	what := os.Getenv(sending)
	if what == "" {
		m.Run()
		return
	}
	if err := sendToJournal(what); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// large is more than a datagram takes.
var large = strings.Repeat("a line\n", 60_000)

func sendToJournal(what string) error {
	var events []report.Stored
	for i, e := range Story() {
		if i == 0 {
			e.ErrorMessage = large
		}
		raw, err := json.Marshal(e)
		if err != nil {
			return err
		}
		events = append(events, report.Stored{Seq: uint64(i + 1), Event: raw})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if what == "story" {
		_, err := report.NewJournal().Send(ctx, events)
		return err
	}
	for {
		if _, err := report.NewJournal().Send(ctx, events[1:]); err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			_, err := os.Stdout.WriteString("gave up in time\n")
			return err
		}
	}
}

func TestJournalOfARealHostHasTheEvents(t *testing.T) {
	h := hosttest.Boot(t, hosttest.Options{Name: "rep1"})
	h.Copy(t, sender(t), "/root/sender")
	h.Run(t, sending+"=story /root/sender")
	entries := journal(t, h, "-t trued")
	story := Story()
	if len(entries) != len(story) {
		t.Fatalf("the journal has %d entries, want %d", len(entries), len(story))
	}
	for i, e := range story {
		if i == 0 {
			e.ErrorMessage = large
		}
		sameInJournal(t, e, entries[i])
	}
	drifted := journal(t, h, "MESSAGE_ID="+report.MessageID(report.ResourceDrifted))
	if len(drifted) != 2 || drifted[0]["TRUED_RESOURCE"] != "file:/etc/hosts" {
		t.Errorf("drifts by MESSAGE_ID: %v", drifted)
	}
	if failed := journal(t, h, "-p err TRUED_RESOURCE_KIND=package"); len(failed) != 1 {
		t.Errorf("failed packages: %v", failed)
	}
}

func TestJournalThatHangsOrRestartsOnARealHost(t *testing.T) {
	h := hosttest.Boot(t, hosttest.Options{Name: "rep2"})
	h.Copy(t, sender(t), "/root/sender")
	h.Run(t, "kill -STOP $(systemctl show -P MainPID systemd-journald)")
	if got := h.Run(t, sending+"=flood /root/sender"); got != "gave up in time" {
		t.Errorf("with a journal that hangs: %s", got)
	}
	h.Run(t, "kill -CONT $(systemctl show -P MainPID systemd-journald)")
	h.Run(t, "systemctl restart systemd-journald && "+sending+"=story /root/sender")
	if n := len(journal(t, h, "-t trued ERROR_TYPE=command")); n == 0 {
		t.Error("nothing arrived after the journal came back")
	}
}

// sender returns a static program that sends events.
func sender(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "sender")
	build := exec.Command("go", "test", "-c", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build: %v\n%s", err, out)
	}
	return program
}

// journal returns the entries that journalctl finds, without what the journal
// adds by itself.
func journal(t *testing.T, h *hosttest.Host, match string) []map[string]string {
	t.Helper()
	var entries []map[string]string
	h.Run(t, "journalctl --sync")
	for line := range strings.Lines(h.Run(t, "journalctl --all -o json "+match)) {
		var all map[string]any
		if err := json.Unmarshal([]byte(line), &all); err != nil {
			t.Fatal(err)
		}
		entry := map[string]string{}
		for name, value := range all {
			if text, ok := value.(string); ok && !strings.HasPrefix(name, "_") {
				entry[name] = text
			} else if !strings.HasPrefix(name, "_") {
				t.Errorf("field %s is not one text: %.100v", name, value)
			}
		}
		entries = append(entries, entry)
	}
	return entries
}

// sameInJournal holds an entry against the event that it came from: a field for
// each key, and nothing else but what makes it an entry.
func sameInJournal(t *testing.T, e report.Event, entry map[string]string) {
	t.Helper()
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"SYSLOG_IDENTIFIER": "trued",
		"MESSAGE_ID":        report.MessageID(e.Type),
		"PRIORITY":          map[report.Severity]string{report.Error: "3", report.Warning: "4", report.Notice: "5", report.Info: "6"}[e.Severity],
	}
	for key, value := range keys {
		var text string
		if json.Unmarshal(value, &text) != nil {
			text = string(bytes.TrimSpace(value))
		}
		want[strings.ToUpper(strings.ReplaceAll(key, ".", "_"))] = text
	}
	for name, value := range want {
		if entry[name] != value {
			t.Errorf("%s of %s = %.200q, want %.200q", name, e.Type, entry[name], value)
		}
	}
	for name := range entry {
		if _, ok := want[name]; !ok {
			t.Errorf("%s has a field %s", e.Type, name)
		}
	}
}
