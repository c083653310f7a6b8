package watch

import (
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// held returns the locks that keepers of databases hold now.
func (w *Watcher) held() map[string]bool {
	held := map[string]bool{}
	for _, lock := range w.index.keepers {
		if locked(filepath.Join(w.opt.Root, lock)) {
			held[lock] = true
		}
	}
	return held
}

// waits reports whether a resource has to wait, because somebody is at work on what
// it rests on: a keeper holds the lock of its database, or of one that its file may
// belong to. What has waited is not asked about again: while packages change, it
// takes long to tell what belongs to them.
func (w *Watcher) waits(id int32, held map[string]bool) bool {
	if len(held) == 0 {
		return false
	}
	if locks := w.index.locks[id]; len(locks) > 0 {
		return slices.ContainsFunc(locks, func(lock string) bool { return held[lock] })
	}
	return w.pending.waiting[id] || w.packaged(id)
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
