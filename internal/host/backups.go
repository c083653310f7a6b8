package host

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// Backups keeps the content of replaced files, each content once, readable by
// its owner alone, and notes what was replaced where and when. What may be a
// secret is sealed, and its name in the store gives its digest away to nobody.
type Backups struct {
	dir  string
	seal seal

	mu sync.Mutex
	// credit says for whom a path is changed; nil where nobody is to be told.
	credit func(path string) Credit
}

// OpenBackups returns the store in dir, which is made at the first Keep. The key
// of what is sealed lies beside it.
func OpenBackups(dir string) *Backups {
	return &Backups{dir: dir, seal: seal{file: filepath.Clean(dir) + ".key"}}
}

// Keep stores what r holds and returns its SHA-256 in hexadecimal. The copy, and
// the note of what it is, are durable when Keep returns.
func (b *Backups) Keep(r io.Reader, what Replaced) (string, error) {
	sum, err := b.keep(r, what)
	if err != nil {
		return "", fmt.Errorf("cannot keep backup: %w", err)
	}
	return sum, nil
}

func (b *Backups) keep(r io.Reader, what Replaced) (string, error) {
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return "", err
	}
	tmp, err := os.CreateTemp(b.dir, ".keep-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	var to io.Writer = tmp
	sealed := func() error { return nil }
	if what.Secret {
		w, err := b.seal.writer(tmp)
		if err != nil {
			return "", err
		}
		to, sealed = w, w.Close
	}
	hash := sha256.New()
	size, err := io.Copy(io.MultiWriter(to, hash), r)
	if err == nil {
		err = sealed()
	}
	if err != nil {
		return "", err
	}
	sum := hex.EncodeToString(hash.Sum(nil))
	name := sum
	if what.Secret {
		if name, err = b.seal.name(sum); err != nil {
			return "", err
		}
	}
	if _, err := os.Lstat(b.path(name)); err != nil {
		if err := b.place(tmp, b.path(name)); err != nil {
			return "", err
		}
	}
	if what.Path == "" {
		return sum, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return sum, b.note(what, name, size)
}

// place moves a finished copy to its final name, each step durable before the
// next.
func (b *Backups) place(tmp *os.File, final string) error {
	if err := tmp.Sync(); err != nil {
		return err
	}
	dir := filepath.Dir(final)
	if err := os.Mkdir(dir, 0o700); err == nil {
		if err := syncDir(b.dir); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Rename(tmp.Name(), final); err != nil {
		return err
	}
	return syncDir(dir)
}

// Sweep removes copies that were never finished. Nobody may be keeping one.
func (b *Backups) Sweep() error { return removeMatching(filepath.Join(b.dir, ".keep-*")) }

func removeMatching(pattern string) error {
	names, err := filepath.Glob(pattern)
	for _, name := range names {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

// Has reports whether content with the digest is kept.
func (b *Backups) Has(sha256 string) bool {
	_, _, err := b.find(sha256)
	return err == nil
}

// find returns where content is, and whether it is sealed there.
func (b *Backups) find(sha256 string) (at string, sealed bool, err error) {
	at = b.path(sha256)
	if _, err = os.Lstat(at); err == nil || !b.seal.exists() {
		return at, false, err
	}
	name, err := b.seal.name(sha256)
	if err != nil {
		return "", false, err
	}
	at = b.path(name)
	_, err = os.Lstat(at)
	return at, true, err
}

// Open returns kept content; fs.ErrNotExist when there is none.
func (b *Backups) Open(sha256 string) (io.ReadCloser, error) {
	at, sealed, err := b.find(sha256)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("backup %.12s is not in the store: %w", sha256, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	return b.open(at, sealed)
}

func (b *Backups) open(at string, sealed bool) (io.ReadCloser, error) {
	f, err := os.Open(at)
	if err != nil || !sealed {
		return f, err
	}
	r, err := b.seal.reader(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

func (b *Backups) path(name string) string {
	if len(name) < 2 {
		return filepath.Join(b.dir, "none")
	}
	return filepath.Join(b.dir, name[:2], name)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Noted reports whether somebody noted content by its digest, to give it back.
// What is kept of sensitive content is that alone.
func (h *Host) Noted(sha256 string) bool { return h.noted == nil || h.noted(sha256) }

// notedContent is Noted for what a file holds. It is read from its start, and is
// there again afterwards.
func (h *Host) notedContent(f *os.File) (bool, error) {
	if h.noted == nil {
		return true, nil
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return false, err
	}
	_, err := f.Seek(0, io.SeekStart)
	return h.noted(hex.EncodeToString(hash.Sum(nil))), err
}

// Keep puts what is to be replaced, and is no file, into the backup store, and
// returns the word by which Kept gives it back.
func (h *Host) Keep(data []byte) (string, error) { return h.keepData(data, false) }

// KeepSecret is Keep for what nobody else may read.
func (h *Host) KeepSecret(data []byte) (string, error) { return h.keepData(data, true) }

func (h *Host) keepData(data []byte, secret bool) (string, error) {
	if h.backups == nil {
		return "", nil
	}
	return h.backups.Keep(bytes.NewReader(data), Replaced{Secret: secret})
}

// Kept returns what Keep stored.
func (h *Host) Kept(word string) ([]byte, error) {
	if h.backups == nil {
		return nil, errors.New("there is no backup store")
	}
	r, err := h.backups.Open(word)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
