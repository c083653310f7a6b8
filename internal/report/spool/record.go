package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"time"
)

// A Record is one thing that the spool keeps.
type Record struct {
	// Index counts the records of this spool, without a gap.
	Index uint64
	// Seq is the number that the record had where it came from.
	Seq  uint64
	Time time.Time
	Data []byte
}

// A record on the disk is a mark by which the next one is found behind a damaged
// one, the length of its data, a checksum over all that follows, index, number,
// time and data. The first byte of the mark is none that JSON or UTF-8 has.
const (
	headerSize = 36
	// maxData is far more than an event has.
	maxData = 1 << 20
	// searchSize is how much is looked through at a time for the next record.
	searchSize = 4 << 10
)

var magic = []byte{0xF7, 't', 'r', 0xF5}

// sum makes the table when it is first needed: most starts of the program need
// none.
func sum(data []byte) uint32 { return crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)) }

// appendRecord encodes a record.
func appendRecord(b []byte, r Record) []byte {
	start := len(b)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.Data)))
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, r.Index)
	b = binary.LittleEndian.AppendUint64(b, r.Seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.Time.UnixNano()))
	b = append(b, r.Data...)
	checked := sum(b[start+4:start+8]) ^ sum(b[start+12:])
	binary.LittleEndian.PutUint32(b[start+8:], checked)
	return b
}

// A scanner reads the records of a segment. What is damaged is passed over.
type scanner struct {
	file io.ReaderAt
	at   int64
	size int64
	// reuse has each record's data end with the next record.
	reuse bool
	buf   []byte
}

// next returns the next whole record; io.EOF when there is none.
func (s *scanner) next() (Record, error) {
	for s.at+headerSize <= s.size {
		r, ok, err := s.read()
		if err != nil || ok {
			return r, err
		}
		if err := s.search(); err != nil {
			return r, err
		}
	}
	return Record{}, io.EOF
}

// read reads the record at the scanner's place, if there is a whole one.
func (s *scanner) read() (Record, bool, error) {
	var head [headerSize]byte
	if err := s.fill(head[:], s.at); err != nil {
		return Record{}, false, err
	}
	length := int64(binary.LittleEndian.Uint32(head[4:]))
	if !bytes.Equal(head[:4], magic) || length > maxData || s.at+headerSize+length > s.size {
		return Record{}, false, nil
	}
	rest := s.buffer(headerSize - 12 + int(length))
	copy(rest, head[12:])
	if err := s.fill(rest[headerSize-12:], s.at+headerSize); err != nil {
		return Record{}, false, err
	}
	if sum(head[4:8])^sum(rest) != binary.LittleEndian.Uint32(head[8:]) {
		return Record{}, false, nil
	}
	s.at += headerSize + length
	return Record{
		Index: binary.LittleEndian.Uint64(rest),
		Seq:   binary.LittleEndian.Uint64(rest[8:]),
		Time:  time.Unix(0, int64(binary.LittleEndian.Uint64(rest[16:]))),
		Data:  rest[headerSize-12:],
	}, true, nil
}

func (s *scanner) buffer(n int) []byte {
	if !s.reuse {
		return make([]byte, n)
	}
	if cap(s.buf) < n {
		s.buf = make([]byte, n, 2*n)
	}
	return s.buf[:n]
}

// search moves to the next place where a record may begin.
func (s *scanner) search() error {
	chunk := make([]byte, searchSize)
	for s.at++; s.at < s.size; {
		part := chunk[:min(searchSize, s.size-s.at)]
		if err := s.fill(part, s.at); err != nil {
			return err
		}
		if i := bytes.IndexByte(part, magic[0]); i >= 0 {
			s.at += int64(i)
			return nil
		}
		s.at += int64(len(part))
	}
	return nil
}

func (s *scanner) fill(b []byte, at int64) error {
	n, err := s.file.ReadAt(b, at)
	if n == len(b) || errors.Is(err, io.EOF) {
		return nil // what a shrinking file lacks is zero, and no record
	}
	return err
}
