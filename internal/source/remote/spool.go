package remote

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // a pack's own checksum
	"fmt"
	"io"
	"os"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"

	"trued.dev/trued/internal/source/object"
)

// A spool is a pack as it came, in a file without a name, and what is in it.
type spool struct {
	f       *os.File
	w       *bufio.Writer
	size    int64
	limit   int64
	entries []spooled
	at      map[int64]int
	byID    map[object.ID]int
	// external are bases that are not part of the pack.
	external map[object.ID]external

	cached  map[int][]byte
	order   []int
	inCache int
}

type external struct {
	kind object.Kind
	data []byte
}

// spooled is one entry. Its kind is 0 until a difference is resolved.
type spooled struct {
	offset int64
	size   int64
	kind   object.Kind
	id     object.ID
	delta  bool
	// base is the index of the entry that a difference is made against, -1
	// when it is named by baseID.
	base   int
	baseID object.ID
}

const (
	cacheSize = 32 << 20
	// maxChain is the most that git makes.
	maxChain = 4095
)

func newSpool(dir string, limit int64) (*spool, error) {
	f, err := os.CreateTemp(dir, "pack")
	if err != nil {
		return nil, fmt.Errorf("cannot keep what is fetched: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("cannot keep what is fetched: %w", err)
	}
	return &spool{
		f: f, w: bufio.NewWriterSize(f, 1<<16), limit: limit,
		at: map[int64]int{}, byID: map[object.ID]int{}, external: map[object.ID]external{}, cached: map[int][]byte{},
	}, nil
}

func (p *spool) close() { _ = p.f.Close() }

func (p *spool) Write(data []byte) (int, error) {
	n, err := p.w.Write(data)
	p.size += int64(n)
	return n, err
}

// index finds out what is in the pack: the ids of all its objects.
func (p *spool) index(ctx context.Context, out sink) error {
	if err := p.w.Flush(); err != nil {
		return fmt.Errorf("cannot keep what is fetched: %w", err)
	}
	if p.size == 0 {
		return failf(KindUnreachable, "server broke off before it sent anything")
	}
	if err := p.checkSum(); err != nil {
		return err
	}
	if err := p.scan(ctx); err != nil {
		return err
	}
	return p.resolve(ctx, out)
}

func (p *spool) checkSum() error {
	if p.size < 12+sha1.Size {
		return malformed("it is cut off")
	}
	h := sha1.New() //nolint:gosec // see import
	if _, err := io.Copy(h, io.NewSectionReader(p.f, 0, p.size-sha1.Size)); err != nil {
		return err
	}
	sum := make([]byte, sha1.Size)
	if _, err := p.f.ReadAt(sum, p.size-sha1.Size); err != nil {
		return err
	}
	if !bytes.Equal(sum, h.Sum(nil)) {
		return malformed("its checksum is wrong")
	}
	return nil
}

func malformed(what string) error {
	return failf(KindMalformed, "server sent a pack that is damaged: %s", what)
}

func (p *spool) scan(ctx context.Context) error {
	s := packfile.NewScanner(io.NewSectionReader(p.f, 0, p.size))
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
		e := spooled{offset: h.Offset, size: h.Length, base: -1}
		if h.Length > max(p.limit, object.MaxTree) {
			return tooLarge(object.Kind(h.Type), object.ID{}, h.Length, p.limit)
		}
		w := io.Discard
		var hasher *object.Hasher
		switch h.Type {
		case plumbing.OFSDeltaObject:
			base, ok := p.at[h.OffsetReference]
			if !ok {
				return malformed("a difference has no base")
			}
			e.delta, e.base = true, base
		case plumbing.REFDeltaObject:
			e.delta, e.baseID = true, object.ID(h.Reference)
		default:
			e.kind = object.Kind(h.Type)
			if !e.kind.Valid() {
				return malformed("it holds an object without a type")
			}
			hasher = object.NewHasher(e.kind, e.size)
			w = hasher
		}
		if n, _, err := s.NextObject(w); err != nil || n != h.Length {
			return malformed(fmt.Sprintf("an object has %d bytes in place of %d: %v", n, h.Length, err))
		}
		if hasher != nil {
			if e.id, err = hasher.ID(); err != nil {
				return malformed(err.Error())
			}
			p.byID[e.id] = len(p.entries)
		}
		p.at[e.offset] = len(p.entries)
		p.entries = append(p.entries, e)
	}
	return nil
}

// resolve names the differences. A base that is named by its id may come after
// them, or be one that the parent holds.
func (p *spool) resolve(ctx context.Context, out sink) error {
	left := -1
	for outside := false; left != 0; {
		before := left
		left = 0
		for i := range p.entries {
			if p.entries[i].kind != 0 {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			ok, err := p.resolveOne(i, outside, out)
			if err != nil {
				return err
			}
			if !ok {
				left++
			}
		}
		if left > 0 && left == before {
			if outside {
				return malformed("differences are made against each other")
			}
			outside = true
		}
	}
	return nil
}

func (p *spool) resolveOne(i int, outside bool, out sink) (bool, error) {
	e := &p.entries[i]
	if e.base < 0 {
		if at, ok := p.byID[e.baseID]; ok {
			e.base = at
		} else if _, ok := p.external[e.baseID]; !ok {
			if !outside {
				return false, nil
			}
			kind, data, err := out.base(e.baseID)
			if err != nil {
				return false, err
			}
			p.external[e.baseID] = external{kind, data}
		}
	}
	if e.base >= 0 && p.entries[e.base].kind == 0 {
		return false, nil
	}
	kind := p.external[e.baseID].kind
	if e.base >= 0 {
		kind = p.entries[e.base].kind
	}
	data, err := p.data(i, 0)
	if err != nil {
		return false, err
	}
	id, err := object.Hash(kind, data)
	if err != nil {
		return false, malformed(err.Error())
	}
	e.kind, e.id, e.size = kind, id, int64(len(data))
	p.byID[id] = i
	return true, nil
}

// data returns an entry's bytes, with its chain of differences applied.
func (p *spool) data(i, depth int) ([]byte, error) {
	if data, ok := p.cached[i]; ok {
		return data, nil
	}
	if depth > maxChain {
		return nil, malformed("a chain of differences is too long")
	}
	e := p.entries[i]
	raw, err := p.raw(e.offset)
	if err != nil {
		return nil, err
	}
	if e.delta {
		base := p.external[e.baseID].data
		if e.base >= 0 {
			if base, err = p.data(e.base, depth+1); err != nil {
				return nil, err
			}
		}
		if raw, err = p.patch(base, raw); err != nil {
			return nil, err
		}
	}
	p.keep(i, raw)
	return raw, nil
}

func (p *spool) patch(base, delta []byte) ([]byte, error) {
	// The size of the outcome follows that of the base.
	_, rest := varint(delta)
	size, _ := varint(rest)
	if size > max(p.limit, object.MaxTree) {
		return nil, tooLarge(0, object.ID{}, size, p.limit)
	}
	if len(base) == 0 {
		return nil, malformed("a difference is made against nothing")
	}
	data, err := packfile.PatchDelta(base, delta)
	if err != nil {
		return nil, malformed(err.Error())
	}
	return data, nil
}

func varint(b []byte) (int64, []byte) {
	var n int64
	for i := 0; i < len(b) && i < 9; i++ {
		n |= int64(b[i]&0x7f) << (7 * i)
		if b[i]&0x80 == 0 {
			return n, b[i+1:]
		}
	}
	return 1 << 62, nil
}

// keep remembers data for the next difference against it.
func (p *spool) keep(i int, data []byte) {
	if len(data) > cacheSize/4 {
		return
	}
	p.cached[i] = data
	p.order = append(p.order, i)
	p.inCache += len(data)
	for p.inCache > cacheSize {
		p.inCache -= len(p.cached[p.order[0]])
		delete(p.cached, p.order[0])
		p.order = p.order[1:]
	}
}

func (p *spool) raw(offset int64) ([]byte, error) {
	var b bytes.Buffer
	if err := p.inflate(offset, &b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func (p *spool) inflate(offset int64, w io.Writer) error {
	s := packfile.NewScanner(io.NewSectionReader(p.f, 0, p.size))
	if _, err := s.SeekObjectHeader(offset); err != nil {
		return malformed(err.Error())
	}
	if _, _, err := s.NextObject(w); err != nil {
		return malformed(err.Error())
	}
	return nil
}

// open returns an object of the pack to be handed over.
func (p *spool) open(id object.ID) (object.Kind, int64, func(io.Writer) error, error) {
	i, ok := p.byID[id]
	if !ok {
		return 0, 0, nil, errNotHere
	}
	e := p.entries[i]
	if e.kind == object.Blob && e.size > p.limit {
		return 0, 0, nil, tooLarge(e.kind, id, e.size, p.limit)
	}
	if !e.delta {
		return e.kind, e.size, func(w io.Writer) error { return p.inflate(e.offset, w) }, nil
	}
	return e.kind, e.size, func(w io.Writer) error {
		data, err := p.data(i, 0)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	}, nil
}
