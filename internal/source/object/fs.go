package object

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// An FS is the tree of a commit, read from the store as it is asked for.
// Symbolic links are followed within the tree and refused where they leave it.
// It implements fs.ReadDirFS, fs.ReadFileFS, fs.StatFS and fs.ReadLinkFS.
type FS struct {
	s     *Store
	root  ID
	limit int64
	time  time.Time
	wrong func(error)

	mu    sync.Mutex
	trees map[ID]*dir
}

// The reasons for which a path of a tree is refused.
var (
	ErrEscapes   = errors.New("symbolic link leaves the repository")
	ErrLinkLoop  = errors.New("too many symbolic links")
	ErrSubmodule = errors.New("is a submodule, which is not fetched: put its files into the repository itself")
	ErrLFS       = errors.New("is stored by Git LFS and only a pointer to it is in the repository: commit the file itself, or have a package or command bring it")
	ErrName      = errors.New("directory holds a name that is not plain UTF-8 text: rename it")
	ErrLongName  = errors.New("directory holds a name that is too long for a file: rename it")
)

const (
	maxLinks = 40
	maxLink  = 4096
	// Larger files are hashed while they are read.
	inMemory = 1 << 20
	// maxName is what Linux takes for the name of a file.
	maxName = 255
)

// Tree returns the tree of a commit. A file larger than limit is refused; wrong
// is told of each error that means that the store is damaged.
func (s *Store) Tree(commit ID, limit int64, wrong func(error)) (*FS, error) {
	c, err := s.Commit(commit)
	if err != nil {
		return nil, err
	}
	return &FS{s: s, root: c.Tree, limit: limit, time: c.Committed, wrong: wrong, trees: map[ID]*dir{}}, nil
}

type dir struct {
	sorted []Entry
	byName map[string]Entry
	// bad is a name that cannot be shown, or that no file can have.
	bad string
}

func (f *FS) dir(id ID) (*dir, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d, ok := f.trees[id]; ok {
		return d, nil
	}
	kind, data, err := f.s.Read(id, MaxTree)
	if err != nil {
		return nil, f.told(err)
	}
	if kind != Tree {
		return nil, fmt.Errorf("%s is a %s and no tree", id, kind)
	}
	entries, err := ParseTree(data)
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", id, err)
	}
	d := &dir{sorted: entries, byName: make(map[string]Entry, len(entries))}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name < entries[j].Name })
	for _, e := range entries {
		d.byName[e.Name] = e
		if len(e.Name) > maxName || !utf8.ValidString(e.Name) || strings.ContainsFunc(e.Name, isControl) {
			d.bad = e.Name
		}
	}
	f.trees[id] = d
	return d, nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// told passes an error on, and says so when it means that the store is damaged.
func (f *FS) told(err error) error {
	if f.wrong != nil && (errors.Is(err, ErrDamaged) || errors.Is(err, ErrMissing)) {
		f.wrong(err)
	}
	return err
}

type toldReader struct {
	io.ReadCloser
	f *FS
}

func (t *toldReader) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	return n, t.f.told(err)
}

var rootEntry = Entry{Mode: modeDirectory, Name: "."}

// find returns the entry of a path. Links before the last element are
// followed, the last one when follow says so.
func (f *FS) find(name string, follow bool) (Entry, error) {
	todo := strings.Split(name, "/")
	if name == "." {
		todo = nil
	}
	// stack holds the directories from the root to where we are.
	root := rootEntry
	root.ID = f.root
	stack, names := []Entry{root}, []string{}
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if len(stack) == 1 {
				return Entry{}, ErrEscapes
			}
			stack, names = stack[:len(stack)-1], names[:len(names)-1]
			continue
		}
		here := stack[len(stack)-1]
		if here.IsSubmodule() {
			return Entry{}, fmt.Errorf("%q %w", path.Join(names...), ErrSubmodule)
		}
		if !here.IsTree() {
			return Entry{}, errNotDirectory
		}
		d, err := f.dir(here.ID)
		if err != nil {
			return Entry{}, err
		}
		e, ok := d.byName[part]
		if !ok {
			return Entry{}, fs.ErrNotExist
		}
		if e.Mode&modeType == modeLink && (follow || len(todo) > 0) {
			if links++; links > maxLinks {
				return Entry{}, ErrLinkLoop
			}
			target, err := f.target(e)
			if err != nil {
				return Entry{}, err
			}
			if strings.HasPrefix(target, "/") {
				return Entry{}, fmt.Errorf("%w: %q points to %q", ErrEscapes, path.Join(append(names, part)...), target)
			}
			todo = append(strings.Split(target, "/"), todo...)
			continue
		}
		stack, names = append(stack, e), append(names, part)
	}
	return stack[len(stack)-1], nil
}

var errNotDirectory = errors.New("not a directory")

func (f *FS) target(e Entry) (string, error) {
	kind, data, err := f.s.Read(e.ID, maxLink)
	if err != nil {
		return "", f.told(err)
	}
	if kind != Blob || len(data) == 0 || bytes.IndexByte(data, 0) >= 0 {
		return "", fmt.Errorf("symbolic link %q is malformed", e.Name)
	}
	return string(data), nil
}

func (f *FS) lookup(op, name string, follow bool) (Entry, error) {
	if !fs.ValidPath(name) {
		return Entry{}, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	e, err := f.find(name, follow)
	if err != nil {
		return Entry{}, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return e, nil
}

// Open opens a file or directory. The file's bytes are hashed; a large one
// ends with an error in place of io.EOF when they were wrong.
func (f *FS) Open(name string) (fs.File, error) {
	e, err := f.lookup("open", name, true)
	if err != nil {
		return nil, err
	}
	i, err := f.info(name, e)
	if err != nil {
		return nil, err
	}
	if e.IsTree() {
		entries, err := f.ReadDir(name)
		if err != nil {
			return nil, err
		}
		return &openDir{info: i, entries: entries}, nil
	}
	r, err := f.content(e)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &openFile{info: i, r: r}, nil
}

// content returns a file's bytes.
func (f *FS) content(e Entry) (io.ReadCloser, error) {
	if e.IsSubmodule() {
		return nil, ErrSubmodule
	}
	kind, size, r, err := f.s.Reader(e.ID)
	if err != nil {
		return nil, f.told(err)
	}
	if kind != Blob || size > f.limit {
		// Type and size may be what is damaged.
		err := drain(r)
		_ = r.Close()
		if err != nil {
			return nil, f.told(err)
		}
		if kind != Blob {
			return nil, fmt.Errorf("%s is a %s and no file", e.ID, kind)
		}
		return nil, fmt.Errorf("file has %d bytes, more than the limit of %d", size, f.limit)
	}
	if size > inMemory {
		return &toldReader{r, f}, nil
	}
	defer func() { _ = r.Close() }()
	data, err := readSized(r, size)
	if err != nil {
		return nil, f.told(err)
	}
	if bytes.HasPrefix(data, []byte("version https://git-lfs.github.com/spec/")) && bytes.Contains(data, []byte("\noid ")) {
		return nil, ErrLFS
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// ReadFile returns a file's bytes.
func (f *FS) ReadFile(name string) ([]byte, error) {
	e, err := f.lookup("read", name, true)
	if err != nil {
		return nil, err
	}
	if e.IsTree() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("is a directory")}
	}
	r, err := f.content(e)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	defer func() { _ = r.Close() }()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return data, nil
}

// ReadDir returns a directory's entries in name order.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	e, err := f.lookup("readdir", name, true)
	if err != nil {
		return nil, err
	}
	switch {
	case e.IsSubmodule():
		err = ErrSubmodule
	case !e.IsTree():
		err = errNotDirectory
	}
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	d, err := f.dir(e.ID)
	switch {
	case err != nil || d.bad == "":
	case len(d.bad) > maxName:
		err = fmt.Errorf("%w: %.100q…", ErrLongName, d.bad)
	default:
		err = fmt.Errorf("%w: %q", ErrName, d.bad)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	list := make([]fs.DirEntry, 0, len(d.sorted))
	for _, e := range d.sorted {
		list = append(list, &dirEntry{f: f, e: e, name: path.Join(name, e.Name)})
	}
	return list, nil
}

// Stat describes what a path leads to.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	e, err := f.lookup("stat", name, true)
	if err != nil {
		return nil, err
	}
	return f.info(name, e)
}

// Lstat describes a path, a link as itself.
func (f *FS) Lstat(name string) (fs.FileInfo, error) {
	e, err := f.lookup("lstat", name, false)
	if err != nil {
		return nil, err
	}
	return f.info(name, e)
}

// ReadLink returns where a link points to. One that leaves the repository is
// refused.
func (f *FS) ReadLink(name string) (string, error) {
	e, err := f.lookup("readlink", name, false)
	if err != nil {
		return "", err
	}
	if e.Mode&modeType != modeLink {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	target, err := f.target(e)
	if err == nil {
		// Where it leads need not exist, but it must be inside.
		if _, found := f.find(name, true); errors.Is(found, ErrEscapes) {
			err = found
		}
	}
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return target, nil
}
