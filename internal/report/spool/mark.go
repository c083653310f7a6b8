package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The mark is what the spool remembers beside its records. It is written in
// place, into one of two slots in turn, so that a full disk does not keep it
// from moving on, and a crash leaves one that is whole.
const (
	markFile   = "mark"
	slotSpace  = 4 << 10
	reasonSize = 256
	markForm   = 1
)

// A mark is one slot. Its form is fixed.
type mark struct {
	Form       uint32
	LastSum    uint32
	Generation uint64
	// Acked is the index of the last record that is done with; the next one is
	// looked for in Segment from Offset on.
	Acked   uint64
	Segment uint64
	Offset  int64
	// Tail is the index of the last record written, LastSeq and LastSum its
	// number and checksum.
	Tail    uint64
	LastSeq uint64
	// TailSegment and TailEnd are where that record ends.
	TailSegment uint64
	TailEnd     int64
	// Lost are records that were lost and of which nobody was told, LostTotal
	// all there ever were.
	Lost, LostTotal     uint64
	LostSince, LostLast int64
	Success, Failure    int64
	Reason              [reasonSize]byte
}

// markSlots is the open mark file.
type markSlots struct {
	mark
	file *os.File
	// fresh is true when there was none to read.
	fresh bool
}

// openMark reads the newer of the two slots. Where neither can be read, the
// spool begins at its oldest record: what was sent comes again, nothing is lost.
func openMark(dir string) (*markSlots, error) {
	file, err := os.OpenFile(filepath.Join(dir, markFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	m := &markSlots{file: file, mark: readMark(file)}
	m.fresh = m.Generation == 0
	if info, err := file.Stat(); err != nil || info.Size() < 2*slotSpace {
		// The space is taken once and for all, with zeros.
		_, werr := file.WriteAt(make([]byte, 2*slotSpace), 0)
		if err = errors.Join(err, werr); err == nil {
			err = errors.Join(m.write(), m.write(), file.Sync())
		}
		if err != nil {
			return nil, errors.Join(err, file.Close())
		}
	}
	return m, nil
}

func readMark(file io.ReaderAt) mark {
	newest := mark{Form: markForm}
	size := binary.Size(mark{})
	slot := make([]byte, size+4)
	for i := range int64(2) {
		var m mark
		if _, err := file.ReadAt(slot, i*slotSpace); err != nil {
			continue
		}
		if sum(slot[:size]) != binary.LittleEndian.Uint32(slot[size:]) {
			continue
		}
		if err := binary.Read(bytes.NewReader(slot), binary.LittleEndian, &m); err != nil || m.Form != markForm {
			continue
		}
		if m.Generation > newest.Generation {
			newest = m
		}
	}
	return newest
}

// write does not sync: a mark that is lost sends again what was sent.
func (m *markSlots) write() error {
	m.Generation++
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, m.mark); err != nil {
		return err
	}
	slot := binary.LittleEndian.AppendUint32(b.Bytes(), sum(b.Bytes()))
	if _, err := m.file.WriteAt(slot, int64(m.Generation%2)*slotSpace); err != nil {
		return fmt.Errorf("cannot write the spool's mark: %w", err)
	}
	return nil
}

// lose counts records that are gone.
func (m *mark) lose(n uint64, now time.Time) {
	if n == 0 {
		return
	}
	if m.Lost == 0 {
		m.LostSince = now.UnixNano()
	}
	m.Lost += n
	m.LostTotal += n
	m.LostLast = now.UnixNano()
}

func (m *mark) reason() string { return strings.TrimRight(string(m.Reason[:]), "\x00") }

func (m *mark) setReason(s string) {
	m.Reason = [reasonSize]byte{}
	copy(m.Reason[:], strings.ToValidUTF8(s[:min(len(s), reasonSize)], ""))
}

// moment is a time of the mark; zero for never.
func moment(nano int64) time.Time {
	if nano == 0 {
		return time.Time{}
	}
	return time.Unix(0, nano)
}
