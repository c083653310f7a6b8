package state

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"trued.dev/trued/internal/resource"
)

// keepHead writes the sample and the head of it.
func keepHead(t *testing.T) (string, *Store) {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir)
	write(t, s, sample()...)
	if err := s.SaveHead(); err != nil {
		t.Fatal(err)
	}
	return dir, s
}

func openHead(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := OpenHead(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// wantHead holds what a start that read no more than it needs remembers against
// one that read everything.
func wantHead(t *testing.T, dir string, whole bool) {
	t.Helper()
	got, want := openHead(t, dir), open(t, dir)
	if got.whole != whole {
		t.Errorf("read everything: %v, want %v", got.whole, whole)
	}
	equal(t, got.Head(), want.Head())
	if err := got.Reload(); err != nil {
		t.Fatal(err)
	}
	equal(t, got.Snapshot(), want.Snapshot())
}

func TestAHeadIsWhatTheStateIsLessTheInventory(t *testing.T) {
	dir, _ := keepHead(t)
	wantHead(t, dir, false)
}

func TestAHeadIsGoodForALedgerThatGrew(t *testing.T) {
	dir, s := keepHead(t)
	write(t, s, Record{Finished: &Run{ID: "r2"}, Events: []json.RawMessage{[]byte(`{"n":4}`)}})
	wantHead(t, dir, false)
	write(t, s, Record{Owe: []Owed{{Target: address("/x"), Because: address("/y")}}})
	wantHead(t, dir, false)
	write(t, s, Record{Put: map[resource.Address]Entry{address("/new"): {Source: "infra"}}})
	wantHead(t, dir, true)
}

func TestAHeadIsWrittenAgainWhenItIsLeftBehind(t *testing.T) {
	dir, s := keepHead(t)
	file := filepath.Join(dir, headFile)
	read := func() string {
		t.Helper()
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	save := func(s *Store) {
		t.Helper()
		if err := s.SaveHead(); err != nil {
			t.Fatal(err)
		}
	}
	first := read()
	write(t, s, Record{Finished: &Run{ID: "r2"}})
	save(s)
	if read() != first {
		t.Error("a head that will do was written anew")
	}
	wantHead(t, dir, false)
	for s.size < headLag*2 {
		write(t, s, Record{Finished: &Run{ID: "r3", Summary: string(make([]byte, 100))}})
	}
	save(s)
	grown := read()
	if grown == first {
		t.Error("a head that is far behind stays")
	}
	wantHead(t, dir, false)
	write(t, s, Record{Put: map[resource.Address]Entry{address("/new"): {Source: "infra"}}})
	save(s)
	if read() == grown {
		t.Error("a head stays that the inventory has changed since")
	}
	wantHead(t, dir, false)
	// Another process appends and saves nothing, as one that is cut off.
	other := openHead(t, dir)
	write(t, other, Record{Put: map[resource.Address]Entry{address("/newer"): {Source: "infra"}}})
	if err := s.ReloadHead(); err != nil {
		t.Fatal(err)
	}
	save(s)
	wantHead(t, dir, false)
}

func TestAHeadIsForItsSnapshotAlone(t *testing.T) {
	dir, s := keepHead(t)
	kept, err := os.ReadFile(filepath.Join(dir, headFile))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; s.size < compactAbove; i++ {
		write(t, s, Record{Put: map[resource.Address]Entry{address(fmt.Sprintf("/f%d", i)): {Source: "infra", Digest: string(make([]byte, 4096))}}})
	}
	if err := s.Compact(); err != nil {
		t.Fatal(err)
	}
	wantHead(t, dir, true)
	if err := os.WriteFile(filepath.Join(dir, headFile), kept, 0o600); err != nil {
		t.Fatal(err)
	}
	wantHead(t, dir, true)
}

func TestADamagedHeadIsNone(t *testing.T) {
	dir, _ := keepHead(t)
	file := filepath.Join(dir, headFile)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		flipped := slices.Clone(whole)
		flipped[at] ^= 1 << (at % 8)
		for _, data := range [][]byte{flipped, whole[:at]} {
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if s := openHead(t, dir); !s.whole || len(s.Snapshot().Inventory) != 1 {
				t.Fatalf("the head is taken although byte %d is wrong or missing", at)
			}
		}
	}
}

func TestAnAppendReadsTheInventoryThatWasShed(t *testing.T) {
	dir, s := keepHead(t)
	held := s.Snapshot()
	s.Shed()
	if s.Snapshot().Inventory != nil {
		t.Error("the inventory was not shed")
	}
	write(t, s, Record{Put: map[resource.Address]Entry{address("/new"): {Source: "infra"}}})
	if n := len(s.Snapshot().Inventory); n != 2 {
		t.Errorf("%d entries", n)
	}
	if len(held.Inventory) != 1 {
		t.Error("a snapshot that was handed out has changed")
	}
	equal(t, open(t, dir).Snapshot(), s.Snapshot())
}
