package object

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"crypto/sha1" //nolint:gosec // Git's own checksum of a file that we wrote
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sort"
)

// An Intake gathers objects that become part of the store together, as one new
// pack, when Commit is called.
type Intake struct {
	s       *Store
	f       *os.File
	w       *bufio.Writer
	z       *zlib.Writer
	at      int64
	entries []packed
	have    map[ID]int
	// again takes in what the store holds already, in another pack.
	again bool
	// Bytes counts the inflated bytes that were taken in.
	Bytes int64
}

type packed struct {
	id     ID
	offset int64
	size   int64
	crc    uint32
}

// Begin starts an Intake. The caller ends it with Commit or Abort.
func (s *Store) Begin() (*Intake, error) {
	f, err := os.CreateTemp(s.packDir(), "tmp_")
	if err != nil {
		return nil, fmt.Errorf("cannot write to the store: %w", err)
	}
	in := &Intake{s: s, f: f, w: bufio.NewWriterSize(f, 1<<16), at: packHeader, have: map[ID]int{}}
	in.z, _ = zlib.NewWriterLevel(nil, zlib.BestSpeed)
	// The number of objects is filled in at the end.
	_, err = in.w.Write(make([]byte, packHeader))
	return in, err
}

// Has reports whether the object was taken in, or was in the store before.
func (in *Intake) Has(id ID) bool {
	_, ok := in.have[id]
	return ok || !in.again && in.s.Has(id)
}

// Add takes in an object of exactly size bytes from r. When want is not zero
// the bytes must hash to it.
func (in *Intake) Add(kind Kind, size int64, r io.Reader, want ID) (ID, error) {
	h := NewHasher(kind, size)
	start := in.at
	out := &crcWriter{w: in.w}
	if err := writeHeader(out, kind, size); err != nil {
		return ID{}, in.failed(err)
	}
	in.z.Reset(out)
	n, err := io.CopyN(io.MultiWriter(in.z, h), r, size)
	if err != nil {
		if n < size && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return ID{}, in.failed(err)
	}
	if err := in.z.Close(); err != nil {
		return ID{}, in.failed(err)
	}
	id, err := h.ID()
	if err != nil {
		return ID{}, err
	}
	if !want.IsZero() && id != want {
		return ID{}, fmt.Errorf("object %s was asked for and one came that hashes to %s", want, id)
	}
	in.at += out.n
	in.Bytes += size
	if !in.Has(id) {
		in.have[id] = len(in.entries)
		in.entries = append(in.entries, packed{id, start, size, out.crc})
		return id, nil
	}
	// It is there already, and Git refuses a pack that holds an object twice.
	return id, in.rewind(start)
}

// AddBytes takes in an object that is in memory.
func (in *Intake) AddBytes(kind Kind, data []byte) (ID, error) {
	return in.Add(kind, int64(len(data)), bytes.NewReader(data), ID{})
}

func (in *Intake) failed(err error) error {
	return fmt.Errorf("cannot write to the store: %w", err)
}

func (in *Intake) rewind(to int64) error {
	if err := in.w.Flush(); err != nil {
		return in.failed(err)
	}
	if err := in.f.Truncate(to); err != nil {
		return in.failed(err)
	}
	in.at = to
	_, err := in.f.Seek(to, io.SeekStart)
	return err
}

// Read returns an object that was taken in, before Commit.
func (in *Intake) Read(id ID, limit int64) (Kind, []byte, error) {
	i, ok := in.have[id]
	if !ok {
		return in.s.Read(id, limit)
	}
	if err := in.w.Flush(); err != nil {
		return 0, nil, in.failed(err)
	}
	p := &pack{name: in.f.Name(), f: in.f, size: in.at + packTrailer}
	return readAll(p, id, in.entries[i].offset, limit)
}

// Size returns the size of an object that was taken in or was there before.
func (in *Intake) Size(id ID) (int64, error) {
	if i, ok := in.have[id]; ok {
		return in.entries[i].size, nil
	}
	_, size, err := in.s.Size(id)
	return size, err
}

// Abort forgets what was taken in.
func (in *Intake) Abort() {
	if in.f == nil {
		return
	}
	_ = in.f.Close()
	_ = os.Remove(in.f.Name())
	in.f = nil
}

// Commit makes the objects durable and part of the store. Nothing refers to
// them yet.
func (in *Intake) Commit() error {
	defer in.Abort()
	if len(in.entries) == 0 {
		return nil
	}
	sum, err := in.finish()
	if err != nil {
		return in.failed(err)
	}
	base := filepath.Join(in.s.packDir(), "pack-"+hex.EncodeToString(sum))
	temporary := in.f.Name() + ".idx"
	if err := writeSynced(temporary, in.index(sum), 0o444); err != nil {
		return in.failed(err)
	}
	// The index comes last: without it the pack is not part of the store.
	for _, step := range []func() error{
		func() error { return os.Rename(in.f.Name(), base+".pack") },
		func() error { return os.Rename(temporary, base+".idx") },
		func() error { return SyncDir(in.s.packDir()) },
	} {
		if err := step(); err != nil {
			_ = os.Remove(temporary)
			return in.failed(err)
		}
	}
	return in.s.addPack(base)
}

// finish fills in the header, appends the checksum and syncs.
func (in *Intake) finish() ([]byte, error) {
	if err := in.w.Flush(); err != nil {
		return nil, err
	}
	header := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), uint32(len(in.entries)))
	if _, err := in.f.WriteAt(header, 0); err != nil {
		return nil, err
	}
	h := sha1.New() //nolint:gosec // see import
	if _, err := io.Copy(h, io.NewSectionReader(in.f, 0, in.at)); err != nil {
		return nil, err
	}
	sum := h.Sum(nil)
	if _, err := in.f.WriteAt(sum, in.at); err != nil {
		return nil, err
	}
	if err := in.f.Chmod(0o444); err != nil {
		return nil, err
	}
	return sum, in.f.Sync()
}

// index returns the pack's index, version 2.
func (in *Intake) index(packSum []byte) []byte {
	sort.Slice(in.entries, func(i, j int) bool {
		return bytes.Compare(in.entries[i].id[:], in.entries[j].id[:]) < 0
	})
	out := []byte("\xfftOc\x00\x00\x00\x02")
	next := 0
	for b := range 256 {
		for next < len(in.entries) && int(in.entries[next].id[0]) <= b {
			next++
		}
		out = binary.BigEndian.AppendUint32(out, uint32(next))
	}
	for _, e := range in.entries {
		out = append(out, e.id[:]...)
	}
	for _, e := range in.entries {
		out = binary.BigEndian.AppendUint32(out, e.crc)
	}
	var large []byte
	for _, e := range in.entries {
		if e.offset <= maxOffset31 {
			out = binary.BigEndian.AppendUint32(out, uint32(e.offset))
			continue
		}
		out = binary.BigEndian.AppendUint32(out, 1<<31|uint32(len(large)/8))
		large = binary.BigEndian.AppendUint64(large, uint64(e.offset))
	}
	out = append(append(out, large...), packSum...)
	sum := sha1.Sum(out) //nolint:gosec // see import
	return append(out, sum[:]...)
}

func writeHeader(w io.Writer, kind Kind, size int64) error {
	b := []byte{byte(kind)<<4 | byte(size&15)}
	for size >>= 4; size > 0; size >>= 7 {
		b[len(b)-1] |= 0x80
		b = append(b, byte(size&0x7f))
	}
	_, err := w.Write(b)
	return err
}

type crcWriter struct {
	w   io.Writer
	n   int64
	crc uint32
}

func (c *crcWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.crc = crc32.Update(c.crc, crc32.IEEETable, p[:n])
	return n, err
}

func writeSynced(name string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// SyncDir makes the names in a directory durable.
func SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
