package report_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/report"
)

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
