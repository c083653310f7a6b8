package host

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/resource"
)

// A TreeSpec says how a tree is put in place.
type TreeSpec struct {
	Mode         resource.Mode // of the directory itself; 0755 when not given
	Owner, Group string        // of all of it
	Parents      bool          // make missing directories above it
	// Purge lets go of what is in the directory and not of the tree.
	Purge bool
	// Force replaces a file or a link, and files that were there before the tree
	// and have its names.
	Force bool
	// Known is what the tree that is there now was made of; nil is nothing.
	Known []TreeEntry
	// Before is true when the directory was there before the first tree, so that
	// what is in it and like the tree may have been, too.
	Before bool
	// Held reports whether another resource holds a path of the machine: what is
	// there stays.
	Held func(name string) bool
}

// A TreeEntry is one path of a tree that was written.
type TreeEntry struct {
	Path   string        `json:"path"` // below the directory
	Type   string        `json:"type"`
	Mode   resource.Mode `json:"mode,omitzero"`
	SHA256 string        `json:"sha256,omitempty"`
	Target string        `json:"target,omitempty"`
}

// A Tree is a directory that is written aside, whole, before it takes the place
// of the one that is there in one step. Nobody else gets into it meanwhile, so
// that nothing written to it can be led elsewhere.
type Tree struct {
	host    *Host
	name    string
	spec    TreeSpec
	at      place
	made    []string
	tmpName string
	top     *os.File
	mine    Info
	uid     int
	gid     int

	entries []TreeEntry
	types   map[string]string
}

// treePrefix begins the name of a tree that is written, or was replaced and is
// being removed.
const treePrefix = TemporaryPrefix + "tree-"

// StageTree begins a tree at a path. The caller ends it with Commit or Abort.
func (h *Host) StageTree(ctx context.Context, name string, spec TreeSpec) (*Tree, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	uid, gid, err := h.ids(spec.Owner, spec.Group)
	if err != nil {
		return nil, err
	}
	t := &Tree{host: h, name: name, spec: spec, uid: uid, gid: gid, types: map[string]string{".": TypeDirectory}}
	if t.at, t.made, err = h.resolveNew(name, false, spec.Parents); err != nil {
		_ = h.removeMade(t.made)
		return nil, err
	}
	if err := t.begin(); err != nil {
		t.Abort()
		return nil, err
	}
	return t, nil
}

func (t *Tree) begin() error {
	if err := t.host.sweepTrees(t.at); err != nil {
		return err
	}
	// What cannot be replaced is not worth a transfer.
	if now, err := t.at.stat(); err == nil {
		if err := t.accepts(now); err != nil {
			return err
		}
	}
	base := t.at.base
	random := strings.ToLower(rand.Text()[:10])
	if over := len(treePrefix) + len(random) + 1 + len(base) - unix.NAME_MAX; over > 0 {
		base = base[over:]
	}
	tmpName := treePrefix + random + "-" + base
	if err := unix.Mkdirat(t.at.dir, tmpName, 0o700); err != nil {
		return explainAt("make directory", t.name, t.at, err)
	}
	t.tmpName = tmpName
	tmp := place{dir: t.at.dir, base: t.tmpName, real: t.at.real}
	top, err := tmp.openDir()
	if err != nil {
		return explain("open", t.name, err)
	}
	t.top = top
	if err := unix.Fstat(int(top.Fd()), &t.mine.st); err != nil {
		return explain("look at", t.name, err)
	}
	if int(t.mine.st.Uid) != os.Geteuid() {
		return &PathError{Op: "make directory", Path: t.name, Reason: "it was replaced by somebody"}
	}
	// Whatever the directory above gives to what is made in it.
	if err := unix.Fchmod(int(top.Fd()), 0o700); err != nil {
		return explain("change the mode of", t.name, err)
	}
	return explain("write", t.name, mark(int(top.Fd())))
}

func (t *Tree) accepts(now Info) error {
	if now.Type() == TypeDirectory || t.spec.Force && (now.Type() == TypeFile || now.Type() == TypeLink) {
		return nil
	}
	return &TypeError{Path: t.name, Is: now.Type(), Want: TypeDirectory, Hint: "`force: true` replaces a file or a link"}
}

// Scratch returns an empty file without a name on the file system of the tree:
// it is gone with the process.
func (t *Tree) Scratch() (*os.File, error) {
	const base = ".trued-scratch"
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(int(t.top.Fd()), base, flags, 0o600)
	if err != nil {
		return nil, explain("write", t.name, err)
	}
	if err := unix.Unlinkat(int(t.top.Fd()), base, 0); err != nil {
		_ = unix.Close(fd)
		return nil, explain("write", t.name, err)
	}
	return os.NewFile(uintptr(fd), base), nil
}

// A TreeError is an entry that no tree may have.
type TreeError struct {
	Path   string
	Reason string
}

func (e *TreeError) Error() string { return fmt.Sprintf("%q %s", e.Path, e.Reason) }

func bad(name, format string, args ...any) error {
	return &TreeError{Path: name, Reason: fmt.Sprintf(format, args...)}
}

// enter checks a path that is to be added, and opens its directory.
func (t *Tree) enter(name, kind string) (dir int, base string, err error) {
	switch {
	case name == "" || name == "." || path.IsAbs(name) || path.Clean(name) != name || name == ".." || strings.HasPrefix(name, "../"):
		return -1, "", bad(name, "is not a path in a tree")
	case !utf8.ValidString(name):
		return -1, "", bad(name, "is not UTF-8")
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return -1, "", bad(name, "has a control character in it")
	case strings.HasPrefix(path.Base(name), TemporaryPrefix):
		return -1, "", bad(name, "has a name that temporary files have here")
	}
	if _, ok := t.types[name]; ok {
		return -1, "", bad(name, "is in it twice")
	}
	above := path.Dir(name)
	if err := t.Directory(above, resource.Mode{}); err != nil {
		return -1, "", err
	}
	if dir, err = t.open(above); err != nil {
		return -1, "", t.failed(name, err)
	}
	t.types[name] = kind
	return dir, path.Base(name), nil
}

func (t *Tree) open(name string) (int, error) { return openBelow(int(t.top.Fd()), name) }

// openBelow opens a directory below another, and goes through no link.
func openBelow(top int, name string) (int, error) {
	fd, err := unix.Openat2(top, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if !errors.Is(err, unix.ENOSYS) {
		return fd, err
	}
	fd, err = unix.Dup(top) // a kernel without openat2
	for part := range strings.SplitSeq(name, "/") {
		if err != nil {
			return -1, err
		}
		next, opened := unix.Openat(fd, part, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		_ = unix.Close(fd)
		fd, err = next, opened
	}
	return fd, err
}

func (t *Tree) failed(name string, err error) error {
	return explain("write", path.Join(t.name, name), err)
}

// Directory adds a directory, and those above it. One that was added already
// gets the mode that is given; without one it is 0755.
func (t *Tree) Directory(name string, mode resource.Mode) error {
	switch kind, ok := t.types[name]; {
	case ok && kind != TypeDirectory:
		return bad(name, "is a %s, and another entry goes through it", kind)
	case ok && mode.IsSet() && name != ".":
		for i := range t.entries {
			if t.entries[i].Path == name {
				t.entries[i].Mode = mode
			}
		}
		return nil
	case ok:
		return nil
	}
	dir, base, err := t.enter(name, TypeDirectory)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := unix.Mkdirat(dir, base, 0o700); err != nil {
		return t.failed(name, err)
	}
	t.entries = append(t.entries, TreeEntry{Path: name, Type: TypeDirectory, Mode: mode.Or(0o755)})
	return nil
}

// File adds a file. Its time of change is the one given, unless that is zero.
func (t *Tree) File(name string, mode resource.Mode, modified time.Time, content io.Reader) error {
	dir, base, err := t.enter(name, TypeFile)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, base, flags, 0o600)
	if err != nil {
		return t.failed(name, err)
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(io.MultiWriter(written{f}, hash), content); err != nil {
		var own *writeError
		if errors.As(err, &own) {
			return t.failed(name, own.error)
		}
		return fmt.Errorf("cannot read %q: %w", name, err)
	}
	if err := t.dress(fd, mode, modified); err != nil {
		return t.failed(name, err)
	}
	t.entries = append(t.entries, TreeEntry{Path: name, Type: TypeFile, Mode: mode, SHA256: hex.EncodeToString(hash.Sum(nil))})
	return nil
}

// written tells errors of writing from those of reading.
type written struct{ to io.Writer }

type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

func (w written) Write(p []byte) (int, error) {
	n, err := w.to.Write(p)
	if err != nil {
		return n, &writeError{err}
	}
	return n, nil
}

func (t *Tree) dress(fd int, mode resource.Mode, modified time.Time) error {
	if err := chown(fd, t.uid, t.gid); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, mode.Bits()); err != nil {
		return err
	}
	if modified.IsZero() {
		return nil
	}
	stamp := unix.NsecToTimeval(modified.UnixNano())
	return unix.Futimes(fd, []unix.Timeval{stamp, stamp})
}

// Link adds a symbolic link that stays in the tree. Only its beginning may go up:
// where `..` follows a name, that could be a link itself.
func (t *Tree) Link(name, target string) error {
	if path.IsAbs(target) || target == "" || !utf8.ValidString(target) || strings.ContainsAny(target, "\x00\n") || !inside(name, target) {
		return bad(name, "is a link to %q, which is not in the tree", target)
	}
	dir, base, err := t.enter(name, TypeLink)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := unix.Symlinkat(target, dir, base); err != nil {
		return t.failed(name, err)
	}
	if t.uid >= 0 || t.gid >= 0 {
		if err := unix.Fchownat(dir, base, t.uid, t.gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return t.failed(name, err)
		}
	}
	t.entries = append(t.entries, TreeEntry{Path: name, Type: TypeLink, Target: target})
	return nil
}

func inside(name, target string) bool {
	depth := strings.Count(name, "/")
	down := false
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; down || depth < 0 {
				return false
			}
		default:
			down = true
		}
	}
	return true
}

// HardLink adds a second name for a file of the tree.
func (t *Tree) HardLink(name, to string) error {
	if t.types[to] != TypeFile {
		return bad(name, "is another name of %q, which is no file before it in the tree", to)
	}
	i := len(t.entries) - 1
	for ; t.entries[i].Path != to; i-- {
	}
	from, err := t.open(path.Dir(to))
	if err != nil {
		return t.failed(to, err)
	}
	defer unix.Close(from)
	dir, base, err := t.enter(name, TypeFile)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := unix.Linkat(from, path.Base(to), dir, base, 0); err != nil {
		return t.failed(name, err)
	}
	e := t.entries[i]
	e.Path = name
	t.entries = append(t.entries, e)
	return nil
}

// finish gives directories what they could not have while they were filled, and
// makes all of it durable.
func (t *Tree) finish() error {
	for i := len(t.entries) - 1; i >= 0; i-- {
		e := t.entries[i]
		if e.Type != TypeDirectory {
			continue
		}
		fd, err := t.open(e.Path)
		if err == nil {
			err = t.dress(fd, e.Mode, time.Time{})
			_ = unix.Close(fd)
		}
		if err != nil {
			return t.failed(e.Path, err)
		}
	}
	return nil
}

// Abort leaves nothing of the tree.
func (t *Tree) Abort() {
	if t.tmpName != "" {
		_ = t.clear(t.mine)
		t.tmpName = ""
	}
	if t.top != nil {
		_ = t.top.Close()
		t.top = nil
	}
	if t.made != nil {
		_ = t.host.removeMade(t.made)
		t.made = nil
	}
	if t.at.base != "" {
		t.at.close()
		t.at.base = ""
	}
}

// clear removes what is at the temporary name, if it is what was put there: in a
// directory of somebody else's it could be anything by now.
func (t *Tree) clear(want Info) error {
	p := place{dir: t.at.dir, base: t.tmpName, real: t.at.real}
	now, err := p.stat()
	if err != nil || !now.SameFile(want) {
		return err
	}
	if now.Type() != TypeDirectory {
		return p.remove(t.name, now)
	}
	d, err := p.openDir()
	if err != nil {
		return err
	}
	defer d.Close()
	var opened Info
	if err := unix.Fstat(int(d.Fd()), &opened.st); err != nil || !opened.SameFile(want) {
		return err
	}
	if err := removeBelow(d, t.name); err != nil {
		return err
	}
	return unix.Unlinkat(p.dir, p.base, unix.AT_REMOVEDIR)
}

func removeBelow(d *os.File, name string) error {
	entries, err := readEntries(d, name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := removeAll(place{dir: int(d.Fd()), base: e.Name, real: name}, path.Join(name, e.Name)); err != nil {
			return err
		}
	}
	return nil
}

// KeepTree stores what a tree is made of, and returns the word that KeptTree
// finds it by.
func (h *Host) KeepTree(entries []TreeEntry) (string, error) {
	data, err := json.Marshal(entries)
	if err != nil {
		return "", err
	}
	return h.Keep(data)
}

// KeptTree returns what KeepTree stored; fs.ErrNotExist when it is lost.
func (h *Host) KeptTree(word string) ([]TreeEntry, error) {
	data, err := h.Kept(word)
	if err != nil {
		return nil, err
	}
	var entries []TreeEntry
	if err := json.Unmarshal(data, &entries); err != nil {
		return nil, fmt.Errorf("cannot read what a tree is made of: %w", err)
	}
	return entries, nil
}
