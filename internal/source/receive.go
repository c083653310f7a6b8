package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"trued.dev/trued/internal/source/object"
	"trued.dev/trued/internal/source/remote"
)

// receive takes in the offered commit and what is new of its tree. Nothing is
// taken that does not follow from the id that was offered.
func (t *transfer) receive(child *remote.Client, offer remote.Offer) error {
	t.wanted = map[object.ID]object.Kind{}
	if t.commits == nil { // a judge may have looked at them
		t.commits = map[object.ID][]object.ID{}
	}
	t.want(offer.ID, 0)
	if err := child.Get(remote.Ask{Have: t.have, Depth: 1}, t); err != nil {
		return err
	}
	for id, kind := range t.wanted {
		return fmt.Errorf("server did not send %s %s, of %d that are missing", kind, id, len(t.wanted))
	}
	if t.tip.IsZero() {
		return errors.New("server did not send a commit")
	}
	return nil
}

// want asks for an object, of any kind that may be offered when kind is 0.
func (t *transfer) want(id object.ID, kind object.Kind) {
	if !t.in.Has(id) {
		t.wanted[id] = kind
	} else if kind == 0 || kind == object.Commit {
		t.tip = id
	}
}

// Object takes one object from the child. It is remote.Receiver's.
func (t *transfer) Object(kind object.Kind, size int64, r io.Reader) error {
	limits := t.r.cfg.Limits
	switch {
	case kind == object.Blob && size > limits.Object:
		return overLimit("object", "a file of %d bytes is larger than %d", size, limits.Object)
	case kind == object.Blob && t.in.Bytes+size > limits.Tree:
		return overLimit("tree", "the commit's files are larger than %d bytes", limits.Tree)
	case kind == object.Blob:
		id, err := t.in.Add(kind, size, r, object.ID{})
		if err != nil {
			return err
		}
		return t.settle(id, kind)
	case kind == object.Tree && size > object.MaxTree, kind != object.Tree && size > object.MaxCommit:
		return overLimit("object", "a %s of %d bytes is too large", kind, size)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return err
	}
	id, err := t.in.AddBytes(kind, data)
	if err != nil {
		return err
	}
	if err := t.settle(id, kind); err != nil {
		return err
	}
	return t.follow(id, kind, data)
}

// settle strikes an object off the list of what was asked for.
func (t *transfer) settle(id object.ID, kind object.Kind) error {
	want, ok := t.wanted[id]
	if !ok && t.store.Has(id) {
		// The server was not told that it is here: a revert brings back what an
		// earlier commit had, and an agent that died right before it made this
		// commit visible has left it there.
		return nil
	}
	if !ok {
		return fmt.Errorf("%s %s came and was not asked for", kind, id)
	}
	if want != kind && (want != 0 || kind == object.Tree || kind == object.Blob) {
		return fmt.Errorf("%s came as a %s", id, kind)
	}
	delete(t.wanted, id)
	return nil
}

// follow asks for what an object refers to.
func (t *transfer) follow(id object.ID, kind object.Kind, data []byte) error {
	switch kind {
	case object.Tag:
		target, kind, err := object.ParseTag(data)
		if err != nil {
			return err
		}
		if kind != object.Commit {
			return fmt.Errorf("tag %s names a %s and no commit", id, kind)
		}
		if t.r.o.tagged != nil {
			t.r.o.tagged(data)
		}
		t.want(target, kind)
	case object.Commit:
		c, err := object.ParseCommit(data)
		if err != nil {
			return err
		}
		t.tip = id
		t.commits[id] = c.Parents
		t.want(c.Tree, object.Tree)
	case object.Tree:
		entries, err := object.ParseTree(data)
		if err != nil {
			return fmt.Errorf("tree %s: %w", id, err)
		}
		if t.entries += len(entries); t.entries > t.r.cfg.Limits.Entries {
			return overLimit("entries", "the commit has more than %d files and directories", t.r.cfg.Limits.Entries)
		}
		for _, e := range entries {
			switch {
			case e.IsTree():
				t.want(e.ID, object.Tree)
			case !e.IsSubmodule():
				t.want(e.ID, object.Blob)
			}
		}
	}
	return nil
}

// Base gives the child an object that a difference is made against. It is
// remote.Receiver's.
func (t *transfer) Base(id object.ID) (object.Kind, []byte, error) {
	return t.store.Read(id, max(t.r.cfg.Limits.Object, object.MaxTree))
}

// ancestors takes commits alone, which are looked at and not kept.
type ancestors struct {
	*transfer
	limit int
	bytes int64
}

// maxAncestors bounds the memory that ancestors take: some 200,000 of a usual
// size.
const maxAncestors = 64 << 20

func (a *ancestors) Object(kind object.Kind, size int64, r io.Reader) error {
	if size > object.MaxCommit || (kind != object.Commit && kind != object.Tag) {
		return fmt.Errorf("a %s of %d bytes came where commits were asked for", kind, size)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return err
	}
	if kind == object.Tag {
		return nil
	}
	id, err := object.Hash(kind, data)
	if err != nil {
		return err
	}
	c, err := object.ParseCommit(bytes.Clone(data))
	if err != nil {
		return err
	}
	if a.bytes += size; len(a.commits) > a.limit || a.bytes > maxAncestors {
		return overLimit("history", "more than %d commits, or %d bytes of them, came", a.limit, maxAncestors)
	}
	a.commits[id] = c.Parents
	return nil
}
