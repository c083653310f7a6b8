package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"

	"trued.dev/trued/internal/source/object"
)

// errNotHere says that an object need not, or cannot, be handed over: the
// parent has it, or will find that it is missing.
var errNotHere = errors.New("object is not here")

type openFunc func(object.ID) (object.Kind, int64, func(io.Writer) error, error)

// walk hands over what is reachable from want, in an order in which the parent
// knows of each object before it comes: a commit, its trees, their blobs. With
// CommitsOnly it hands over ancestors, down to the depth.
func walk(ctx context.Context, want object.ID, ask Ask, out sink, open openFunc) error {
	type step struct {
		id    object.ID
		depth int
		// level is how deep a tree is in its commit.
		level int
	}
	seen := map[object.ID]bool{want: true}
	todo := []step{{want, 1, 0}}
	add := func(id object.ID, depth, level int) {
		if !seen[id] {
			seen[id] = true
			todo = append(todo, step{id, depth, level})
		}
	}
	for len(todo) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := todo[0]
		todo = todo[1:]
		kind, size, write, err := open(at.id)
		if errors.Is(err, errNotHere) {
			continue
		}
		if err != nil {
			return err
		}
		if kind == object.Blob {
			if err := out.object(kind, size, write); err != nil {
				return err
			}
			continue
		}
		if size > object.MaxTree {
			return tooLarge(kind, at.id, size, object.MaxTree)
		}
		var b bytes.Buffer
		if err := write(&b); err != nil {
			return err
		}
		err = out.object(kind, size, func(w io.Writer) error {
			_, err := w.Write(b.Bytes())
			return err
		})
		if err != nil {
			return err
		}
		if err := follow(kind, b.Bytes(), at.depth, at.level, ask, add); err != nil {
			return failf(KindMalformed, "%s %s: %v", kind, at.id, err)
		}
	}
	return nil
}

func follow(kind object.Kind, data []byte, depth, level int, ask Ask, add func(id object.ID, depth, level int)) error {
	switch kind {
	case object.Tag:
		id, _, err := object.ParseTag(data)
		if err != nil {
			return err
		}
		add(id, depth, 0)
	case object.Commit:
		c, err := object.ParseCommit(data)
		if err != nil {
			return err
		}
		if !ask.CommitsOnly {
			add(c.Tree, depth, 0)
		}
		if !ask.CommitsOnly && ask.File == "" {
			return nil
		}
		for _, p := range c.Parents {
			if depth < ask.Depth {
				add(p, depth+1, 0)
			}
		}
	case object.Tree:
		entries, err := object.ParseTree(data)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !e.IsSubmodule() && ask.wants(level, e) {
				add(e.ID, depth, level+1)
			}
		}
	}
	return nil
}

// wants reports whether an entry of a tree is asked for.
func (a Ask) wants(level int, e object.Entry) bool {
	if a.File == "" {
		return true
	}
	parts := strings.Split(a.File, "/")
	return level < len(parts) && e.Name == parts[level] && e.IsTree() == (level < len(parts)-1)
}
