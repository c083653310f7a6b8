package host

import (
	"errors"
	"os"
	"path"

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
	p, err = h.resolveToWrite(name, follow)
	var missing *MissingParentError
	if !parents || !errors.As(err, &missing) {
		return p, nil, err
	}
	for _, dir := range h.missingParents(name, missing) {
		if err := h.Mkdir(dir, Ownership{}); err != nil {
			return place{}, made, err
		}
		made = append(made, dir)
		if err := h.SyncDir(parent(dir)); err != nil {
			return place{}, made, err
		}
	}
	p, err = h.resolveToWrite(name, follow)
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

func (h *Host) syncFile(name string, follow bool) error {
	p, err := h.resolve(name, follow)
	if err != nil {
		return err
	}
	defer p.close()
	f, _, err := p.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return explain("sync", name, f.Sync())
}

// Mkdir makes a directory whose parent is there. One that is there already is
// an error. It is durable after SyncDir of the parent.
func (h *Host) Mkdir(name string, o Ownership) error {
	uid, gid, err := h.ids(o.Owner, o.Group)
	if err != nil {
		return err
	}
	p, err := h.resolveToWrite(name, false)
	if err != nil {
		return err
	}
	defer p.close()
	if err := h.sweepOnce(p); err != nil {
		return err
	}
	// It takes its name when it is as it should be: one that was cut off before
	// would be there for good, with a mode that nobody declared.
	tmp := place{dir: p.dir, base: temporaryName(p.base), real: p.real}
	if err := unix.Mkdirat(p.dir, tmp.base, 0o700); err != nil {
		return explainAt("make directory", name, p, err)
	}
	err = tmp.dressDirectory(name, o.Mode, uid, gid)
	if err == nil {
		err = explainAt("make directory", name, p, tmp.renameNew(p.base))
	}
	if err != nil {
		_ = unix.Unlinkat(p.dir, tmp.base, unix.AT_REMOVEDIR)
	}
	return err
}

// renameNew gives a directory a name that is not taken.
func (p place) renameNew(base string) error {
	err := unix.Renameat2(p.dir, p.base, p.dir, base, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// A file system without that: at worst an empty directory is replaced.
	if _, err := (place{dir: p.dir, base: base}).stat(); !errors.Is(err, unix.ENOENT) {
		return unix.EEXIST
	}
	return unix.Renameat(p.dir, p.base, p.dir, base)
}

// dressDirectory gives a directory that was just made its owner and mode.
func (p place) dressDirectory(name string, mode resource.Mode, uid, gid int) error {
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
	p, err := h.resolveToWrite(name, follow)
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
	if err := h.sweepOnce(p); err != nil {
		return err
	}
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
	p, err := h.resolveToWrite(name, follow)
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
