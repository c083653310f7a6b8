package report_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/document"
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

// A fakeJournal receives entries in place of journald.
type fakeJournal struct {
	path string
	conn *net.UnixConn
}

func listenJournal(t *testing.T) fakeJournal {
	t.Helper()
	path := filepath.Join(t.TempDir(), "j")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return fakeJournal{path, conn}
}

// entry reads one entry, sent in a datagram or as a sealed file.
func (j fakeJournal) entry(t *testing.T) map[string]string {
	t.Helper()
	data, oob := make([]byte, 1<<20), make([]byte, 128)
	n, oobn, _, _, err := j.conn.ReadMsgUnix(data, oob)
	if err != nil {
		t.Fatal(err)
	}
	data = data[:n]
	if oobn > 0 {
		data = readSealed(t, oob[:oobn])
	}
	fields := map[string]string{}
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		line := string(data[:end])
		data = data[end+1:]
		if name, value, ok := strings.Cut(line, "="); ok {
			fields[name] = value
			continue
		}
		size := binary.LittleEndian.Uint64(data)
		fields[line] = string(data[8 : 8+size])
		data = data[8+size+1:]
	}
	return fields
}

func readSealed(t *testing.T, oob []byte) []byte {
	t.Helper()
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fds[0]), "entry")
	defer file.Close()
	seals, err := unix.FcntlInt(file.Fd(), unix.F_GET_SEALS, 0)
	if err != nil || seals&unix.F_SEAL_WRITE == 0 {
		t.Errorf("the file is not sealed: %#x, %v", seals, err)
	}
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, info.Size())
	if _, err := file.ReadAt(data, 0); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestJournalHasAFieldForEachKey(t *testing.T) {
	j := listenJournal(t)
	for _, s := range stored(t) {
		send(t, report.NewJournalAt(j.path), []report.Stored{s})
		got := j.entry(t)
		var keys map[string]any
		if err := json.Unmarshal(s.Event, &keys); err != nil {
			t.Fatal(err)
		}
		for key, value := range keys {
			name := strings.ToUpper(strings.NewReplacer(".", "_").Replace(key))
			want, ok := value.(string)
			if !ok {
				raw, err := json.Marshal(value)
				if err != nil {
					t.Fatal(err)
				}
				want = string(raw)
				if strings.HasPrefix(want, "[") { // a list keeps the order of its keys
					want, got[name] = canonical(t, want), canonical(t, got[name])
				}
			}
			if got[name] != want {
				t.Errorf("%s = %q, want %q", name, got[name], want)
			}
		}
		typ := report.Type(got["TYPE"])
		if got["SYSLOG_IDENTIFIER"] != "trued" || got["MESSAGE_ID"] != report.MessageID(typ) {
			t.Errorf("fields of %s: %q", typ, got)
		}
		want := map[string]string{"error": "3", "warning": "4", "notice": "5", "info": "6"}[got["SEVERITY"]]
		if got["PRIORITY"] != want {
			t.Errorf("PRIORITY of %q = %s, want %s", got["SEVERITY"], got["PRIORITY"], want)
		}
	}
}

func canonical(t *testing.T, s string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestEachTypeHasItsOwnMessageID(t *testing.T) {
	seen := map[string]report.Type{}
	for _, typ := range report.Types() {
		id := report.MessageID(typ)
		if len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
			t.Errorf("MessageID(%s) = %q", typ, id)
		}
		if other, ok := seen[id]; ok {
			t.Errorf("%s and %s share a MESSAGE_ID", typ, other)
		}
		seen[id] = typ
	}
}

func TestJournalTakesEntriesOfAnySizeAndKind(t *testing.T) {
	j := listenJournal(t)
	value := strings.Repeat("line one\nFAKE=field\n", 20_000)
	raw, err := json.Marshal(map[string]string{"message": "m", "type": "run.started", "error.message": value, "_SYSTEMD_UNIT": "forged"})
	if err != nil {
		t.Fatal(err)
	}
	send(t, report.NewJournalAt(j.path), []report.Stored{{Seq: 1, Event: raw}})
	got := j.entry(t)
	if got["ERROR_MESSAGE"] != value || got["FAKE"] != "" || got["_SYSTEMD_UNIT"] != "" {
		t.Errorf("a large entry arrived with %d fields", len(got))
	}
}

func TestJournalThatHangsOrIsGoneHoldsNobody(t *testing.T) {
	j := listenJournal(t)
	many := make([]report.Stored, 10_000)
	many[0] = stored(t)[0]
	for i := range many {
		many[i] = many[0]
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	n, err := report.NewJournalAt(j.path).Send(ctx, many)
	if !errors.Is(err, context.DeadlineExceeded) || n == 0 || n == len(many) {
		t.Errorf("Send to a journal that does not read = %d, %v", n, err)
	}
	for range n {
		j.entry(t)
	}
	send(t, report.NewJournalAt(j.path), many[:1])
	if n, err := report.NewJournalAt(j.path+".none").Send(t.Context(), many[:1]); n != 0 || err == nil {
		t.Errorf("Send to no journal = %d, %v", n, err)
	}
}

func TestSinksAreReadAsWordsAndMaps(t *testing.T) {
	for text, want := range map[string]string{
		"report: [journal, stdout]":                       "[{journal } {stdout }]",
		"report:\n- journal\n- file: /var/log/e.jsonl\n":  "[{journal } { /var/log/e.jsonl}]",
		"report:\n- file\n":                               `the sink "file" needs a path`,
		"report:\n- syslog: /dev/log\n":                   `unknown key "syslog"`,
		"report:\n- jurnal\n":                             `unknown sink "jurnal"`,
		"report:\n- file: [a]\n":                          "file: ",
		"report:\n- file: /var/log/e.jsonl\n  file: /b\n": "",
	} {
		docs, problems := document.Parse([]byte(text))
		var c struct {
			Report []report.SinkConfig `yaml:"report"`
		}
		if len(problems) == 0 {
			problems = document.NewDecoder().Decode(docs[0], &c)
		}
		got := fmt.Sprint(c.Report)
		if len(problems) > 0 {
			got = fmt.Sprint(problems)
		}
		if !strings.Contains(got, want) || want == "" && len(problems) == 0 {
			t.Errorf("%q is read as %s, want %s", text, got, want)
		}
	}
}

func TestSinksAreNamedInTheConfiguration(t *testing.T) {
	for word, want := range map[string]string{"journal": "", "stdout": "", "file": "needs a path", "syslog": `unknown sink "syslog"`, "": "unknown sink"} {
		var c report.SinkConfig
		err := c.UnmarshalText([]byte(word))
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", word, err, want)
		}
		if err == nil {
			s, err := c.Open(&bytes.Buffer{}, false)
			if err != nil || s.Name() != word {
				t.Errorf("Open(%q) = %v, %v", word, s, err)
			}
		}
	}
	s, err := report.SinkConfig{File: "/var/log/trued/events.jsonl"}.Open(nil, false)
	if err != nil || s.Name() != "file:/var/log/trued/events.jsonl" {
		t.Errorf("Open = %v, %v", s, err)
	}
	for _, bad := range []report.SinkConfig{{}, {File: "events.jsonl"}} {
		if _, err := bad.Open(nil, false); err == nil {
			t.Errorf("Open(%+v) is no error", bad)
		}
	}
}
