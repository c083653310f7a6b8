package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"trued.dev/trued/internal/resource"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func write(t *testing.T, s *Store, records ...Record) {
	t.Helper()
	for _, r := range records {
		if err := s.Append(r); err != nil {
			t.Fatal(err)
		}
	}
}

func address(name string) resource.Address { return resource.Address{Kind: "file", Name: name} }

func sample() []Record {
	motd := address("/etc/motd")
	begin := &Begin{Run: "r1", Batch: 1, Items: []Intent{{
		Address: motd, Source: "infra", Cause: resource.Intended,
		Claims: []resource.Claim{resource.Path("/etc/motd")},
		Prior:  resource.Prior{resource.Path("/etc/motd"): json.RawMessage(`{"existed":true}`)},
	}}}
	owed := Owed{Target: resource.Address{Kind: "unit", Name: "x.service"}, Reaction: resource.Restart, Because: motd}
	return []Record{
		{Started: &Run{ID: "r1"}, Begin: begin, Owe: []Owed{owed}},
		{Done: true, Put: map[resource.Address]Entry{motd: {Source: "infra", Digest: "d1", Claims: begin.Items[0].Claims}}, Events: []json.RawMessage{[]byte(`{"n":1}`)}},
		{Settle: []Owed{owed}, Events: []json.RawMessage{[]byte(`{"n":2}`), []byte(`{"n":3}`)}},
		{Finished: &Run{ID: "r1", Verdict: "in order"}, Sources: map[string]Source{"infra": {Applied: "abc"}}},
	}
}

// equal compares what is remembered, less the times that JSON cannot keep.
func equal(t *testing.T, got, want Snapshot) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("remembered otherwise (-want +got):\n%s", d)
	}
}

func TestWhatWasWrittenIsRememberedByTheNextStart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for i, r := range sample() {
		write(t, s, r)
		equal(t, open(t, dir).Snapshot(), s.Snapshot())
		if got := s.Snapshot().Seq; got != uint64(i+1) {
			t.Errorf("record %d is numbered %d", i+1, got)
		}
	}
}

func TestAnOpenBatchIsInTheInventoryAndOwed(t *testing.T) {
	dir := t.TempDir()
	write(t, open(t, dir), sample()[0])
	snap := open(t, dir).Snapshot()
	if snap.Open == nil || snap.Running == nil {
		t.Fatal("the batch or the run that was cut off is forgotten")
	}
	e := snap.Inventory[address("/etc/motd")]
	if len(e.Claims) != 1 || e.Prior == nil {
		t.Errorf("the inventory has %+v of what may have been changed", e)
	}
	if len(snap.Owed) != 1 {
		t.Errorf("owed: %v", snap.Owed)
	}
}

func TestALedgerCutOffAnywhereIsReadUpToTheLastWholeRecord(t *testing.T) {
	full := t.TempDir()
	s := open(t, full)
	var after []Snapshot
	after = append(after, s.Snapshot())
	for _, r := range sample() {
		write(t, s, r)
		after = append(after, s.Snapshot())
	}
	data, err := os.ReadFile(filepath.Join(full, ledgerFile))
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n <= len(data); n += 37 {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, ledgerFile), data[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		whole := strings.Count(string(data[:n]), "\n")
		cut := open(t, dir)
		equal(t, cut.Snapshot(), after[whole])
		if cut.Repaired() != "" {
			t.Errorf("cut at %d: a record that was being written is no damage: %s", n, cut.Repaired())
		}
		// What is written next must be read as well.
		write(t, cut, Record{Finished: &Run{ID: "later"}})
		if got := open(t, dir).Snapshot(); got.LastRun == nil || got.LastRun.ID != "later" || got.Seq != uint64(whole+1) {
			t.Fatalf("cut at %d: the record after it is lost: %+v", n, got)
		}
	}
}

func TestADamagedLedgerIsPutAsideAndTold(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	write(t, s, sample()...)
	name := filepath.Join(dir, ledgerFile)
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(data), "\n")
	lines[1] = "{broken\n"
	if err := os.WriteFile(name, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := open(t, dir)
	if damaged.Repaired() == "" {
		t.Fatal("the damage is not told")
	}
	if damaged.Snapshot().Seq != 1 {
		t.Errorf("read up to record %d, want 1", damaged.Snapshot().Seq)
	}
	write(t, damaged, Record{Finished: &Run{ID: "next"}})
	again := open(t, dir)
	if again.Repaired() != "" || again.Snapshot().LastRun.ID != "next" || len(again.Snapshot().Inventory) != 1 {
		t.Errorf("after the repair: %q, %+v", again.Repaired(), again.Snapshot())
	}
	aside, err := filepath.Glob(filepath.Join(dir, "ledger.damaged-*"))
	if err != nil || len(aside) != 1 {
		t.Errorf("the damaged ledger is not kept: %v, %v", aside, err)
	}
}

func TestAStateFromANewerVersionIsRefused(t *testing.T) {
	dir := t.TempDir()
	newer := `{"format": 99, "inventory": {"file:/x": {"what": "ever"}}}`
	if err := os.WriteFile(filepath.Join(dir, snapshotFile), []byte(newer), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir)
	var refused *NewerError
	if !errors.As(err, &refused) || refused.Format != 99 {
		t.Fatalf("opened a newer state: %v", err)
	}
}

func TestTheNextFormatIsStillRead(t *testing.T) {
	dir := t.TempDir()
	next := `{"format": 2, "seq": 7, "something_new": true}`
	if err := os.WriteFile(filepath.Join(dir, snapshotFile), []byte(next), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := open(t, dir).Snapshot().Seq; got != 7 {
		t.Errorf("read record %d of the next format, want 7", got)
	}
}

func TestCompactionKeepsWhatIsRememberedAndWhatSinksHaveYetToTake(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Enroll([]string{"quick", "slow"}); err != nil {
		t.Fatal(err)
	}
	long := json.RawMessage(`"` + strings.Repeat("x", 1000) + `"`)
	for range 400 {
		write(t, s, Record{Events: []json.RawMessage{long, long}})
	}
	if err := errors.Join(s.SetCursor("quick", 800), s.SetCursor("slow", 790)); err != nil {
		t.Fatal(err)
	}
	before := s.Snapshot()
	if err := s.Compact(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, ledgerFile))
	if err != nil || info.Size() > 20_000 {
		t.Errorf("the ledger still has %d bytes (%v)", info.Size(), err)
	}
	again := open(t, dir)
	equal(t, again.Snapshot(), before)
	events, err := again.EventsAfter(again.Cursor("slow"), 100)
	if err != nil || len(events) != 10 || events[0].Seq != 791 {
		t.Errorf("the slow sink finds %d events from %v on (%v)", len(events), events, err)
	}
}

func TestCompactionWaitsForAnOpenBatch(t *testing.T) {
	s := open(t, t.TempDir())
	write(t, s, Record{Events: []json.RawMessage{json.RawMessage(`"` + strings.Repeat("x", compactAbove) + `"`)}})
	write(t, s, sample()[0])
	size := s.size
	if err := s.Compact(); err != nil {
		t.Fatal(err)
	}
	if s.size != size {
		t.Error("the ledger was compacted with a batch open")
	}
}

func TestASinkThatIsGoneHoldsNoEvents(t *testing.T) {
	s := open(t, t.TempDir())
	if err := s.Enroll([]string{"old"}); err != nil {
		t.Fatal(err)
	}
	write(t, s, Record{Events: []json.RawMessage{[]byte(`1`)}})
	if err := s.Enroll([]string{"new"}); err != nil {
		t.Fatal(err)
	}
	write(t, s, Record{Events: []json.RawMessage{[]byte(`2`)}})
	events, err := s.EventsAfter(s.Cursor("new"), 10)
	if err != nil || len(events) != 1 || string(events[0].Event) != "2" {
		t.Errorf("a new sink gets %v (%v), want what came after it", events, err)
	}
	rest, err := s.untaken()
	if err != nil || strings.Contains(string(rest), `"events":[1]`) {
		t.Errorf("events are kept for a sink that is gone: %s (%v)", rest, err)
	}
}

func TestOneHoldsTheLock(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, dir), open(t, dir)
	unlock, err := a.Lock(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Lock(t.Context(), 0); !errors.Is(err, ErrLocked) {
		t.Errorf("a second lock gives %v", err)
	}
	if b.Free() {
		t.Error("a lock that is held is said to be free")
	}
	write(t, a, Record{Finished: &Run{ID: "by a"}})
	unlock()
	unlock, err = b.Lock(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if got := b.Snapshot().LastRun; got == nil || got.ID != "by a" {
		t.Errorf("under the lock the state is not read anew: %+v", got)
	}
}

func TestWhatBelongsToNoRunIsToldBesideOne(t *testing.T) {
	dir := t.TempDir()
	daemon, other := open(t, dir), open(t, dir)
	unlock, err := daemon.Lock(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Tell(t.Context(), 0, json.RawMessage(`1`)); err != nil {
		t.Errorf("the process of the run itself: %v", err)
	}
	if err := other.Tell(t.Context(), 0, json.RawMessage(`2`)); !errors.Is(err, ErrLocked) {
		t.Errorf("another process writes beside the run: %v", err)
	}
	unlock()
	if err := other.Tell(t.Context(), 0, json.RawMessage(`2`)); err != nil {
		t.Error(err)
	}
	events, err := open(t, dir).EventsAfter(0, 10)
	if err != nil || len(events) != 2 || string(events[0].Event) != "1" || string(events[1].Event) != "2" {
		t.Errorf("told are %v (%v), want 1 and 2", events, err)
	}
}

func TestASuspensionEndsByItself(t *testing.T) {
	s := open(t, t.TempDir())
	now := time.Now().UTC()
	if err := s.Suspend(Suspension{Reason: "r", Since: now, Until: now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at   time.Time
		want bool
	}{{now, true}, {now.Add(59 * time.Minute), true}, {now.Add(time.Hour), false}} {
		got, err := s.Suspended(c.at)
		if err != nil || (got != nil) != c.want {
			t.Errorf("suspended at %s: %v (%v), want %v", c.at, got, err, c.want)
		}
	}
	if err := errors.Join(s.Resume(), s.Resume()); err != nil {
		t.Errorf("lifting it twice: %v", err)
	}
}

func TestReadingWritesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	s := open(t, dir)
	_, err1 := s.Digest("x")
	_, err2 := s.History(10)
	_, err3 := s.Suspended(time.Now())
	if err := errors.Join(err1, err2, err3, s.Compact()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("the state directory was made: %v", err)
	}
}

func TestHistoryLetsTheOldestGo(t *testing.T) {
	s := open(t, t.TempDir())
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range historyKept + 3 {
		r := Run{ID: "r", Started: start.Add(time.Duration(i) * time.Second)}
		if err := s.Keep(Past{Run: r}); err != nil {
			t.Fatal(err)
		}
	}
	past, err := s.History(historyKept * 2)
	if err != nil || len(past) != historyKept {
		t.Fatalf("%d runs are kept (%v)", len(past), err)
	}
	if want := start.Add((historyKept + 2) * time.Second); !past[0].Run.Started.Equal(want) {
		t.Errorf("the newest is of %s, want %s", past[0].Run.Started, want)
	}
}

func FuzzStateFilesNeverPanic(f *testing.F) {
	for _, r := range sample() {
		line, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(`{"format":1}`), line)
	}
	f.Fuzz(func(_ *testing.T, snapshot, ledger []byte) {
		snap, err := parseSnapshot(snapshot)
		if err != nil {
			if snap, err = parseSnapshot([]byte(`{"format":1}`)); err != nil {
				return
			}
		}
		_, _ = readRecords(bytes.NewReader(ledger), func(r Record, _ int64) bool { snap.fold(r); return true })
	})
}

func TestADebtThatIsOwedAnewIsNotSettledByWhatCameBefore(t *testing.T) {
	s := open(t, t.TempDir())
	at := func(us uint64) resource.Moment { return resource.Moment{Boot: "b", Micros: us} }
	file, unit := resource.Address{Kind: "file", Name: "/a"}, resource.Address{Kind: "unit", Name: "u"}
	debt := Owed{Target: unit, Reaction: resource.Restart, Because: file, Begun: at(1)}
	placed := debt
	placed.Placed = at(2)
	other := Owed{Target: unit, Reaction: resource.Restart, Because: unit, Placed: at(2)}
	later := debt
	later.Begun = at(3)
	for _, step := range []struct {
		record Record
		want   []Owed
	}{
		{Record{Owe: []Owed{debt}}, []Owed{debt}},
		{Record{Placed: []Owed{placed, other}}, []Owed{placed}},
		{Record{Owe: []Owed{later}}, []Owed{later}},
		{Record{Placed: []Owed{placed}, Settle: []Owed{debt}}, []Owed{}},
	} {
		write(t, s, step.record)
		for _, snap := range []Snapshot{s.Snapshot(), open(t, s.Dir()).Snapshot()} {
			if !slices.Equal(snap.Owed, step.want) {
				t.Errorf("after %+v there is owed %+v, want %+v", step.record, snap.Owed, step.want)
			}
		}
	}
}
