package source_test

import (
	"context"
	"io/fs"
	"testing"

	"trued.dev/trued/internal/source"
)

func TestACommitThatIsNamedComesBesideTheNewest(t *testing.T) {
	u := newUpstream(t)
	old := u.put("motd", "1\n")
	u.put("motd", "2\n")
	newest := u.put("motd", "3\n")
	u.git("tag", "old", old)
	u.git("push", "-q", "origin", "old")
	h := open(t, source.Config{URL: u.serveHTTP(), Branch: "main"})
	h.fetch()
	h.apply(newest)
	if _, err := h.Revision(old); err == nil {
		t.Fatal("the host has all of the history")
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(h.Obtain(context.Background(), old))
	must(h.Keep(old))
	read := func() {
		t.Helper()
		tree, err := h.Tree(old)
		must(err)
		if data, err := fs.ReadFile(tree, "motd"); err != nil || string(data) != "1\n" {
			t.Errorf("it holds %q, %v", data, err)
		}
		h.fsck()
	}
	read()
	h.wantAt(newest)

	// It outlives new commits, that make the store worth to be written anew.
	var last string
	for range 40 {
		last = u.put("motd", last+"x\n")
		h.fetch()
		h.apply(last)
	}
	h.wantAt(last)
	read()
}
