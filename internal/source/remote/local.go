package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"trued.dev/trued/internal/source/object"
)

// localSession reads a repository on this machine, bare or with a work tree,
// without starting git.
type localSession struct {
	path  string
	s     *filesystem.Storage
	limit int64
}

func openLocal(path string, limit int64) (session, error) {
	s, err := openRepository(path)
	switch {
	case errors.Is(err, errNoRepository):
		if _, stat := os.Stat(path); errors.Is(stat, os.ErrPermission) {
			return nil, failf(KindDenied, "%s cannot be read by the user that fetches: %v", path, stat)
		}
		return nil, failf(KindNotFound, "%s is not a Git repository: write `dir:` for a plain directory", path)
	case errors.Is(err, os.ErrPermission):
		return nil, failf(KindDenied, "%s cannot be read by the user that fetches: %v", path, err)
	case err != nil:
		return nil, failf(KindMalformed, "cannot open the repository %s: %v", path, err)
	}
	return &localSession{path: path, s: s, limit: limit}, nil
}

func (l *localSession) close() { _ = l.s.Close() }

func (l *localSession) refs(context.Context) (*refs, error) {
	r := &refs{ids: map[string]object.ID{}, peeled: map[string]object.ID{}, anyCommit: true}
	iter, err := l.s.IterReferences()
	if err != nil {
		return nil, failf(KindMalformed, "cannot list the references of %s: %v", l.path, err)
	}
	err = iter.ForEach(func(ref *plumbing.Reference) error {
		name := ref.Name().String()
		if ref.Type() == plumbing.SymbolicReference {
			if name == "HEAD" {
				r.head = ref.Target().String()
			}
			return nil
		}
		r.ids[name] = object.ID(ref.Hash())
		if strings.HasPrefix(name, "refs/tags/") {
			if id, ok := l.peel(object.ID(ref.Hash())); ok {
				r.peeled[name] = id
			}
		}
		return nil
	})
	if err != nil {
		return nil, failf(KindMalformed, "cannot list the references of %s: %v", l.path, err)
	}
	return r, nil
}

// peel returns the commit that an annotated tag names.
func (l *localSession) peel(tag object.ID) (object.ID, bool) {
	kind, size, write, err := l.open(tag)
	if err != nil || kind != object.Tag || size > object.MaxCommit {
		return object.ID{}, false
	}
	var b bytes.Buffer
	if write(&b) != nil {
		return object.ID{}, false
	}
	target, kind, err := object.ParseTag(b.Bytes())
	if err != nil || kind != object.Commit {
		return object.ID{}, false
	}
	return target, l.s.HasEncodedObject(plumbing.Hash(target)) == nil
}

func (l *localSession) get(ctx context.Context, want object.ID, ask Ask, out sink) error {
	known := map[object.ID]bool{}
	if !ask.CommitsOnly {
		for _, have := range ask.Have {
			// A commit that this repository has lost is simply not left out.
			if err := l.mark(have, known); err != nil && !errors.Is(err, plumbing.ErrObjectNotFound) {
				return err
			}
		}
	}
	return walk(ctx, want, ask, out, func(id object.ID) (object.Kind, int64, func(io.Writer) error, error) {
		if known[id] {
			return 0, 0, nil, errNotHere
		}
		return l.open(id)
	})
}

// mark notes the trees and blobs of a commit that the parent holds.
func (l *localSession) mark(commit object.ID, known map[object.ID]bool) error {
	data, err := l.read(commit)
	if err != nil {
		return err
	}
	c, err := object.ParseCommit(data)
	if err != nil {
		return err
	}
	known[commit] = true
	todo := []object.ID{c.Tree}
	for len(todo) > 0 {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if known[id] {
			continue
		}
		known[id] = true
		data, err := l.read(id)
		if err != nil {
			return err
		}
		entries, err := object.ParseTree(data)
		if err != nil {
			return err
		}
		for _, e := range entries {
			switch {
			case e.IsTree():
				todo = append(todo, e.ID)
			case !e.IsSubmodule():
				known[e.ID] = true
			}
		}
	}
	return nil
}

func (l *localSession) read(id object.ID) ([]byte, error) {
	_, size, write, err := l.open(id)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Grow(int(min(size, object.MaxTree)))
	err = write(&b)
	return b.Bytes(), err
}

func (l *localSession) open(id object.ID) (object.Kind, int64, func(io.Writer) error, error) {
	o, err := l.s.EncodedObject(plumbing.AnyObject, plumbing.Hash(id))
	if err != nil {
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			return 0, 0, nil, fmt.Errorf("object %s is missing from %s: %w", id, l.path, err)
		}
		return 0, 0, nil, failf(KindMalformed, "cannot read object %s of %s: %v; try `git fsck` there", id, l.path, err)
	}
	kind := object.Kind(o.Type())
	if !kind.Valid() {
		return 0, 0, nil, failf(KindMalformed, "object %s of %s has no known type", id, l.path)
	}
	if o.Size() > l.limit {
		return 0, 0, nil, tooLarge(kind, id, o.Size(), l.limit)
	}
	return kind, o.Size(), func(w io.Writer) error {
		r, err := o.Reader()
		if err != nil {
			return err
		}
		_, err = io.CopyN(w, r, o.Size())
		return errors.Join(err, r.Close())
	}, nil
}

func tooLarge(kind object.Kind, id object.ID, size, limit int64) error {
	return failf(KindLimit, "%s %s has %d bytes, more than the limit of %d (limits.object)", kind, id, size, limit)
}
