package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// ErrInUse says that another daemon listens at the socket.
var ErrInUse = errors.New("another daemon listens")

// A Listener accepts connections at a socket that is its own for as long as it
// is open.
type Listener struct {
	*net.UnixListener
	path string
	lock *flock.Flock
}

// Listen opens the socket, for its owner alone. One that a dead daemon left is
// replaced; a lock beside it tells the dead from the living. The error for the
// latter is ErrInUse.
func Listen(path string) (*Listener, error) {
	const (
		dirMode  = 0o755
		fileMode = 0o600
	)
	fail := func(err error) (*Listener, error) {
		return nil, fmt.Errorf("cannot listen at %q: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return fail(err)
	}
	lock := flock.New(path+".lock", flock.SetPermissions(fileMode))
	switch ok, err := lock.TryLock(); {
	case err != nil:
		return fail(err)
	case !ok:
		return nil, fmt.Errorf("%w at %q", ErrInUse, path)
	}
	l, err := bind(path, fileMode)
	if err != nil {
		return fail(errors.Join(err, lock.Unlock()))
	}
	return &Listener{UnixListener: l, path: path, lock: lock}, nil
}

// bind makes the socket under another name, so that there is never one with a
// looser mode, or none, where clients look.
func bind(path string, mode fs.FileMode) (*net.UnixListener, error) {
	info, err := os.Lstat(path)
	if err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, errors.New("there is something that is not a socket")
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(tmp, mode)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(tmp))
	}
	return l, nil
}

// Close stops listening and removes the socket.
func (l *Listener) Close() error {
	err := l.UnixListener.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	// The lock's file stays: to remove it would let two hold it.
	return errors.Join(err, os.Remove(l.path), l.lock.Unlock())
}
