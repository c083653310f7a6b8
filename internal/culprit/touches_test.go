package culprit

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestTheLastTouchOfAPathCounts(t *testing.T) {
	s, now := newTouches(), time.Now()
	by := func(pid int) process { p := unknown(pid); p.comm = fmt.Sprint("p", pid); return p }
	s.add(touch{path: "/etc/motd", mask: unix.FAN_MODIFY, by: by(1000001), when: now})
	s.add(touch{path: "/etc/motd", mask: unix.FAN_DELETE, by: by(1000002), when: now.Add(time.Second)})
	s.add(touch{path: "/etc/other", mask: unix.FAN_MODIFY, by: by(1000003), when: now.Add(time.Second)})
	if got := s.of("/etc/motd", now); got == nil || got.by.pid != 1000002 || word(got.mask) != "removed" {
		t.Errorf("it is %+v", got)
	}
	if got := s.of("/etc/motd", now.Add(2*time.Second)); got != nil {
		t.Errorf("what came before is told of: %+v", got)
	}
	s.forget()
	if got := s.of("/etc/motd", now); got != nil {
		t.Errorf("it is not forgotten: %+v", got)
	}
}

// What has been told is not the cause of what comes next.
func TestWhatIsSettledIsForgotten(t *testing.T) {
	s, now := newTouches(), time.Now()
	s.add(touch{path: "/etc/motd", mask: unix.FAN_MODIFY, by: unknown(1000001), when: now})
	s.add(touch{what: "stopped", units: []string{"a.service", "b.service"}, by: unknown(1000001), when: now})
	s.settle("/etc/motd", now)
	s.settleUnit("a.service", now)
	if s.of("/etc/motd", now) == nil || s.ofUnit("a.service", now) == nil {
		t.Error("what came later is forgotten")
	}
	s.settle("/etc/motd", now.Add(1))
	s.settleUnit("a.service", now.Add(1))
	if s.of("/etc/motd", now) != nil || s.ofUnit("a.service", now) != nil || s.ofUnit("b.service", now) == nil {
		t.Error("it is not forgotten, or the other is")
	}
}

// A process that is gone at its second event was there at its first.
func TestOfOneProcessMoreIsKnownTheFirstTime(t *testing.T) {
	s, now := newTouches(), time.Now()
	p := unknown(1000001)
	p.comm, p.exe = "vim", "/usr/bin/vim"
	s.add(touch{path: "/etc/motd", mask: unix.FAN_CREATE, by: p, when: now})
	s.add(touch{path: "/etc/motd", mask: unix.FAN_CLOSE_WRITE, by: unknown(1000001), when: now})
	if got := s.of("/etc/motd", now); got == nil || got.by.exe != "/usr/bin/vim" || word(got.mask) != "edited" {
		t.Errorf("it is %+v", got)
	}
}

func TestWhatSeveralEventsComeTo(t *testing.T) {
	for want, masks := range map[string][]uint64{
		"edited":                {unix.FAN_MOVED_FROM, unix.FAN_CREATE, unix.FAN_MODIFY | unix.FAN_CLOSE_WRITE, unix.FAN_ATTRIB}, // vim, which keeps the old one
		"removed":               {unix.FAN_MODIFY, unix.FAN_DELETE},
		"moved away":            {unix.FAN_MOVED_FROM},
		"replaced":              {unix.FAN_ATTRIB, unix.FAN_MOVED_TO},
		"created":               {unix.FAN_DELETE, unix.FAN_CREATE | unix.FAN_ONDIR},
		"owner or mode changed": {unix.FAN_ATTRIB},
	} {
		sum := uint64(0)
		for _, m := range masks {
			sum = merge(sum, m)
		}
		if got := word(sum); got != want {
			t.Errorf("%x come to %q, want %q", masks, got, want)
		}
	}
	if got := word(unix.FAN_CREATE | unix.FAN_MODIFY | unix.FAN_DELETE); got != "replaced" {
		t.Errorf("what the kernel has merged comes to %q", got)
	}
}

func TestTouchesAreBoundedInAStorm(t *testing.T) {
	s, now := newTouches(), time.Now()
	p := unknown(1000001)
	p.comm, p.exe, p.unit = "storm", "/"+strings.Repeat("x", 4000), strings.Repeat("u", 200)
	for i := range 100_000 {
		s.add(touch{path: fmt.Sprintf("/%s/%d", strings.Repeat("d", i%4000), i), mask: unix.FAN_MODIFY, by: p, when: now})
		s.add(touch{what: "stopped", units: []string{strings.Repeat("n", 255), fmt.Sprint(i)}, by: p, when: now})
	}
	if s.order.Len() > mostTouches || s.bytes > mostBytes || len(s.byPath) > mostTouches {
		t.Errorf("%d touches of %d bytes, %d by path", s.order.Len(), s.bytes, len(s.byPath))
	}
	if s.of("/"+strings.Repeat("d", 99_999%4000)+"/99999", now) == nil {
		t.Error("the newest is gone")
	}
	sum := 0
	for e := s.order.Front(); e != nil; e = e.Next() {
		sum += e.Value.(*touch).size()
	}
	if sum != s.bytes {
		t.Errorf("%d bytes are counted, and there are %d", s.bytes, sum)
	}
}

func TestRootsRequestGoesBeforeOneThatMayHaveBeenDenied(t *testing.T) {
	s, now := newTouches(), time.Now()
	root, alice := unknown(1000001), unknown(1000002)
	root.uid, alice.uid = 0, 1000
	s.add(touch{what: "stopped", units: []string{"nginx.service"}, by: root, when: now})
	s.add(touch{what: "stopped", units: []string{"nginx.service", "cron.service"}, by: alice, when: now})
	s.add(touch{what: "masked", units: []string{"apt-*.timer"}, by: root, when: now})
	for unit, pid := range map[string]int{"nginx.service": 1000001, "cron.service": 1000002, "apt-daily.timer": 1000001, "ssh.service": 0, "apt-daily.service": 0} {
		got := s.ofUnit(unit, now)
		if (got == nil) != (pid == 0) || got != nil && got.by.pid != pid {
			t.Errorf("%s: %+v, want process %d", unit, got, pid)
		}
	}
}
