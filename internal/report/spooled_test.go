package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/report/spool"
)

// newLog returns a log with n events, numbered like a ledger's.
func newLog(n int) *memory {
	m := &memory{cursors: map[string]uint64{}}
	grow(m, n)
	return m
}

func grow(m *memory, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for range n {
		m.last++
		seq := m.last
		m.events = append(m.events, Stored{Seq: seq, Event: json.RawMessage(fmt.Sprintf(`{"event_id":"e%d","type":"run.started","severity":"info"}`, seq))})
	}
}

// forget takes the oldest events away, as a ledger does beyond its bound.
func (m *memory) forget(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = m.events[n:]
}

func spooled(t *testing.T, s Sink) []Route {
	t.Helper()
	return []Route{{Sink: s, Spool: filepath.Join(t.TempDir(), "spool")}}
}

func upTo(n uint64) []uint64 {
	var all []uint64
	for i := uint64(1); i <= n; i++ {
		all = append(all, i)
	}
	return all
}

func TestASpoolFreesTheLogFromADeadSink(t *testing.T) {
	log, works := newLog(300), new(atomic.Bool)
	s := &taker{name: "s"}
	s.rule = func(ctx context.Context, events []Stored) (int, error) {
		if works.Load() {
			return len(events), nil
		}
		return dead(ctx, events)
	}
	routes := spooled(t, s)
	if err := NewDrain(log, routes, Hooks{}).Flush(t.Context()); err == nil {
		t.Error("no error")
	}
	if log.Cursor("s") != 300 {
		t.Errorf("the log is held up at %d", log.Cursor("s"))
	}
	log.forget(300)
	d := NewDrain(log, routes, Hooks{})
	if st := d.Status()[0].Spool; st.Waiting != 300 || !strings.Contains(st.Failure, "connection refused") || st.Oldest.IsZero() {
		t.Errorf("status = %+v", st)
	}
	works.Store(true)
	if err := d.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	if !slices.Equal(s.got(), upTo(300)) {
		t.Errorf("%d events arrived", len(s.got()))
	}
	if st := d.Status()[0].Spool; st.Waiting != 0 || st.LastSuccess.IsZero() {
		t.Errorf("status = %+v", st)
	}
}

func TestACrashBetweenLogAndSpoolMakesNoRepeat(t *testing.T) {
	log, s := newLog(100), &taker{name: "s"}
	routes := spooled(t, s)
	log.broken = errors.New("cut off before the cursor was kept")
	if err := NewDrain(log, routes, Hooks{}).Flush(t.Context()); err == nil {
		t.Error("no error")
	}
	log.broken = nil
	grow(log, 20)
	if err := NewDrain(log, routes, Hooks{}).Flush(t.Context()); err != nil {
		t.Error(err)
	}
	if !slices.Equal(s.got(), upTo(120)) {
		t.Errorf("arrived: %v", s.got())
	}
}

// A place that was lost as a whole is found again by the spool, however far back it
// would be.
func TestAPlaceInTheLogThatWasLostMakesNoRepeat(t *testing.T) {
	log, s := newLog(5*batchSize), &taker{name: "s", rule: dead}
	routes := spooled(t, s)
	if err := NewDrain(log, routes, Hooks{}).Flush(t.Context()); err == nil {
		t.Error("no error")
	}
	log.cursors["s"] = 0
	grow(log, 20)
	s.rule = nil
	if err := NewDrain(log, routes, Hooks{}).Flush(t.Context()); err != nil || !slices.Equal(s.got(), upTo(5*batchSize+20)) {
		t.Errorf("%v, arrived: %v", err, s.got())
	}
}

func TestALogThatBeginsAnewIsNotTakenForOneThatWasRead(t *testing.T) {
	log, s := newLog(100), &taker{name: "s"}
	routes := spooled(t, s)
	if err := NewDrain(log, routes, Hooks{}).Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	anew := &memory{cursors: map[string]uint64{}}
	for seq := uint64(1); seq <= 100; seq++ {
		anew.events = append(anew.events, Stored{Seq: seq, Event: json.RawMessage(fmt.Sprintf(`{"event_id":"another %d"}`, seq))})
	}
	if err := NewDrain(anew, routes, Hooks{}).Flush(t.Context()); err != nil || len(s.got()) != 200 {
		t.Errorf("%d arrived, %v", len(s.got()), err)
	}
}

// lossOf is a hook that tells of a loss.
func lossOf(sink string, l spool.Loss) (json.RawMessage, error) {
	return json.RawMessage(fmt.Sprintf(`{"event_id":"loss of %d","trued.sink":%q}`, l.Records, sink)), nil
}

func TestWhatTheLogCouldNotKeepIsToldOnce(t *testing.T) {
	log := newLog(50)
	var told []string
	s := &taker{name: "s"}
	s.rule = func(_ context.Context, events []Stored) (int, error) {
		for _, e := range events {
			if e.Seq == 0 {
				told = append(told, string(e.Event))
			}
		}
		return len(events), nil
	}
	routes := spooled(t, s)
	d := NewDrain(log, routes, Hooks{Lost: lossOf})
	if err := d.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	grow(log, 100)
	log.forget(90)
	for range 3 {
		if err := d.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(told) != 1 || !strings.Contains(told[0], "loss of 40") {
		t.Errorf("told: %q", told)
	}
	if got := s.got(); !slices.Equal(got[len(got)-60:], upTo(150)[90:]) {
		t.Errorf("arrived: %v", got)
	}
}

func TestAFilterKeepsWhatASinkDoesNotWantFromIt(t *testing.T) {
	log := &memory{cursors: map[string]uint64{}}
	for i, e := range []string{
		`{"type":"run.started","severity":"info"}`,
		`{"type":"resource.drifted","severity":"warning","trued.cause":"drift"}`,
		`{"type":"resource.changed","severity":"info","trued.cause":"intended"}`,
		`{"type":"resource.failed","severity":"error","trued.cause":"drift"}`,
		`no event`,
		`{"type":"run.finished","severity":"warning"}`,
	} {
		log.events = append(log.events, Stored{Seq: uint64(i + 1), Event: json.RawMessage(e)})
	}
	for name, c := range map[string]struct {
		filter Filter
		want   []uint64
	}{
		"none":     {Filter{}, []uint64{1, 2, 3, 4, 5, 6}},
		"type":     {Filter{Types: []TypePattern{"resource.*", "run.finished"}}, []uint64{2, 3, 4, 5, 6}},
		"cause":    {Filter{Causes: []CauseWord{"drift"}}, []uint64{2, 4, 5}},
		"severity": {Filter{Severity: Warning}, []uint64{2, 4, 5, 6}},
		"all":      {Filter{Types: []TypePattern{"resource.*"}, Causes: []CauseWord{"drift"}, Severity: Error}, []uint64{4, 5}},
	} {
		direct, viaSpool := &taker{name: name}, &taker{name: name + " by spool"}
		routes := append(spooled(t, viaSpool), Route{Sink: direct})
		routes[0].Filter, routes[1].Filter = c.filter, c.filter
		if err := NewDrain(log, routes, Hooks{}).Flush(t.Context()); err != nil {
			t.Error(err)
		}
		for _, s := range []*taker{direct, viaSpool} {
			if !slices.Equal(s.got(), c.want) || log.Cursor(s.name) != 6 {
				t.Errorf("%s: got %v, want %v; the log is at %d", s.name, s.got(), c.want, log.Cursor(s.name))
			}
		}
	}
}

func TestAFilteredSinkThatTookAPartGoesOnFromThere(t *testing.T) {
	log := newLog(10)
	log.events[4].Event = json.RawMessage(`{"type":"run.finished","severity":"error"}`)
	log.events[8].Event = json.RawMessage(`{"type":"run.finished","severity":"error"}`)
	s := &taker{name: "s", rule: func(_ context.Context, events []Stored) (int, error) { return 1, errors.New("disk full") }}
	d := NewDrain(log, []Route{{Sink: s, Filter: Filter{Severity: Error}}}, Hooks{})
	if err := d.Flush(t.Context()); err == nil || log.Cursor("s") != 8 {
		t.Errorf("the log is at %d, %v", log.Cursor("s"), err)
	}
	s.rule = nil
	if err := d.Flush(t.Context()); err != nil || !slices.Equal(s.got(), []uint64{5, 9}) {
		t.Errorf("got %v, %v", s.got(), err)
	}
}

func TestAnEventThatIsRefusedForGoodStopsOnlyItself(t *testing.T) {
	log := newLog(30)
	told := ""
	s := &taker{name: "s"}
	refuse := func(bad uint64) func(context.Context, []Stored) (int, error) {
		return func(_ context.Context, events []Stored) (int, error) {
			for i, e := range events {
				if e.Seq == bad || bad == 0 {
					return i, &RefusedError{errors.New("status 400")}
				}
				if e.Seq == 0 {
					told = string(e.Event)
				}
			}
			return len(events), nil
		}
	}
	routes := spooled(t, s)
	d := NewDrain(log, routes, Hooks{Lost: lossOf})
	s.rule = refuse(0) // it never took anything: perhaps it is the wrong address
	if err := d.Flush(t.Context()); err == nil || d.Status()[0].Spool.Waiting != 30 {
		t.Errorf("a receiver that refuses everything: %v, %+v", err, d.Status()[0].Spool)
	}
	s.rule = refuse(17)
	if err := d.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	want := slices.Delete(upTo(30), 16, 17)
	if got := slices.DeleteFunc(s.got(), func(n uint64) bool { return n == 0 }); !slices.Equal(got, want) || !strings.Contains(told, "loss of 1") {
		t.Errorf("got %v, told %q", got, told)
	}
}

// A receiver whose answer is the same to whatever it is sent, since a certificate has
// run out or a gateway speaks for it, has judged no event, however many it took before.
func TestAReceiverThatRefusesEverythingLosesNothing(t *testing.T) {
	log := newLog(30)
	s := &taker{name: "s"}
	d := NewDrain(log, spooled(t, s), Hooks{Lost: lossOf, Told: func(sink string, l spool.Loss) { t.Errorf("%s is told of %d", sink, l.Records) }})
	if err := d.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	grow(log, 30)
	s.rule = func(context.Context, []Stored) (int, error) {
		return 0, &RefusedError{errors.New("400 No required SSL certificate was sent")}
	}
	for range 3 {
		if err := d.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), "SSL certificate") {
			t.Errorf("Flush = %v", err)
		}
	}
	if st := d.Status()[0].Spool; st.Waiting != 30 || st.Lost != 0 {
		t.Errorf("status = %+v", st)
	}
	s.rule = nil
	if err := d.Flush(t.Context()); err != nil || !slices.Equal(s.got(), upTo(60)) {
		t.Errorf("%v, got %v", err, s.got())
	}
}

// One that cannot be told of what it lost gets all else, and is told when it can.
func TestALossThatIsRefusedHoldsNothingUp(t *testing.T) {
	log, told := newLog(10), 0
	s := &taker{name: "s"}
	refuses := true
	s.rule = func(_ context.Context, events []Stored) (int, error) {
		if events[0].Seq == 0 && refuses {
			return 0, &RefusedError{errors.New("status 422")}
		}
		return len(events), nil
	}
	d := NewDrain(log, spooled(t, s), Hooks{Lost: lossOf, Told: func(_ string, l spool.Loss) { told += int(l.Records) }})
	if err := d.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	grow(log, 50)
	log.forget(20)
	if err := d.Flush(t.Context()); err != nil || len(s.got()) != 50 || told != 0 {
		t.Errorf("%v, %d have arrived, told of %d", err, len(s.got()), told)
	}
	refuses = false
	if err := d.Flush(t.Context()); err != nil || told != 10 {
		t.Errorf("%v, told of %d", err, told)
	}
}

func TestAReceiverThatAsksForTimeGetsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog(1)
		s := &taker{name: "s", rule: func(context.Context, []Stored) (int, error) {
			return 0, &BusyError{After: 20 * time.Minute, Err: errors.New("status 503")}
		}}
		d := NewDrain(log, spooled(t, s), Hooks{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); d.Run(ctx) }()
		for range 120 {
			time.Sleep(time.Minute)
			grow(log, 1)
			d.Notify()
		}
		synctest.Wait()
		if n := s.count(); n < 6 || n > 7 {
			t.Errorf("it was asked %d times in two hours", n)
		}
		if log.Cursor("s") != 121 {
			t.Errorf("the log is held up at %d", log.Cursor("s"))
		}
		cancel()
		<-done
	})
}

func TestAReceiverThatIsSlowGetsLessAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog(200)
		s := &taker{name: "s", rule: func(ctx context.Context, events []Stored) (int, error) {
			select {
			case <-time.After(time.Duration(len(events)) * 5 * time.Second):
				return len(events), nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}}
		d := NewDrain(log, spooled(t, s), Hooks{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); d.Run(ctx) }()
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if !slices.Equal(s.got(), upTo(200)) {
			t.Errorf("%d events arrived", len(s.got()))
		}
		cancel()
		<-done
	})
}

func TestAFullDiskHoldsTheLogAndNoEvent(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small tmpfs")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=128k"); err != nil {
		t.Skipf("needs to mount a tmpfs: %v", err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	log, works := newLog(5000), new(atomic.Bool)
	s := &taker{name: "s"}
	s.rule = func(ctx context.Context, events []Stored) (int, error) {
		if works.Load() {
			return len(events), nil
		}
		return dead(ctx, events)
	}
	d := NewDrain(log, []Route{{Sink: s, Spool: filepath.Join(dir, "spool")}}, Hooks{})
	if err := d.Flush(t.Context()); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("Flush = %v", err)
	}
	if n := log.Cursor("s"); n == 0 || n == 5000 {
		t.Errorf("the log is at %d", n)
	}
	works.Store(true)
	if err := d.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	if !slices.Equal(s.got(), upTo(5000)) {
		t.Errorf("%d events arrived", len(s.got()))
	}
	// With no room at all, not even for a spool, they go from the log.
	if err := os.RemoveAll(filepath.Join(dir, "spool")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 256<<10), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	grow(log, 100)
	if err := d.Flush(t.Context()); err != nil || !slices.Equal(s.got(), upTo(5100)) {
		t.Errorf("%d events arrived, %v", len(s.got()), err)
	}
}

// heap is what is in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestFourDeadSinksForADayCostNoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog(1)
		var routes []Route
		for i := range 4 {
			routes = append(routes, spooled(t, &taker{name: fmt.Sprint(i), rule: dead})...)
		}
		d := NewDrain(log, routes, Hooks{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); d.Run(ctx) }()
		time.Sleep(time.Hour)
		before := heap()
		for range 24 * 6 {
			time.Sleep(10 * time.Minute)
			grow(log, 200)
			d.Notify()
			synctest.Wait()
			log.forget(200) // what the ledger would do
		}
		after := heap()
		if d.Status()[3].Spool.Waiting != 24*60*20+1 {
			t.Errorf("status = %+v", d.Status()[3].Spool)
		}
		// Each event is some 60 bytes, in each of four: 7 MB.
		if after > before+1<<20 {
			t.Errorf("%d bytes are in use, %d before", after, before)
		}
		t.Logf("%d bytes in use, %d before", after, before)
		cancel()
		<-done
	})
}
