package catalog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"

	"trued.dev/trued/internal/document"
	"trued.dev/trued/internal/resource"
)

const (
	// maxLinks is how many links one path may go through.
	maxLinks = 40
	// maxTemplate is the size of a template file.
	maxTemplate = 4 << 20
	// maxTreeEntries is how many files a directory resource may have.
	maxTreeEntries = 200_000
	maxTreeDepth   = 64
	// maxYAML is the size of all YAML files of one load together.
	maxYAML = 64 << 20
	// Files up to keptFile are kept in memory when a load has to read them,
	// since what is new will be shown and written; keptFiles of them together.
	keptFile  = 16 << 10
	keptFiles = 4 << 20
)

// A tree reads a source's tree. It follows links itself, one by one, so that
// none leads out of the repository, whatever the fs.FS would do. What it parsed
// and digested it keeps, for several loads of one commit.
type tree struct {
	name    string // the source's
	fsys    fs.FS
	links   bool // whether fsys can hold links
	parsed  map[string]*file
	size    int64 // of these together
	digests map[string]*resource.Content
	known   Digests // of earlier loads; may be nil
	small   *small
	dirs    map[string]string // where a directory is once its links are followed
}

// A file is a parsed YAML file.
type file struct {
	source   string // the name of the source
	path     string
	docs     []*document.Node
	problems []document.Problem
	data     []byte
}

func openTree(name string, fsys fs.FS) *tree {
	_, links := fsys.(fs.ReadLinkFS)
	return &tree{
		name: name, fsys: fsys, links: links,
		parsed:  map[string]*file{},
		digests: map[string]*resource.Content{},
		dirs:    map[string]string{".": "."},
		small:   &small{data: map[string][]byte{}},
	}
}

// small are the files that are kept in memory, by their paths.
type small struct {
	mu   sync.Mutex
	data map[string][]byte
	size int
}

// room reports whether a file of a size can be kept.
func (s *small) room(size int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return size <= keptFile && s.size+int(size) <= keptFiles
}

func (s *small) keep(name string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data[name], s.size = data, s.size+len(data)
}

func (s *small) get(name string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.data[name]
	return data, ok
}

func (s *small) shed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.data)
}

func (t *tree) origin(group, name string, line, column int) resource.Origin {
	return resource.Origin{Source: t.name, Group: group, File: name, Line: line, Column: column}
}

// resolve follows the links in a path and returns where it leads, within the
// repository.
func (t *tree) resolve(name string) (string, error) {
	if !fs.ValidPath(name) {
		return "", fmt.Errorf("path %q is not within the repository", name)
	}
	if !t.links {
		return name, nil
	}
	return t.follow(name, 0)
}

func (t *tree) follow(name string, links int) (string, error) {
	if to, ok := t.dirs[name]; ok {
		return to, nil
	}
	parent, err := t.follow(path.Dir(name), links)
	if err != nil {
		return "", err
	}
	at := path.Join(parent, path.Base(name))
	info, err := fs.Lstat(t.fsys, at)
	if err != nil {
		return "", err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		if links >= maxLinks {
			return "", fmt.Errorf("too many links at %q", name)
		}
		target, err := fs.ReadLink(t.fsys, at)
		if err != nil {
			return "", err
		}
		to := path.Join(path.Dir(at), target)
		if path.IsAbs(target) || !fs.ValidPath(to) {
			return "", fmt.Errorf("link %q leads out of the repository, to %q", name, target)
		}
		if at, err = t.follow(to, links+1); err != nil {
			return "", err
		}
	} else if !info.IsDir() {
		return at, nil
	}
	t.dirs[name] = at
	return at, nil
}

// stat returns what a path leads to, and where that is.
func (t *tree) stat(name string) (fs.FileInfo, string, error) {
	at, err := t.resolve(name)
	if err != nil {
		return nil, "", err
	}
	info, err := fs.Stat(t.fsys, at)
	return info, at, err
}

// readDir lists a directory in name order.
func (t *tree) readDir(name string) ([]fs.DirEntry, error) {
	at, err := t.resolve(name)
	if err != nil {
		return nil, err
	}
	return fs.ReadDir(t.fsys, at)
}

// read returns a file of at most limit bytes; a larger one is not read.
func (t *tree) read(name string, limit int64) ([]byte, fs.FileInfo, error) {
	info, at, err := t.stat(name)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errors.New("not a file")
	}
	tooLarge := fmt.Errorf("larger than %d MiB", limit>>20)
	if info.Size() > limit {
		return nil, nil, tooLarge
	}
	f, err := t.fsys.Open(at)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = tooLarge
	}
	return data, info, err
}

// yaml returns a parsed file. It is parsed once, and its problems are those of
// each load that asks for it. A file that is not there is fs.ErrNotExist.
func (t *tree) yaml(name string) (*file, error) {
	if f, ok := t.parsed[name]; ok {
		if f == nil {
			return nil, fs.ErrNotExist
		}
		return f, nil
	}
	data, _, err := t.read(name, document.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		t.parsed[name] = nil
		return nil, err
	}
	f := &file{source: t.name, path: name, data: data}
	if t.size += int64(len(data)); err == nil && t.size > maxYAML {
		err = fmt.Errorf("the YAML files together are larger than %d MiB", maxYAML>>20)
	}
	if err != nil {
		f.problems = []document.Problem{{Line: 1, Column: 1, Message: reason(err)}}
	} else {
		f.docs, f.problems = document.Parse(data)
	}
	t.parsed[name] = f
	return f, nil
}

// reason is what went wrong with a path, without the path that the message
// names already.
func reason(err error) string {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		if errors.Is(err, fs.ErrNotExist) {
			return "no such file or directory"
		}
		return pathErr.Err.Error()
	}
	return err.Error()
}

// within joins a path that a manifest names to its group's directory.
func within(group, name string) (string, error) {
	if name == "" {
		return "", errors.New("empty path")
	}
	if strings.HasPrefix(name, "/") {
		return "", fmt.Errorf("path %q must be relative to the group %s", name, group)
	}
	if strings.ContainsAny(name, "\x00\n") {
		return "", fmt.Errorf("path %q holds a newline or a NUL", name)
	}
	joined := path.Join(group, name)
	if !fs.ValidPath(joined) {
		return "", fmt.Errorf("path %q leads out of the repository", name)
	}
	return joined, nil
}
