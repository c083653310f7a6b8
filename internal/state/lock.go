package state

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// Lock takes the host's lock, and reads the head again once it has it. It
// waits for at most wait; ErrLocked says that somebody else has it.
func (s *Store) Lock(ctx context.Context, wait time.Duration) (unlock func(), err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make state directory: %w", err)
	}
	lock := flock.New(s.path("lock"), flock.SetPermissions(0o600))
	ctx, cancel := context.WithTimeout(ctx, max(wait, time.Millisecond))
	defer cancel()
	got, err := lock.TryLock()
	if err == nil && !got && wait > 0 {
		got, err = lock.TryLockContext(ctx, 50*time.Millisecond)
	}
	if errors.Is(err, context.DeadlineExceeded) || (err == nil && !got) {
		return nil, ErrLocked
	}
	if err != nil {
		return nil, fmt.Errorf("cannot take lock: %w", err)
	}
	if err := s.ReloadHead(); err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	s.hold(true)
	return func() {
		s.hold(false)
		_ = lock.Unlock()
	}, nil
}

func (s *Store) hold(held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = held
}

// Tell appends events that belong to no run: beside the run that this process
// has under way, or else under the lock, for which it waits.
func (s *Store) Tell(ctx context.Context, wait time.Duration, events ...json.RawMessage) error {
	r := Record{Events: events}
	if told, err := s.tellHeld(r); told || err != nil {
		return err
	}
	unlock, err := s.Lock(ctx, wait)
	if err != nil {
		return err
	}
	defer unlock()
	return s.Append(r)
}

func (s *Store) tellHeld(r Record) (told bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.held {
		return false, nil
	}
	return true, s.append(r)
}

// Free reports whether nobody holds the lock right now.
func (s *Store) Free() bool {
	lock := flock.New(s.path("lock"), flock.SetFlag(os.O_RDONLY))
	got, err := lock.TryRLock()
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	if got {
		_ = lock.Unlock()
	}
	return got
}

// Holder returns the process that has the lock; 0 where nobody has, or where that
// cannot be told.
func (s *Store) Holder() int {
	var st syscall.Stat_t
	if err := syscall.Stat(s.path("lock"), &st); err != nil {
		return 0
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(locks)) {
		// "1: FLOCK  ADVISORY  WRITE 4711 08:01:131090 0 EOF"
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" || !strings.HasSuffix(f[5], fmt.Sprintf(":%d", st.Ino)) {
			continue
		}
		if pid, err := strconv.Atoi(f[4]); err == nil && opens(pid, &st) {
			return pid
		}
	}
	return 0
}

// opens reports whether a process has a file open. The kernel's list names a file
// by a device that is not always that of its file system.
func opens(pid int, want *syscall.Stat_t) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		var st syscall.Stat_t
		if syscall.Stat(dir+"/"+e.Name(), &st) == nil && st.Ino == want.Ino && st.Dev == want.Dev {
			return true
		}
	}
	return false
}

// Digest returns a digest of what is desired that gives nothing away to whoever
// reads the state but not the key beside it.
func (s *Store) Digest(v any) (string, error) {
	key, err := s.digestKey()
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, key)
	if err := json.NewEncoder(mac).Encode(v); err != nil {
		return "", fmt.Errorf("cannot digest: %w", err)
	}
	return hex.EncodeToString(mac.Sum(nil)), nil
}

func (s *Store) digestKey() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.key != nil {
		return s.key, nil
	}
	key, err := os.ReadFile(s.path(keyFile))
	if err == nil && len(key) == 32 {
		s.key = key
		return key, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read key: %w", err)
	}
	s.key = make([]byte, 32)
	_, _ = rand.Read(s.key)
	return s.key, nil
}

// SaveKey writes the digest key if it is new, so that reading alone never
// writes.
func (s *Store) SaveKey() error {
	key, err := s.digestKey()
	if err != nil {
		return err
	}
	if _, err := os.Lstat(s.path(keyFile)); err == nil {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("cannot make state directory: %w", err)
	}
	if err := writeAtomic(s.path(keyFile), key); err != nil {
		return fmt.Errorf("cannot write key: %w", err)
	}
	return nil
}
