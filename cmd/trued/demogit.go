package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/index"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// demoGit is the demo's repository, with a work tree of plain files. It commits
// by means of go-git's storage alone: all of go-git, which knows how to merge and
// to check signatures, would be set up at each start of the program.
type demoGit struct {
	dir     string
	s       *filesystem.Storage
	commits []demoCommit
}

// A demoCommit is one that was made, with the files that are in it.
type demoCommit struct {
	hash  plumbing.Hash
	files map[string][]byte
}

const demoBranch = plumbing.ReferenceName("refs/heads/main")

func newDemoGit(dir string) (*demoGit, error) {
	s := filesystem.NewStorage(osfs.New(filepath.Join(dir, ".git")), cache.NewObjectLRUDefault())
	if err := s.Init(); err != nil {
		return nil, err
	}
	if err := s.SetReference(plumbing.NewSymbolicReference(plumbing.HEAD, demoBranch)); err != nil {
		return nil, err
	}
	return &demoGit{dir: dir, s: s}, s.SetConfig(config.NewConfig())
}

// commit commits all files of the work tree.
func (g *demoGit) commit(message string) (plumbing.Hash, error) {
	c := demoCommit{files: map[string][]byte{}}
	staged := &index.Index{Version: 2}
	tree, err := g.tree(".", c.files, staged)
	if err != nil {
		return c.hash, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "tree %s\n", tree)
	if n := len(g.commits); n > 0 {
		fmt.Fprintf(&b, "parent %s\n", g.commits[n-1].hash)
	}
	who := fmt.Sprintf("Demo <demo@example.com> %d +0000", time.Now().Unix())
	fmt.Fprintf(&b, "author %s\ncommitter %s\n\n%s\n", who, who, message)
	if c.hash, err = g.store(plumbing.CommitObject, b.Bytes()); err != nil {
		return c.hash, err
	}
	if err := g.s.SetIndex(staged); err != nil {
		return c.hash, err
	}
	g.commits = append(g.commits, c)
	return c.hash, g.s.SetReference(plumbing.NewHashReference(demoBranch, c.hash))
}

// tree stores a directory of the work tree, and notes its files.
func (g *demoGit) tree(dir string, files map[string][]byte, staged *index.Index) (plumbing.Hash, error) {
	entries, err := os.ReadDir(filepath.Join(g.dir, dir))
	if err != nil {
		return plumbing.ZeroHash, err
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.Name() == ".git" })
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(inTree(a), inTree(b)) })
	var b bytes.Buffer
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		var hash plumbing.Hash
		mode := filemode.Dir
		if e.IsDir() {
			hash, err = g.tree(name, files, staged)
		} else {
			mode = filemode.Regular
			hash, err = g.blob(name, files, staged)
		}
		if err != nil {
			return plumbing.ZeroHash, err
		}
		fmt.Fprintf(&b, "%o %s\x00%s", uint32(mode), e.Name(), hash[:])
	}
	return g.store(plumbing.TreeObject, b.Bytes())
}

// inTree is the name by which Git sorts an entry of a tree.
func inTree(e fs.DirEntry) string {
	if e.IsDir() {
		return e.Name() + "/"
	}
	return e.Name()
}

func (g *demoGit) blob(name string, files map[string][]byte, staged *index.Index) (plumbing.Hash, error) {
	data, err := os.ReadFile(filepath.Join(g.dir, name)) //nolint:gosec // a file of the demo's own
	if err != nil {
		return plumbing.ZeroHash, err
	}
	hash, err := g.store(plumbing.BlobObject, data)
	files[name] = data
	staged.Entries = append(staged.Entries, &index.Entry{
		Hash: hash, Name: filepath.ToSlash(name), Mode: filemode.Regular, Size: uint32(len(data)), //nolint:gosec // the demo's own files
	})
	return hash, err
}

func (g *demoGit) store(t plumbing.ObjectType, data []byte) (plumbing.Hash, error) {
	o := g.s.NewEncodedObject()
	o.SetType(t)
	w, err := o.Writer()
	if err != nil {
		return plumbing.ZeroHash, err
	}
	if _, err := w.Write(data); err != nil {
		return plumbing.ZeroHash, err
	}
	if err := w.Close(); err != nil {
		return plumbing.ZeroHash, err
	}
	return g.s.SetEncodedObject(o)
}

// revert does what `git revert HEAD` does to the newest commit.
func (g *demoGit) revert(message string) (plumbing.Hash, error) {
	bad, good := g.commits[len(g.commits)-1].files, g.commits[len(g.commits)-2].files
	for _, name := range slices.Sorted(maps.Keys(bad)) {
		if _, keep := good[name]; keep {
			continue
		}
		if err := os.Remove(filepath.Join(g.dir, name)); err != nil {
			return plumbing.ZeroHash, err
		}
	}
	for name, data := range good {
		if bytes.Equal(bad[name], data) {
			continue
		}
		if err := os.WriteFile(filepath.Join(g.dir, name), data, 0o600); err != nil {
			return plumbing.ZeroHash, err
		}
	}
	return g.commit(message)
}
