package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// Most runs find everything in order, and need of the state all but the
// inventory, which is nearly all of it. So the rest, the head, is kept in a file
// of its own beside what it was read from. It is a cache: it counts only for the
// very snapshot that it was made of and a ledger that has only grown since, and
// any of it may be lost.
const headFile = "cache/head"

// headMagic is changed with the format; another is not read.
const headMagic = "trued head 1\n"

// A head is a snapshot without its inventory, and the files that it stands for.
type head struct {
	Snapshot Snapshot  `json:"snapshot"`
	Of       fileStamp `json:"of"`
	// Ledger is the inode of the ledger, Size how much of it the head contains,
	// and Tail a sum of the end of that.
	Ledger uint64 `json:"ledger"`
	Size   int64  `json:"size"`
	Tail   uint32 `json:"tail"`
}

// OpenHead is Open for a caller that may get by without the inventory: it reads
// no more than the head where that is enough. Reload reads the rest.
func OpenHead(dir string) (*Store, error) {
	s := &Store{dir: dir}
	return s, s.ReloadHead()
}

// ReloadHead reads the state again where another process has changed it, and no
// more than the head where that is enough.
func (s *Store) ReloadHead() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.stamp()
	if now == s.read {
		return nil
	}
	if s.readHead(now) {
		return nil
	}
	return s.reload(now)
}

// Head returns what is remembered but for the inventory.
func (s *Store) Head() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head()
}

func (s *Store) head() Snapshot {
	snap := s.snap
	snap.Inventory = nil
	snap.Sources = maps.Clone(s.snap.Sources)
	snap.Owed = append([]Owed(nil), s.snap.Owed...)
	snap.Contests = maps.Clone(s.snap.Contests)
	return snap
}

// Shed lets go of the inventory until Reload, or an Append that is about it,
// reads it again.
func (s *Store) Shed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snap.Inventory, s.whole = nil, false
}

// readHead takes the state from the head, if there is one that is right.
func (s *Store) readHead(now stamp) bool {
	data, err := os.ReadFile(s.path(headFile))
	if err != nil {
		return false
	}
	rest, ok := bytes.CutPrefix(data, []byte(headMagic))
	if !ok || len(rest) < sha256.Size {
		return false
	}
	if sum := sha256.Sum256(rest[sha256.Size:]); !bytes.Equal(sum[:], rest[:sha256.Size]) {
		return false
	}
	var h head
	if json.Unmarshal(rest[sha256.Size:], &h) != nil || h.Snapshot.Format != Format || h.Snapshot.Sources == nil ||
		h.Of != now.snapshot || h.Ledger != now.ledger.Inode || h.Size > now.ledger.Size {
		return false
	}
	f, err := os.Open(s.path(ledgerFile))
	if err != nil {
		return false
	}
	defer f.Close()
	if tail, err := tailSum(f, h.Size); err != nil || tail != h.Tail {
		return false
	}
	snap, about := h.Snapshot, false
	more, err := readRecords(io.NewSectionReader(f, h.Size, now.ledger.Size-h.Size), func(r Record, _ int64) bool {
		about = about || r.aboutInventory()
		if !about {
			snap.fold(r)
		}
		return true
	})
	if err != nil || about {
		return false
	}
	s.closeLedger()
	s.snap, s.whole, s.shared, s.repaired = snap, false, false, ""
	s.size, s.read = h.Size+more, now
	s.kept = keptHead{of: h.Of, ledger: h.Ledger, size: h.Size}
	return true
}

// A keptHead says which head is on the disk. The zero value is none, or one that
// is out of date.
type keptHead struct {
	of     fileStamp
	ledger uint64
	size   int64
}

// headLag is how far the ledger may grow beyond a head: that much of it is read
// with the head, which costs less than to write the head after each run.
const headLag = 8 << 10

// serves reports whether the head on the disk will do for the next process.
func (k keptHead) serves(now stamp, size int64) bool {
	return k.of == now.snapshot && k.ledger == now.ledger.Inode && k.ledger != 0 && size >= k.size && size-k.size < headLag
}

// SaveHead keeps the head for the next process, unless one is there that will do.
// The caller holds the lock.
func (s *Store) SaveHead() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.openLedger(); err != nil {
		return err
	}
	now := s.stamp()
	if s.kept.serves(now, s.size) {
		return nil
	}
	tail, err := tailSum(s.ledger, s.size)
	if err != nil {
		return fmt.Errorf("cannot read ledger: %w", err)
	}
	data, err := json.Marshal(head{Snapshot: s.head(), Of: now.snapshot, Ledger: now.ledger.Inode, Size: s.size, Tail: tail})
	if err != nil {
		return fmt.Errorf("cannot write head: %w", err)
	}
	sum := sha256.Sum256(data)
	if err := writeCache(s.path(headFile), slices.Concat([]byte(headMagic), sum[:], data)); err != nil {
		return fmt.Errorf("cannot write head: %w", err)
	}
	s.kept = keptHead{of: now.snapshot, ledger: now.ledger.Inode, size: s.size}
	return nil
}

// tailSum sums up the end of what the ledger holds in its first size bytes.
func tailSum(f io.ReaderAt, size int64) (uint32, error) {
	tail := make([]byte, min(size, 512))
	_, err := f.ReadAt(tail, size-int64(len(tail)))
	if errors.Is(err, io.EOF) && len(tail) == 0 {
		err = nil
	}
	return crc32.ChecksumIEEE(tail), err
}

// writeCache replaces a file by rename. It does not sync: a cache may be lost.
func writeCache(name string, data []byte) error {
	tmp := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".new")
	err := os.WriteFile(tmp, data, 0o600)
	if errors.Is(err, syscall.ENOENT) {
		if err = os.MkdirAll(filepath.Dir(name), 0o700); err == nil {
			err = os.WriteFile(tmp, data, 0o600)
		}
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp, name)
}
