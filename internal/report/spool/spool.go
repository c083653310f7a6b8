// Package spool keeps, on the disk, what a receiver has yet to acknowledge: in
// order, within a bound of size and age, through crashes and damage.
//
// It stores bytes and knows nothing of events or receivers. A spool is a
// directory of segments, files of records with checksums, beside a mark that
// says how far the receiver has got. What is damaged is passed over and counted;
// whatever else can be read goes on.
package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Limits bound a spool. At a limit the oldest records go first.
type Limits struct {
	Bytes int64
	Age   time.Duration
	// Now is the clock; nil means the real one.
	Now func() time.Time
}

// The limits of a spool that sets none, and the least that one may have.
const (
	UsualBytes = 64 << 20
	UsualAge   = 7 * 24 * time.Hour
	LeastBytes = 1 << 20
)

const (
	suffix = ".events"
	// Beyond one of this many parts of the limit a segment is full, and the
	// oldest is what goes at once.
	parts        = 16
	leastSegment = 64 << 10
	// A segment whose records are all acknowledged is kept up to this size, to
	// be written on.
	reused = 64 << 10
)

// A Spool is open in one process at a time, and used by one goroutine.
type Spool struct {
	dir    string
	limits Limits
	lock   *os.File
	mark   *markSlots
	// segments are in order; the last is the one that is written to.
	segments []segment
	tail     *os.File
	// read are the places of the records that Next returned last.
	read []place
}

// A segment is a file that begins with the record of index first.
type segment struct {
	first uint64
	size  int64
}

// A place is where a record ends.
type place struct {
	index, segment uint64
	end            int64
}

// Open opens the spool in dir and makes it where there is none. It waits for
// another process to close it, until ctx is done.
func Open(ctx context.Context, dir string, limits Limits) (*Spool, error) {
	if limits.Bytes == 0 {
		limits.Bytes = UsualBytes
	}
	if limits.Age == 0 {
		limits.Age = UsualAge
	}
	if limits.Now == nil {
		limits.Now = time.Now
	}
	s := &Spool{dir: dir, limits: limits}
	if err := s.open(ctx); err != nil {
		return nil, fmt.Errorf("cannot open spool %q: %w", dir, errors.Join(err, s.Close()))
	}
	return s, nil
}

func (s *Spool) open(ctx context.Context) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	var err error
	if s.lock, err = os.OpenFile(s.path("lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if err := Lock(ctx, s.lock); err != nil {
		return err
	}
	if s.mark, err = openMark(s.dir); err != nil {
		return err
	}
	if s.segments, err = list(s.dir); err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	return s.trim()
}

// Lock waits for the lock of a file that processes share; closing the file gives
// it back.
func Lock(ctx context.Context, file *os.File) error {
	const pause = 20 * time.Millisecond
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("another process uses it: %w", ctx.Err())
		case <-time.After(pause):
		}
	}
}

// list returns the segments of a directory, in order: their names are of one length,
// and read in the order of these.
func list(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var found []segment
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		first, err := strconv.ParseUint(name, 10, 64)
		if !ok || err != nil {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		found = append(found, segment{first, info.Size()})
	}
	return found, nil
}

// settle finds the last record, takes away what a crash cut off behind it, and
// counts what the mark knows of and is gone.
func (s *Spool) settle() error {
	if len(s.segments) == 0 {
		// All of them were acknowledged, or somebody removed them.
		s.lose(s.mark.Tail - min(s.mark.Acked, s.mark.Tail))
		s.mark.Acked = s.mark.Tail
		return nil
	}
	if s.mark.fresh {
		s.mark.Acked = max(s.segments[0].first, 1) - 1
	}
	last := &s.segments[len(s.segments)-1]
	file, err := os.OpenFile(s.name(last.first), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	s.tail = file
	scan := &scanner{file: file, size: last.size, reuse: true}
	index := max(last.first, 1) - 1
	if s.mark.TailSegment == last.first && s.mark.TailEnd <= last.size {
		scan.at, index = s.mark.TailEnd, s.mark.Tail
	}
	if s.mark.Segment == last.first && s.mark.Offset > last.size {
		s.mark.Segment, s.mark.Offset = 0, 0 // it was cut below that place
	}
	end := scan.at
	for {
		r, err := scan.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		end, index = scan.at, r.Index
		if index > s.mark.Tail {
			s.mark.LastSeq, s.mark.LastSum = r.Seq, sum(r.Data)
		}
	}
	if end < last.size {
		if err := file.Truncate(end); err != nil {
			return err
		}
		last.size = end
	}
	if s.mark.Tail > index {
		// They were there once. Between what is left and what comes there is a
		// gap, of which the reader will tell.
		index = s.mark.Tail
	}
	s.mark.Tail = index
	return nil
}

func (s *Spool) lose(n uint64) { s.mark.lose(n, s.limits.Now()) }

func (s *Spool) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Spool) name(first uint64) string { return segmentName(s.dir, first) }

func segmentName(dir string, first uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%020d%s", first, suffix))
}

// Close lets go of the spool.
func (s *Spool) Close() error {
	var errs []error
	for _, f := range []*os.File{s.tail, s.lock} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	if s.mark != nil {
		errs = append(errs, s.mark.file.Close())
	}
	return errors.Join(errs...)
}

// Last returns the number and the checksum of the record written last.
func (s *Spool) Last() (seq uint64, checksum uint32) { return s.mark.LastSeq, s.mark.LastSum }

// Checksum is that of Last.
func Checksum(data []byte) uint32 { return sum(data) }

// Empty reports whether nothing waits.
func (s *Spool) Empty() bool { return s.mark.Acked >= s.mark.Tail }
