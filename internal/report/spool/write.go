package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Append writes records, durably: all of them, or the first n. It numbers and
// dates them. The oldest records make room where the limit asks for it.
func (s *Spool) Append(records []Record) (n int, err error) {
	full := max(s.limits.Bytes/parts, leastSegment)
	for n < len(records) {
		var chunk []byte
		count := 0
		for _, r := range records[n:] {
			if count > 0 && int64(len(chunk)+headerSize+len(r.Data)) > full {
				break
			}
			r.Index, r.Time = s.mark.Tail+1+uint64(count), s.limits.Now()
			if len(r.Data) > maxData {
				r.Data = nil // nobody makes such a thing; what is left is skipped as empty
			}
			chunk = appendRecord(chunk, r)
			count++
		}
		if err := s.write(chunk, full); err != nil {
			return n, fmt.Errorf("cannot write spool %q: %w", s.dir, err)
		}
		n += count
		last := records[n-1]
		s.mark.Tail += uint64(count)
		s.mark.LastSeq, s.mark.LastSum = last.Seq, sum(last.Data)
		g := s.segments[len(s.segments)-1]
		s.mark.TailSegment, s.mark.TailEnd = g.first, g.size
		if err := s.mark.write(); err != nil {
			return n, err
		}
	}
	return n, nil
}

// write appends a chunk to the last segment, or begins one with it.
func (s *Spool) write(chunk []byte, full int64) error {
	if n := len(s.segments); n == 0 || s.segments[n-1].size+int64(len(chunk)) > full {
		if err := s.begin(); err != nil {
			return err
		}
	}
	if err := s.makeRoom(int64(len(chunk))); err != nil {
		return err
	}
	last := &s.segments[len(s.segments)-1]
	if _, err := s.tail.WriteAt(chunk, last.size); err != nil {
		return errors.Join(err, s.tail.Truncate(last.size))
	}
	if err := unix.Fdatasync(int(s.tail.Fd())); err != nil {
		return errors.Join(err, s.tail.Truncate(last.size))
	}
	last.size += int64(len(chunk))
	return nil
}

// begin makes the segment that the next record is the first of.
func (s *Spool) begin() error {
	first := s.mark.Tail + 1
	if n := len(s.segments); n > 0 && s.segments[n-1].first == first {
		return nil // it is empty
	}
	file, err := os.OpenFile(s.name(first), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := syncDir(s.dir); err != nil {
		return errors.Join(err, file.Close())
	}
	if s.tail != nil {
		err = s.tail.Close()
	}
	s.tail = file
	s.segments = append(s.segments, segment{first: first})
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeRoom lets the oldest segments go until that much fits.
func (s *Spool) makeRoom(need int64) error {
	for len(s.segments) > 1 && s.bytes()+need > s.limits.Bytes {
		if err := s.dropOldest(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spool) bytes() int64 {
	var all int64
	for _, g := range s.segments {
		all += g.size
	}
	return all
}

// dropOldest removes the oldest of several segments. What of it was not
// acknowledged is lost. The mark knows first, so that a crash in between counts
// nothing twice.
func (s *Spool) dropOldest() error {
	next := s.segments[1].first
	if s.mark.Acked+1 < next {
		s.lose(next - s.mark.Acked - 1)
		s.mark.Acked = next - 1
		if err := s.mark.write(); err != nil {
			return err
		}
	}
	return s.removeFirst()
}

func (s *Spool) removeFirst() error {
	if err := os.Remove(s.name(s.segments[0].first)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.segments = s.segments[1:]
	return nil
}

// trim removes the segments that are done with, or too old.
func (s *Spool) trim() error {
	for len(s.segments) > 1 {
		old, err := s.old(s.segments[1])
		if err != nil {
			return err
		}
		if !old && s.segments[1].first > s.mark.Acked+1 {
			return nil
		}
		if err := s.dropOldest(); err != nil {
			return err
		}
	}
	if len(s.segments) == 1 && s.Empty() && s.segments[0].size > reused {
		err := s.removeFirst()
		if s.tail != nil {
			err = errors.Join(err, s.tail.Close())
			s.tail = nil
		}
		return err
	}
	return nil
}

// old reports whether a segment begins with a record that is past the limit, so
// that all that is older is, too.
func (s *Spool) old(g segment) (bool, error) {
	file, err := os.Open(s.name(g.first))
	if err != nil {
		return false, err
	}
	defer file.Close()
	scan := scanner{file: file, size: g.size}
	r, err := scan.next()
	if err != nil {
		return false, nil //nolint:nilerr // nothing can be said of it; the reader passes over it
	}
	return s.expired(r), nil
}

func (s *Spool) expired(r Record) bool { return s.limits.Now().Sub(r.Time) > s.limits.Age }
