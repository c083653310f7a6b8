package state

import (
	"os"
	"testing"

	"trued.dev/trued/internal/resource"
)

// A commit may bring a later trued that dies: then the one before it reads what that
// has written.
func TestWhatALaterReleaseWroteIsRead(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/newer")); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	check := func(when string) {
		t.Helper()
		snap := s.Snapshot()
		trial := &Trial{Sources: map[string]Probation{"infra": {Commit: "b", Back: &Standing{Commit: "a"}}}}
		back := snap.Confirmed("infra")
		if !snap.Trial.SameAs(trial) || back == nil || back.Commit != "a" || back.Group != "groups/web" {
			t.Errorf("%s: %+v is on trial, and %+v confirmed", when, snap.Trial, back)
		}
		if len(snap.Inventory) != 3 || snap.Inventory[resource.Address{Kind: "file", Name: "/etc/motd"}].Digest != "d1" {
			t.Errorf("%s: the inventory is %+v", when, snap.Inventory)
		}
		if snap.Format != Format || snap.Events != 4 || s.Repaired() != "" {
			t.Errorf("%s: format %d, %d events, repaired %q", when, snap.Format, snap.Events, s.Repaired())
		}
	}
	check("as it was written")
	if events, err := s.EventsAfter(3, 10); err != nil || len(events) != 1 {
		t.Errorf("the event of a later release: %v, %v", events, err)
	}
	write(t, s, Record{Sources: map[string]Source{"infra": {Applied: "a", Group: "groups/web"}}})
	if err := s.writeSnapshot(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	check("written by this one")
}
