package report_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/report/reporttest"
)

// stored is the story as a log holds it.
func stored(t *testing.T) []report.Stored {
	t.Helper()
	var all []report.Stored
	for i, e := range reporttest.Story() {
		raw, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, report.Stored{Seq: uint64(i + 1), Event: raw})
	}
	return all
}

func send(t *testing.T, s report.Sink, events []report.Stored) {
	t.Helper()
	n, err := s.Send(t.Context(), events)
	if err != nil || n != len(events) {
		t.Fatalf("Send = %d of %d, %v", n, len(events), err)
	}
}

func lines(t *testing.T, path string) []report.Event {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return reporttest.ValidLines(t, bytes.NewReader(data))
}

func TestFileHasOneEventALine(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	path := filepath.Join(t.TempDir(), "log", "events.jsonl")
	events := stored(t)
	sink := report.NewFile(path)
	send(t, sink, events[:3])
	send(t, sink, events[3:])
	if diff := cmp.Diff(reporttest.Story(), lines(t, path)); diff != "" {
		t.Errorf("(-sent +read):\n%s", diff)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o640 {
		t.Errorf("mode = %v, %v", info.Mode(), err)
	}
}

func TestFileThatWasRotatedAwayIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	events := stored(t)
	sink := report.NewFile(path)
	send(t, sink, events[:2])
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	send(t, sink, events[2:5])
	if a, b := len(lines(t, path+".1")), len(lines(t, path)); a != 2 || b != 3 {
		t.Errorf("the old file has %d events and the new one %d", a, b)
	}
	if err := os.Truncate(path, 0); err != nil { // logrotate's copytruncate
		t.Fatal(err)
	}
	send(t, sink, events[5:6])
	if n := len(lines(t, path)); n != 1 {
		t.Errorf("the truncated file has %d events", n)
	}
}

func TestTornLastLineIsMended(t *testing.T) {
	events := stored(t)
	whole := string(events[0].Event) + "\n"
	for _, c := range []struct{ name, left, want string }{
		{"nothing lost", whole, whole},
		{"half a line", whole + `{"schema_version":"1","eve`, whole},
		{"zeros, as a power cut leaves them", whole + strings.Repeat("\x00", 5000), whole},
		{"only the end of the line lost", strings.TrimSuffix(whole, "\n"), whole},
		{"half of the only line", `{"sch`, ""},
		{"somebody else's long text", strings.Repeat("x", 2<<20), strings.Repeat("x", 2<<20) + "\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "events.jsonl")
			if err := os.WriteFile(path, []byte(c.left), 0o600); err != nil {
				t.Fatal(err)
			}
			send(t, report.NewFile(path), events[1:2])
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if want := c.want + string(events[1].Event) + "\n"; string(got) != want {
				t.Errorf("the file is %.300q (%d bytes), want %d bytes", got, len(got), len(want))
			}
		})
	}
}

func TestFileThatIsNoFileIsAClearError(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	link, fifo, isDir, below := filepath.Join(dir, "link"), filepath.Join(dir, "fifo"), filepath.Join(dir, "dir"), filepath.Join(dir, "target", "x")
	err := errors.Join(os.WriteFile(target, nil, 0o600), os.Symlink(target, link), unix.Mkfifo(fifo, 0o600), os.Mkdir(isDir, 0o700))
	if err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		link: "symbolic link", fifo: "", isDir: "directory", below: "not a directory", "/dev/null": "not a regular file",
	} {
		n, err := report.NewFile(path).Send(t.Context(), stored(t)[:1])
		if err == nil || n != 0 || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), says) {
			t.Errorf("Send to %q = %d, %v; want an error with %q", path, n, err, says)
		}
	}
	if got, err := os.ReadFile(target); err != nil || len(got) != 0 {
		t.Errorf("the link was followed: %q, %v", got, err)
	}
}

func TestFullDiskLeavesNoHalfLine(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small tmpfs")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=96k"); err != nil {
		t.Skipf("needs to mount a tmpfs: %v", err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	path, ballast := filepath.Join(dir, "events.jsonl"), filepath.Join(dir, "ballast")
	events := stored(t)
	sink := report.NewFile(path)
	send(t, sink, events[:1])
	if err := os.WriteFile(ballast, make([]byte, 88<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	big := make([]report.Stored, 60)
	for i := range big {
		big[i] = events[1]
	}
	if n, err := sink.Send(t.Context(), big); !errors.Is(err, unix.ENOSPC) || n != 0 {
		t.Fatalf("Send to a full disk = %d, %v", n, err)
	}
	if n := len(lines(t, path)); n != 1 {
		t.Errorf("the file has %d events", n)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	send(t, sink, big)
	if n := len(lines(t, path)); n != 61 {
		t.Errorf("with room again, the file has %d events", n)
	}
}

func TestFileWaitsForWhoeverElseReports(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	events := stored(t)
	send(t, report.NewFile(path), events[:1])
	other, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(other.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := report.NewFile(path).Send(ctx, events[1:2]); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("Send to a locked file = %d, %v", n, err)
	}
	_ = other.Close()
	send(t, report.NewFile(path), events[1:2])
}

func TestStdoutIsForPersonsOrPrograms(t *testing.T) {
	var text, asJSON bytes.Buffer
	send(t, report.NewStdout(&text, false), stored(t))
	send(t, report.NewStdout(&asJSON, true), stored(t))
	golden(t, "stdout.txt", text.Bytes())
	if diff := cmp.Diff(reporttest.Story(), reporttest.ValidLines(t, &asJSON)); diff != "" {
		t.Errorf("(-sent +read):\n%s", diff)
	}
}

func TestWhatIsNotAnEventStopsNoSink(t *testing.T) {
	odd := []report.Stored{{Seq: 1, Event: json.RawMessage("{\"half\": \n")}, {Seq: 2, Event: nil}, {Seq: 3, Event: json.RawMessage(`[1,{"a":"b"}]`)}}
	path := filepath.Join(t.TempDir(), "events.jsonl")
	send(t, report.NewFile(path), odd)
	got, err := os.ReadFile(path)
	if err != nil || string(got) != "\"{\\\"half\\\": \\n\"\n\"\"\n[1,{\"a\":\"b\"}]\n" {
		t.Errorf("file = %q, %v", got, err)
	}
	j := listenJournal(t)
	send(t, report.NewJournalAt(j.path), odd)
	if e := j.entry(t); e["MESSAGE"] == "" || e["PRIORITY"] != "6" {
		t.Errorf("journal = %q", e)
	}
	send(t, report.NewStdout(&bytes.Buffer{}, false), odd)
}
