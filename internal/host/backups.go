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
)

// Backups keeps the content of replaced files, each content once, readable by
// its owner alone.
type Backups struct {
	dir string
}

// OpenBackups returns the store in dir, which is made at the first Keep.
func OpenBackups(dir string) *Backups { return &Backups{dir: dir} }

// Keep stores what r holds and returns its SHA-256 in hexadecimal. The copy is
// durable when Keep returns.
func (b *Backups) Keep(r io.Reader) (string, error) {
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return "", fmt.Errorf("cannot make backup store: %w", err)
	}
	tmp, err := os.CreateTemp(b.dir, ".keep-*")
	if err != nil {
		return "", fmt.Errorf("cannot keep backup: %w", err)
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	hash := sha256.New()
	if _, err := io.Copy(io.MultiWriter(tmp, hash), r); err != nil {
		return "", fmt.Errorf("cannot keep backup: %w", err)
	}
	sum := hex.EncodeToString(hash.Sum(nil))
	if b.Has(sum) {
		return sum, nil
	}
	if err := b.place(tmp, b.path(sum)); err != nil {
		return "", fmt.Errorf("cannot keep backup: %w", err)
	}
	return sum, nil
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
	_, err := os.Lstat(b.path(sha256))
	return err == nil
}

// Open returns kept content; fs.ErrNotExist when there is none.
func (b *Backups) Open(sha256 string) (io.ReadCloser, error) {
	f, err := os.Open(b.path(sha256))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("backup %.12s is not in the store: %w", sha256, fs.ErrNotExist)
	}
	return f, err
}

func (b *Backups) path(sha256 string) string {
	if len(sha256) < 2 {
		return filepath.Join(b.dir, "none")
	}
	return filepath.Join(b.dir, sha256[:2], sha256)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Keep puts what is to be replaced, and is no file, into the backup store, and
// returns the word by which Kept gives it back.
func (h *Host) Keep(data []byte) (string, error) {
	if h.backups == nil {
		return "", nil
	}
	return h.backups.Keep(bytes.NewReader(data))
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
