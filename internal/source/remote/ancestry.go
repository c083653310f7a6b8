package remote

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"

	"trued.dev/trued/internal/source/object"
)

// errEnough ends reading an answer of which the rest is not needed.
var errEnough = errors.New("enough")

// commits reads the commits of an answer. Where the server cannot leave out
// their trees it sends them after the commits, and is hung up on there.
func (s *smartSession) commits(ctx context.Context, body io.Reader, out sink) (openFunc, error) {
	r, w := io.Pipe()
	filled := make(chan error, 1)
	go func() {
		err := s.fill(w, body)
		_ = w.CloseWithError(err)
		filled <- err
	}()
	c := &commitReader{out: out, at: map[int64]object.ID{}, found: map[object.ID]found{}}
	err := c.read(ctx, packfile.NewScanner(r))
	_ = r.CloseWithError(errEnough)
	if err != nil {
		// What broke off the answer says more than where it broke off.
		var known *Error
		if broke := <-filled; errors.As(broke, &known) {
			return nil, known
		}
		return nil, err
	}
	return c.open, nil
}

type found struct {
	kind object.Kind
	data []byte
}

type commitReader struct {
	out   sink
	at    map[int64]object.ID
	found map[object.ID]found
}

func (c *commitReader) read(ctx context.Context, s *packfile.Scanner) error {
	_, count, err := s.Header()
	if err != nil {
		return malformed(err.Error())
	}
	for range count {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := s.NextObjectHeader()
		if err != nil {
			return malformed(err.Error())
		}
		if h.Type == plumbing.TreeObject || h.Type == plumbing.BlobObject {
			return nil
		}
		if h.Length > object.MaxCommit {
			return tooLarge(object.Commit, object.ID{}, h.Length, object.MaxCommit)
		}
		var b bytes.Buffer
		if n, _, err := s.NextObject(&b); err != nil || n != h.Length {
			return malformed("a commit is cut off")
		}
		o, ok, err := c.resolve(h, b.Bytes())
		if err != nil {
			return err
		}
		if !ok {
			return nil
		}
		id, err := object.Hash(o.kind, o.data)
		if err != nil {
			return malformed(err.Error())
		}
		c.at[h.Offset], c.found[id] = id, o
	}
	return nil
}

// resolve returns the object of an entry, or false when it is no commit.
func (c *commitReader) resolve(h *packfile.ObjectHeader, data []byte) (found, bool, error) {
	var base found
	switch h.Type {
	case plumbing.CommitObject, plumbing.TagObject:
		return found{object.Kind(h.Type), data}, true, nil
	case plumbing.OFSDeltaObject:
		base = c.found[c.at[h.OffsetReference]]
	case plumbing.REFDeltaObject:
		var ok bool
		if base, ok = c.found[object.ID(h.Reference)]; !ok {
			kind, raw, err := c.out.base(object.ID(h.Reference))
			if err != nil {
				return found{}, false, err
			}
			base = found{kind, raw}
		}
	default:
		return found{}, false, malformed("it holds an object without a type")
	}
	if base.kind != object.Commit && base.kind != object.Tag {
		return found{}, false, nil
	}
	_, rest := varint(data)
	if size, _ := varint(rest); size > object.MaxCommit {
		return found{}, false, tooLarge(base.kind, object.ID{}, size, object.MaxCommit)
	}
	whole, err := packfile.PatchDelta(base.data, data)
	if err != nil {
		return found{}, false, malformed(err.Error())
	}
	return found{base.kind, whole}, true, nil
}

func (c *commitReader) open(id object.ID) (object.Kind, int64, func(io.Writer) error, error) {
	o, ok := c.found[id]
	if !ok {
		return 0, 0, nil, errNotHere
	}
	return o.kind, int64(len(o.data)), func(w io.Writer) error {
		_, err := w.Write(o.data)
		return err
	}, nil
}
