package source_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/source"
)

func TestStatusTellsHowFetchingGoes(t *testing.T) {
	u := newUpstream(t)
	first := u.put("motd", "one\n")
	h := open(t, source.Config{URL: u.bare, Branch: "main"})
	clock := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	h.now = func() time.Time { return clock }
	h.reopen()
	moved := clock
	h.fetch()
	clock = clock.Add(time.Minute)
	h.fetch()
	s := h.Status()
	if s.Fetched.Commit != first || s.Fetched.Author != "Ada" || s.Branch != "main" || s.URL != u.bare || s.Name != "infra" {
		t.Errorf("status is %+v", s)
	}
	if !s.Moved.Equal(moved) || !s.Checked.Equal(clock) || s.Failures != 0 {
		t.Errorf("moved %s, checked %s, want %s and %s", s.Moved, s.Checked, moved, clock)
	}
	if err := os.Rename(u.bare, u.bare+".away"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		clock = clock.Add(time.Minute)
		if _, err := h.Fetch(context.Background()); err == nil {
			t.Fatal("Fetch succeeded")
		}
	}
	h.reopen()
	s = h.Status()
	if s.Failures != 3 || !s.Failed.Equal(clock) || !s.Since.Equal(clock.Add(-2*time.Minute)) || s.Error == "" || s.Fetched.Commit != first || !s.Moved.Equal(moved) {
		t.Errorf("status after failures and a restart is %+v", s)
	}
	if err := os.Rename(u.bare+".away", u.bare); err != nil {
		t.Fatal(err)
	}
	h.fetch()
	if s = h.Status(); s.Failures != 0 || s.Error != "" || !s.Since.IsZero() {
		t.Errorf("status after it went well is %+v", s)
	}
}

func TestOutageIsToldOnceAndSoIsItsEnd(t *testing.T) {
	u := newUpstream(t)
	first := u.put("motd", "one\n")
	backend, answer := u.httpBackend(), http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer != http.StatusOK {
			w.WriteHeader(answer)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	clock := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	h := open(t, source.Config{URL: server.URL + "/hosts.git"})
	h.now = func() time.Time { return clock }
	h.reopen()
	again := open(t, h.cfg)
	again.dir, again.now = h.dir, h.now
	again.reopen()
	for _, step := range []struct {
		name   string
		answer int
		do     func() string
		who    *host
		want   string
	}{
		{"before the first fetch there is no commit to keep to", http.StatusBadGateway, nil, h, "source.unreachable"},
		{"the same", http.StatusBadGateway, nil, h, ""},
		{"at last", http.StatusOK, nil, h, "source.recovered source.updated"},
		{"nothing new", http.StatusOK, nil, h, ""},
		{"an outage begins", http.StatusBadGateway, nil, h, "source.stale"},
		{"it goes on", http.StatusServiceUnavailable, nil, h, ""},
		{"it goes on for another process", http.StatusBadGateway, nil, again, ""},
		{"the reason is another", http.StatusUnauthorized, nil, h, "source.stale"},
		{"it goes on after a restart", http.StatusUnauthorized, func() string { h.reopen(); return first }, h, ""},
		{"it ends", http.StatusOK, nil, h, "source.recovered"},
		{"nothing new after a restart", http.StatusOK, func() string { h.reopen(); return first }, h, ""},
		{"another outage", http.StatusUnauthorized, nil, again, "source.stale"},
		{"it ends with a new commit", http.StatusOK, func() string { return u.put("motd", "two\n") }, h, "source.recovered source.updated"},
	} {
		clock = clock.Add(time.Minute)
		answer = step.answer
		if step.do != nil {
			first = step.do()
		}
		step.who.events = nil
		_, err := step.who.Fetch(context.Background())
		if (err == nil) != (answer == http.StatusOK) {
			t.Fatalf("%s: error is %v", step.name, err)
		}
		var types []string
		for _, e := range step.who.events {
			types = append(types, e.Type)
			if e.Type == source.EventRecovered && step.name == "it ends" && !strings.Contains(e.Message, "after 5 fetches that failed in 5m0s") {
				t.Errorf("the end is told as %q", e.Message)
			}
		}
		if got := strings.Join(types, " "); got != step.want {
			t.Errorf("%s: events are\n%s\nwant %q", step.name, names(step.who.events), step.want)
		}
	}
	h.wantAt(first)
}

func TestFetchThatIsCalledOffSaysNothingAboutTheSource(t *testing.T) {
	u := newUpstream(t)
	u.put("motd", "one\n")
	h := open(t, source.Config{URL: u.bare})
	h.fetch()
	h.events = nil
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := h.Fetch(ctx); err == nil {
		t.Fatal("Fetch succeeded")
	}
	if s := h.Status(); s.Failures != 0 || s.Error != "" || len(h.events) > 0 {
		t.Errorf("status is %+v, events are %s", s, names(h.events))
	}
}

func TestPollThatFindsNothingNewWritesNothing(t *testing.T) {
	u := newUpstream(t)
	u.put("motd", "one\n")
	h := open(t, source.Config{URL: u.serveHTTP(), Branch: "main"})
	h.apply(h.fetch().Commit)
	h.fetch()
	before := snapshot(t, h.dir)
	h.events = nil
	h.fetch()
	if after := snapshot(t, h.dir); after != before {
		t.Errorf("store was\n%s\nand is\n%s", before, after)
	}
	if len(h.events) > 0 {
		t.Errorf("events are\n%s", names(h.events))
	}
}

// snapshot lists the files below a directory with inode and time.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var list strings.Builder
	err := filepath.Walk(dir, func(name string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		if !info.IsDir() {
			var st unix.Stat_t
			if err := unix.Lstat(name, &st); err != nil {
				return err
			}
			list.WriteString(strings.Join([]string{name, info.ModTime().String(), info.Mode().String(), time.Unix(st.Ctim.Unix()).String()}, " ") + "\n")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list.String()
}

func TestFetchesOfTwoProcessesExcludeEachOther(t *testing.T) {
	u := newUpstream(t)
	u.put("motd", "one\n")
	a := open(t, source.Config{URL: u.bare, Branch: "main"})
	b := open(t, a.cfg)
	b.dir = a.dir
	b.reopen()
	for i := range 10 {
		want := u.put("motd", strings.Repeat("x", i))
		var wait sync.WaitGroup
		for _, h := range []*host{a, b, a, b} {
			wait.Go(func() {
				if r, err := h.Fetch(context.Background()); err != nil || r.Commit != want {
					t.Errorf("Fetch gives %s, %v, want %s", r.Commit, err, want)
				}
			})
		}
		wait.Wait()
		if got := a.read(want, "motd"); got != strings.Repeat("x", i) {
			t.Errorf("motd is %q", got)
		}
	}
	a.fsck()
	if _, ok := a.event(source.EventRepaired); ok {
		t.Errorf("events are\n%s", names(a.events))
	}
}

// A tree that is being read stays whole while later fetches rewrite the store.
func TestTreeThatIsBeingReadStaysWhole(t *testing.T) {
	u := newUpstream(t)
	first := u.put("motd", "one\n")
	h := open(t, source.Config{URL: u.bare, Branch: "main"})
	h.fetch()
	tree, err := h.Tree(first)
	if err != nil {
		t.Fatal(err)
	}
	h.apply(first)
	for i := range 12 {
		u.put("other", strings.Repeat("y", i))
		h.fetch()
	}
	f, err := tree.Open("motd")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	data := make([]byte, 4)
	if _, err := f.Read(data); err != nil || string(data) != "one\n" {
		t.Errorf("motd is %q, %v", data, err)
	}
}

func TestFullDiskKeepsTheOldCommit(t *testing.T) {
	needRoot(t)
	u := newUpstream(t)
	first := u.put("motd", "one\n")
	h := open(t, source.Config{URL: u.serveHTTP(), Branch: "main"})
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", h.dir, "tmpfs", 0, "size=600k"); err != nil {
		t.Skipf("needs a small tmpfs of its own: %v", err)
	}
	t.Cleanup(func() {
		_ = h.Close()
		_ = unix.Unmount(h.dir, unix.MNT_DETACH)
	})
	h.reopen()
	h.fetch()
	h.apply(first)
	for _, size := range []int{200, 280, 350, 500} {
		u.fill(1, size/10, 10<<10)
		u.commit("More than fits")
		_, err := h.Fetch(context.Background())
		if err == nil {
			continue
		}
		if !errors.Is(err, source.ErrStore) && !errors.Is(err, unix.ENOSPC) && !strings.Contains(err.Error(), "no space left") {
			t.Errorf("%d kB: error is %v, want that the disk is full", size, err)
		}
		h.wantNothingLeft()
	}
	if last, _ := h.Last(); last.Commit == u.git("rev-parse", "HEAD") {
		t.Fatal("everything fitted, so nothing was shown")
	}
	if got := h.read(first, "motd"); got != "one\n" {
		t.Errorf("motd is %q", got)
	}
	u.git("rm", "-q", "-r", "groups")
	want := u.commit("Less")
	h.fetch()
	h.wantAt(want)
	h.fsck()
}

func TestDirectoryRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := open(t, source.Config{Dir: dir})
	_, err := h.Fetch(context.Background())
	if err == nil || !strings.Contains(err.Error(), "pipe") {
		t.Errorf("error is %v, want one that names the pipe", err)
	}
	h = open(t, source.Config{Dir: filepath.Join(dir, "nowhere")})
	if _, err := h.Fetch(context.Background()); !errors.Is(err, source.ErrNotFound) {
		t.Errorf("error is %v, want ErrNotFound", err)
	}
}

func TestSourceWithoutAChildStillFetches(t *testing.T) {
	u := newUpstream(t)
	first := u.put("motd", "one\n")
	s, err := source.Open(source.Config{Name: "demo", URL: u.serveHTTP()}, filepath.Join(t.TempDir(), "store"), source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if r, err := s.Fetch(context.Background()); err != nil || r.Commit != first {
		t.Errorf("Fetch gives %s, %v", r.Commit, err)
	}
}

// An agent that is killed between writing objects and making their commit
// visible leaves them in the store.
func TestObjectsThatAKilledAgentLeftDoNotStopTheNextFetch(t *testing.T) {
	u := newUpstream(t)
	first := u.put("motd", "one\n")
	h := open(t, source.Config{URL: u.serveHTTP(), Branch: "main"})
	h.fetch()
	h.apply(first)
	second := u.put("motd", "two\n")
	h.fetch()
	tip := filepath.Join(h.dir, "current", "refs", "heads", "tip")
	if err := os.WriteFile(tip, []byte(first+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.reopen()
	h.wantAt(first)
	h.fetch()
	h.wantAt(second)
	h.fsck()
}
