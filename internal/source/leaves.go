package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"trued.dev/trued/internal/source/object"
	"trued.dev/trued/internal/source/remote"
)

// Files returns a file of several commits, each of which Commit returns. Those that
// have none are left out. Nothing else of them is looked at.
func (o *Offered) Files(of []object.ID, name string) (map[object.ID][]byte, error) {
	files := map[object.ID][]byte{}
	if len(of) == 0 {
		return files, nil
	}
	l := &leaves{t: o.t, objects: map[object.ID][]byte{}, kinds: map[object.ID]object.Kind{}}
	if err := o.child.Get(remote.Ask{Depth: max(o.depth, 2), File: name}, l); err != nil {
		return nil, err
	}
	for _, id := range of {
		c, ok := o.info[id]
		if !ok {
			return nil, fmt.Errorf("commit %s: %w", id, object.ErrMissing)
		}
		data, err := fileOf(l.read, c.Tree, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read %s of commit %s: %w", name, id, err)
		}
		files[id] = data
	}
	return files, nil
}

// leaves takes trees and files into memory, where they are looked at and not kept.
type leaves struct {
	t       *transfer
	objects map[object.ID][]byte
	kinds   map[object.ID]object.Kind
	bytes   int64
}

// maxLeaves bounds the memory that they take.
const maxLeaves = 64 << 20

func (l *leaves) Object(kind object.Kind, size int64, r io.Reader) error {
	if l.bytes += size; l.bytes > maxLeaves {
		return overLimit("history", "more than %d bytes of directories would have to be looked at", maxLeaves)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return err
	}
	id, err := object.Hash(kind, data)
	if err != nil {
		return err
	}
	if kind == object.Tree || kind == object.Blob {
		l.objects[id], l.kinds[id] = data, kind
	}
	return nil
}

func (l *leaves) Base(id object.ID) (object.Kind, []byte, error) { return l.t.Base(id) }

func (l *leaves) read(id object.ID, limit int64) (object.Kind, []byte, error) {
	data, ok := l.objects[id]
	switch {
	case !ok:
		return 0, nil, fmt.Errorf("server did not send %s", id)
	case int64(len(data)) > limit:
		return 0, nil, overLimit("object", "it has %d bytes, more than %d", len(data), limit)
	}
	return l.kinds[id], data, nil
}
