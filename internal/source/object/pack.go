package object

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sort"
	"strings"
	"sync"
)

// A pack is a file of whole objects with its index. It is Git's own format,
// less deltas, so that git itself can read and check the store.
type pack struct {
	name string
	f    *os.File
	size int64
	// indexSize is that of the index, to notice when it is cut off.
	indexSize int64
	// ids are sorted; offsets go with them.
	ids     []ID
	offsets []int64
	// inflaters are at rest.
	inflaters sync.Pool
}

const (
	packHeader  = 12
	packTrailer = 20
	maxOffset31 = 1<<31 - 1
)

// openPack opens a pack by its path without the suffix. It finds a file that
// is cut off; wrong bytes within are found when an object is read.
func openPack(base string) (*pack, error) {
	index, err := os.ReadFile(base + ".idx")
	if err != nil {
		return nil, err
	}
	f, err := os.Open(base + ".pack")
	if err != nil {
		return nil, err
	}
	p := &pack{name: base, f: f, indexSize: int64(len(index))}
	if err := p.load(index); err != nil {
		_ = f.Close()
		return nil, damaged(base, err)
	}
	return p, nil
}

func (p *pack) load(index []byte) error {
	info, err := p.f.Stat()
	if err != nil {
		return err
	}
	p.size = info.Size()
	const head = 8 + 256*4
	if len(index) < head+2*packTrailer || !bytes.HasPrefix(index, []byte("\xfftOc\x00\x00\x00\x02")) {
		return errors.New("index is cut off or is none")
	}
	n := int(binary.BigEndian.Uint32(index[head-4:]))
	tail := len(index) - 2*packTrailer
	if n < 0 || n > (tail-head)/28 {
		return errors.New("index is cut off")
	}
	idAt, offsetAt := head, head+24*n
	large := offsetAt + 4*n
	for i := range n {
		var id ID
		copy(id[:], index[idAt+20*i:])
		offset := int64(binary.BigEndian.Uint32(index[offsetAt+4*i:]))
		if offset > maxOffset31 {
			at := large + 8*int(offset&maxOffset31)
			if at+8 > tail {
				return errors.New("index is cut off")
			}
			offset = int64(binary.BigEndian.Uint64(index[at:]))
		}
		if offset < packHeader || offset >= p.size-packTrailer {
			return errors.New("pack is cut off")
		}
		p.ids, p.offsets = append(p.ids, id), append(p.offsets, offset)
	}
	trailer := make([]byte, packTrailer)
	if _, err := p.f.ReadAt(trailer, p.size-packTrailer); err != nil {
		return err
	}
	if !bytes.Equal(trailer, index[tail:tail+packTrailer]) {
		return errors.New("pack is cut off or is another")
	}
	return nil
}

// check finds that the file was cut off since it was opened.
func (p *pack) check() error {
	for suffix, size := range map[string]int64{".pack": p.size, ".idx": p.indexSize} {
		info, err := os.Stat(p.name + suffix)
		if err != nil {
			return err
		}
		if info.Size() != size {
			return fmt.Errorf("%s has another size than before", suffix)
		}
	}
	return nil
}

func (p *pack) find(id ID) (int64, bool) {
	i := sort.Search(len(p.ids), func(i int) bool { return bytes.Compare(p.ids[i][:], id[:]) >= 0 })
	if i < len(p.ids) && p.ids[i] == id {
		return p.offsets[i], true
	}
	return 0, false
}

// header returns an object's kind, size and how long they are as written.
func (p *pack) header(offset int64) (kind Kind, size int64, length int, err error) {
	// A type and 60 bits of size take at most ten bytes.
	var b [10]byte
	n, err := p.f.ReadAt(b[:min(int64(len(b)), p.size-packTrailer-offset)], offset)
	if n == 0 {
		return 0, 0, 0, damaged(p.name, err)
	}
	kind, size = Kind(b[0]>>4&7), int64(b[0]&15)
	i := 0
	for shift := 4; b[i]&0x80 != 0; shift += 7 {
		if i++; i >= n {
			return 0, 0, 0, damaged(p.name, errors.New("bad object header"))
		}
		size |= int64(b[i]&0x7f) << shift
	}
	if !kind.Valid() || size < 0 {
		return 0, 0, 0, damaged(p.name, fmt.Errorf("bad object header: type %d", kind))
	}
	return kind, size, i + 1, nil
}

// reader returns an object's bytes, which it hashes: in place of EOF it
// returns ErrDamaged when they are not those of the id.
func (p *pack) reader(id ID, offset int64) (Kind, int64, io.ReadCloser, error) {
	kind, size, length, err := p.header(offset)
	if err != nil {
		return 0, 0, nil, err
	}
	start := offset + int64(length)
	in, _ := p.inflaters.Get().(*inflater)
	if in == nil {
		in = &inflater{from: bufio.NewReaderSize(nil, 4096)}
	}
	if err := in.reset(io.NewSectionReader(p.f, start, p.size-packTrailer-start)); err != nil {
		return 0, 0, nil, damaged(id.String(), err)
	}
	return kind, size, &checkedReader{id: id, left: size, pack: p, in: in, h: NewHasher(kind, size)}, nil
}

// An inflater has some 40 KiB of tables and buffers, which serve one object
// after another.
type inflater struct {
	from *bufio.Reader
	z    io.ReadCloser
}

func (in *inflater) reset(r io.Reader) (err error) {
	in.from.Reset(r)
	if z, ok := in.z.(zlib.Resetter); ok {
		return z.Reset(in.from, nil)
	}
	in.z, err = zlib.NewReader(in.from)
	return err
}

type checkedReader struct {
	id   ID
	left int64
	pack *pack
	in   *inflater // nil: closed
	h    *Hasher
	err  error
}

func (c *checkedReader) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if c.left == 0 {
		c.err = c.verify()
		return 0, c.err
	}
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.in.z.Read(p)
	_, _ = c.h.Write(p[:n])
	c.left -= int64(n)
	switch {
	case err == io.EOF && c.left > 0:
		c.err = damaged(c.id.String(), io.ErrUnexpectedEOF)
	case err != nil && err != io.EOF:
		c.err = damaged(c.id.String(), err)
	}
	return n, c.err
}

// verify returns io.EOF when the bytes were those of the id.
func (c *checkedReader) verify() error {
	id, err := c.h.ID()
	if err != nil {
		return damaged(c.id.String(), err)
	}
	if id != c.id {
		return damaged(c.id.String(), fmt.Errorf("its content hashes to %s", id))
	}
	return io.EOF
}

// Close hands the inflater on.
func (c *checkedReader) Close() error {
	if c.in == nil {
		return nil
	}
	err := c.in.z.Close()
	c.pack.inflaters.Put(c.in)
	c.in = nil
	if c.err == nil {
		c.err = fs.ErrClosed
	}
	return err
}

// ErrDamaged is the error for a store that no longer holds what was written.
var ErrDamaged = errors.New("store is damaged")

// ErrMissing is the error for an object that the store does not hold.
var ErrMissing = errors.New("object is not in the store")

func damaged(what string, err error) error {
	if i := strings.LastIndexByte(what, '/'); i >= 0 {
		what = what[i+1:]
	}
	return fmt.Errorf("%w: %s: %w", ErrDamaged, what, err)
}
