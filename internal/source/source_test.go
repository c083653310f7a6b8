package source_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"trued.dev/trued/internal/source"
)

func TestRepositoryOnThisMachineIsFetchedWithoutGit(t *testing.T) {
	u := newUpstream(t)
	u.write("groups/base/group.yaml", "vars: {}\n")
	first := u.put("hosts.yaml", "web-1: {group: groups/web}\n")
	h := open(t, source.Config{URL: u.bare, Branch: "main"})
	t.Setenv("PATH", "/nonexistent")
	r := h.fetch()
	if r.Commit != first || r.Author != "Ada" || r.Subject != "Write hosts.yaml" || r.Date.IsZero() {
		t.Fatalf("revision is %+v, want commit %s by Ada", r, first)
	}
	if got := h.read(first, "hosts.yaml"); got != "web-1: {group: groups/web}\n" {
		t.Errorf("hosts.yaml is %q", got)
	}
}

func TestNewCommitIsFetchedAndTheOldOneStaysReadable(t *testing.T) {
	u := newUpstream(t)
	first := u.put("motd", "one\n")
	h := open(t, source.Config{URL: u.bare, Branch: "main"})
	h.fetch()
	if err := h.SetApplied(first); err != nil {
		t.Fatal(err)
	}
	second := u.put("motd", "two\n")
	h.fetch()
	h.reopen()
	h.wantAt(second)
	if got := h.read(second, "motd"); got != "two\n" {
		t.Errorf("new motd is %q", got)
	}
	if got := h.read(first, "motd"); got != "one\n" {
		t.Errorf("old motd is %q", got)
	}
	h.fsck()
}

func TestTreeIsAFileSystem(t *testing.T) {
	u := newUpstream(t)
	u.write("a/b/c.txt", "c")
	u.write("a/run.sh", "#!/bin/sh\n")
	if err := os.Chmod(filepath.Join(u.work, "a/run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("b/c.txt", filepath.Join(u.work, "a/link")); err != nil {
		t.Fatal(err)
	}
	commit := u.commit("A tree")
	h := open(t, source.Config{URL: u.bare})
	h.fetch()
	tree, err := h.Tree(commit)
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(tree, "a/b/c.txt", "a/run.sh", "a/link"); err != nil {
		t.Error(err)
	}
	if i, err := fs.Stat(tree, "a/run.sh"); err != nil || i.Mode() != 0o755 {
		t.Errorf("mode of run.sh is %v (%v)", i.Mode(), err)
	}
	if data, err := fs.ReadFile(tree, "a/link"); err != nil || string(data) != "c" {
		t.Errorf("through the link there is %q (%v)", data, err)
	}
}

func TestDirectoryIsTakenAsItIs(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "groups", "base", "motd")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	h := open(t, source.Config{Dir: dir})
	first := h.fetch()
	if again := h.fetch(); again.Commit != first.Commit {
		t.Errorf("unchanged directory went from %s to %s", first.Commit, again.Commit)
	}
	write("two")
	second := h.fetch()
	if second.Commit == first.Commit {
		t.Fatal("changed directory has the same commit")
	}
	if got := h.read(second.Commit, "groups/base/motd"); got != "two" {
		t.Errorf("motd is %q", got)
	}
	write("one")
	if back := h.fetch(); back.Commit != first.Commit {
		t.Errorf("the same content has another commit: %s and %s", first.Commit, back.Commit)
	}
	h.fsck()
}

func TestUnreachableRepositoryKeepsTheLastCommit(t *testing.T) {
	u := newUpstream(t)
	first := u.put("motd", "one\n")
	h := open(t, source.Config{URL: u.bare, Branch: "main"})
	h.fetch()
	if err := os.Rename(u.bare, u.bare+".away"); err != nil {
		t.Fatal(err)
	}
	_, err := h.Fetch(context.Background())
	if !errors.Is(err, source.ErrNotFound) {
		t.Fatalf("error is %v, want one that is ErrNotFound", err)
	}
	h.wantAt(first)
	if _, ok := h.event(source.EventStale); !ok {
		t.Errorf("no %s among\n%s", source.EventStale, names(h.events))
	}
	if s := h.Status(); s.Failures != 1 || s.Error == "" || s.Fetched.Commit != first {
		t.Errorf("status is %+v", s)
	}
}
