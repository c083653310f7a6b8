package culprit

import (
	"container/list"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A touch is one thing that a process did to one path, or to units.
type touch struct {
	path string
	mask uint64
	// what and units are those of a command that asked the service manager.
	what  string
	units []string
	by    process
	when  time.Time
}

// touches remember who touched which path last. They are bounded: the oldest go.
type touches struct {
	order  *list.List // of *touch, the newest first
	byPath map[string]*list.Element
	bytes  int
}

const (
	mostTouches = 512
	mostBytes   = 256 << 10
	// touchSize is about what one takes beside its texts.
	touchSize = 256
)

func newTouches() *touches {
	return &touches{order: list.New(), byPath: map[string]*list.Element{}}
}

func (t *touch) size() int {
	n := touchSize + len(t.path) + len(t.by.comm) + len(t.by.exe) + len(t.by.unit)
	for _, u := range t.units {
		n += len(u)
	}
	return n
}

// add notes a touch. What one process does to one path in a row is one touch.
func (s *touches) add(t touch) {
	if len(t.by.exe) > most {
		t.by.exe = "…" + t.by.exe[len(t.by.exe)-most:] // the end has the name
	}
	if old := s.byPath[t.path]; old != nil && t.path != "" {
		if was := old.Value.(*touch); was.by.pid == t.by.pid {
			t.mask = merge(was.mask, t.mask)
			if !t.by.known() {
				t.by = was.by
			}
		}
		s.drop(old)
	}
	e := s.order.PushFront(&t)
	s.bytes += t.size()
	if t.path != "" {
		s.byPath[t.path] = e
	}
	for s.order.Len() > mostTouches || s.bytes > mostBytes {
		s.drop(s.order.Back())
	}
}

func (s *touches) drop(e *list.Element) {
	t := s.order.Remove(e).(*touch)
	s.bytes -= t.size()
	if t.path != "" {
		delete(s.byPath, t.path)
	}
}

// forget lets go of all: something was missed that may have come later.
func (s *touches) forget() { *s = *newTouches() }

// of returns the last touch of a path at or after a time, if any.
func (s *touches) of(name string, since time.Time) *touch {
	if e := s.byPath[name]; e != nil {
		if t := e.Value.(*touch); !t.when.Before(since) {
			return t
		}
	}
	return nil
}

// settle forgets what touched a path before a time.
func (s *touches) settle(name string, before time.Time) {
	if e := s.byPath[name]; e != nil && e.Value.(*touch).when.Before(before) {
		s.drop(e)
	}
}

// settleUnit forgets what was asked about a unit before a time.
func (s *touches) settleUnit(unit string, before time.Time) {
	for e := s.order.Front(); e != nil; {
		next, t := e.Next(), e.Value.(*touch)
		if t.when.Before(before) {
			s.bytes -= t.size()
			t.units = slices.DeleteFunc(t.units, func(p string) bool { return p == unit })
			s.bytes += t.size()
		}
		e = next
	}
}

// ofUnit returns the last request about a unit at or after a time, if any. One
// of root's goes before any other's, which may have been denied.
func (s *touches) ofUnit(unit string, since time.Time) *touch {
	var last *touch
	for e := s.order.Front(); e != nil; e = e.Next() {
		t := e.Value.(*touch)
		if t.when.Before(since) || !slices.ContainsFunc(t.units, func(p string) bool { return matchUnit(p, unit) }) {
			continue
		}
		if t.by.uid == 0 {
			return t
		}
		if last == nil {
			last = t
		}
	}
	return last
}

const (
	written = unix.FAN_MODIFY | unix.FAN_CLOSE_WRITE
	arrived = unix.FAN_CREATE | unix.FAN_MOVED_TO
	left    = unix.FAN_DELETE | unix.FAN_MOVED_FROM
)

// merge adds what was done later to what was done before. When something went, or
// came anew, what was before that is of no interest.
func merge(before, later uint64) uint64 {
	if (later|before)&left != 0 {
		return later
	}
	return before | later
}

// word says what was done.
func word(mask uint64) string {
	gone := mask&left != 0
	switch {
	case gone && mask&(written|arrived) != 0: // in whatever order
		return "replaced"
	case mask&unix.FAN_DELETE != 0:
		return "removed"
	case gone:
		return "moved away"
	case mask&written != 0:
		return "edited"
	case mask&unix.FAN_MOVED_TO != 0:
		return "replaced"
	case mask&unix.FAN_CREATE != 0:
		return "created"
	default:
		return "owner or mode changed"
	}
}

// matchUnit reports whether a name or pattern, as people give it to systemctl,
// is of a unit.
func matchUnit(pattern, unit string) bool {
	ok, err := path.Match(pattern, unit) // no unit's name has a slash
	return pattern == unit || ok && err == nil
}
