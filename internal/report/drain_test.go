package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// memory is a log in memory.
type memory struct {
	mu      sync.Mutex
	events  []Stored
	cursors map[string]uint64
	last    uint64
	broken  error
}

// newMemory returns a log with n events, whose numbers have gaps.
func newMemory(n int) *memory {
	m := &memory{cursors: map[string]uint64{}}
	m.add(n)
	return m
}

func (m *memory) add(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for range n {
		seq := uint64(len(m.events)+1) * 3
		m.events = append(m.events, Stored{Seq: seq, Event: json.RawMessage(fmt.Sprintf(`{"seq":%d}`, seq))})
	}
}

func (m *memory) EventsAfter(seq uint64, limit int) ([]Stored, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []Stored
	for _, e := range m.events {
		if e.Seq > seq && len(found) < limit {
			found = append(found, e)
		}
	}
	return found, nil
}

func (m *memory) Newest() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.events) == 0 {
		return 0
	}
	return m.events[len(m.events)-1].Seq
}

func (m *memory) Cursor(sink string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cursors[sink]
}

func (m *memory) SetCursor(sink string, seq uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken == nil {
		m.cursors[sink] = seq
	}
	return m.broken
}

func (m *memory) numbers() []uint64 {
	var all []uint64
	for _, e := range m.events {
		all = append(all, e.Seq)
	}
	return all
}

// taker is a sink that takes what its rule lets it.
type taker struct {
	name string
	rule func(ctx context.Context, events []Stored) (int, error)

	mu    sync.Mutex
	taken []uint64
	tries int
}

func (s *taker) Name() string { return s.name }

func (s *taker) Send(ctx context.Context, events []Stored) (int, error) {
	n, err := len(events), error(nil)
	if s.rule != nil {
		n, err = s.rule(ctx, events)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	for _, e := range events[:n] {
		s.taken = append(s.taken, e.Seq)
	}
	return n, err
}

func (s *taker) got() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.taken)
}

func (s *taker) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tries
}

func dead(context.Context, []Stored) (int, error) { return 0, errors.New("connection refused") }

// deaf does not even heed its context.
func deaf(context.Context, []Stored) (int, error) {
	time.Sleep(time.Hour)
	return 0, errors.New("an hour late")
}

func TestFlushDeliversEverythingInOrder(t *testing.T) {
	log := newMemory(5 * batchSize / 2)
	a, b := &taker{name: "a"}, &taker{name: "b"}
	log.cursors["b"] = 9
	if err := NewDrain(log, Direct(a, b), Hooks{}).Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(log.numbers(), a.got()); diff != "" {
		t.Errorf("a (-stored +taken):\n%s", diff)
	}
	if diff := cmp.Diff(log.numbers()[3:], b.got()); diff != "" {
		t.Errorf("b (-stored +taken):\n%s", diff)
	}
	if err := NewDrain(log, Direct(a), Hooks{}).Flush(t.Context()); err != nil || len(a.got()) != len(log.events) {
		t.Errorf("a second flush delivered again: %v", err)
	}
}

func TestWhatASinkTookInPartComesOnceMoreFromThereOn(t *testing.T) {
	log, full := newMemory(10), false
	s := &taker{name: "s", rule: func(_ context.Context, events []Stored) (int, error) {
		full = !full
		if full {
			return 4, errors.New("disk full")
		}
		return len(events), nil
	}}
	d := NewDrain(log, Direct(s), Hooks{})
	if err := d.Flush(t.Context()); err == nil || log.Cursor("s") != 12 {
		t.Errorf("Flush = %v, cursor %d", err, log.Cursor("s"))
	}
	if st := d.Status(); st[0].Error != "disk full" || st[0].Cursor != 12 || st[0].Ahead == 0 || st[0].Since.IsZero() {
		t.Errorf("Status = %+v", st)
	}
	if err := d.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(log.numbers(), s.got()); diff != "" {
		t.Errorf("(-stored +taken):\n%s", diff)
	}
	if st := d.Status(); st[0].Error != "" {
		t.Errorf("Status = %+v", st)
	}
}

func TestASinkThatIsNamedTwiceIsOne(t *testing.T) {
	log, a := newMemory(3), &taker{name: "a"}
	if err := NewDrain(log, Direct(a, a), Hooks{}).Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(log.numbers(), a.got()); diff != "" {
		t.Errorf("(-stored +taken):\n%s", diff)
	}
}

func TestACursorThatCannotBeKeptIsSaid(t *testing.T) {
	log := newMemory(3)
	log.broken = errors.New("read-only file system")
	err := NewDrain(log, Direct(&taker{name: "s"}), Hooks{}).Flush(t.Context())
	if !errors.Is(err, log.broken) {
		t.Errorf("Flush = %v", err)
	}
}

func TestDeadAndDeafSinksHoldNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newMemory(100)
		good, hung := &taker{name: "good"}, &taker{name: "deaf", rule: deaf}
		d := NewDrain(log, Direct(&taker{name: "dead", rule: dead}, hung, good), Hooks{})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		err := d.Flush(ctx)
		if err == nil || !strings.Contains(err.Error(), "connection refused") || !strings.Contains(err.Error(), `"deaf"`) {
			t.Errorf("Flush = %v", err)
		}
		if took := time.Since(start); took > 5*time.Second+leaveAfter {
			t.Errorf("Flush took %s", took)
		}
		if len(good.got()) != 100 {
			t.Errorf("the good sink has %d events", len(good.got()))
		}
		// The deaf one is still at its first batch: it must not get a second at once.
		again, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := d.Flush(again); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Flush = %v", err)
		}
		time.Sleep(2 * time.Hour)
		if n := hung.count(); n != 1 {
			t.Errorf("the deaf sink was called %d times", n)
		}
	})
}

func TestTheDaemonRetriesWithAGrowingPauseAndSaysSoOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, works := newMemory(10), new(atomic.Bool)
		flaky := &taker{name: "flaky"}
		flaky.rule = func(ctx context.Context, events []Stored) (int, error) {
			if works.Load() {
				return len(events), nil
			}
			return dead(ctx, events)
		}
		told := make(chan error, 10)
		d := NewDrain(log, Direct(flaky), Hooks{Changed: func(_ string, err error) { told <- err }})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); d.Run(ctx) }()
		for range 24 * 60 {
			time.Sleep(time.Minute)
			d.Notify() // what happens does not hasten it
		}
		synctest.Wait()
		if n := flaky.count(); n < 24*60/8 || n > 24*60/2 {
			t.Errorf("it was tried %d times in a day", n)
		}
		works.Store(true)
		time.Sleep(2 * longPause)
		log.add(5)
		d.Notify()
		synctest.Wait()
		if diff := cmp.Diff(log.numbers(), flaky.got()); diff != "" {
			t.Errorf("(-stored +taken):\n%s", diff)
		}
		if len(told) != 2 || <-told == nil || <-told != nil {
			t.Error("not told once that it fails, and once that it works again")
		}
		cancel()
		<-done
	})
}

func TestADeadSinkDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newMemory(1)
		good := &taker{name: "good"}
		d := NewDrain(log, Direct(&taker{name: "deaf", rule: deaf}, &taker{name: "dead", rule: dead}, good), Hooks{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); d.Run(ctx) }()
		for range 50 {
			log.add(1)
			d.Notify()
			synctest.Wait()
			if len(good.got()) != len(log.events) {
				t.Fatalf("of %d events %d have arrived", len(log.events), len(good.got()))
			}
		}
		cancel()
		stopped := time.Now()
		<-done
		if took := time.Since(stopped); took > leaveAfter {
			t.Errorf("Run ended %s after it was told to", took)
		}
		time.Sleep(2 * time.Hour) // the deaf one comes back
	})
}

func TestASlowSinkHasABoundPerBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &taker{name: "slow", rule: func(ctx context.Context, _ []Stored) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}}
		start := time.Now()
		if err := NewDrain(newMemory(1), Direct(slow), Hooks{}).Flush(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Flush = %v", err)
		}
		if took := time.Since(start); took != sendTimeout {
			t.Errorf("it took %s", took)
		}
	})
}
