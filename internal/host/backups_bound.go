package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Bounds are what the store may grow to. What is still needed stays beyond them.
type Bounds struct {
	// Size is in bytes, of the copies that nothing but a note holds.
	Size int64
	Age  time.Duration
	// Notes is how many there may be.
	Notes int
}

// grace is how long a copy stays that nothing speaks of: somebody may be about
// to.
const grace = 24 * time.Hour

// Due reports whether there are copies that were not held against any bounds
// since.
func (b *Backups) Due(since time.Time) bool {
	info, err := os.Lstat(b.index())
	return err == nil && info.ModTime().Before(since)
}

// Bound drops notes that are too old or too many, the oldest first, and then all
// copies that no note speaks of and that are not needed: neither the words that
// Keep returned for them, nor anything else, is among the needed ones. Nobody may
// be keeping a copy meanwhile.
func (b *Backups) Bound(now time.Time, bounds Bounds, needed map[string]bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	copies, err := b.copies()
	if err != nil || len(copies) == 0 {
		return err
	}
	holds, err := b.names(needed)
	if err != nil {
		return err
	}
	before, err := b.List()
	if err != nil {
		return err
	}
	after := bounded(before, now, bounds, copies, holds)
	if len(after) != len(before) {
		err = b.rewrite(after)
	} else if err = os.Chtimes(b.index(), now, now); errors.Is(err, fs.ErrNotExist) {
		err = nil // there are copies and no notes
	}
	if err != nil {
		return fmt.Errorf("cannot write the list of backups: %w", err)
	}
	for _, n := range after {
		holds[n.Name] = true
	}
	var errs []error
	for name, info := range copies {
		if holds[name] || now.Sub(info.ModTime()) < grace && !noted(before, name) {
			continue
		}
		if err := os.Remove(b.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func noted(list []Backup, name string) bool {
	return slices.ContainsFunc(list, func(n Backup) bool { return n.Name == name })
}

// names returns what the needed copies are called, sealed or not.
func (b *Backups) names(needed map[string]bool) (map[string]bool, error) {
	names := make(map[string]bool, len(needed))
	sealed := b.seal.exists()
	for sum := range needed {
		names[sum] = true
		if !sealed {
			continue
		}
		name, err := b.seal.name(sum)
		if err != nil {
			return nil, err // and nothing is dropped
		}
		names[name] = true
	}
	return names, nil
}

// bounded returns the notes that stay. Of several of one content of a path the
// newest one does.
func bounded(list []Backup, now time.Time, bounds Bounds, copies map[string]fs.FileInfo, needed map[string]bool) []Backup {
	type same struct {
		path, name, mode string
		uid, gid         int
	}
	seen := map[same]bool{}
	counted := map[string]bool{}
	var size int64
	var stay []Backup
	for _, n := range slices.Backward(list) {
		info, there := copies[n.Name]
		key := same{n.Path, n.Name, n.Mode.String(), n.UID, n.GID}
		if !there || seen[key] || now.Sub(n.Time) > bounds.Age || len(stay) >= bounds.Notes {
			continue
		}
		if !needed[n.Name] && !counted[n.Name] {
			if size+info.Size() > bounds.Size {
				continue // an older one may be small
			}
			counted[n.Name] = true
			size += info.Size()
		}
		seen[key] = true
		stay = append(stay, n)
	}
	slices.Reverse(stay)
	return stay
}

// copies returns what is in the store, by name.
func (b *Backups) copies() (map[string]fs.FileInfo, error) {
	dirs, err := filepath.Glob(filepath.Join(b.dir, "[0-9a-f][0-9a-f]"))
	if err != nil {
		return nil, err
	}
	found := map[string]fs.FileInfo{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("cannot look through backups: %w", err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				return nil, fmt.Errorf("cannot look through backups: %w", err)
			}
			found[e.Name()] = info
		}
	}
	return found, nil
}

// rewrite replaces the index. A copy goes only when no note of it is on disk.
func (b *Backups) rewrite(list []Backup) error {
	tmp, err := os.CreateTemp(b.dir, ".keep-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	to := json.NewEncoder(tmp)
	for _, n := range list {
		if err := to.Encode(n); err != nil {
			return errors.Join(err, tmp.Close())
		}
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), b.index()); err != nil {
		return err
	}
	return syncDir(b.dir)
}
