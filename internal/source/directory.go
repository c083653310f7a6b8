package source

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"trued.dev/trued/internal/source/object"
)

// A directory is a source that is a plain directory. It is taken into the
// store as it is at one moment, so that what is read later is of one piece and
// the last good state can be gone back to. Its commit is made up, and depends
// on nothing but names, modes and contents.
type directory struct {
	*cache
	// known are files that were hashed before, by path.
	known map[string]stamped
}

// stamped is a file's content as long as its stat data stay the same.
type stamped struct {
	size         int64
	mtime, ctime int64
	inode        uint64
	id           object.ID
}

// Fetch takes the directory into the store, if it changed.
func (d *directory) Fetch(ctx context.Context) (Revision, error) {
	asked := ctx
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Limits.Time)
	defer cancel()
	fail := func(err error) (Revision, error) {
		return Revision{}, explain(ctx, d.cfg.Name, d.cfg.Dir, d.cfg.Limits, err)
	}
	end, err := d.begin(ctx)
	if err != nil {
		return fail(err)
	}
	defer end()
	before := d.tip()
	if err := d.take(ctx); err != nil {
		r, err := fail(err)
		d.conclude(asked, before, r, err)
		return r, err
	}
	rev, ok := d.Last()
	if !ok {
		return fail(fmt.Errorf("%w: the snapshot is gone", object.ErrDamaged))
	}
	d.conclude(asked, before, rev, nil)
	return rev, nil
}

// Accept is Fetch: a directory has no history.
func (d *directory) Accept(ctx context.Context, _ string) (Revision, error) { return d.Fetch(ctx) }

// Obtain cannot do anything: what a directory was before is nowhere else.
func (d *directory) Obtain(_ context.Context, commit string) error {
	return &Error{Source: d.cfg.Name, URL: d.cfg.Dir, Reason: ErrNotFound, Err: fmt.Errorf("it was never at commit %s, or that was not kept", commit)}
}

func (d *directory) take(ctx context.Context) error {
	s, broken := d.current()
	if broken != nil {
		var err error
		if s, err = d.fresh(); err != nil {
			return err
		}
		d.known = map[string]stamped{}
	}
	tip, in, err := d.snapshot(ctx, s)
	if err == nil && (broken != nil || tip != d.tip()) {
		err = d.publish(s, in, tip)
	}
	if in != nil {
		in.Abort()
	}
	if err != nil {
		if broken != nil {
			discard(s)
		}
		return err
	}
	d.tellRepaired(d.cfg.Dir, broken)
	d.compactSometimes(ctx)
	return nil
}

func (d *directory) snapshot(ctx context.Context, s *object.Store) (object.ID, *object.Intake, error) {
	root, err := os.OpenRoot(d.cfg.Dir)
	if err != nil {
		return object.ID{}, nil, fmt.Errorf("cannot read the directory: %w", err)
	}
	defer func() { _ = root.Close() }()
	in, err := s.Begin()
	if err != nil {
		return object.ID{}, nil, err
	}
	sn := &snapshot{d: d, ctx: ctx, root: root, in: in, found: map[string]stamped{}}
	tree, err := sn.tree(".")
	if err != nil {
		return object.ID{}, in, err
	}
	commit := fmt.Sprintf("tree %s\nauthor trued <> 0 +0000\ncommitter trued <> 0 +0000\n\nContents of a directory\n", tree)
	tip, err := in.AddBytes(object.Commit, []byte(commit))
	d.known = sn.found
	return tip, in, err
}

// A snapshot is one walk over the directory.
type snapshot struct {
	d       *directory
	ctx     context.Context
	root    *os.Root
	in      *object.Intake
	found   map[string]stamped
	entries int
	bytes   int64
}

func (s *snapshot) tree(name string) (object.ID, error) {
	if err := s.ctx.Err(); err != nil {
		return object.ID{}, err
	}
	list, err := fs.ReadDir(s.root.FS(), name)
	if err != nil {
		return object.ID{}, fmt.Errorf("cannot read the directory: %w", err)
	}
	if s.entries += len(list); s.entries > s.d.cfg.Limits.Entries {
		return object.ID{}, overLimit("entries", "there are more than %d files and directories", s.d.cfg.Limits.Entries)
	}
	type line struct {
		key  string
		data []byte
	}
	var lines []line
	for _, e := range list {
		if strings.EqualFold(e.Name(), ".git") {
			continue
		}
		at := path.Join(name, e.Name())
		mode, id, err := s.entry(at)
		if errors.Is(err, fs.ErrNotExist) {
			// It went between listing and looking.
			continue
		}
		if err != nil {
			return object.ID{}, err
		}
		key := e.Name()
		if mode == "40000" {
			// Git's order takes a directory's name with a slash.
			key += "/"
		}
		lines = append(lines, line{key, append([]byte(mode+" "+e.Name()+"\x00"), id[:]...)})
	}
	slices.SortFunc(lines, func(a, b line) int { return cmp.Compare(a.key, b.key) })
	var tree []byte
	for _, l := range lines {
		tree = append(tree, l.data...)
	}
	return s.add(object.Tree, tree)
}

func (s *snapshot) add(kind object.Kind, data []byte) (object.ID, error) {
	id, err := object.Hash(kind, data)
	if err != nil || s.in.Has(id) {
		return id, err
	}
	return s.in.AddBytes(kind, data)
}

func (s *snapshot) entry(name string) (mode string, id object.ID, err error) {
	info, err := s.root.Lstat(name)
	if err != nil {
		return "", object.ID{}, fmt.Errorf("cannot read the directory: %w", err)
	}
	switch {
	case info.IsDir():
		id, err = s.tree(name)
		return "40000", id, err
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := s.root.Readlink(name)
		if err != nil {
			return "", object.ID{}, fmt.Errorf("cannot read the directory: %w", err)
		}
		id, err = s.add(object.Blob, []byte(target))
		return "120000", id, err
	case info.Mode().IsRegular():
		mode = "100644"
		if info.Mode()&0o111 != 0 {
			mode = "100755"
		}
		id, err = s.file(name, info)
		return mode, id, err
	default:
		return "", object.ID{}, fmt.Errorf("%s is neither a file, a directory nor a link: move it out of the source", filepath.Join(s.d.cfg.Dir, name))
	}
}

func (s *snapshot) file(name string, info fs.FileInfo) (object.ID, error) {
	limits := s.d.cfg.Limits
	if info.Size() > limits.Object {
		return object.ID{}, overLimit("object", "%s has %d bytes, more than %d", name, info.Size(), limits.Object)
	}
	if s.bytes += info.Size(); s.bytes > limits.Tree {
		return object.ID{}, overLimit("tree", "the files are larger than %d bytes together", limits.Tree)
	}
	now := stamp(info)
	if was, ok := s.d.known[name]; ok && s.in.Has(was.id) {
		now.id = was.id
		if now == was {
			s.found[name] = was
			return was.id, nil
		}
	}
	f, err := s.root.Open(name)
	if err != nil {
		return object.ID{}, fmt.Errorf("cannot read the directory: %w", err)
	}
	defer func() { _ = f.Close() }()
	id, err := s.content(f, info.Size())
	if err != nil {
		return object.ID{}, fmt.Errorf("cannot read %s, or it changed in the middle: %w", filepath.Join(s.d.cfg.Dir, name), err)
	}
	now.id = id
	// A file that was written just now may be written again within the same
	// tick of its clock.
	if settled := 2 * time.Second; time.Since(info.ModTime()) > settled {
		s.found[name] = now
	}
	return id, nil
}

// content hashes a file, and takes it in when it is not there yet.
func (s *snapshot) content(f io.Reader, size int64) (object.ID, error) {
	if small := int64(1 << 20); size <= small {
		data, err := io.ReadAll(io.LimitReader(f, size+1))
		if err == nil && int64(len(data)) != size {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return object.ID{}, err
		}
		return s.add(object.Blob, bytes.Clone(data))
	}
	return s.in.Add(object.Blob, size, f, object.ID{})
}

func stamp(info fs.FileInfo) stamped {
	st := stamped{size: info.Size(), mtime: info.ModTime().UnixNano()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		st.inode, st.ctime = sys.Ino, sys.Ctim.Nano()
	}
	return st
}

func isBare(dir string) bool {
	for _, name := range []string{"HEAD", "objects", "refs"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}
