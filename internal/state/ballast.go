package state

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ballastFile keeps space that the ledger can have when the disk is full, so that
// a host which a commit has filled the disk of can write down that it goes back.
const (
	ballastFile = "ballast"
	ballastSize = 1 << 20
)

// Reserve keeps space for the way back. A file system that reserves nothing in
// advance makes it worth less, and no error.
func (s *Store) Reserve() error {
	if info, err := os.Stat(s.path(ballastFile)); err == nil && info.Size() == ballastSize {
		return nil
	}
	f, err := os.OpenFile(s.path(ballastFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("cannot keep space for the way back: %w", err)
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, ballastSize)
	if errors.Is(err, unix.EOPNOTSUPP) {
		_, err = f.Write(make([]byte, ballastSize))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(s.path(ballastFile)) // half of it would be taken for all
		return fmt.Errorf("cannot keep space for the way back: %w", err)
	}
	return nil
}

// release gives the space that was kept away. It reports whether there was any,
// so that what has failed for want of it may be tried again.
func (s *Store) release(why error) bool {
	if !errors.Is(why, unix.ENOSPC) && !errors.Is(why, unix.EDQUOT) {
		return false
	}
	err := os.Remove(s.path(ballastFile))
	return err == nil
}
