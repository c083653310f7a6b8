package host

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// A place is a directory that is held open, and a name in it. All that is done
// to a path is done to a place: what is renamed or linked above it afterwards
// changes nothing.
type place struct {
	dir  int    // an O_PATH descriptor
	base string // never has a slash; "." for the directory itself
	real string // the directory's path below the root, links resolved
}

func (p place) close() { _ = unix.Close(p.dir) }

// path returns the place's path on the machine, for messages.
func (p place) path() string { return path.Join(p.real, p.base) }

const (
	openPath = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	maxLinks = 40
)

// resolve opens the directory of a cleaned absolute path of the machine. Links
// on the way are followed below the root when nobody but root, or the agent's
// own user, can have made them. The last part is followed as well when follow
// is set, and may be missing.
func (h *Host) resolve(name string, follow bool) (place, error) {
	if err := checkPath(name); err != nil {
		return place{}, err
	}
	root, err := h.rootFD()
	if err != nil {
		return place{}, err
	}
	if !follow && name != "/" {
		dir, base := path.Split(name)
		fd, err := unix.Openat2(root, "."+dir, &unix.OpenHow{
			Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS,
		})
		if err == nil {
			return place{dir: fd, base: base, real: path.Clean(dir)}, nil
		}
		// Links, old kernels and errors that want a place are the walk's.
	}
	return h.walk(root, name, follow)
}

// rootFD returns a descriptor of the root that lives as long as the host.
func (h *Host) rootFD() (int, error) {
	h.rootOnce.Do(func() {
		fd, err := unix.Open(h.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			h.rootErr = fmt.Errorf("cannot open root %q: %w", h.root, err)
			return
		}
		// The file's finalizer closes the descriptor with the host.
		h.rootFile = os.NewFile(uintptr(fd), h.root)
		h.rootDesc = fd
	})
	return h.rootDesc, h.rootErr
}

// checkPath refuses what is not a cleaned absolute path: resolving relies on it.
func checkPath(name string) error {
	switch {
	case !strings.HasPrefix(name, "/"):
		return fmt.Errorf("path %q is not absolute", name)
	case strings.ContainsAny(name, "\x00\n"):
		return fmt.Errorf("path %q has a newline or a NUL in it", name)
	case path.Clean(name) != name:
		return fmt.Errorf("path %q is not in its shortest form %q", name, path.Clean(name))
	case len(name) >= unix.PathMax:
		return fmt.Errorf("path of %d bytes is too long", len(name))
	}
	return nil
}

// A walker goes down a path one name at a time and keeps each directory open,
// so that ".." in a link goes back the way it came.
type walker struct {
	name  string
	dirs  []int // the root first
	names []string
	links int
}

func (h *Host) walk(root int, name string, follow bool) (place, error) {
	top, err := unix.Openat(root, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return place{}, explain("open", name, err)
	}
	w := &walker{name: name, dirs: []int{top}}
	p, err := w.run(strings.Split(name, "/"), follow)
	for _, fd := range w.dirs {
		if err != nil || fd != p.dir {
			_ = unix.Close(fd)
		}
	}
	return p, err
}

func (w *walker) run(todo []string, follow bool) (place, error) {
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			w.up(len(w.dirs) - 1)
			continue
		}
		last := len(todo) == 0
		if last && !follow {
			return w.place(part), nil
		}
		fd, err := unix.Openat(w.top(), part, openPath, 0)
		if last && errors.Is(err, unix.ENOENT) {
			return w.place(part), nil
		}
		if err != nil {
			return place{}, w.failed(part, err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			_ = unix.Close(fd)
			return place{}, explain("look at", w.name, err)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			target, err := w.link(fd, part, &st)
			_ = unix.Close(fd)
			if err != nil {
				return place{}, err
			}
			todo = append(target, todo...)
			continue
		}
		if last {
			_ = unix.Close(fd)
			return w.place(part), nil
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			_ = unix.Close(fd)
			return place{}, w.failed(part, unix.ENOTDIR)
		}
		w.dirs = append(w.dirs, fd)
		w.names = append(w.names, part)
	}
	return w.place("."), nil
}

// link returns what is to be walked in place of a link.
func (w *walker) link(fd int, part string, st *unix.Stat_t) ([]string, error) {
	if w.links++; w.links > maxLinks {
		return nil, explain("open", w.name, unix.ELOOP)
	}
	// All directories on the way: who can rename one puts another in its place,
	// with the links that are in it.
	for _, fd := range w.dirs {
		var dir unix.Stat_t
		if err := unix.Fstat(fd, &dir); err != nil {
			return nil, explain("look at", w.name, err)
		}
		if os.Geteuid() != 0 && fd != w.top() {
			continue // there is no right to be abused
		}
		if !trusted(&dir, st) {
			return nil, &HostileLinkError{Path: w.name, Link: w.place(part).path()}
		}
	}
	target, err := readLink(fd, "")
	if err != nil {
		return nil, explain("read link", w.name, err)
	}
	if strings.HasPrefix(target, "/") {
		w.up(1)
	}
	return strings.Split(target, "/"), nil
}

func (w *walker) top() int { return w.dirs[len(w.dirs)-1] }

// up closes all but the first n directories; the root always stays.
func (w *walker) up(n int) {
	for len(w.dirs) > max(n, 1) {
		_ = unix.Close(w.top())
		w.dirs = w.dirs[:len(w.dirs)-1]
		w.names = w.names[:len(w.names)-1]
	}
}

func (w *walker) place(base string) place {
	return place{dir: w.top(), base: base, real: "/" + strings.Join(w.names, "/")}
}

func (w *walker) failed(part string, err error) error {
	at := w.place(part).path()
	if errors.Is(err, unix.ENOENT) {
		return &MissingParentError{Path: w.name, Parent: at}
	}
	if errors.Is(err, unix.ENOTDIR) {
		return &PathError{Op: "open", Path: w.name, Reason: fmt.Sprintf("%q is not a directory", at), Err: err}
	}
	return explain("open", w.name, err)
}

// trusted reports whether a link can be followed by a privileged process, as far
// as a directory above it tells: the link is root's or the agent's own user's, and
// nobody else can change the directory. That somebody trusted made it does not suffice: others could
// move it to another name. In a sticky directory they cannot, unless they
// linked it there under a second name.
func trusted(dir, link *unix.Stat_t) bool {
	if os.Geteuid() != 0 {
		return closed(dir) || ours(link.Uid) && link.Nlink == 1
	}
	sticky := ours(dir.Uid) && dir.Mode&unix.S_ISVTX != 0
	return ours(link.Uid) && (closed(dir) || ofRoot(dir) || sticky && link.Nlink == 1)
}

// ofRoot is closed for directories that the group root may write to: whole trees
// of images are like that.
func ofRoot(dir *unix.Stat_t) bool {
	return dir.Uid == 0 && dir.Gid == 0 && dir.Mode&0o002 == 0
}

// closed reports whether only root or the agent's own user can change a
// directory.
func closed(dir *unix.Stat_t) bool { return ours(dir.Uid) && dir.Mode&0o022 == 0 }

// trusted reports whether nobody else can change what the place's name means.
func (p place) trusted() bool {
	var dir unix.Stat_t
	return unix.Fstat(p.dir, &dir) == nil && closed(&dir)
}

func ours(uid uint32) bool { return uid == 0 || int(uid) == os.Geteuid() }

func readLink(dir int, base string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, base, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
