package host

import (
	"errors"
	"os"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// markName is a file that a tree has in it for as long as it is not in place. Only
// who may write to the tree can have put it there, which nobody else may.
const markName = TemporaryPrefix + "unfinished"

func mark(top int) error {
	fd, err := unix.Openat(top, markName, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// sweepTrees removes trees that an earlier process which was cut off left beside
// a place, the first time that this one writes there.
func (h *Host) sweepTrees(p place) error {
	var st unix.Stat_t
	if err := unix.Fstat(p.dir, &st); err != nil {
		return explain("look at", p.real, err)
	}
	once, _ := h.swept.LoadOrStore([3]uint64{st.Dev, st.Ino, 1}, &sync.Once{})
	var err error
	once.(*sync.Once).Do(func() { err = p.sweepTrees() })
	return err
}

func (p place) sweepTrees() error {
	d, err := place{dir: p.dir, base: "."}.openDir()
	if err != nil {
		return explain("read", p.real, err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return explain("read", p.real, err)
	}
	remove := place.removeMarked
	if p.trusted() {
		remove = func(stale place) error { return removeAll(stale, stale.path()) }
	}
	for _, base := range names {
		random, _, _ := strings.Cut(strings.TrimPrefix(base, treePrefix), "-")
		if !strings.HasPrefix(base, treePrefix) || len(random) != 10 {
			continue
		}
		if err := remove(place{dir: p.dir, base: base, real: p.real}); err != nil {
			return err
		}
	}
	return nil
}

// removeMarked removes a tree from a directory that others may write to. What has
// such a name there could be anything that they moved to it, so it goes only where
// it is marked and nobody else can have written to it.
func (p place) removeMarked() error {
	d, err := p.openDir()
	if err != nil {
		return nil //nolint:nilerr // it is no tree, or gone
	}
	defer d.Close()
	var top, marked unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &top); err != nil {
		return explain("look at", p.path(), err)
	}
	err = unix.Fstatat(int(d.Fd()), markName, &marked, unix.AT_SYMLINK_NOFOLLOW)
	if int(top.Uid) != os.Geteuid() || top.Mode&0o777 != 0o700 || err != nil ||
		int(marked.Uid) != os.Geteuid() || marked.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	entries, err := readEntries(d, p.path())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name == markName {
			continue // it goes last, or a sweep that is cut off leaves what is not marked
		}
		if err := removeAll(place{dir: int(d.Fd()), base: e.Name, real: p.path()}, path.Join(p.path(), e.Name)); err != nil {
			return err
		}
	}
	if err := unix.Unlinkat(int(d.Fd()), markName, 0); err != nil {
		return explain("remove", p.path(), err)
	}
	err = unix.Unlinkat(p.dir, p.base, unix.AT_REMOVEDIR)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.ENOTDIR) {
		return nil // somebody put another in its place
	}
	return explain("remove", p.path(), err)
}
