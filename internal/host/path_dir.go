package host

import (
	"errors"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/resource"
)

// Ownership is what a path of any type can be given. What is not given stays;
// a new directory gets 0755.
type Ownership struct {
	Mode  resource.Mode
	Owner string
	Group string
}

// CompareOwnership compares what is at a path with an ownership.
func (h *Host) CompareOwnership(i Info, o Ownership) (resource.Diff, error) {
	mode := o.Mode
	if i.Type() == TypeLink {
		mode = resource.Mode{}
	}
	return h.compareOwnership(i, mode, o.Owner, o.Group)
}

// resolveNew is resolve that makes missing directories if parents is set, and
// tells which.
func (h *Host) resolveNew(name string, follow, parents bool) (p place, made []string, err error) {
	p, err = h.resolve(name, follow)
	var missing *MissingParentError
	if !parents || !errors.As(err, &missing) {
		return p, nil, err
	}
	for _, dir := range h.missingParents(name) {
		if err := h.Mkdir(dir, Ownership{}); err != nil {
			return place{}, made, err
		}
		made = append(made, dir)
		if err := h.SyncDir(parent(dir)); err != nil {
			return place{}, made, err
		}
	}
	p, err = h.resolve(name, follow)
	return p, made, err
}

// MakeParents makes the missing directories above a path, 0755 and of the
// agent's own user.
func (h *Host) MakeParents(name string) error {
	p, _, err := h.resolveNew(name, false, true)
	if err == nil {
		p.close()
	}
	return err
}

// SyncDir makes the names in a directory of the machine durable.
func (h *Host) SyncDir(name string) error {
	p, err := h.resolve(name, true)
	if err != nil {
		return err
	}
	defer p.close()
	d, err := p.openDir()
	if err != nil {
		return explain("sync", name, err)
	}
	defer d.Close()
	return explain("sync", name, d.Sync())
}

// Mkdir makes a directory whose parent is there. One that is there already is
// an error. It is durable after SyncDir of the parent.
func (h *Host) Mkdir(name string, o Ownership) error {
	uid, gid, err := h.ids(o.Owner, o.Group)
	if err != nil {
		return err
	}
	p, err := h.resolve(name, false)
	if err != nil {
		return err
	}
	defer p.close()
	if err := unix.Mkdirat(p.dir, p.base, 0o700); err != nil {
		return explainAt("make directory", name, p, err)
	}
	d, err := p.openDir()
	if err != nil {
		return explain("open", name, err)
	}
	defer d.Close()
	fd := int(d.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return explain("look at", name, err)
	}
	if int(st.Uid) != os.Geteuid() {
		return &PathError{Op: "make directory", Path: name, Reason: "it was replaced by somebody"}
	}
	if err := chown(fd, uid, gid); err != nil {
		return explainAt("change the owner of", name, p, err)
	}
	// A setgid bit is inherited; a mode that is given says all twelve bits.
	mode := o.Mode
	if !mode.IsSet() {
		mode = resource.NewMode(0o755 | st.Mode&0o2000)
	}
	if err := unix.Fchmod(fd, mode.Bits()); err != nil {
		return explainAt("change the mode of", name, p, err)
	}
	return nil
}

// SetOwnership changes mode and owner of what is at a path. It follows a link
// at its end only when follow is set, and leaves a file with several names
// alone: that takes a replacement, which Stage makes.
func (h *Host) SetOwnership(name string, o Ownership, follow bool) error {
	uid, gid, err := h.ids(o.Owner, o.Group)
	if err != nil {
		return err
	}
	p, err := h.resolve(name, follow)
	if err != nil {
		return err
	}
	defer p.close()
	i, err := p.stat()
	if err != nil {
		return explain("look at", name, err)
	}
	return h.mend(name, p, i, o.Mode, uid, gid)
}

// Symlink puts a link to target at a path, in place of a link or a file that is
// there, in one step. A directory is replaced with all that is in it when force
// is set.
func (h *Host) Symlink(target, name string, o Ownership, parents, force bool) error {
	uid, gid, err := h.ids(o.Owner, o.Group)
	if err != nil {
		return err
	}
	p, _, err := h.resolveNew(name, false, parents)
	if err != nil {
		return err
	}
	defer p.close()
	tmp := place{dir: p.dir, base: temporaryName(p.base), real: p.real}
	if err := unix.Symlinkat(target, p.dir, tmp.base); err != nil {
		return explainAt("make link", name, p, err)
	}
	if uid >= 0 || gid >= 0 {
		err = unix.Fchownat(p.dir, tmp.base, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	}
	if i, e := p.stat(); err == nil && e == nil && i.Type() == TypeDirectory && force {
		err = removeAll(p, name)
	}
	if err == nil {
		err = unix.Renameat(p.dir, tmp.base, p.dir, p.base)
	}
	if err != nil {
		_ = unix.Unlinkat(p.dir, tmp.base, 0)
		return explainAt("make link", name, p, err)
	}
	return explain("sync the directory of", name, p.sync())
}

// Remove removes a file, a link, or an empty directory. What is not there is in
// order.
func (h *Host) Remove(name string) error {
	return h.removing(name, false, func(p place, i Info) error { return p.remove(name, i) })
}

func (p place) remove(name string, i Info) error {
	flags := 0
	if i.Type() == TypeDirectory {
		flags = unix.AT_REMOVEDIR
	}
	return explainAt("remove", name, p, unix.Unlinkat(p.dir, p.base, flags))
}

// RemoveAll removes what is at a path with all below it. It follows no links
// and stops at what is mounted.
func (h *Host) RemoveAll(name string) error {
	return h.removing(name, false, func(p place, _ Info) error { return removeAll(p, name) })
}

func (h *Host) removing(name string, follow bool, remove func(place, Info) error) error {
	p, err := h.resolve(name, follow)
	var missing *MissingParentError
	if errors.As(err, &missing) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.close()
	i, err := p.stat()
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return explain("look at", name, err)
	}
	if err := remove(p, i); err != nil {
		return err
	}
	h.digests.forget(name)
	return explain("sync the directory of", name, p.sync())
}

func removeAll(p place, name string) error {
	err := unix.Unlinkat(p.dir, p.base, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return explainAt("remove", name, p, err)
	}
	d, opened := p.openDir()
	if opened != nil {
		return explainAt("remove", name, p, err)
	}
	defer d.Close()
	entries, err := readEntries(d, name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		below := place{dir: int(d.Fd()), base: e.Name, real: p.path()}
		if err := removeAll(below, path.Join(name, e.Name)); err != nil {
			return err
		}
	}
	return explainAt("remove", name, p, unix.Unlinkat(p.dir, p.base, unix.AT_REMOVEDIR))
}

// SyncFS syncs each distinct file system of the directories once. Paths are
// those of this process, as Staged.Dir gives them.
func SyncFS(dirs []string) error {
	seen := map[string]bool{}
	devices := map[uint64]bool{}
	for _, dir := range dirs {
		if seen[dir] {
			continue
		}
		seen[dir] = true
		if err := syncOnce(dir, devices); err != nil {
			return explain("sync the file system of", dir, err)
		}
	}
	return nil
}

func syncOnce(dir string, devices map[uint64]bool) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	dev := uint64(st.Dev) //nolint:unconvert // its width differs between architectures
	if devices[dev] {
		return nil
	}
	devices[dev] = true
	return unix.Syncfs(fd)
}

// Sweep removes temporary files that a run which was cut off left beside the
// given paths of the machine, and returns how many there were.
func (h *Host) Sweep(names []string) (int, error) {
	bases := map[string][]string{}
	for _, name := range names {
		bases[path.Dir(name)] = append(bases[path.Dir(name)], path.Base(name))
	}
	swept := 0
	for dir, finals := range bases {
		n, err := h.sweepDir(dir, finals)
		swept += n
		if err != nil {
			return swept, err
		}
	}
	return swept, nil
}

func (h *Host) sweepDir(dir string, finals []string) (int, error) {
	p, err := h.resolve(path.Join(dir, finals[0]), false)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer p.close()
	d, err := place{dir: p.dir, base: "."}.openDir()
	if err != nil {
		return 0, explain("read", dir, err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return 0, explain("read", dir, err)
	}
	swept := 0
	for _, base := range names {
		if !temporaryOf(base, finals) {
			continue
		}
		at := place{dir: p.dir, base: base, real: p.real}
		if err := removeAll(at, path.Join(dir, base)); err != nil {
			return swept, err
		}
		swept++
	}
	return swept, nil
}

// temporaryOf reports whether base is the temporary name of one of finals.
func temporaryOf(base string, finals []string) bool {
	rest, ok := strings.CutPrefix(base, TemporaryPrefix)
	if !ok {
		return false
	}
	random, end, ok := strings.Cut(rest, "-")
	if !ok || len(random) != 10 || end == "" {
		return false
	}
	for _, final := range finals {
		if end == final || len(base) == unix.NAME_MAX && strings.HasSuffix(final, end) {
			return true
		}
	}
	return false
}
