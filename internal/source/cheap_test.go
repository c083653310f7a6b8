package source_test

import (
	"crypto/rand"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"trued.dev/trued/internal/source"
)

// fill writes files that no compression makes smaller.
func (u *upstream) fill(directories, files, size int) {
	u.t.Helper()
	for d := range directories {
		for f := range files {
			data := make([]byte, size)
			_, _ = rand.Read(data)
			u.write(fmt.Sprintf("groups/g%03d/files/f%03d", d, f), string(data))
		}
	}
}

func TestUpdatesMoveLittle(t *testing.T) {
	const poll, update = 1 << 10, 20 << 10
	u := newUpstream(t)
	u.fill(20, 20, 5000)
	u.put("motd", "0\n")
	u.git("checkout", "-q", "-b", "feature")
	u.put("feature", "old\n")
	u.git("checkout", "-q", "main")
	for i := range 40 {
		u.write("motd", fmt.Sprintln(i))
		u.write(fmt.Sprintf("groups/g%03d/files/f000", i%20), strings.Repeat(fmt.Sprint(i), 3000))
		u.commit("More history")
	}
	server := u.serveHTTP()
	m := meddle(t, strings.TrimSuffix(strings.TrimPrefix(server, "http://"), "/hosts.git"))
	h := open(t, source.Config{URL: m.in(server), Branch: "main"})
	if err := h.SetApplied(h.fetch().Commit); err != nil {
		t.Fatal(err)
	}

	moved := func() int64 {
		t.Helper()
		m.spoil(pass, 0)
		r := h.fetch()
		h.wantAt(u.git("rev-parse", "main"))
		if err := h.SetApplied(r.Commit); err != nil {
			t.Fatal(err)
		}
		return m.sent.Load()
	}
	idle := moved()
	if idle > poll {
		t.Errorf("a poll that finds nothing new moves %d bytes", idle)
	}
	for _, test := range []struct {
		name string
		do   func()
	}{
		{"one commit", func() { u.put("motd", "new\n") }},
		{"three commits", func() { u.put("a", "1\n"); u.put("a", "2\n"); u.put("a", "3\n") }},
		{"a merge of a branch that forked before the first fetch", func() {
			u.git("merge", "-q", "--no-ff", "-m", "Merge feature", "feature")
			u.git("push", "-q", "origin", "main")
		}},
		{"one more commit", func() { u.put("groups/g007/files/new", "x\n") }},
	} {
		test.do()
		got := moved() - idle
		t.Logf("%s: %d bytes beyond the references", test.name, got)
		if got > update {
			t.Errorf("%s moves %d bytes beyond the references, more than %d", test.name, got, update)
		}
	}
	h.fsck()
}

func TestStoreStaysSmall(t *testing.T) {
	u := newUpstream(t)
	u.fill(3, 10, 2000)
	u.put("motd", "0\n")
	h := open(t, source.Config{URL: u.bare, Branch: "main"})
	h.fetch()
	updates := 1000
	if testing.Short() {
		updates = 60
	}
	// One commit for each update, made in one go and offered one by one.
	var script strings.Builder
	for i := range updates {
		text := fmt.Sprintf("update %d\n", i)
		fmt.Fprintf(&script, "commit refs/heads/main\ncommitter Ada <ada@example.com> %d +0000\ndata 1\nu\n", 1700000000+i)
		if i == 0 {
			fmt.Fprintf(&script, "from refs/heads/main^0\n")
		}
		fmt.Fprintf(&script, "M 100644 inline motd\ndata %d\n%s\n", len(text), text)
	}
	u.runIn(u.bare, script.String(), "fast-import", "--quiet", "--force")
	commits := strings.Fields(u.run(u.bare, "rev-list", "--reverse", "main"))
	for _, c := range commits[1:] {
		u.run(u.bare, "update-ref", "refs/heads/main", c)
		if err := h.SetApplied(h.fetch().Commit); err != nil {
			t.Fatal(err)
		}
	}
	h.wantAt(commits[len(commits)-1])
	fresh := open(t, h.cfg)
	fresh.fetch()
	old, anew := sizeOf(t, h.dir), sizeOf(t, fresh.dir)
	t.Logf("after %d updates the store has %d bytes, a fresh one %d", updates, old, anew)
	if old > 3*anew {
		t.Errorf("after %d updates the store has %d bytes, more than 3 times the %d of a fresh one", updates, old, anew)
	}
	// Git's own is packed by the server, as far as it can be.
	clone := filepath.Join(t.TempDir(), "clone.git")
	u.run("/", "-c", "init.templateDir=", "clone", "-q", "--bare", "--depth", "1", "file://"+u.bare, clone)
	gits := sizeOf(t, clone)
	t.Logf("git's clone of depth 1 has %d bytes", gits)
	if old > 3*gits {
		t.Errorf("after %d updates the store has %d bytes, more than 3 times the %d of git's own clone", updates, old, gits)
	}
	h.fsck()
}

func sizeOf(t *testing.T, dir string) int64 {
	t.Helper()
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "status.json" {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}
