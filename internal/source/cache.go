package source

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"trued.dev/trued/internal/source/object"
)

// A cache is what both kinds of sources keep on disk: a store, replaced as a
// whole when it is mended, and the memory of how fetching went.
//
//	current -> store.XXXX   the store in use
//	lock                    held by the process that fetches
//	status.json             what Status tells after a restart
type cache struct {
	cfg Config
	dir string
	o   Options

	// fetching is held for the time of a fetch, mu for a moment.
	fetching sync.Mutex
	mu       sync.Mutex
	store    *object.Store
	// broken is why the store has to be mended, nil when it is whole.
	broken  error
	applied object.ID
	// kept are further commits that the host may be brought to.
	kept   []object.ID
	memory memory
	// remembered is the file that the memory is the same as.
	remembered os.FileInfo
}

const (
	refTip     = "tip"
	refApplied = "applied"
)

func openCache(cfg Config, dir string, o Options) (*cache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot open the store of source %q: %w", cfg.Name, err)
	}
	c := &cache{cfg: cfg, dir: dir, o: o}
	c.recall()
	c.reopen()
	return c, nil
}

func (c *cache) Name() string { return c.cfg.Name }

// URL returns where the source is, without credentials.
func (c *cache) URL() string {
	if c.cfg.Dir != "" {
		return c.cfg.Dir
	}
	return Redact(c.cfg.allURLs()[0])
}

func (c *cache) link() string { return filepath.Join(c.dir, "current") }

// reopen opens the store that is current. It notes what is wrong with it.
func (c *cache) reopen() {
	s, applied, err := c.openCurrent()
	c.mu.Lock()
	defer c.mu.Unlock()
	if same := s != nil && c.store != nil && s.Dir() == c.store.Dir(); same && err == nil {
		// Damage that was seen while reading is not seen by opening.
		err = c.broken
	}
	// Trees that are being read from the old one keep its files open.
	c.store, c.broken = s, err
	for _, id := range []object.ID{applied, c.memory.Applied} {
		if c.applied.IsZero() {
			c.applied = id
		}
	}
}

func (c *cache) openCurrent() (*object.Store, object.ID, error) {
	target, err := os.Readlink(c.link())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, object.ID{}, errNoStore
	}
	if err != nil {
		return nil, object.ID{}, fmt.Errorf("%w: %w", object.ErrDamaged, err)
	}
	s, err := object.Open(filepath.Join(c.dir, filepath.Base(target)))
	if err != nil {
		return nil, object.ID{}, err
	}
	applied, errApplied := s.Ref(refApplied)
	tip, errTip := s.Ref(refTip)
	err = errors.Join(errApplied, errTip)
	switch {
	case err != nil:
	case tip.IsZero():
		err = fmt.Errorf("%w: the reference to its commit is gone", object.ErrDamaged)
	default:
		_, err = s.Commit(tip)
	}
	return s, applied, err
}

// errNoStore is why a store has to be made that never was.
var errNoStore = errors.New("there is no store yet")

// damage notes that the store has to be mended, and passes the error on.
func (c *cache) damage(err error) error {
	if errors.Is(err, object.ErrDamaged) || errors.Is(err, object.ErrMissing) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.broken == nil {
			c.broken = err
		}
		if !errors.Is(err, object.ErrDamaged) {
			err = fmt.Errorf("%w: %w", object.ErrDamaged, err)
		}
	}
	return err
}

func (c *cache) current() (*object.Store, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.store, c.broken
}

// tip returns the commit that was fetched last.
func (c *cache) tip() object.ID {
	s, _ := c.current()
	if s == nil {
		return object.ID{}
	}
	id, err := s.Ref(refTip)
	if err != nil {
		_ = c.damage(err)
		return object.ID{}
	}
	return id
}

// Last returns the commit that was fetched last.
func (c *cache) Last() (Revision, bool) {
	tip := c.tip()
	if tip.IsZero() {
		return Revision{}, false
	}
	r, err := c.Revision(tip.String())
	return r, err == nil
}

// Revision describes a commit of the store.
func (c *cache) Revision(commit string) (Revision, error) {
	id, s, err := c.locate(commit)
	if err != nil {
		return Revision{}, err
	}
	info, err := s.Commit(id)
	if err != nil {
		return Revision{}, fmt.Errorf("cannot read commit %s of source %q: %w", commit, c.cfg.Name, c.damage(err))
	}
	c.mu.Lock()
	ref := c.shownRef()
	c.mu.Unlock()
	return Revision{
		Commit: commit, Ref: ref, Author: info.Author, Email: info.Email,
		Date: info.Date, Committed: info.Committed, Subject: info.Subject,
	}, nil
}

// ref names what the configuration follows.
func (c Config) ref() string {
	switch {
	case c.Branch != "":
		return c.Branch
	case c.Tag != "":
		return c.Tag
	default:
		return ""
	}
}

// locate finds a commit, and has the store looked at anew when another process
// may have fetched it.
func (c *cache) locate(commit string) (object.ID, *object.Store, error) {
	id, err := object.ParseID(commit)
	if err != nil {
		return object.ID{}, nil, err
	}
	s, broken := c.current()
	if s == nil || !s.Has(id) {
		if c.fetching.TryLock() {
			c.reopen()
			c.fetching.Unlock()
			s, broken = c.current()
		}
	}
	if s == nil {
		return object.ID{}, nil, fmt.Errorf("cannot read commit %s of source %q: %w", commit, c.cfg.Name, broken)
	}
	if !s.Has(id) {
		return object.ID{}, nil, fmt.Errorf("cannot read commit %s of source %q: %w", commit, c.cfg.Name, object.ErrMissing)
	}
	return id, s, nil
}

// Tree returns a commit's files.
func (c *cache) Tree(commit string) (fs.FS, error) {
	id, s, err := c.locate(commit)
	if err != nil {
		return nil, err
	}
	t, err := s.Tree(id, c.cfg.Limits.Object, func(err error) { _ = c.damage(err) })
	if err != nil {
		return nil, fmt.Errorf("cannot read commit %s of source %q: %w", commit, c.cfg.Name, c.damage(err))
	}
	return t, nil
}

// Raw returns a commit as Git stores it.
func (c *cache) Raw(commit string) ([]byte, error) {
	id, s, err := c.locate(commit)
	if err != nil {
		return nil, err
	}
	kind, data, err := s.Read(id, object.MaxCommit)
	if err != nil {
		return nil, fmt.Errorf("cannot read commit %s of source %q: %w", commit, c.cfg.Name, c.damage(err))
	}
	if kind != object.Commit {
		return nil, fmt.Errorf("cannot read commit %s of source %q: it is a %s", commit, c.cfg.Name, kind)
	}
	return data, nil
}

// SetApplied names the commit that the host is at.
func (c *cache) SetApplied(commit string) error {
	id, err := object.ParseID(commit)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.applied = id
	s, known := c.store, c.memory.Applied == id
	c.mu.Unlock()
	if !known {
		c.remember(func(m *memory) { m.Applied = id })
	}
	if s == nil || !s.Has(id) {
		// A later fetch proves descent from it all the same.
		return nil
	}
	if was, err := s.Ref(refApplied); err == nil && was == id {
		return nil
	}
	return s.SetRef(refApplied, id)
}

// Keep names further commits whose trees are not to be lost.
func (c *cache) Keep(commits ...string) error {
	var ids []object.ID
	for _, commit := range commits {
		id, err := object.ParseID(commit)
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept = ids
	return nil
}

// held are the commits that the host is at or may be brought to, as far as a
// store has them.
func (c *cache) held(s *object.Store) []object.ID {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ids []object.ID
	for _, id := range append([]object.ID{c.applied}, c.kept...) {
		if !id.IsZero() && !slices.Contains(ids, id) && s.Has(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Close lets go of the store's files. Trees made from it fail from then on.
func (c *cache) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.store == nil {
		return nil
	}
	err := c.store.Close()
	c.store = nil
	return err
}

// begin takes the right to fetch, waiting for another process if need be.
func (c *cache) begin(ctx context.Context) (end func(), err error) {
	c.fetching.Lock()
	unlock, err := lockFile(ctx, filepath.Join(c.dir, "lock"))
	if err != nil {
		c.fetching.Unlock()
		return nil, err
	}
	c.tidy()
	c.recall()
	c.refresh()
	return func() {
		unlock()
		c.fetching.Unlock()
	}, nil
}

// refresh looks at the store anew when another process changed it.
func (c *cache) refresh() {
	s, broken := c.current()
	target, _ := os.Readlink(c.link())
	switch {
	case s == nil, filepath.Base(target) != filepath.Base(s.Dir()):
		c.reopen()
	case broken == nil:
		if err := s.Refresh(); err != nil {
			_ = c.damage(err)
		}
		_, errApplied := s.Ref(refApplied)
		_, errTip := s.Commit(c.tip())
		if err := errors.Join(errApplied, errTip); err != nil {
			_ = c.damage(err)
		}
	}
}

// tidy removes what interrupted fetches left.
func (c *cache) tidy() {
	target, _ := os.Readlink(c.link())
	entries, _ := os.ReadDir(c.dir)
	for _, e := range entries {
		name := e.Name()
		stale := strings.HasPrefix(name, "store.") && name != filepath.Base(target)
		if stale || strings.HasPrefix(name, "quarantine.") || strings.HasSuffix(name, ".new") {
			_ = os.RemoveAll(filepath.Join(c.dir, name))
		}
	}
	if s, _ := c.current(); s != nil {
		s.Tidy()
	}
}

// fresh makes an empty store beside the current one.
func (c *cache) fresh() (*object.Store, error) {
	return object.Create(filepath.Join(c.dir, "store."+rand.Text()[:8]))
}

// swap makes a new store the current one, in one atomic step.
func (c *cache) swap(s *object.Store) error {
	temporary := c.link() + ".new"
	_ = os.Remove(temporary)
	if err := os.Symlink(filepath.Base(s.Dir()), temporary); err != nil {
		return err
	}
	if err := os.Rename(temporary, c.link()); err != nil {
		return err
	}
	if err := object.SyncDir(c.dir); err != nil {
		return err
	}
	c.mu.Lock()
	old := c.store
	c.store, c.broken = s, nil
	c.mu.Unlock()
	if old != nil {
		// Trees that are being read from it keep its files open.
		_ = os.RemoveAll(old.Dir())
	}
	return nil
}

// publish makes a commit that was taken in the newest one.
func (c *cache) publish(s *object.Store, in *object.Intake, tip object.ID) error {
	if err := in.Commit(); err != nil {
		return err
	}
	c.mu.Lock()
	applied := c.applied
	isNew := s != c.store
	c.mu.Unlock()
	if isNew && !applied.IsZero() && s.Has(applied) {
		if err := s.SetRef(refApplied, applied); err != nil {
			return err
		}
	}
	shallow := append([]object.ID{tip}, c.held(s)...)
	if !isNew {
		if was := c.tip(); !was.IsZero() {
			shallow = append(shallow, was)
		}
	}
	slices.SortFunc(shallow, func(a, b object.ID) int { return bytes.Compare(a[:], b[:]) })
	shallow = slices.Compact(shallow)
	if err := s.SetShallow(shallow); err != nil {
		return err
	}
	if err := s.SetRef(refTip, tip); err != nil {
		return err
	}
	if isNew {
		if err := c.swap(s); err != nil {
			return err
		}
		now := c.o.Now()
		c.remember(func(m *memory) { m.Verified = now })
	}
	return nil
}
