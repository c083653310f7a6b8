package host

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Digests remembers the digests of files that were read, and by what their
// inodes told then whether they still hold the same: a file that is as it was
// costs one lstat. It is a cache: any of it may be lost.
type Digests struct {
	file string

	mu      sync.Mutex
	loaded  bool
	changed bool
	entries map[string]stamp
}

// A stamp is what an inode told when its content was read.
type stamp struct {
	Dev, Ino     uint64
	Size         int64
	MTime, CTime int64 // nanoseconds
	Racy         bool
	Sum          [sha256.Size]byte
}

// digestsMagic is changed with the format; another is not read.
const digestsMagic = "trued digests 1\n"

// OpenDigests returns the cache in file, which is read at the first use.
func OpenDigests(file string) *Digests { return &Digests{file: file} }

// A write within the same tick of the file system's clock as the reading that
// followed it leaves no trace in the times, so a stamp that young is not
// trusted. File systems without nanoseconds tick once in one or two seconds.
const (
	fineTick   = 100 * time.Millisecond
	coarseTick = 3 * time.Second
)

func stampOf(st *unix.Stat_t) stamp {
	return stamp{
		Dev: uint64(st.Dev), //nolint:unconvert // its width differs between architectures
		Ino: st.Ino, Size: st.Size,
		MTime: st.Mtim.Nano(), CTime: st.Ctim.Nano(),
	}
}

func (s stamp) racy(read time.Time) bool {
	tick := fineTick
	if s.MTime%int64(time.Second) == 0 && s.CTime%int64(time.Second) == 0 {
		tick = coarseTick
	}
	return max(s.MTime, s.CTime) > read.Add(-tick).UnixNano()
}

// knows reports whether there may be a digest of the file.
func (d *Digests) knows(name string) bool {
	if d == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.load()
	_, ok := d.entries[name]
	return ok
}

// lookup returns the digest of the file that st was told of.
func (d *Digests) lookup(name string, st *unix.Stat_t) (sum [sha256.Size]byte, ok bool) {
	if d == nil {
		return sum, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.load()
	known, ok := d.entries[name]
	if !ok || known.Racy {
		return sum, false
	}
	now := stampOf(st)
	now.Sum = known.Sum
	return known.Sum, now == known
}

// record notes a digest. The stamp is of before the reading, which began at
// read.
func (d *Digests) record(name string, st *unix.Stat_t, read time.Time, sum [sha256.Size]byte) {
	if d == nil {
		return
	}
	s := stampOf(st)
	s.Sum, s.Racy = sum, s.racy(read)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.load()
	if d.entries[name] != s {
		d.entries[name] = s
		d.changed = true
	}
}

func (d *Digests) forget(name string) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.load()
	if _, ok := d.entries[name]; ok {
		delete(d.entries, name)
		d.changed = true
	}
}

// load reads the file; one that is missing or damaged is an empty cache.
func (d *Digests) load() {
	if d.loaded {
		return
	}
	d.loaded = true
	d.entries = map[string]stamp{}
	data, err := os.ReadFile(d.file)
	if err != nil || !bytes.HasPrefix(data, []byte(digestsMagic)) || len(data) < len(digestsMagic)+sha256.Size {
		return
	}
	body := data[len(digestsMagic) : len(data)-sha256.Size]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], data[len(data)-sha256.Size:]) {
		return
	}
	d.decode(body)
}

const stampSize = 5*8 + sha256.Size

// decode reads records of the length of a name, the name, and a stamp. The
// names share one string.
func (d *Digests) decode(body []byte) {
	text := string(body)
	d.entries = make(map[string]stamp, len(body)/(stampSize+40))
	for at := 0; at < len(body); {
		n, used := binary.Uvarint(body[at:])
		at += used
		if used <= 0 || n > uint64(len(body)-at) || len(body)-at-int(n) < stampSize {
			return
		}
		name := text[at : at+int(n)]
		at += int(n)
		word := func(i int) uint64 { return binary.LittleEndian.Uint64(body[at+8*i:]) }
		s := stamp{Dev: word(0), Ino: word(1), Size: int64(word(2)), MTime: int64(word(3)), CTime: int64(word(4))}
		copy(s.Sum[:], body[at+5*8:])
		at += stampSize
		d.entries[name] = s
	}
}

// Save writes the cache when it has changed: whole, or not at all.
func (d *Digests) Save() error {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.changed || d.file == "" {
		return nil
	}
	if err := d.write(); err != nil {
		return fmt.Errorf("cannot save digest cache %q: %w", d.file, err)
	}
	d.changed = false
	return nil
}

// Shed forgets what is saved, until it is asked for.
func (d *Digests) Shed() {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.changed && d.file != "" {
		d.loaded, d.entries = false, nil
	}
}

// Sweep removes what a Save that was cut off left. Nobody may be saving.
func (d *Digests) Sweep() error {
	if d == nil || d.file == "" {
		return nil
	}
	return removeMatching(filepath.Join(filepath.Dir(d.file), ".digests-*"))
}

func (d *Digests) write() error {
	dir := filepath.Dir(d.file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".digests-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	var body bytes.Buffer
	for name, s := range d.entries {
		if s.Racy {
			continue // worth nothing to the next reader
		}
		var rec []byte
		rec = binary.AppendUvarint(rec, uint64(len(name)))
		rec = append(rec, name...)
		for _, w := range []uint64{s.Dev, s.Ino, uint64(s.Size), uint64(s.MTime), uint64(s.CTime)} {
			rec = binary.LittleEndian.AppendUint64(rec, w)
		}
		body.Write(append(rec, s.Sum[:]...))
	}
	sum := sha256.Sum256(body.Bytes())
	out := bufio.NewWriter(tmp)
	_, _ = out.WriteString(digestsMagic) // errors stay until Flush
	_, _ = out.Write(body.Bytes())
	_, _ = out.Write(sum[:])
	if err := errors.Join(out.Flush(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), d.file)
}

func parseSum(s string) (sum [sha256.Size]byte, ok bool) {
	if hex.DecodedLen(len(s)) != len(sum) {
		return sum, false
	}
	_, err := hex.Decode(sum[:], []byte(s))
	return sum, err == nil
}
