package report

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sys/unix"
)

const (
	journalSocket = "/run/systemd/journal/socket"
	identifier    = "trued"
)

// Journal sends events to the systemd journal with a field for each key.
//
// It speaks the native protocol itself, over a connected socket: a journal that
// hangs must not hold a sink beyond its time, which go-systemd's sender, with
// neither a deadline nor a context, cannot promise.
type Journal struct {
	socket string
}

// NewJournal returns the sink for this machine's journal.
func NewJournal() *Journal { return NewJournalAt(journalSocket) }

// NewJournalAt returns the sink for a journal that listens elsewhere.
func NewJournalAt(socket string) *Journal { return &Journal{socket: socket} }

// Name implements Sink.
func (*Journal) Name() string { return KindJournal }

// Send implements Sink. The journal acknowledges nothing: what its socket took
// counts as arrived.
func (j *Journal) Send(ctx context.Context, events []Stored) (n int, err error) {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: j.socket, Net: "unixgram"})
	if err != nil {
		return 0, fmt.Errorf("cannot report to the systemd journal: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	for i, e := range events {
		if err := sendEntry(conn, encodeEntry(e.Event)); err != nil {
			return i, fmt.Errorf("cannot report to the systemd journal: %w", errors.Join(ctx.Err(), err))
		}
	}
	return len(events), nil
}

// sendEntry sends one entry; one that is too large for a datagram goes as a
// sealed file in memory.
func sendEntry(conn *net.UnixConn, entry []byte) error {
	_, err := conn.Write(entry)
	if !errors.Is(err, unix.EMSGSIZE) && !errors.Is(err, unix.ENOBUFS) {
		return err
	}
	fd, err := unix.MemfdCreate("trued-event", unix.MFD_ALLOW_SEALING|unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("memfd_create: %w", err)
	}
	file := os.NewFile(uintptr(fd), "trued-event")
	defer file.Close()
	if _, err := file.Write(entry); err != nil {
		return err
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	return sendFile(conn, fd)
}

// sendFile passes a descriptor on, within the connection's deadline. The net
// package refuses to send rights over a connected datagram socket.
func sendFile(conn *net.UnixConn, fd int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	err = raw.Write(func(socket uintptr) (done bool) {
		sendErr = unix.Sendmsg(int(socket), nil, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
		return !errors.Is(sendErr, unix.EAGAIN)
	})
	return errors.Join(err, sendErr)
}

// encodeEntry turns an event into an entry of the journal's native protocol.
func encodeEntry(event json.RawMessage) []byte {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(event, &keys); err != nil {
		// Nothing that is stored may stop the sink for good.
		keys = map[string]json.RawMessage{"message": compact(event)}
	}
	fields := map[string]string{"SYSLOG_IDENTIFIER": identifier}
	for key, raw := range keys {
		fields[fieldName(key)] = fieldValue(raw)
	}
	fields["PRIORITY"] = strconv.Itoa(int(priority(Severity(fields["SEVERITY"]))))
	if id := MessageID(Type(fields["TYPE"])); id != "" {
		fields["MESSAGE_ID"] = id
	}
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	sort.Strings(names)
	var b bytes.Buffer
	for _, name := range names {
		writeField(&b, name, fields[name])
	}
	return b.Bytes()
}

// writeField writes one field; a value that could be taken for the end of a
// line goes with its length.
func writeField(b *bytes.Buffer, name, value string) {
	b.WriteString(name)
	if !strings.ContainsRune(value, '\n') {
		b.WriteByte('=')
	} else {
		b.WriteByte('\n')
		b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(value))))
	}
	b.WriteString(value)
	b.WriteByte('\n')
}

// fieldName is a key in upper case with underscores: VCS_REF_HEAD_REVISION.
func fieldName(key string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		default:
			return '_'
		}
	}, key)
	// A leading underscore is the journal's own.
	const longest = 64
	name = strings.TrimLeft(name, "_0123456789")
	return name[:min(len(name), longest)]
}

// fieldValue is the text of a string, and the JSON of everything else.
func fieldValue(raw json.RawMessage) string {
	var s string
	if err := json.Unmarshal(raw, &s); err == nil {
		return s
	}
	return string(compact(raw))
}

func priority(s Severity) journal.Priority {
	switch s {
	case Error:
		return journal.PriErr
	case Warning:
		return journal.PriWarning
	case Notice:
		return journal.PriNotice
	default:
		return journal.PriInfo
	}
}

// MessageID is the journal's id for a type of event: fixed for good, so that
// catalogs and filters may name it. It is empty for a type that is not known.
func MessageID(t Type) string {
	switch t {
	case RunStarted:
		return "59160c1e387e41238c6687c9da2c79eb"
	case RunFinished:
		return "161fe5176e5841aaa9ddae272a94362d"
	case RunInterrupted:
		return "a52e66e1c4244decac347089e0307a22"
	case ResourceChanged:
		return "09f435e165db4802bc67d1897f6b060c"
	case ResourceDrifted:
		return "166d6e8874324097a58575edaeb37d1b"
	case ResourcePending:
		return "c5bc4b7595b24d82bbfd3d39279a8b57"
	case ResourceFailed:
		return "a75417ad608a4b32804b9f9b1a4276ac"
	case ResourceContested:
		return "902ef89cf89143a0843526eb16677609"
	case ResourceCalmed:
		return "0dc6939ce90c47d487f4003e323baffe"
	case WatchLimited:
		return "46fcd37f6d3f4c4da14c2278eb700fcf"
	case RebootRequired:
		return "8f1e3d0a5b1f4a3c9c51b0e4d2a76e19"
	case RebootBegun:
		return "3b7c92de6f404be1a8d20c5f9e81d437"
	case CommitConfirmed:
		return "869a03a0e530431987eeab38db860434"
	case CommitQuarantined:
		return "bb5111aeaa144767ae12ee7d1203f6b7"
	case CommitReleased:
		return "8be8fe6f120a4a8cb15458ee54da5d62"
	case CommitPinned:
		return "d09349025510411e8efa541caa8ec09a"
	case CommitUnpinned:
		return "83a61819155e4dab86556010ac40608b"
	case HealthFailed:
		return "e00a67132dd14b8a96f49d8f27cd839c"
	case HealthRecovered:
		return "cace28a7a4a84d70a55f4243a897baac"
	case ResourceSkipped:
		return "513978b1ee1546f78f27075694c39694"
	case SourceUpdated:
		return "5d7e1ca1f4c346fd8c10b9301b0ac39f"
	case SourceRefused:
		return "7fcd62a9ced14df4afcbfef566bdf9c5"
	case SourceRepaired:
		return "9a7f2076ed0c4d77bf4e6ae4ff51e7c6"
	case SourceStale:
		return "4b1e3e8a88e24326a1ab022c3a5f37d7"
	case SourceUnreachable:
		return "c74de89e479a4da2b2aa8f67913aa8e2"
	case SourceRecovered:
		return "b59f0543c5654540b9001d0d43c882bb"
	case AgentStarted:
		return "873820eafba54f3a9fab5e013ca9a76b"
	case AgentStopped:
		return "9534e3fac4c047a5acf291f82a55d8ae"
	case AgentSuspended:
		return "ef024c22cde246208e2e1961aeb31d09"
	case AgentResumed:
		return "373e6430c9df4f80ab6d459c92fbae48"
	case ConfigLoaded:
		return "c6cfd4b55cdd4930a890d9a9b2f72913"
	case ConfigRefused:
		return "0e5a6eee90344be08a7f5929098cb737"
	case ReportTested:
		return "21d1077eeba444cebfd6d59c73455df2"
	case ReportDropped:
		return "d93b04841eb845a5b87cbdc4fc32a8a0"
	default:
		return ""
	}
}
