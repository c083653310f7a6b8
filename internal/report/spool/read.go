package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Next returns the oldest records that wait, up to that many and that many
// bytes, but one at least; none when nothing waits. What is damaged or too old
// is passed over, and counted as lost once what follows it is acknowledged.
func (s *Spool) Next(most, bytes int) ([]Record, error) {
	s.read = nil
	var found []Record
	size := 0
	for i, g := range s.segments {
		if i+1 < len(s.segments) && s.segments[i+1].first <= s.mark.Acked+1 {
			continue
		}
		more, err := s.readSegment(g, func(r Record, end int64) bool {
			if len(found) == most || len(found) > 0 && size+len(r.Data) > bytes {
				return false
			}
			found = append(found, r)
			s.read = append(s.read, place{r.Index, g.first, end})
			size += len(r.Data)
			return true
		})
		if err != nil {
			return nil, fmt.Errorf("cannot read spool %q: %w", s.dir, err)
		}
		if !more {
			return found, nil
		}
	}
	if len(found) == 0 && !s.Empty() {
		s.lose(s.mark.Tail - s.mark.Acked)
		s.mark.Acked = s.mark.Tail
		return nil, errors.Join(s.mark.write(), s.trim())
	}
	return found, nil
}

// readSegment calls each for every record of a segment that waits, until it
// returns false; so does readSegment then.
func (s *Spool) readSegment(g segment, each func(Record, int64) bool) (more bool, err error) {
	file, err := os.Open(s.name(g.first))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // somebody removed it: lost
	}
	if err != nil {
		return false, err
	}
	defer file.Close()
	scan := &scanner{file: file, size: g.size}
	if s.mark.Segment == g.first && s.mark.Offset <= g.size {
		scan.at = s.mark.Offset
	}
	for {
		r, err := scan.next()
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if r.Index <= s.mark.Acked || s.expired(r) {
			continue
		}
		if !each(r, scan.at) {
			return false, nil
		}
	}
}

// Ack says that the receiver is done with the first n records that Next
// returned last.
func (s *Spool) Ack(n int) error {
	if n == 0 {
		return nil
	}
	for _, p := range s.read[:n] {
		if p.index <= s.mark.Acked {
			continue
		}
		s.lose(p.index - s.mark.Acked - 1)
		s.mark.Acked, s.mark.Segment, s.mark.Offset = p.index, p.segment, p.end
	}
	s.read = nil
	s.mark.Success = s.limits.Now().UnixNano()
	return errors.Join(s.mark.write(), s.trim())
}

// Refuse says that the receiver will never take the first record that Next
// returned last: it is lost.
func (s *Spool) Refuse() error {
	s.lose(1)
	success := s.mark.Success
	err := s.Ack(1)
	s.mark.Success = success
	return errors.Join(err, s.mark.write())
}

// Fail notes why nothing could be delivered.
func (s *Spool) Fail(reason string) error {
	s.mark.Failure = s.limits.Now().UnixNano()
	s.mark.setReason(reason)
	return s.mark.write()
}

// Missed counts what was lost before it came here.
func (s *Spool) Missed(n uint64) error {
	if n == 0 {
		return nil
	}
	s.lose(n)
	return s.mark.write()
}

// A Loss is how much was lost, and when, of which nobody was told.
type Loss struct {
	Records     uint64
	Since, Last time.Time
}

// Loss returns what there is to tell; no records when nothing.
func (s *Spool) Loss() Loss {
	return Loss{s.mark.Lost, moment(s.mark.LostSince), moment(s.mark.LostLast)}
}

// Told says that the receiver knows of the loss.
func (s *Spool) Told(l Loss) error {
	s.mark.Lost -= min(l.Records, s.mark.Lost)
	return s.mark.write()
}

// A Status is how a spool stands.
type Status struct {
	Waiting uint64    `json:"waiting"`
	Bytes   int64     `json:"bytes"`
	Oldest  time.Time `json:"oldest,omitzero"`
	// Lost are all records that were lost since the spool was made.
	Lost        uint64    `json:"lost"`
	LastSuccess time.Time `json:"last_success,omitzero"`
	LastFailure time.Time `json:"last_failure,omitzero"`
	Failure     string    `json:"failure,omitempty"`
}

// Look tells how the spool in dir stands, without a lock: a moment later it may
// be another. A spool that is not there is empty.
func Look(dir string) (Status, error) {
	file, err := os.Open(filepath.Join(dir, markFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Status{}, nil
	}
	if err != nil {
		return Status{}, fmt.Errorf("cannot look at spool %q: %w", dir, err)
	}
	defer file.Close()
	m := readMark(file)
	st := Status{
		Waiting: m.Tail - min(m.Acked, m.Tail), Lost: m.LostTotal,
		LastSuccess: moment(m.Success), LastFailure: moment(m.Failure), Failure: m.reason(),
	}
	segments, err := list(dir)
	if err != nil {
		return st, fmt.Errorf("cannot look at spool %q: %w", dir, err)
	}
	s := &Spool{dir: dir, segments: segments, mark: &markSlots{mark: m}, limits: Limits{Age: 1<<63 - 1, Now: time.Now}}
	st.Bytes = s.bytes()
	for i := 0; i < len(segments) && st.Waiting > 0 && st.Oldest.IsZero(); i++ {
		_, err := s.readSegment(segments[i], func(r Record, _ int64) bool { st.Oldest = r.Time; return false })
		if err != nil {
			return st, fmt.Errorf("cannot look at spool %q: %w", dir, err)
		}
	}
	return st, nil
}

// Used is when the spool in dir was last written to.
func Used(dir string) (time.Time, error) {
	info, err := os.Stat(filepath.Join(dir, markFile))
	if errors.Is(err, fs.ErrNotExist) {
		info, err = os.Stat(dir)
	}
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}
