package state

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	cursorFile = "cursors.json"
	cursorLock = "cursors.lock"
	cursorWait = time.Second
)

// A StoredEvent is an event that waits in the ledger.
type StoredEvent struct {
	Seq   uint64
	Event json.RawMessage
}

// A place is where the ledger's record is that begins with the event numbered
// first.
type place struct {
	first uint64
	at    int64
}

// EventsAfter returns up to limit events that follow the one numbered seq. It
// reads the ledger from the record that they are in, as far as that is known.
func (s *Store) EventsAfter(seq uint64, limit int) ([]StoredEvent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seq >= s.snap.Events {
		return nil, nil
	}
	// The last record that begins with the event that is looked for, or before.
	n, _ := slices.BinarySearchFunc(s.places, seq+2, func(p place, first uint64) int { return cmp.Compare(p.first, first) })
	from := int64(0)
	if n > 0 {
		from = s.places[n-1].at
	}
	var found []StoredEvent
	err := s.eachRecordFrom(from, func(r Record, at int64) bool {
		if n := len(s.places); len(r.Events) > 0 && (n == 0 || s.places[n-1].first < r.FirstEvent) {
			s.places = append(s.places, place{r.FirstEvent, at})
		}
		for i, e := range r.Events {
			if n := r.FirstEvent + uint64(i); n > seq && len(found) < limit {
				found = append(found, StoredEvent{Seq: n, Event: e})
			}
		}
		return len(found) < limit
	})
	if errors.Is(err, errDamaged) {
		err = nil // what could be read is what there is
	}
	return found, err
}

// Cursor returns the number of the last event that a sink has taken.
func (s *Store) Cursor(sink string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	cursors, err := s.readCursors()
	if err != nil {
		return 0 // once too often is better than never
	}
	return cursors[sink]
}

// SetCursor records that a sink has taken all events up to seq.
func (s *Store) SetCursor(sink string, seq uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	unlock, err := s.lockCursors()
	if err != nil {
		return err
	}
	defer unlock()
	cursors, err := s.readCursors()
	if err != nil {
		return err
	}
	cursors[sink] = seq
	return s.writeCursors(cursors)
}

// Enroll makes the named sinks those that events are kept for. One that is new
// starts with the next event; one that is gone holds nothing up any more.
func (s *Store) Enroll(sinks []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	unlock, err := s.lockCursors()
	if err != nil {
		return err
	}
	defer unlock()
	old, err := s.readCursors()
	now := make(map[string]uint64, len(sinks))
	for _, name := range sinks {
		now[name] = s.snap.Events
		if err != nil {
			now[name] = 0 // a power cut left half a file: once too often is better than never
		} else if n, ok := old[name]; ok {
			now[name] = min(n, s.snap.Events)
		}
	}
	if err == nil && maps.Equal(old, now) {
		return nil
	}
	return s.writeCursors(now)
}

// lockCursors keeps other processes, which deliver to sinks as well, from writing
// the cursors in between. One that was stopped with the lock holds nobody up for
// long: without it an event may be sent twice, no worse.
func (s *Store) lockCursors() (unlock func(), err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot write sinks' cursors: %w", err)
	}
	file, err := os.OpenFile(s.path(cursorLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot write sinks' cursors: %w", err)
	}
	const pause = 2 * time.Millisecond
	for deadline := time.Now().Add(cursorWait); time.Now().Before(deadline); time.Sleep(pause) {
		if unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			break
		}
	}
	return func() { _ = file.Close() }, nil
}

func (s *Store) readCursors() (map[string]uint64, error) {
	cursors := map[string]uint64{}
	data, err := os.ReadFile(s.path(cursorFile))
	if errors.Is(err, fs.ErrNotExist) {
		return cursors, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &cursors)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read sinks' cursors: %w", err)
	}
	return cursors, nil
}

// writeCursors does not sync: a cursor that is lost sends an event twice, with
// the same event_id.
func (s *Store) writeCursors(cursors map[string]uint64) error {
	data, err := json.Marshal(cursors)
	if err != nil {
		return fmt.Errorf("cannot write sinks' cursors: %w", err)
	}
	tmp := s.path("." + cursorFile + ".new")
	if err := os.WriteFile(tmp, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("cannot write sinks' cursors: %w", err)
	}
	if err := os.Rename(tmp, s.path(cursorFile)); err != nil {
		return fmt.Errorf("cannot write sinks' cursors: %w", err)
	}
	return nil
}
