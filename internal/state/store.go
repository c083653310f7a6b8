package state

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"trued.dev/trued/internal/resource"
)

// A Store is the state directory, open. Its methods may be called from several
// goroutines; to append to it, hold the lock.
type Store struct {
	dir string

	mu sync.Mutex
	// held is true while this process has the host's lock.
	held bool
	read stamp
	snap Snapshot
	// whole is false while the inventory was not read; shared is true while
	// somebody may hold the map that it is in.
	whole, shared bool

	ledger   *os.File
	size     int64
	repaired string
	key      []byte
	// kept is the head on the disk, as far as it is of use.
	kept keptHead
	// places are the ledger's records with events that were passed since it was
	// opened.
	places []place
}

// A NewerError is a state that a later release wrote.
type NewerError struct{ Format int }

func (e *NewerError) Error() string {
	return fmt.Sprintf("the state was written by a newer trued (format %d, this one knows %d): upgrade trued, or move the state aside", e.Format, Format)
}

// ErrLocked is returned when another run holds the lock.
var ErrLocked = errors.New("another run holds the lock")

const (
	snapshotFile = "state.json"
	ledgerFile   = "ledger.jsonl"
	keyFile      = "key"
	// The ledger is folded into the snapshot beyond this size.
	compactAbove = 256 << 10
	// Events that no sink takes are kept up to this size.
	eventsKept = 32 << 20
)

// Open reads the state in dir. It writes nothing: a state that is not there is
// an empty one, and is made by the first Append.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir}
	return s, s.Reload()
}

// Dir returns the state directory.
func (s *Store) Dir() string { return s.dir }

// Reload reads the state again where another process has changed it.
func (s *Store) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.stamp()
	if now == s.read && s.whole {
		return nil
	}
	return s.reload(now)
}

func (s *Store) reload(now stamp) error {
	s.closeLedger()
	s.read, s.kept = stamp{}, keptHead{}
	snap, err := readSnapshot(filepath.Join(s.dir, snapshotFile))
	if err != nil {
		return err
	}
	s.snap, s.whole, s.shared, s.repaired = snap, true, false, ""
	if err := s.replay(); err != nil {
		return err
	}
	s.read = now
	return nil
}

// A stamp tells whether the state's files are those that were read: both are
// written by rename or by appending, so a change moves inode or size.
type stamp struct {
	read             bool
	snapshot, ledger fileStamp
}

type fileStamp struct {
	Inode uint64
	Size  int64
	MTime int64 // nanoseconds
	CTime int64
}

func (s *Store) stamp() stamp {
	return stamp{read: true, snapshot: stampOf(s.path(snapshotFile)), ledger: stampOf(s.path(ledgerFile))}
}

func stampOf(name string) fileStamp {
	var st syscall.Stat_t
	if err := syscall.Lstat(name, &st); err != nil {
		return fileStamp{}
	}
	return fileStamp{st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}
}

func readSnapshot(name string) (Snapshot, error) {
	snap := newSnapshot()
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return snap, nil
	}
	if err != nil {
		return snap, fmt.Errorf("cannot read state: %w", err)
	}
	return parseSnapshot(data)
}

func parseSnapshot(data []byte) (Snapshot, error) {
	var head struct {
		Format int `json:"format"`
	}
	snap := newSnapshot()
	if err := json.Unmarshal(data, &head); err != nil {
		return snap, fmt.Errorf("cannot parse state: %w", err)
	}
	if head.Format > Format+1 {
		return snap, &NewerError{Format: head.Format}
	}
	if err := json.Unmarshal(data, &snap); err != nil {
		return snap, fmt.Errorf("cannot parse state: %w", err)
	}
	snap.Format = Format // what a later release added is not kept
	if snap.Changed == 0 {
		snap.Changed = snap.Seq // an earlier release did not say
	}
	if snap.Inventory == nil {
		snap.Inventory = map[resource.Address]Entry{}
	}
	if snap.Sources == nil {
		snap.Sources = map[string]Source{}
	}
	return snap, nil
}

// replay folds the ledger into the snapshot. A line that was cut off by a crash
// is dropped: its change was never begun, since a record comes first. Anything
// unreadable before the last line ends the replay there, and is told by
// Repaired.
func (s *Store) replay() error {
	f, err := os.Open(s.path(ledgerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read ledger: %w", err)
	}
	defer f.Close()
	good, err := readRecords(f, func(r Record, _ int64) bool {
		if r.Seq > s.snap.Seq {
			s.snap.fold(r)
		}
		return true
	})
	s.size = good
	if errors.Is(err, errDamaged) {
		s.repaired = err.Error()
		return nil
	}
	return err
}

var errDamaged = errors.New("ledger is damaged")

// readRecords calls each for every whole record, with its place, until it returns
// false, and returns the length of what could be read.
func readRecords(r io.Reader, each func(r Record, at int64) bool) (int64, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	var good int64
	for {
		line, err := br.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return good, nil // what is left was cut off
		}
		if err != nil {
			return good, fmt.Errorf("cannot read ledger: %w", err)
		}
		var rec Record
		if err := json.Unmarshal(line, &rec); err != nil {
			if _, peek := br.Peek(1); errors.Is(peek, io.EOF) {
				return good, nil
			}
			return good, fmt.Errorf("%w after %d bytes: %w", errDamaged, good, err)
		}
		more := each(rec, good)
		good += int64(len(line))
		if !more {
			return good, nil
		}
	}
}

// mayFold makes sure that a record about the inventory has one to change, which
// nobody else looks at.
func (s *Store) mayFold(r Record) error {
	if !r.aboutInventory() {
		return nil
	}
	if !s.whole {
		if err := s.reload(s.stamp()); err != nil {
			return err
		}
	}
	if s.shared {
		s.snap.Inventory, s.shared = maps.Clone(s.snap.Inventory), false
	}
	return nil
}

// Repaired says what could not be read of the ledger; empty when it was whole.
// The damaged file is put aside at the next Append.
func (s *Store) Repaired() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.repaired
}

// Snapshot returns what is remembered now. Without the inventory, after OpenHead
// or Shed, it is the head alone. The caller must not change what its maps hold.
func (s *Store) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := s.head()
	snap.Inventory, s.shared = s.snap.Inventory, true
	return snap
}

// Append writes a record, durably, and folds it into the snapshot. It numbers
// the record and its events.
func (s *Store) Append(r Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.append(r)
	if err != nil && s.release(err) {
		err = s.append(r)
	}
	return err
}

func (s *Store) append(r Record) error {
	if err := s.mayFold(r); err != nil {
		return err
	}
	if err := s.openLedger(); err != nil {
		return err
	}
	r.Seq = s.snap.Seq + 1
	if len(r.Events) > 0 {
		r.FirstEvent = s.snap.Events + 1
	}
	line, err := r.line()
	if err != nil {
		return fmt.Errorf("cannot write ledger: %w", err)
	}
	if _, err := s.ledger.WriteAt(line, s.size); err != nil {
		return fmt.Errorf("cannot write ledger: %w", errors.Join(err, s.ledger.Truncate(s.size)))
	}
	if err := s.ledger.Sync(); err != nil {
		return fmt.Errorf("cannot write ledger: %w", err)
	}
	s.size += int64(len(line))
	s.snap.fold(r)
	s.read = s.stamp()
	if r.aboutInventory() {
		s.kept = keptHead{} // what is read beyond a head must not be about that
	}
	return nil
}

func (s *Store) openLedger() error {
	if s.ledger != nil {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("cannot make state directory: %w", err)
	}
	if s.repaired != "" {
		if err := s.putAside(); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(s.path(ledgerFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("cannot open ledger: %w", err)
	}
	if info, err := f.Stat(); err == nil && s.size > 0 && info.Size() == s.size {
		s.ledger = f // whoever wrote to it made its name durable first
		return nil
	}
	// What a crash cut off goes, so that the next record starts a line.
	if err := errors.Join(f.Truncate(s.size), syncDir(s.dir)); err != nil {
		_ = f.Close()
		return fmt.Errorf("cannot open ledger: %w", err)
	}
	s.ledger = f
	return nil
}

// putAside keeps a damaged ledger for whoever wants to look at it, and starts
// anew from what could be read.
func (s *Store) putAside() error {
	aside := s.path(fmt.Sprintf("ledger.damaged-%d", time.Now().Unix()))
	if err := os.Rename(s.path(ledgerFile), aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot put damaged ledger aside: %w", err)
	}
	s.repaired, s.size, s.places = "", 0, nil
	return s.writeSnapshot()
}

// Compact folds the ledger into the snapshot when it has grown. Events that a
// sink has yet to take stay in the ledger, the newest 32 MiB of them.
func (s *Store) Compact() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size < compactAbove || s.snap.Open != nil {
		return nil
	}
	if !s.whole {
		if err := s.reload(s.stamp()); err != nil {
			return err
		}
	}
	rest, err := s.untaken()
	if err != nil {
		return err
	}
	if len(rest) > int(s.size)/2 && s.size < eventsKept {
		return nil // little to win yet
	}
	if err := s.writeSnapshot(); err != nil {
		return err
	}
	s.closeLedger()
	if err := writeAtomic(s.path(ledgerFile), rest); err != nil {
		return fmt.Errorf("cannot compact ledger: %w", err)
	}
	s.size = int64(len(rest))
	s.read = s.stamp()
	return nil
}

// untaken returns the ledger's lines that hold events for a sink that is
// behind, less everything else in them.
func (s *Store) untaken() ([]byte, error) {
	taken := s.snap.Events
	cursors, err := s.readCursors()
	if err != nil {
		return nil, err
	}
	for _, n := range cursors {
		taken = min(taken, n)
	}
	if taken == s.snap.Events {
		return nil, nil
	}
	var out bytes.Buffer
	err = s.eachRecord(func(r Record) {
		if n := uint64(len(r.Events)); n == 0 || r.FirstEvent+n-1 <= taken {
			return
		}
		line, err := json.Marshal(Record{Seq: r.Seq, FirstEvent: r.FirstEvent, Events: r.Events})
		if err == nil {
			out.Write(line)
			out.WriteByte('\n')
		}
	})
	rest := out.Bytes()
	if over := len(rest) - eventsKept; over > 0 {
		cut := bytes.IndexByte(rest[over:], '\n')
		rest = rest[over+cut+1:]
	}
	return rest, err
}

func (s *Store) eachRecord(each func(Record)) error {
	return s.eachRecordFrom(0, func(r Record, _ int64) bool { each(r); return true })
}

// eachRecordFrom calls each for the records from a place on, until it returns
// false.
func (s *Store) eachRecordFrom(from int64, each func(r Record, at int64) bool) error {
	f, err := os.Open(s.path(ledgerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read ledger: %w", err)
	}
	defer f.Close()
	_, err = readRecords(io.NewSectionReader(f, from, s.size-from), func(r Record, at int64) bool { return each(r, from+at) })
	return err
}

func (s *Store) writeSnapshot() error {
	data, err := json.MarshalIndent(s.snap, "", " ")
	if err != nil {
		return fmt.Errorf("cannot write state: %w", err)
	}
	if err := writeAtomic(s.path(snapshotFile), append(data, '\n')); err != nil {
		return fmt.Errorf("cannot write state: %w", err)
	}
	return nil
}

// Close lets go of the ledger.
func (s *Store) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLedger()
}

func (s *Store) closeLedger() {
	s.places = nil
	if s.ledger != nil {
		_ = s.ledger.Close()
		s.ledger = nil
	}
}

// Sweep removes the temporary files of writers that were cut off. The caller
// holds the lock. A cursor's is left: sinks write theirs at any time, under one
// name.
func (s *Store) Sweep() error {
	var failed []error
	for _, pattern := range []string{"." + snapshotFile + "-*", "." + ledgerFile + "-*", "." + keyFile + "-*", historyDir + "/.*.json-*"} {
		names, err := filepath.Glob(s.path(pattern))
		failed = append(failed, err)
		for _, name := range names {
			failed = append(failed, os.Remove(name))
		}
	}
	return errors.Join(failed...)
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

// writeAtomic replaces a file by rename, durably.
func writeAtomic(name string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
