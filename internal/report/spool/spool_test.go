package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func open(t testing.TB, dir string, limits Limits) *Spool {
	t.Helper()
	s, err := Open(t.Context(), dir, limits)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fast is a directory for tests that write and sync very often: in memory, where
// the machine has that.
func fast(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "spool")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// record is the record numbered n, of some 200 bytes.
func record(n uint64) Record {
	return Record{Seq: n, Data: fmt.Appendf(nil, `{"seq":%d,"message":"%0*d"}`, n, width(n), n)}
}

// width has the first records short, of which each byte is damaged in turn.
func width(n uint64) int {
	if n <= 45 {
		return 4
	}
	return 180
}

func fill(t testing.TB, s *Spool, from, to uint64) {
	t.Helper()
	var batch []Record
	for n := from; n <= to; n++ {
		if batch = append(batch, record(n)); len(batch) == 50 || n == to {
			if k, err := s.Append(batch); err != nil || k != len(batch) {
				t.Fatalf("Append = %d of %d, %v", k, len(batch), err)
			}
			batch = nil
		}
	}
}

// take takes up to most records, acknowledges them, and returns their numbers.
func take(t testing.TB, s *Spool, most int) []uint64 {
	t.Helper()
	var taken []uint64
	for len(taken) < most {
		batch, err := s.Next(min(7, most-len(taken)), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(batch) == 0 {
			break
		}
		for _, r := range batch {
			if !bytes.Equal(r.Data, record(r.Seq).Data) {
				t.Fatalf("record %d holds %q", r.Seq, r.Data)
			}
			taken = append(taken, r.Seq)
		}
		if err := s.Ack(len(batch)); err != nil {
			t.Fatal(err)
		}
	}
	return taken
}

const all = 1 << 30

func numbers(from, to uint64) []uint64 {
	var list []uint64
	for n := from; n <= to; n++ {
		list = append(list, n)
	}
	return list
}

func closed(t testing.TB, s *Spool) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatGoesInComesOutInOrderAcrossOpenings(t *testing.T) {
	dir := filepath.Join(fast(t), "spool")
	var got []uint64
	for round := range uint64(10) {
		s := open(t, dir, Limits{})
		fill(t, s, round*100+1, round*100+100)
		got = append(got, take(t, s, 70)...)
		if seq, checksum := s.Last(); seq != round*100+100 || checksum != Checksum(record(seq).Data) {
			t.Errorf("the last one is %d", seq)
		}
		closed(t, s)
	}
	s := open(t, dir, Limits{})
	defer closed(t, s)
	got = append(got, take(t, s, all)...)
	if !slices.Equal(got, numbers(1, 1000)) || !s.Empty() || s.Loss().Records != 0 {
		t.Errorf("%d came out, %d lost, empty %v", len(got), s.Loss().Records, s.Empty())
	}
	if st, err := Look(dir); err != nil || st.Waiting != 0 || st.Bytes > reused || st.LastSuccess.IsZero() {
		t.Errorf("Look = %+v, %v", st, err)
	}
}

func TestWhatIsNotAcknowledgedComesAgain(t *testing.T) {
	dir := fast(t)
	s := open(t, dir, Limits{})
	fill(t, s, 1, 20)
	if batch, err := s.Next(10, 1<<20); err != nil || len(batch) != 10 {
		t.Fatal(len(batch), err)
	}
	if err := s.Ack(4); err != nil {
		t.Fatal(err)
	}
	closed(t, s)
	s = open(t, dir, Limits{})
	defer closed(t, s)
	if got := take(t, s, all); !slices.Equal(got, numbers(5, 20)) {
		t.Errorf("came again: %v", got)
	}
}

func TestABatchIsBoundedInBytes(t *testing.T) {
	s := open(t, fast(t), Limits{})
	defer closed(t, s)
	fill(t, s, 1, 20)
	one := len(record(1).Data)
	for bytes, want := range map[int]int{1: 1, 3*one + 10: 3} {
		if batch, err := s.Next(64, bytes); err != nil || len(batch) != want {
			t.Errorf("%d bytes: %d records, %v", bytes, len(batch), err)
		}
	}
}

func TestAtTheBoundTheOldestGoAndAreCounted(t *testing.T) {
	dir := fast(t)
	s := open(t, dir, Limits{Bytes: LeastBytes})
	fill(t, s, 1, 20_000)
	if s.bytes() > LeastBytes {
		t.Errorf("it has %d bytes", s.bytes())
	}
	lost := s.Loss()
	closed(t, s)
	s = open(t, dir, Limits{Bytes: LeastBytes})
	defer closed(t, s)
	got := take(t, s, all)
	if len(got) < LeastBytes/2/250 || !slices.Equal(got, numbers(lost.Records+1, 20_000)) {
		t.Errorf("%d lost, came out: %d from %d on", lost.Records, len(got), got[0])
	}
	if lost.Since.IsZero() || lost.Last.Before(lost.Since) || s.Loss() != lost {
		t.Errorf("loss = %+v, then %+v", lost, s.Loss())
	}
	if err := s.Told(lost); err != nil || s.Loss().Records != 0 {
		t.Errorf("after it was told: %+v, %v", s.Loss(), err)
	}
	if st, err := Look(dir); err != nil || st.Lost != lost.Records {
		t.Errorf("Look = %+v, %v", st, err)
	}
}

func TestWhatIsTooOldGoesAndIsCounted(t *testing.T) {
	dir, now := fast(t), time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	limits := Limits{Bytes: LeastBytes, Age: 7 * 24 * time.Hour, Now: func() time.Time { return now }}
	s := open(t, dir, limits)
	for day := range uint64(10) {
		fill(t, s, day*400+1, day*400+400)
		now = now.Add(24 * time.Hour)
	}
	closed(t, s)
	s = open(t, dir, limits)
	got := take(t, s, all)
	if !slices.Equal(got, numbers(3*400+1, 4000)) || s.Loss().Records != 1200 {
		t.Errorf("from %d to %d, lost %d", got[0], got[len(got)-1], s.Loss().Records)
	}
	fill(t, s, 4001, 4010)
	now = now.Add(8 * 24 * time.Hour)
	if got := take(t, s, all); len(got) != 0 || s.Loss().Records != 1210 || !s.Empty() {
		t.Errorf("%d came out, %d lost", len(got), s.Loss().Records)
	}
	closed(t, s)
}

// checkDamaged opens a damaged spool of the records 1 to 40, of which 10 were
// acknowledged: what comes out is in order, and is whole with what was lost;
// what is written after that comes out, too.
func checkDamaged(t *testing.T, dir, what string, counted bool) []uint64 {
	t.Helper()
	s := open(t, dir, Limits{})
	defer closed(t, s)
	fill(t, s, 41, 45)
	got := take(t, s, all)
	if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Fatalf("%s: out of order: %v", what, got)
	}
	if n := len(got); n < 5 || !slices.Equal(got[n-5:], numbers(41, 45)) {
		t.Fatalf("%s: what came after it is not whole: %v", what, got)
	}
	if counted && uint64(len(got))+s.Loss().Records != 35 {
		t.Fatalf("%s: %d came out and %d are lost, of 35", what, len(got), s.Loss().Records)
	}
	return got
}

func damaged(t *testing.T) (dir, file string, content []byte) {
	t.Helper()
	dir = fast(t)
	s := open(t, dir, Limits{})
	fill(t, s, 1, 40)
	take(t, s, 10)
	closed(t, s)
	file = filepath.Base(segmentName(dir, 1))
	content, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return dir, file, content
}

// looked has every byte of the records around the mark damaged, and of the last
// ones; of the others each seventh, or all of them with TORTURE=full.
func looked(at, each int) bool {
	n := at / each
	return n == 9 || n == 10 || n >= 38 || at%7 == 0 || os.Getenv("TORTURE") == "full"
}

func TestASegmentThatIsCutAnywhereKeepsWhatIsBeforeTheCut(t *testing.T) {
	dir, file, content := damaged(t)
	each := len(content) / 40
	for at := range content {
		if !looked(at, each) {
			continue
		}
		name := filepath.Join(dir, file)
		if err := os.WriteFile(name, content[:at], 0o600); err != nil {
			t.Fatal(err)
		}
		got := checkDamaged(t, copyOnce(t, dir), fmt.Sprintf("cut at %d", at), true)
		if want := max(at/each, 10) - 10 + 5; len(got) < want-1 {
			t.Fatalf("cut at %d: %d came out, want %d", at, len(got), want)
		}
	}
}

// copyOnce copies a spool of one segment, for what Open changes.
func copyOnce(t *testing.T, from string) string {
	t.Helper()
	to := fast(t)
	for _, e := range []string{markFile, filepath.Base(segmentName(from, 1))} {
		data, err := os.ReadFile(filepath.Join(from, e))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, e), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func TestAFlippedByteCostsOneRecord(t *testing.T) {
	dir, file, content := damaged(t)
	for at := range content {
		if !looked(at, len(content)/40) {
			continue
		}
		bad := bytes.Clone(content)
		bad[at] ^= byte(1 + rand.IntN(255))
		if err := os.WriteFile(filepath.Join(dir, file), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := checkDamaged(t, copyOnce(t, dir), fmt.Sprintf("byte %d", at), true); len(got) < 34 {
			t.Fatalf("byte %d of %d cost %d records", at, len(content), 35-len(got))
		}
	}
}

func TestADamagedMarkRepeatsAndLosesNothing(t *testing.T) {
	dir, _, _ := damaged(t)
	mark, err := os.ReadFile(filepath.Join(dir, markFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		bad  func([]byte) []byte
		most int
	}{
		{"one slot", func(b []byte) []byte { clear(b[:slotSpace]); return b }, 37},
		{"the other slot", func(b []byte) []byte { clear(b[slotSpace:]); return b }, 37},
		{"both", func(b []byte) []byte { clear(b); return b }, 45},
		{"gone", func([]byte) []byte { return nil }, 45},
	} {
		if err := os.WriteFile(filepath.Join(dir, markFile), c.bad(bytes.Clone(mark)), 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, copyOnce(t, dir), Limits{})
		fill(t, s, 41, 45)
		got := take(t, s, all)
		if n := len(got); n < 35 || n > 45 || !slices.Equal(got[n-35:], numbers(11, 45)) || s.Loss().Records != 0 {
			t.Errorf("%s: %v came out, %d lost", c.name, got, s.Loss().Records)
		}
		closed(t, s)
	}
}

func TestASegmentThatIsGoneIsCounted(t *testing.T) {
	dir := fast(t)
	s := open(t, dir, Limits{Bytes: LeastBytes})
	fill(t, s, 1, 2000)
	segments := slices.Clone(s.segments)
	closed(t, s)
	if len(segments) < 4 {
		t.Fatalf("%d segments", len(segments))
	}
	for _, i := range []int{1, len(segments) - 1} {
		if err := os.Remove(segmentName(dir, segments[i].first)); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, dir, Limits{Bytes: LeastBytes})
	defer closed(t, s)
	fill(t, s, 2001, 2010)
	got := take(t, s, all)
	if uint64(len(got))+s.Loss().Records != 2010 || s.Loss().Records == 0 || !slices.Equal(got[len(got)-10:], numbers(2001, 2010)) {
		t.Errorf("%d came out, %d lost", len(got), s.Loss().Records)
	}
}

func TestAFullDiskTakesNoneOrAllAndLetsTheRestGo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small tmpfs")
	}
	dir := fast(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("needs to mount a tmpfs: %v", err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	s := open(t, filepath.Join(dir, "spool"), Limits{})
	var kept, got []uint64
	next := uint64(1)
	for round := range 20 {
		for range 500 {
			n, err := s.Append([]Record{record(next), record(next + 1)})
			for range n {
				kept = append(kept, next)
				next++
			}
			if err != nil {
				if !errors.Is(err, unix.ENOSPC) {
					t.Fatal(err)
				}
				break
			}
		}
		if round == 0 && len(kept) > 2000 {
			t.Fatal("the disk is not full")
		}
		got = append(got, take(t, s, 300)...)
		if round%3 == 0 {
			closed(t, s)
			s = open(t, filepath.Join(dir, "spool"), Limits{})
		}
	}
	got = append(got, take(t, s, all)...)
	closed(t, s)
	if !slices.Equal(got, kept) || s.Loss().Records != 0 {
		t.Errorf("%d kept, %d came out, %d lost", len(kept), len(got), s.Loss().Records)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	dir := fast(t)
	s := open(t, dir, Limits{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, dir, Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a second Open: %v", err)
	}
	closed(t, s)
	closed(t, open(t, dir, Limits{}))
}

func TestRefusedAndMissedRecordsAreLostAndFailuresAreKept(t *testing.T) {
	dir := fast(t)
	s := open(t, dir, Limits{})
	fill(t, s, 1, 3)
	take(t, s, 1)
	if _, err := s.Next(10, all); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Refuse(), s.Missed(5), s.Fail("connection refused")); err != nil {
		t.Fatal(err)
	}
	if l := s.Loss(); l.Records != 6 {
		t.Errorf("loss = %+v", l)
	}
	closed(t, s)
	st, err := Look(dir)
	if err != nil || st.Waiting != 1 || st.Lost != 6 || st.Failure != "connection refused" || st.LastFailure.IsZero() || st.Oldest.IsZero() || st.Bytes == 0 {
		t.Errorf("Look = %+v, %v", st, err)
	}
	if st, err := Look(filepath.Join(dir, "nothing")); err != nil || st != (Status{}) {
		t.Errorf("Look at nothing = %+v, %v", st, err)
	}
}

func BenchmarkThrough(b *testing.B) {
	s := open(b, b.TempDir(), Limits{})
	defer closed(b, s)
	const batch = 64
	var n uint64
	for b.Loop() {
		fill(b, s, n+1, n+batch)
		n += batch
		if got := take(b, s, all); len(got) != batch {
			b.Fatal(len(got))
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
}
