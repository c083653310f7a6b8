package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A TakenError is a directory with files that nobody knows of and that a tree
// would replace.
type TakenError struct {
	Directory string
	Paths     []string
}

func (e *TakenError) Error() string {
	const shown = 3
	list := strings.Join(e.Paths[:min(len(e.Paths), shown)], ", ")
	if more := len(e.Paths) - shown; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("directory %q holds other files by the same names (%s): `force: true` replaces them", e.Directory, list)
}

// Commit puts the tree in place of what is there, in one step. Before, nothing is
// to be seen of it; after an error nothing has changed. It returns what the tree
// is made of, and what was replaced that nobody knew of, or was like it already,
// whose content is in the backup store.
func (t *Tree) Commit(ctx context.Context) (made []TreeEntry, replaced map[string]PathPrior, err error) {
	defer t.Abort()
	old, had, err := t.look()
	if err != nil {
		return nil, nil, err
	}
	s := &swap{t: t, known: byPathOf(t.spec.Known), own: byPathOf(t.entries), replaced: map[string]PathPrior{}}
	if had && old.Type() == TypeDirectory {
		if err := s.open(); err != nil {
			return nil, nil, err
		}
		defer s.old.Close()
		if err := s.survey(ctx); err != nil {
			return nil, nil, err
		}
		if err := s.carry(); err != nil {
			return nil, nil, err
		}
	} else if had && old.Type() == TypeFile {
		if err := t.host.KeepBackup(t.name); err != nil {
			return nil, nil, err
		}
	}
	if err := t.durable(); err != nil {
		return nil, nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if err := t.exchange(had); err != nil {
		return nil, nil, err
	}
	t.made = nil
	if !had {
		t.tmpName = ""
		return t.entries, nil, explain("sync the directory of", t.name, t.at.sync())
	}
	if err := t.at.sync(); err != nil {
		return nil, nil, explain("sync the directory of", t.name, err)
	}
	if s.old != nil && !t.spec.Purge {
		err = s.retire(ctx)
	} else {
		err = t.clear(old)
	}
	t.tmpName = ""
	return t.entries, s.replaced, explain("remove what was replaced at", t.name, err)
}

func byPathOf(entries []TreeEntry) map[string]TreeEntry {
	m := make(map[string]TreeEntry, len(entries))
	for _, e := range entries {
		m[e.Path] = e
	}
	return m
}

func (t *Tree) look() (old Info, had bool, err error) {
	old, err = t.at.stat()
	if errors.Is(err, unix.ENOENT) {
		return old, false, nil
	}
	if err != nil {
		return old, false, explain("look at", t.name, err)
	}
	return old, true, t.accepts(old)
}

// durable ends the writing: the directory itself gets its owner and mode last.
func (t *Tree) durable() error {
	if err := t.finish(); err != nil {
		return err
	}
	fd := int(t.top.Fd())
	if err := t.dress(fd, t.spec.Mode.Or(0o755), time.Time{}); err != nil {
		return explain("set attributes of", t.name, err)
	}
	return explain("sync the file system of", t.name, unix.Syncfs(fd))
}

func (t *Tree) exchange(had bool) error {
	there, err := place{dir: t.at.dir, base: t.tmpName}.stat()
	if err != nil || !there.SameFile(t.mine) {
		return &PathError{Op: "replace", Path: t.name, Reason: "what was to replace it was replaced by somebody", Err: err}
	}
	if err := unix.Unlinkat(int(t.top.Fd()), markName, 0); err != nil {
		return explain("replace", t.name, err)
	}
	flags := uint(unix.RENAME_EXCHANGE)
	if !had {
		flags = unix.RENAME_NOREPLACE
	}
	err = unix.Renameat2(t.at.dir, t.tmpName, t.at.dir, t.at.base, flags)
	if had && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EXDEV)) {
		return &PathError{Op: "replace", Path: t.name, Reason: "its file system cannot exchange two directories in one step", Err: err}
	}
	return explainAt("replace", t.name, t.at, err)
}

// A swap is what happens to the directory that is there.
type swap struct {
	t          *Tree
	known, own map[string]TreeEntry
	old        *os.File
	// foreign are paths that are not of the tree, and stay.
	foreign  []foreign
	replaced map[string]PathPrior
	// public is true when others can have got into the new tree.
	public bool
}

type foreign struct {
	path string
	info Info
}

func (s *swap) open() error {
	d, err := s.t.at.openDir()
	s.old = d
	return explain("read", s.t.name, err)
}

// survey sorts what is there. What the tree would replace and nobody knows is
// refused, or kept by force.
func (s *swap) survey(ctx context.Context) error {
	var taken, alike []string
	err := s.each(ctx, func(name string, i Info) error {
		e, ours := s.own[name]
		_, was := s.known[name]
		switch {
		case s.t.spec.Held != nil && s.t.spec.Held(path.Join(s.t.name, name)):
			s.foreign = append(s.foreign, foreign{name, i})
		case was:
		case !ours && !s.t.spec.Purge:
			s.foreign = append(s.foreign, foreign{name, i})
		case ours && !s.same(name, e, i):
			taken = append(taken, name)
		case ours && s.t.spec.Before:
			alike = append(alike, name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(taken) > 0 && !s.t.spec.Force {
		return &TakenError{Directory: s.t.name, Paths: taken}
	}
	return s.note(append(taken, alike...))
}

// note keeps what is to come back when the tree leaves.
func (s *swap) note(names []string) error {
	for _, name := range names {
		at := path.Join(s.t.name, name)
		prior, err := s.t.host.NotePath(at)
		if err != nil {
			return err
		}
		if prior.Type == TypeFile {
			if err := s.t.host.KeepBackup(at); err != nil {
				return err
			}
		}
		s.replaced[at] = prior
	}
	return nil
}

// each walks through the directory that is there by its descriptor, wherever its
// name leads by now.
func (s *swap) each(ctx context.Context, visit func(name string, i Info) error) error {
	d, err := place{dir: int(s.old.Fd()), base: "."}.openDir()
	if err != nil {
		return explain("read", s.t.name, err)
	}
	defer d.Close()
	return walkDir(d, ".", func(name string, i Info) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return visit(name, i)
	})
}

// same reports whether what is there is what the tree has.
func (s *swap) same(name string, e TreeEntry, i Info) bool {
	if i.Type() != e.Type {
		return false
	}
	switch e.Type {
	case TypeLink:
		return i.Target == e.Target
	case TypeFile:
		dir, err := openBelow(int(s.old.Fd()), path.Dir(name))
		if err != nil {
			return false
		}
		defer unix.Close(dir)
		f, _, err := place{dir: dir, base: path.Base(name)}.open(name)
		if err != nil {
			return false
		}
		defer f.Close()
		hash := sha256.New()
		_, err = io.Copy(hash, f)
		return err == nil && hex.EncodeToString(hash.Sum(nil)) == e.SHA256
	}
	return true
}

// carry gives what stays a name in the new tree as well, so that it is never
// missing and nothing of it is copied.
func (s *swap) carry() error {
	for _, f := range s.foreign {
		if err := s.carryOne(f); err != nil {
			return fmt.Errorf("cannot carry %q over to the new tree of %q: %w", f.path, s.t.name, err)
		}
	}
	return nil
}

func (s *swap) carryOne(f foreign) error {
	dir, err := s.parentOf(f.path)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	base := path.Base(f.path)
	if f.info.Type() == TypeDirectory {
		err := unix.Mkdirat(dir, base, 0o700)
		if errors.Is(err, unix.EEXIST) {
			return nil
		}
		if err != nil {
			return err
		}
		return likeDirectory(dir, base, f.info)
	}
	from, err := openBelow(int(s.old.Fd()), path.Dir(f.path))
	if errors.Is(err, unix.ENOENT) {
		return nil // gone since
	}
	if err != nil {
		return err
	}
	defer unix.Close(from)
	err = unix.Linkat(from, base, dir, base, 0)
	if errors.Is(err, unix.EEXIST) {
		// Another resource holds it: the tree's own gives way.
		if err := unix.Unlinkat(dir, base, 0); err != nil {
			return err
		}
		err = unix.Linkat(from, base, dir, base, 0)
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// parentOf opens the directory of a path in the new tree. One that the tree has
// no more is made as it was.
func (s *swap) parentOf(name string) (int, error) {
	above := path.Dir(name)
	fd, err := s.t.open(above)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	dir, err := s.parentOf(above)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	from, err := openBelow(int(s.old.Fd()), above)
	if err != nil {
		return -1, err
	}
	defer unix.Close(from)
	var was Info
	if err := unix.Fstat(from, &was.st); err != nil {
		return -1, err
	}
	if err := unix.Mkdirat(dir, path.Base(above), 0o700); err != nil {
		return -1, err
	}
	if !s.public {
		if err := likeDirectory(dir, path.Base(above), was); err != nil {
			return -1, err
		}
	}
	return s.t.open(above)
}

func likeDirectory(dir int, base string, like Info) error {
	fd, err := openBelow(dir, base)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := chown(fd, like.UID(), like.GID()); err != nil {
		return err
	}
	return unix.Fchmod(fd, like.Mode().Bits())
}

// retire removes the directory that was replaced, but for what came to it while
// the two were exchanged, which is moved over: a program may have had the old one
// open. Nothing is removed whose name was not known before, so nothing is lost.
func (s *swap) retire(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx) // the new one is in place
	carried := map[string]bool{}
	for _, f := range s.foreign {
		carried[f.path] = true
	}
	s.public = true
	const patience = 1000 // somebody may go on writing
	for range patience {
		var ours []string
		err := s.each(ctx, func(name string, i Info) error {
			_, now := s.own[name]
			if _, was := s.known[name]; was || now || carried[name] {
				ours = append(ours, name)
				return nil
			}
			moved, err := s.move(name)
			switch {
			case err != nil:
				return fmt.Errorf("cannot move %q to the new tree: %w", name, err)
			case !moved: // there is another by now, which counts
				ours = append(ours, name)
			case i.Type() == TypeDirectory:
				return fs.SkipDir
			}
			return nil
		})
		if err != nil {
			return err
		}
		slices.SortFunc(ours, DeepestFirst)
		for _, name := range ours {
			if err := s.unlink(name); err != nil {
				return err
			}
		}
		err = unix.Unlinkat(s.t.at.dir, s.t.tmpName, unix.AT_REMOVEDIR)
		if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return errors.New("somebody goes on writing to it")
}

// unlink removes what has a name in the old directory. One that is not empty
// waits for the next round.
func (s *swap) unlink(name string) error {
	dir, err := openBelow(int(s.old.Fd()), path.Dir(name))
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	base := path.Base(name)
	err = unix.Unlinkat(dir, base, 0)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
		err = unix.Unlinkat(dir, base, unix.AT_REMOVEDIR)
	}
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// move gives a path to the new tree, unless that has one of its name.
func (s *swap) move(name string) (moved bool, err error) {
	dir, err := s.parentOf(name)
	if err != nil {
		return false, err
	}
	defer unix.Close(dir)
	from, err := openBelow(int(s.old.Fd()), path.Dir(name))
	if err != nil {
		return false, err
	}
	defer unix.Close(from)
	base := path.Base(name)
	err = unix.Renameat2(from, base, dir, base, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}
