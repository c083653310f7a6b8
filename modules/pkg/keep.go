package pkg

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

const (
	// keptList has a line for each package, in the order in which they were first
	// about to be changed.
	keptList = "packages.jsonl"
	// keptConffiles is the store of what configuration files held.
	keptConffiles = "conffiles"

	// keptMost bounds what is kept of packages, and keptFree is what must be left of
	// the file system.
	keptMost = 4 << 30
	keptFree = 64 << 20
)

// A keeper is a manager that can put what is installed away, so that it can be
// installed again without a network. With any other the way back is by its index.
type keeper interface {
	// Keep puts an installed package into the directory as a file that the manager
	// installs, and returns the file's name.
	Keep(ctx context.Context, r *record, dir string) (string, error)
	// Conffiles are the paths of a package's configuration files, and of what a change
	// of it may leave beside them.
	Conffiles(r *record) ([]string, error)
	// Dropped are the configuration files that are a package's no longer, and still
	// there as it brought them.
	Dropped(r *record) ([]string, error)
}

// A kept package is what it was before it was first changed.
type kept struct {
	Name   string `json:"name"`
	Arch   string `json:"arch,omitempty"`
	Status status `json:"status,omitempty"` // empty: nobody had heard of it
	// Version is empty where none was installed.
	Version string `json:"version,omitempty"`
	Held    bool   `json:"held,omitempty"`
	Auto    bool   `json:"auto,omitempty"`
	// File is below the directory, empty where the package did not move.
	File string `json:"file,omitempty"`
	// Conffiles are what its configuration files were.
	Conffiles resource.Prior `json:"conffiles,omitempty"`
}

// installed reports whether the package was there.
func (k kept) installed() bool { return k.Version != "" }

// KeepIn has the old packages kept in a directory from now on. In a tree that is
// not booted nothing is.
func (m *Module) KeepIn(dir string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keepIn = dir
}

func (m *Module) keepingIn() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keepIn
}

// commit keeps what a transaction is about to take away, and then does it.
func (m *Module) commit(ctx context.Context, db *database, t transaction, e effect) error {
	if dir := m.keepingIn(); dir != "" {
		if err := m.keep(ctx, dir, db, t, e); err != nil {
			return err
		}
	}
	return m.manager.Commit(ctx, t)
}

// keep notes each package that the transaction is about and that was not changed
// before.
func (m *Module) keep(ctx context.Context, dir string, db *database, t transaction, e effect) error {
	if err := os.MkdirAll(filepath.Join(dir, keptConffiles), 0o700); err != nil {
		return fmt.Errorf("cannot keep packages for the way back: %w", err)
	}
	old, err := readKept(dir)
	if err != nil {
		return err
	}
	moving := moved(t, e)
	names := slices.Concat(moving, t.Hold, t.Unhold, t.Auto)
	for _, name := range names {
		if slices.ContainsFunc(old, func(k kept) bool { return k.Name == name }) {
			continue
		}
		k, err := m.keepOne(ctx, dir, db, name, slices.Contains(moving, name))
		if err != nil {
			return fmt.Errorf("cannot keep package %q for the way back, so it is not changed: %w", name, err)
		}
		if err := appendKept(dir, k); err != nil {
			return fmt.Errorf("cannot keep package %q for the way back, so it is not changed: %w", name, err)
		}
		old = append(old, k)
	}
	return nil
}

// moved are all packages that come, go, or get another version.
func moved(t transaction, e effect) []string {
	names := slices.Concat(t.names(), e.Removes)
	for _, m := range e.Installs {
		names = append(names, m.Name)
	}
	return names
}

func (m *Module) keepOne(ctx context.Context, dir string, db *database, name string, moves bool) (kept, error) {
	k := kept{Name: name}
	r := db.find(name)
	if r == nil || r.Status == notInstalled {
		return k, nil
	}
	k.Arch, k.Status, k.Held, k.Auto = r.Arch, r.Status, r.Held, r.Auto
	if r.Status != configFiles {
		k.Version = r.Version
	}
	by, ok := m.manager.(keeper)
	if !ok || !moves {
		return k, nil
	}
	if k.installed() {
		if err := room(dir); err != nil {
			return k, err
		}
		file, err := by.Keep(ctx, r, dir)
		if err != nil {
			return k, err
		}
		k.File = file
	}
	names, err := by.Conffiles(r)
	if err != nil {
		return k, err
	}
	return k, m.noteConffiles(dir, &k, names)
}

// noteConffiles puts what the configuration files hold into the directory.
func (m *Module) noteConffiles(dir string, k *kept, names []string) error {
	h := keptHost(m.root, dir)
	for _, name := range names {
		was, err := h.NotePath(name)
		if err != nil {
			return err
		}
		was.Made = nil // what made the directories takes them away
		if was.Type == host.TypeFile {
			if err := h.KeepBackup(name); err != nil {
				return err
			}
		}
		if k.Conffiles == nil {
			k.Conffiles = resource.Prior{}
		}
		if err := was.Note(k.Conffiles, name); err != nil {
			return err
		}
	}
	return nil
}

// keptHost is the host with what was kept in a directory as its backups.
func keptHost(root, dir string) *host.Host {
	return host.New(root, host.Options{Backups: host.OpenBackups(filepath.Join(dir, keptConffiles))})
}

// room returns an error where no more may be kept in a directory.
func room(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("cannot tell how much is free at %q: %w", dir, err)
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < keptFree { //nolint:gosec // a block has a size
		return fmt.Errorf("%w at %q: %d MiB are left, and %d MiB must be", unix.ENOSPC, dir, free>>20, keptFree>>20)
	}
	var sum int64
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cannot tell how much is kept at %q: %w", dir, err)
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
	}
	if sum > keptMost {
		return fmt.Errorf("there are %d MiB of packages at %q, which is as much as is kept for one commit", sum>>20, dir)
	}
	return nil
}

// readKept returns what was kept. A last line that was cut off is of a package
// that was not changed yet.
func readKept(dir string) ([]kept, error) {
	f, err := os.Open(filepath.Join(dir, keptList)) //nolint:gosec // ours
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read what was kept of packages: %w", err)
	}
	defer f.Close()
	var list []kept
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return list, nil //nolint:nilerr // what is left was cut off
		}
		var k kept
		if json.Unmarshal(line, &k) == nil {
			list = append(list, k)
		}
	}
}

// appendKept makes a line durable, with the file that it names.
func appendKept(dir string, k kept) error {
	line, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("cannot write %q: %w", keptList, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, keptList), os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // ours
	if err != nil {
		return err
	}
	defer f.Close()
	end, err := lineEnd(f)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(append(line, '\n'), end); err != nil {
		return errors.Join(err, f.Truncate(end))
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return syncPath(dir)
}

// lineEnd is where the last whole line of a file ends.
func lineEnd(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	end := info.Size()
	one := make([]byte, 1)
	for ; end > 0; end-- {
		if _, err := f.ReadAt(one, end-1); err != nil {
			return 0, err
		}
		if one[0] == '\n' {
			break
		}
	}
	return end, nil
}

// syncPath makes a file, or the names in a directory, durable.
func syncPath(name string) error {
	f, err := os.Open(name) //nolint:gosec // ours
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
