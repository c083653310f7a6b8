package resourcetest

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"trued.dev/trued/internal/resource"
)

// Fingerprint describes each path below dir on a line of its own: type, mode,
// owner and content. With times it has the inode and the times of change as
// well, so that a write that puts back the same bytes shows.
func Fingerprint(t testing.TB, dir string, times bool) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		line, err := describe(name, info, times)
		lines = append(lines, line)
		return err
	})
	if err != nil {
		t.Fatalf("cannot walk %q: %v", dir, err)
	}
	return lines
}

func describe(name string, info fs.FileInfo, times bool) (string, error) {
	line := fmt.Sprintf("%s %s", name, info.Mode())
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		line += fmt.Sprintf(" %d:%d", st.Uid, st.Gid)
		if times {
			line += fmt.Sprintf(" inode %d changed %d.%09d modified %d.%09d",
				st.Ino, st.Ctim.Sec, st.Ctim.Nsec, st.Mtim.Sec, st.Mtim.Nsec)
		}
	}
	switch info.Mode().Type() {
	case fs.ModeSymlink:
		target, err := os.Readlink(name)
		return line + " -> " + target, err
	case 0:
		sum, err := digest(name)
		return line + " " + sum, err
	default:
		return line, nil
	}
}

func digest(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", hash.Sum(nil)), nil
}

// A Loader reads content from a file system. It executes no template: what is
// between braces stays there.
type Loader struct{ FS fs.FS }

// Source returns a file of the tree.
func (l Loader) Source(name string) (*resource.Content, error) {
	if l.FS == nil {
		return nil, fmt.Errorf("cannot open source %q: the case has no tree", name)
	}
	data, err := fs.ReadFile(l.FS, name)
	if err != nil {
		return nil, fmt.Errorf("cannot open source %q: %w", name, err)
	}
	info, err := fs.Stat(l.FS, name)
	if err != nil {
		return nil, fmt.Errorf("cannot open source %q: %w", name, err)
	}
	content := resource.Bytes(data)
	content.Executable = info.Mode()&0o100 != 0
	return content, nil
}

// Template returns a file of the tree as it is.
func (l Loader) Template(name string) (*resource.Content, error) { return l.Source(name) }

// Tree returns all that is below a directory, links as they are written.
func (l Loader) Tree(dir string) ([]resource.TreeEntry, error) {
	var entries []resource.TreeEntry
	err := fs.WalkDir(l.FS, dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		made := resource.TreeEntry{
			Path: strings.TrimPrefix(name, path.Clean(dir)+"/"),
			Type: entry.Type(),
		}
		switch made.Type {
		case fs.ModeDir:
		case fs.ModeSymlink:
			made.Target, err = fs.ReadLink(l.FS, name)
		default:
			made.Content, err = l.Source(name)
		}
		entries = append(entries, made)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read tree %q: %w", dir, err)
	}
	return entries, nil
}
