package object

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
)

// A Store is a bare Git repository that this package alone writes: packs of
// whole objects, references, and the list of commits whose parents were never
// fetched. Its methods may be called from several goroutines; one process
// writes at a time.
type Store struct {
	dir   string
	mu    sync.RWMutex
	packs []*pack
}

// Create makes an empty store in a directory that does not exist yet.
func Create(dir string) (*Store, error) {
	for _, d := range []string{"objects/pack", "objects/info", "refs/heads"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("cannot make the store: %w", err)
		}
	}
	config := "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
	for name, text := range map[string]string{"HEAD": "ref: refs/heads/tip\n", "config": config} {
		if err := writeSynced(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("cannot make the store: %w", err)
		}
	}
	return &Store{dir: dir}, nil
}

// Open opens a store.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir}
	packs, err := s.list(nil)
	if err != nil {
		return nil, err
	}
	s.packs = packs
	return s, nil
}

// Refresh looks for packs that another process added, and forgets those that
// it removed. Whoever still reads from them goes on: their files are closed
// when nothing refers to them any more.
func (s *Store) Refresh() error {
	s.mu.RLock()
	known := make(map[string]*pack, len(s.packs))
	for _, p := range s.packs {
		known[p.name] = p
	}
	s.mu.RUnlock()
	packs, err := s.list(known)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.packs = packs
	return nil
}

// list opens the packs of the store that are not known yet.
func (s *Store) list(known map[string]*pack) ([]*pack, error) {
	entries, err := os.ReadDir(s.packDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, damaged(s.dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open the store: %w", err)
	}
	var packs []*pack
	for _, e := range entries {
		base, isIndex := strings.CutSuffix(e.Name(), ".idx")
		if !isIndex || strings.HasPrefix(base, "tmp_") {
			continue
		}
		name := filepath.Join(s.packDir(), base)
		p, ok := known[name]
		if !ok {
			if p, err = openPack(name); err != nil {
				return nil, damaged(base, err)
			}
		} else if err := p.check(); err != nil {
			return nil, damaged(base, err)
		}
		packs = append(packs, p)
	}
	return packs, nil
}

// Tidy removes what an interrupted Intake left. Only the one who may write
// calls it.
func (s *Store) Tidy() {
	entries, _ := os.ReadDir(s.packDir())
	for _, e := range entries {
		base, isPack := strings.CutSuffix(e.Name(), ".pack")
		if isPack {
			_, err := os.Lstat(filepath.Join(s.packDir(), base+".idx"))
			isPack = errors.Is(err, fs.ErrNotExist)
		}
		if isPack || strings.HasPrefix(e.Name(), "tmp_") {
			_ = os.Remove(filepath.Join(s.packDir(), e.Name()))
		}
	}
	left, _ := filepath.Glob(filepath.Join(s.dir, "*.new"))
	for _, name := range left {
		_ = os.Remove(name)
	}
}

// Dir returns where the store is.
func (s *Store) Dir() string { return s.dir }

func (s *Store) packDir() string { return filepath.Join(s.dir, "objects", "pack") }

// Close lets go of the store's files.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, p := range s.packs {
		errs = append(errs, p.f.Close())
	}
	s.packs = nil
	return errors.Join(errs...)
}

func (s *Store) addPack(base string) error {
	p, err := openPack(base)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.packs = append(s.packs, p)
	return nil
}

func (s *Store) find(id ID) (*pack, int64, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i := len(s.packs) - 1; i >= 0; i-- {
		if offset, ok := s.packs[i].find(id); ok {
			return s.packs[i], offset, true
		}
	}
	return nil, 0, false
}

// Has reports whether the store holds the object.
func (s *Store) Has(id ID) bool {
	_, _, ok := s.find(id)
	return ok
}

// Size returns an object's kind and size as they are noted beside it, without
// reading the object.
func (s *Store) Size(id ID) (Kind, int64, error) {
	p, offset, ok := s.find(id)
	if !ok {
		return 0, 0, fmt.Errorf("%s: %w", id, ErrMissing)
	}
	kind, size, _, err := p.header(offset)
	return kind, size, err
}

// Read returns an object of at most limit bytes. Its bytes were hashed.
func (s *Store) Read(id ID, limit int64) (Kind, []byte, error) {
	p, offset, ok := s.find(id)
	if !ok {
		return 0, nil, fmt.Errorf("%s: %w", id, ErrMissing)
	}
	return readAll(p, id, offset, limit)
}

func readAll(p *pack, id ID, offset, limit int64) (Kind, []byte, error) {
	kind, size, r, err := p.reader(id, offset)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = r.Close() }()
	if size > limit {
		// The size may be what is damaged.
		if err := drain(r); err != nil {
			return 0, nil, err
		}
		return 0, nil, fmt.Errorf("%s %s has %d bytes, more than the limit of %d", kind, id, size, limit)
	}
	data, err := readSized(r, size)
	return kind, data, err
}

// readSized reads everything. The size is only what a header claims, so not much
// is allocated for it beforehand.
func readSized(r io.Reader, size int64) ([]byte, error) {
	const much = 64 << 10
	b := bytes.NewBuffer(make([]byte, 0, min(size, much)+bytes.MinRead))
	if _, err := b.ReadFrom(r); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Reader returns an object's kind, size and bytes. In place of io.EOF the
// reader returns ErrDamaged when the bytes were not those of the id.
func (s *Store) Reader(id ID) (Kind, int64, io.ReadCloser, error) {
	p, offset, ok := s.find(id)
	if !ok {
		return 0, 0, nil, fmt.Errorf("%s: %w", id, ErrMissing)
	}
	return p.reader(id, offset)
}

// Commit returns what a commit says.
func (s *Store) Commit(id ID) (CommitInfo, error) {
	kind, data, err := s.Read(id, MaxCommit)
	if err != nil {
		return CommitInfo{}, err
	}
	if kind != Commit {
		return CommitInfo{}, fmt.Errorf("%s is a %s and no commit", id, kind)
	}
	return ParseCommit(data)
}

// Limits of what is read into memory whole.
const (
	MaxCommit = 1 << 20
	MaxTree   = 64 << 20
)

// Ref returns what a reference of the store names, and a zero id when there
// is none.
func (s *Store) Ref(name string) (ID, error) {
	data, err := os.ReadFile(s.refPath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return ID{}, nil
	}
	if err != nil {
		return ID{}, fmt.Errorf("cannot read the store: %w", err)
	}
	id, err := ParseID(strings.TrimSuffix(string(data), "\n"))
	if err != nil {
		return ID{}, damaged("reference "+name, err)
	}
	return id, nil
}

func (s *Store) refPath(name string) string { return filepath.Join(s.dir, "refs", "heads", name) }

// SetRef makes a reference name the id, in one atomic and durable step. The new
// file waits outside of refs, where Git would take one that is cut off for a
// reference that is broken.
func (s *Store) SetRef(name string, id ID) error {
	if err := replaceBy(filepath.Join(s.dir, name+".new"), s.refPath(name), []byte(id.String()+"\n")); err != nil {
		return fmt.Errorf("cannot write to the store: %w", err)
	}
	return nil
}

// SetShallow names the commits whose parents are not in the store.
func (s *Store) SetShallow(ids []ID) error {
	lines := make([]string, 0, len(ids))
	for _, id := range ids {
		lines = append(lines, id.String()+"\n")
	}
	sort.Strings(lines)
	if err := Replace(filepath.Join(s.dir, "shallow"), []byte(strings.Join(lines, ""))); err != nil {
		return fmt.Errorf("cannot write to the store: %w", err)
	}
	return nil
}

// Replace writes a file by rename and makes it durable.
func Replace(name string, data []byte) error { return replaceBy(name+".new", name, data) }

func replaceBy(temporary, name string, data []byte) error {
	err := writeSynced(temporary, data, 0o600)
	if err == nil {
		err = os.Rename(temporary, name)
	}
	if err != nil {
		_ = os.Remove(temporary)
		return err
	}
	return SyncDir(filepath.Dir(name))
}

// Remove deletes a store.
func Remove(s *Store) error { return os.RemoveAll(s.dir) }
