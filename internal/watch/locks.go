package watch

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// waits returns what tells whether a resource has to wait, because somebody is at
// work on what it rests on: a keeper holds the lock of its database, or of one
// that its file may belong to.
func (w *Watcher) waits() func(id int32) bool {
	held := map[string]bool{}
	for _, lock := range w.index.keepers {
		if locked(filepath.Join(w.opt.Root, lock)) {
			held[lock] = true
		}
	}
	return func(id int32) bool {
		if len(held) == 0 {
			return false
		}
		if locks := w.index.locks[id]; len(locks) > 0 {
			for _, lock := range locks {
				if held[lock] {
					return true
				}
			}
			return false
		}
		return w.packaged(id)
	}
}

// packaged reports whether a resource is named by a path that a package has.
func (w *Watcher) packaged(id int32) bool {
	name := w.index.addresses[id].Name
	if w.opt.Packaged == nil || name == "" || name[0] != '/' {
		return false
	}
	yes, err := w.opt.Packaged(name)
	return err == nil && yes
}

// locked reports whether another process holds a lock on a file. Who has none on
// it loses none by asking.
func locked(file string) bool {
	f, err := os.Open(file) //nolint:gosec // a module names it
	if err != nil {
		return false
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	err = unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock)
	return err == nil && lock.Type != unix.F_UNLCK
}
