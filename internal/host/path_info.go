package host

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/resource"
)

// Info is what is at a path.
type Info struct {
	st unix.Stat_t
	// Target is what a link points to.
	Target string
}

// Type is one of file, directory, link, fifo, socket, device.
func (i Info) Type() string {
	switch i.st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return TypeFile
	case unix.S_IFDIR:
		return TypeDirectory
	case unix.S_IFLNK:
		return TypeLink
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	default:
		return "device"
	}
}

// The types that are managed.
const (
	TypeFile      = "file"
	TypeDirectory = "directory"
	TypeLink      = "link"
)

// Mode returns the permission and special bits.
func (i Info) Mode() resource.Mode { return resource.NewMode(i.st.Mode) }

// UID returns the owner's number.
func (i Info) UID() int { return int(i.st.Uid) }

// GID returns the group's number.
func (i Info) GID() int { return int(i.st.Gid) }

// Size returns the size in bytes.
func (i Info) Size() int64 { return i.st.Size }

// ModTime is when the content last changed.
func (i Info) ModTime() time.Time { return time.Unix(i.st.Mtim.Unix()) }

// Links returns how many names the file has.
func (i Info) Links() int { return int(i.st.Nlink) }

// SameFile reports whether two infos are of the same inode.
func (i Info) SameFile(j Info) bool { return i.st.Dev == j.st.Dev && i.st.Ino == j.st.Ino }

// SameFileSystem reports whether two infos are of the same file system.
func (i Info) SameFileSystem(j Info) bool { return i.st.Dev == j.st.Dev }

func (p place) stat() (Info, error) {
	var i Info
	if err := unix.Fstatat(p.dir, p.base, &i.st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT); err != nil {
		return i, err
	}
	if i.st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return i, nil
	}
	target, err := readLink(p.dir, p.base)
	i.Target = target
	return i, err
}

// Lstat looks at a path of the machine and follows no link at its end. When
// there is nothing, or no directory for it, the error is fs.ErrNotExist.
func (h *Host) Lstat(name string) (Info, error) {
	p, err := h.resolve(name, false)
	if err != nil {
		return Info{}, err
	}
	defer p.close()
	i, err := p.stat()
	return i, explain("look at", name, err)
}

// ReadFile returns the content of a regular file of the machine, links
// followed below the root. More than limit bytes are an error.
func (h *Host) ReadFile(name string, limit int64) ([]byte, error) {
	return h.readFile(name, limit, func(Info) error { return nil })
}

// ReadKept is ReadFile that tells as well whether others than the owner and the
// group are kept from reading the file: there may be a secret in it.
func (h *Host) ReadKept(name string, limit int64) (data []byte, kept bool, err error) {
	const byOthers = 0o004
	data, err = h.readFile(name, limit, func(i Info) error {
		kept = i.Mode().Bits()&byOthers == 0
		return nil
	})
	return data, kept, err
}

func (h *Host) readFile(name string, limit int64, accept func(Info) error) ([]byte, error) {
	p, err := h.resolve(name, true)
	if err != nil {
		return nil, err
	}
	defer p.close()
	f, i, err := p.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := accept(i); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, explain("read", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("cannot read %q: it has more than %d bytes", name, limit)
	}
	return data, nil
}

// ReadEnd returns the last bytes of a regular file of the machine, at most limit,
// links followed below the root.
func (h *Host) ReadEnd(name string, limit int64) ([]byte, error) {
	p, err := h.resolve(name, true)
	if err != nil {
		return nil, err
	}
	defer p.close()
	f, i, err := p.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, min(i.Size(), limit))
	n, err := f.ReadAt(data, i.Size()-int64(len(data)))
	if err != nil && !errors.Is(err, io.EOF) { // it may have been cut short meanwhile
		return nil, explain("read", name, err)
	}
	return data[:n], nil
}

// open opens a regular file for reading. Anything else at the place is only
// looked at, never opened: to open a FIFO or a device does something.
func (p place) open(name string) (*os.File, Info, error) {
	fd, i, err := p.grasp(name)
	if err != nil {
		return nil, i, err
	}
	defer unix.Close(fd)
	if i.Type() != TypeFile {
		return nil, i, &TypeError{Path: name, Is: i.Type(), Want: TypeFile}
	}
	// The descriptor is opened anew, so that it is the file just looked at.
	again, err := openForReading("/proc/self/fd/" + strconv.Itoa(fd))
	if errors.Is(err, fs.ErrNotExist) { // no /proc
		f, err := p.openAgain(i)
		if err != nil {
			return nil, i, explain("read", name, errors.Unwrap(err))
		}
		return f, i, nil
	}
	if err != nil {
		return nil, i, explain("read", name, err)
	}
	return os.NewFile(uintptr(again), p.base), i, nil
}

const (
	// grasps bounds how often something is taken hold of that is replaced each
	// time.
	grasps = 5
	// looks is how often a file must seem to have one name only: twice, and once
	// more where others can make new links to it (fs.protected_hardlinks is off).
	looks = 3
)

// grasp takes hold of what has the place's name, without opening it. Looked at by
// the descriptor alone, a file whose name is taken away meanwhile has one link
// less, and root's, linked here by somebody else, would seem to have no other
// name: so it is looked at by its name as well.
func (p place) grasp(name string) (fd int, i Info, err error) {
	for range grasps {
		fd, err := unix.Openat(p.dir, p.base, openPath, 0)
		if err != nil {
			return -1, i, explain("open", name, err)
		}
		var held Info
		err = unix.Fstat(fd, &held.st)
		if err == nil {
			i, err = p.settled()
		}
		if err == nil && i.SameFile(held) {
			i.st.Nlink = max(i.st.Nlink, held.st.Nlink)
			return fd, i, nil
		}
		_ = unix.Close(fd)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return -1, i, explain("look at", name, err)
		}
	}
	return -1, i, &PathError{Op: "open", Path: name, Reason: "it was replaced while it was being opened"}
}

// settled is stat for what others may remove. A removal takes the link before
// the name, and both can be seen in between; reading the directory waits for the
// one that is under way.
func (p place) settled() (Info, error) {
	i, err := p.stat()
	for n := 1; n < looks && err == nil && i.Type() == TypeFile && i.Links() == 1 && !p.trusted(); n++ {
		if err = p.awaitRemoval(); err == nil {
			i, err = p.stat()
		}
	}
	return i, err
}

func (p place) awaitRemoval() error {
	d, err := place{dir: p.dir, base: "."}.openDir()
	if err != nil {
		return err
	}
	defer d.Close()
	if _, err := d.Readdirnames(1); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// openForReading is os.Open for what is known to be a regular file, which the
// runtime need not try to wait for.
func openForReading(name string) (fd int, err error) {
	for {
		fd, err = unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

func (p place) openAgain(want Info) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err := unix.Openat(p.dir, p.base, flags, 0)
	if err != nil {
		return nil, os.NewSyscallError("openat", err)
	}
	var got Info
	if err := unix.Fstat(fd, &got.st); err != nil || !got.SameFile(want) {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("openat", unix.ESTALE)
	}
	return os.NewFile(uintptr(fd), p.base), nil
}

// An Entry is a name in a directory.
type Entry struct {
	Name string
	Info Info
}

// ReadDir returns what is in a directory of the machine, in name order.
func (h *Host) ReadDir(name string) ([]Entry, error) {
	p, err := h.resolve(name, false)
	if err != nil {
		return nil, err
	}
	defer p.close()
	d, err := p.openDir()
	if err != nil {
		return nil, explain("read", name, err)
	}
	defer d.Close()
	return readEntries(d, name)
}

func (p place) openDir() (*os.File, error) {
	fd, err := unix.Openat(p.dir, p.base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), p.base), nil
}

func readEntries(d *os.File, name string) ([]Entry, error) {
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, explain("read", name, err)
	}
	slices.Sort(names)
	entries := make([]Entry, 0, len(names))
	for _, base := range names {
		at := place{dir: int(d.Fd()), base: base}
		i, err := at.stat()
		if errors.Is(err, unix.ENOENT) {
			continue // removed since
		}
		if err != nil {
			return nil, explain("look at", path.Join(name, base), err)
		}
		entries = append(entries, Entry{Name: base, Info: i})
	}
	return entries, nil
}

// Walk calls visit for all that is below a directory of the machine, each
// directory before what is in it, in name order. It follows no links, and does
// not go below a directory for which visit returns fs.SkipDir.
func (h *Host) Walk(name string, visit func(name string, i Info) error) error {
	p, err := h.resolve(name, false)
	if err != nil {
		return err
	}
	defer p.close()
	d, err := p.openDir()
	if err != nil {
		return explain("read", name, err)
	}
	defer d.Close()
	return walkDir(d, name, visit)
}

func walkDir(d *os.File, name string, visit func(string, Info) error) error {
	entries, err := readEntries(d, name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		at := path.Join(name, e.Name)
		err := visit(at, e.Info)
		if errors.Is(err, fs.SkipDir) {
			continue
		}
		if err != nil {
			return err
		}
		if e.Info.Type() != TypeDirectory {
			continue
		}
		sub, err := place{dir: int(d.Fd()), base: e.Name}.openDir()
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return explain("read", at, err)
		}
		err = walkDir(sub, at, visit)
		_ = sub.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// Follow returns what the link at a path leads to, one path for each step; none
// where there is no link. What is not there yet is the last of them.
func (h *Host) Follow(name string) []string {
	const steps = 16
	var names []string
	for range steps {
		to, err := os.Readlink(h.Path(name))
		if err != nil {
			break
		}
		if !path.IsAbs(to) {
			to = path.Join(path.Dir(name), to)
		}
		name = path.Clean(to)
		names = append(names, name)
	}
	return names
}
