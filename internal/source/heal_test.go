package source_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"trued.dev/trued/internal/source"
)

func (h *host) store() string { return filepath.Join(h.dir, "current") }

// pack returns the only file of the store with that suffix.
func (h *host) pack(suffix string) string {
	h.t.Helper()
	found, err := filepath.Glob(filepath.Join(h.store(), "objects/pack/pack-*"+suffix))
	if err != nil || len(found) == 0 {
		h.t.Fatalf("no %s in the store (%v)", suffix, err)
	}
	return found[0]
}

func spoilFile(t testing.TB, name string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, change(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedStoreIsMended(t *testing.T) {
	half := func(b []byte) []byte { return b[:len(b)/2] }
	empty := func([]byte) []byte { return nil }
	for name, spoil := range map[string]func(h *host){
		"a pack that is cut off":   func(h *host) { spoilFile(h.t, h.pack(".pack"), half) },
		"a pack that is empty":     func(h *host) { spoilFile(h.t, h.pack(".pack"), empty) },
		"an index that is cut off": func(h *host) { spoilFile(h.t, h.pack(".idx"), half) },
		"a pack that is gone":      func(h *host) { remove(h.t, h.pack(".pack")) },
		"an index that is gone":    func(h *host) { remove(h.t, h.pack(".idx")) },
		"an empty reference":       func(h *host) { spoilFile(h.t, filepath.Join(h.store(), "refs/heads/tip"), empty) },
		"a missing reference":      func(h *host) { remove(h.t, filepath.Join(h.store(), "refs/heads/tip")) },
		"a reference full of zeros": func(h *host) {
			spoilFile(h.t, filepath.Join(h.store(), "refs/heads/tip"), func(b []byte) []byte { return make([]byte, len(b)) })
		},
		"an empty applied one": func(h *host) { spoilFile(h.t, filepath.Join(h.store(), "refs/heads/applied"), empty) },
		"a store that is gone": func(h *host) { remove(h.t, filepath.Join(h.store(), "objects")) },
		"a link to nowhere": func(h *host) {
			remove(h.t, h.store())
			if err := os.Symlink("store.nowhere", h.store()); err != nil {
				h.t.Fatal(err)
			}
		},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", after a restart"}[restart], func(t *testing.T) {
				u := newUpstream(t)
				u.put("motd", "one\n")
				commit := u.put("etc/issue", "two\n")
				h := open(t, source.Config{URL: u.bare, Branch: "main"})
				h.fetch()
				h.apply(commit)
				spoil(h)
				if restart {
					h.reopen()
					h.apply(commit)
				}
				h.events = nil
				h.fetch()
				h.wantAt(commit)
				if got := h.read(commit, "motd"); got != "one\n" {
					t.Errorf("motd is %q", got)
				}
				if _, ok := h.event(source.EventRepaired); !ok {
					t.Errorf("events are %q, want %s", names(h.events), source.EventRepaired)
				}
				h.fsck()
				h.events = nil
				h.fetch()
				if len(h.events) > 0 {
					t.Errorf("mended store has events\n%s", names(h.events))
				}
			})
		}
	}
}

func remove(t testing.TB, name string) {
	t.Helper()
	if err := os.RemoveAll(name); err != nil {
		t.Fatal(err)
	}
}

func TestLeftOversOfAnInterruptedFetchAreRemoved(t *testing.T) {
	u := newUpstream(t)
	commit := u.put("motd", "one\n")
	h := open(t, source.Config{URL: u.bare, Branch: "main"})
	h.fetch()
	left := []string{
		filepath.Join(h.store(), "objects/pack/tmp_123"),
		filepath.Join(h.store(), "objects/pack/pack-0000000000000000000000000000000000000000.pack"),
		filepath.Join(h.store(), "tip.new"),
		filepath.Join(h.store(), "shallow.new"),
		filepath.Join(h.dir, "store.left/objects/pack/x"),
		filepath.Join(h.dir, "quarantine.left/pack"),
		filepath.Join(h.dir, "current.new"),
	}
	for _, name := range left {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("left over"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// It names a commit that never came.
	shallow := "1234567890123456789012345678901234567890\n"
	if err := os.WriteFile(filepath.Join(h.store(), "shallow"), []byte(shallow), 0o600); err != nil {
		t.Fatal(err)
	}
	next := u.put("motd", "two\n")
	h.fetch()
	h.wantAt(next)
	for _, name := range left {
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there", name)
		}
	}
	h.fsck()
	_ = commit
}

// Every bit of a pack is flipped in turn: reading either returns the right
// bytes or says that the store is damaged, and the next fetch mends it.
func TestWrongContentIsNoticedWhenItIsRead(t *testing.T) {
	u := newUpstream(t)
	commit := u.put("motd", "the message of the day\n")
	h := open(t, source.Config{URL: u.bare, Branch: "main"})
	h.fetch()
	whole, err := os.ReadFile(h.pack(".pack"))
	if err != nil {
		t.Fatal(err)
	}
	noticed := 0
	for at := 12; at < len(whole)-20; at++ {
		spoilFile(t, h.pack(".pack"), func(b []byte) []byte {
			copy(b, whole)
			b[at] ^= 1 << (at % 8)
			return b
		})
		h.reopen()
		tree, err := h.Tree(commit)
		if err == nil {
			var data []byte
			if data, err = fs.ReadFile(tree, "motd"); err == nil && string(data) != "the message of the day\n" {
				t.Fatalf("byte %d: motd is %q", at, data)
			}
		}
		if err != nil && !errors.Is(err, source.ErrDamaged) {
			t.Fatalf("byte %d: error is %v, want ErrDamaged", at, err)
		}
		if err != nil {
			noticed++
		}
	}
	if noticed < (len(whole)-32)/2 {
		t.Errorf("only %d of %d flipped bits were noticed", noticed, len(whole)-32)
	}
	h.reopen()
	if _, err := h.Tree(commit); err == nil {
		tree, _ := h.Tree(commit)
		_, _ = fs.ReadFile(tree, "motd")
	}
	h.fetch()
	if got := h.read(commit, "motd"); got != "the message of the day\n" {
		t.Errorf("mended motd is %q", got)
	}
	h.fsck()
}

func TestDamageInWhatIsNeverReadIsFoundWithinADay(t *testing.T) {
	u := newUpstream(t)
	u.fill(1, 5, 2000)
	commit := u.commit("Files")
	h := open(t, source.Config{URL: u.bare, Branch: "main"})
	clock := time.Now()
	h.now = func() time.Time { return clock }
	h.reopen()
	h.fetch()
	spoilFile(t, h.pack(".pack"), func(b []byte) []byte {
		b[len(b)/2] ^= 0x10
		return b
	})
	h.events = nil
	h.fetch()
	if len(h.events) > 0 {
		t.Fatalf("events are\n%s", names(h.events))
	}
	clock = clock.Add(25 * time.Hour)
	h.fetch()
	if _, ok := h.event(source.EventRepaired); !ok {
		t.Errorf("events are %q, want %s", names(h.events), source.EventRepaired)
	}
	h.wantAt(commit)
	h.fsck()
}

func TestWhileADamagedStoreCannotBeMendedWhatIsWholeStaysReadable(t *testing.T) {
	u := newUpstream(t)
	first := u.put("motd", "one\n")
	h := open(t, source.Config{URL: u.bare, Branch: "main"})
	h.fetch()
	h.apply(first)
	second := u.put("other", "two\n")
	h.fetch()
	// The tip is lost, the applied commit is not.
	spoilFile(t, filepath.Join(h.store(), "refs/heads/tip"), func([]byte) []byte { return nil })
	if err := os.Rename(u.bare, u.bare+".away"); err != nil {
		t.Fatal(err)
	}
	h.reopen()
	if _, err := h.Fetch(context.Background()); err == nil {
		t.Fatal("Fetch succeeded without a server")
	}
	if got := h.read(first, "motd"); got != "one\n" {
		t.Errorf("applied motd is %q", got)
	}
	if err := os.Rename(u.bare+".away", u.bare); err != nil {
		t.Fatal(err)
	}
	h.fetch()
	h.wantAt(second)
	if got := h.read(first, "motd"); got != "one\n" {
		t.Errorf("applied commit was not taken over: motd is %q", got)
	}
	h.fsck()
}
