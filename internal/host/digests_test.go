package host

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// old gives a file times at which nothing that is read now can be racy.
func aged(t *testing.T, h *Host, name string) {
	t.Helper()
	then := time.Now().Add(-time.Hour)
	if err := os.Chtimes(h.Path(name), then, then); err != nil {
		t.Fatal(err)
	}
}

func stat(t *testing.T, h *Host, name string) unix.Stat_t {
	t.Helper()
	i, err := h.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	return i.st
}

func TestADigestIsTrustedWhileTheInodeIsAsItWas(t *testing.T) {
	h := scratch(t)
	put(t, h, "/x", "one")
	st := stat(t, h, "/x")
	sum, _ := parseSum(text("one").SHA256)
	later := time.Unix(0, st.Ctim.Nano()).Add(time.Minute)
	h.digests.record("/x", &st, later, sum)
	if got, ok := h.digests.lookup("/x", &st); !ok || got != sum {
		t.Fatal("a digest that was recorded is not known")
	}
	for name, change := range map[string]func(*unix.Stat_t){
		"size":   func(s *unix.Stat_t) { s.Size++ },
		"mtime":  func(s *unix.Stat_t) { s.Mtim.Nsec ^= 1 },
		"ctime":  func(s *unix.Stat_t) { s.Ctim.Nsec ^= 1 },
		"inode":  func(s *unix.Stat_t) { s.Ino++ },
		"device": func(s *unix.Stat_t) { s.Dev++ },
	} {
		other := st
		change(&other)
		if _, ok := h.digests.lookup("/x", &other); ok {
			t.Errorf("a digest is trusted though the %s is another", name)
		}
	}
}

func TestAYoungDigestIsNotTrusted(t *testing.T) {
	h := scratch(t)
	put(t, h, "/x", "one")
	st := stat(t, h, "/x")
	sum, _ := parseSum(text("one").SHA256)
	h.digests.record("/x", &st, time.Unix(0, st.Ctim.Nano()).Add(time.Millisecond), sum)
	if _, ok := h.digests.lookup("/x", &st); ok {
		t.Error("a digest is trusted that a write in the same tick would not show in")
	}
}

func TestDigestsAreSavedWholeAndOnlyWhenChanged(t *testing.T) {
	h := scratch(t)
	put(t, h, "/x", "one")
	st := stat(t, h, "/x")
	sum, _ := parseSum(text("one").SHA256)
	h.digests.record("/x", &st, time.Unix(0, st.Ctim.Nano()).Add(time.Minute), sum)
	if err := h.digests.Save(); err != nil {
		t.Fatal(err)
	}
	again := OpenDigests(h.digests.file)
	if got, ok := again.lookup("/x", &st); !ok || got != sum {
		t.Error("a digest that was saved is not known")
	}
	before, err := os.Stat(h.digests.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Save(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(h.digests.file); err != nil || !os.SameFile(before, after) {
		t.Errorf("an unchanged cache was written again, error %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(h.digests.file), ".digests-*")); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

func TestADamagedCacheIsAnEmptyOne(t *testing.T) {
	h := scratch(t)
	put(t, h, "/x", "one")
	st := stat(t, h, "/x")
	h.digests.record("/x", &st, time.Unix(0, st.Ctim.Nano()).Add(time.Minute), [32]byte{1})
	if err := h.digests.Save(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(h.digests.file)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) {
		if err := os.WriteFile(h.digests.file, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, ok := OpenDigests(h.digests.file).lookup("/x", &st); ok {
			t.Fatalf("a cache of %d of %d bytes is trusted", cut, len(whole))
		}
	}
}

// reads counts how often content is compared by reading: a file that may not
// be read shows it.
func TestAFileInOrderIsNotReadAgain(t *testing.T) {
	h := scratch(t)
	put(t, h, "/x", "one")
	spec := FileSpec{Content: text("one")}
	compare := func() PathFinding {
		t.Helper()
		found, err := h.CompareFile(t.Context(), "/x", spec)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	compare()
	st := stat(t, h, "/x")
	sum, _ := parseSum(spec.Content.SHA256)
	// As it will be once the file is no longer young.
	h.digests.record("/x", &st, time.Now().Add(time.Minute), sum)
	if found := compare(); len(found.Diff) > 0 || found.Prior.SHA256 != spec.Content.SHA256 {
		t.Errorf("found %+v", found)
	}
	allocations := testing.AllocsPerRun(100, func() { compare() })
	if allocations > 6 {
		t.Errorf("a file in order costs %v allocations", allocations)
	}
	put(t, h, "/x", "two")
	if found := compare(); !found.Diff.Has(FieldContent) {
		t.Errorf("other content was not found: %+v", found)
	}
	aged(t, h, "/x") // other content, and times that say nothing
	if found := compare(); !found.Diff.Has(FieldContent) {
		t.Errorf("other content was not found: %+v", found)
	}
}

func BenchmarkCompareFileInOrder(b *testing.B) {
	dir := b.TempDir()
	h := New(dir, Options{Digests: OpenDigests(filepath.Join(dir, "digests"))})
	if err := os.WriteFile(filepath.Join(dir, "x"), []byte("one"), 0o644); err != nil {
		b.Fatal(err)
	}
	spec := FileSpec{Content: text("one")}
	if _, err := h.CompareFile(b.Context(), "/x", spec); err != nil {
		b.Fatal(err)
	}
	i, err := h.Lstat("/x")
	if err != nil {
		b.Fatal(err)
	}
	sum, _ := parseSum(spec.Content.SHA256)
	h.digests.record("/x", &i.st, time.Now().Add(time.Minute), sum)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.CompareFile(b.Context(), "/x", spec); err != nil {
			b.Fatal(err)
		}
	}
}
