package remote

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-billy/v5"
	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/go-git/go-git/v5/storage/filesystem/dotgit"
)

// errNoRepository is why a directory cannot be opened that is none of Git's.
var errNoRepository = errors.New("not a repository")

// openRepository opens the storage of a repository: bare, with a work tree, or a
// linked work tree. It is what go-git's own Open does as far as reading takes;
// what comes with that besides, such as checking signatures, would make the start
// of every fetch dearer.
func openRepository(path string) (*filesystem.Storage, error) {
	dir, err := gitDir(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, errNoRepository
	} else if err != nil {
		return nil, err
	}
	common, err := commonDir(dir)
	if err != nil {
		return nil, err
	}
	files := dotgit.NewRepositoryFilesystem(osfs.New(dir), common)
	// A pack is opened once, not for each of its objects.
	s := filesystem.NewStorageWithOptions(files, cache.NewObjectLRUDefault(), filesystem.Options{KeepDescriptors: true})
	if _, err := s.Reference(plumbing.HEAD); errors.Is(err, plumbing.ErrReferenceNotFound) {
		return nil, errNoRepository
	}
	if err := readable(s); err != nil {
		return nil, err
	}
	return s, nil
}

// gitDir returns the directory that is the repository.
func gitDir(path string) (string, error) {
	dot := filepath.Join(path, ".git")
	info, err := os.Stat(dot)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return path, nil // bare, if anything
	case err != nil:
		return "", err
	case info.IsDir():
		return dot, nil
	}
	to, err := oneLineOf(dot)
	if err != nil {
		return "", err
	}
	to, ok := strings.CutPrefix(to, "gitdir: ")
	if !ok {
		return "", fmt.Errorf("%s does not say where the repository is", dot)
	}
	return below(path, to), nil
}

// commonDir returns where a linked work tree shares the rest; nil when dir has
// all of it.
func commonDir(dir string) (billy.Filesystem, error) {
	to, err := oneLineOf(filepath.Join(dir, "commondir"))
	if errors.Is(err, fs.ErrNotExist) || err == nil && to == "" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	common := below(dir, to)
	if _, err := os.Stat(common); err != nil {
		return nil, err
	}
	return osfs.New(common), nil
}

func oneLineOf(name string) (string, error) {
	data, err := os.ReadFile(name)
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSpace(line), err
}

func below(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// readable reports why a repository of this form cannot be read: it may keep its
// references or name its objects in ways that are not known here.
func readable(s *filesystem.Storage) error {
	config, err := s.Config()
	if err != nil {
		return err
	}
	switch v := config.Core.RepositoryFormatVersion; v {
	case "", "0", "1":
	default:
		return fmt.Errorf("its format, version %q, is not known", v)
	}
	if !config.Raw.HasSection("extensions") {
		return nil
	}
	for _, o := range config.Raw.Section("extensions").Options {
		switch strings.ToLower(o.Key) {
		case "noop", "noop-v1": // Git's own tests of this
		default:
			return fmt.Errorf("its format has an extension that is not known, %s", o.Key)
		}
	}
	return nil
}
