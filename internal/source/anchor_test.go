package source_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"trued.dev/trued/internal/source"
)

func (h *host) wantRefused(applied, offered string) {
	h.t.Helper()
	_, err := h.Fetch(context.Background())
	var refused *source.RefusedError
	if !errors.As(err, &refused) || !errors.Is(err, source.ErrRefused) {
		h.t.Fatalf("error is %v, want a refusal", err)
	}
	if refused.Applied != applied || refused.Offered != offered {
		h.t.Errorf("refused %s for %s, want %s for %s", refused.Offered, refused.Applied, offered, applied)
	}
	if !strings.Contains(err.Error(), "--accept-history") {
		h.t.Errorf("error does not say what to do: %v", err)
	}
	e, _ := h.event(source.EventRefused)
	if e.Applied != applied || e.Revision != offered || strings.Count(names(h.events), source.EventRefused) != 1 {
		h.t.Errorf("events are\n%s\nwant %s with both commits, once", names(h.events), source.EventRefused)
	}
	h.wantAt(applied)
}

func (h *host) apply(commit string) {
	h.t.Helper()
	if err := h.SetApplied(commit); err != nil {
		h.t.Fatal(err)
	}
}

func TestHistoryThatDoesNotDescendIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		rewrite func(u *upstream) string
	}{
		"an amended commit": {func(u *upstream) string {
			u.write("motd", "amended\n")
			u.git("commit", "-q", "-a", "--amend", "-m", "Amended")
			u.git("push", "-q", "-f", "origin", "main")
			return u.git("rev-parse", "HEAD")
		}},
		"a commit from before": {func(u *upstream) string {
			u.git("reset", "-q", "--hard", "HEAD~2")
			u.git("push", "-q", "-f", "origin", "main")
			return u.git("rev-parse", "HEAD")
		}},
		"an unrelated history": {func(u *upstream) string {
			u.git("checkout", "-q", "--orphan", "other")
			u.commit("Unrelated")
			u.git("push", "-q", "-f", "origin", "other:main")
			return u.git("rev-parse", "HEAD")
		}},
		"a merge that leaves the applied commit out": {func(u *upstream) string {
			u.git("reset", "-q", "--hard", "HEAD~1")
			u.git("checkout", "-q", "-b", "side", "HEAD~1")
			u.put("side", "x\n")
			u.git("checkout", "-q", "main")
			u.git("merge", "-q", "--no-ff", "-m", "Merge side", "side")
			u.git("push", "-q", "-f", "origin", "main")
			return u.git("rev-parse", "HEAD")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t)
			u.put("motd", "1\n")
			u.put("motd", "2\n")
			u.put("motd", "3\n")
			applied := u.put("motd", "4\n")
			h := open(t, source.Config{URL: u.serveHTTP(), Branch: "main"})
			h.fetch()
			h.apply(applied)
			offered := test.rewrite(u)
			h.wantRefused(applied, offered)
			// The next poll, a restart and a lost store change nothing.
			h.wantRefused(applied, offered)
			h.reopen()
			h.wantRefused(applied, offered)

			// Who accepts another commit has not accepted this one.
			var refused *source.RefusedError
			if r, err := h.Accept(context.Background(), applied); !errors.As(err, &refused) {
				t.Fatalf("Accept of another gives %s, %v", r.Commit, err)
			}
			h.wantRefused(applied, offered)
			if r, err := h.Accept(context.Background(), strings.ToUpper(offered[:12])); err != nil || r.Commit != offered {
				t.Fatalf("Accept gives %s, %v", r.Commit, err)
			}
			h.apply(offered)
			next := u.put("motd", "5\n")
			u.git("push", "-q", "-f", "origin", "HEAD:main")
			h.fetch()
			h.wantAt(next)
			h.fsck()
		})
	}
}

func TestLostStoreDoesNotForgetTheAppliedCommit(t *testing.T) {
	u := newUpstream(t)
	u.put("motd", "1\n")
	applied := u.put("motd", "2\n")
	h := open(t, source.Config{URL: u.serveHTTP(), Branch: "main"})
	h.fetch()
	h.apply(applied)
	var last string
	for range 12 {
		last = u.put("motd", strings.Repeat("x", len(last)%7)+last)
	}
	lose := func() {
		t.Helper()
		if err := os.RemoveAll(h.dir); err != nil {
			t.Fatal(err)
		}
		h.reopen()
		h.apply(applied)
	}
	lose()
	h.fetch()
	h.wantAt(last)

	u.git("checkout", "-q", "--orphan", "other")
	u.commit("Unrelated")
	u.git("push", "-q", "-f", "origin", "other:main")
	lose()
	if _, err := h.Fetch(context.Background()); !errors.Is(err, source.ErrRefused) {
		t.Errorf("error is %v, want a refusal", err)
	}
	if r, ok := h.Last(); ok {
		t.Errorf("refused commit %s is the last one", r.Commit)
	}
}

func TestNewCommitsAreProvenFromTheAppliedOneAlsoPastUnappliedOnes(t *testing.T) {
	u := newUpstream(t)
	applied := u.put("motd", "1\n")
	h := open(t, source.Config{URL: u.serveHTTP(), Branch: "main"})
	h.fetch()
	h.apply(applied)
	// These are fetched and, as if they did not load, never applied.
	for _, text := range []string{"bad\n", "worse\n"} {
		u.put("motd", text)
		h.fetch()
		h.reopen()
	}
	u.put("motd", "between\n")
	last := u.put("motd", "good\n")
	h.fetch()
	h.wantAt(last)
	if got := h.read(applied, "motd"); got != "1\n" {
		t.Errorf("applied commit reads %q", got)
	}
	h.fsck()
}

func TestAnnotatedTagOfTheCommitThatIsThereIsFollowed(t *testing.T) {
	u := newUpstream(t)
	commit := u.put("motd", "1\n")
	u.git("tag", "v1")
	u.git("push", "-q", "--tags", "origin")
	for name, url := range map[string]string{"local": u.bare, "HTTP": u.serveHTTP()} {
		t.Run(name, func(t *testing.T) {
			h := open(t, source.Config{URL: url, Tag: "v*"})
			h.fetch()
			u.git("tag", "-f", "-a", "-m", "Two", "v2")
			u.git("push", "-q", "-f", "--tags", "origin")
			h.fetch()
			h.wantAt(commit)
			h.fsck()
		})
	}
}

func TestPinnedCommitAndTags(t *testing.T) {
	u := newUpstream(t)
	first := u.put("motd", "1\n")
	u.git("tag", "v1.9.0")
	second := u.put("motd", "2\n")
	u.git("tag", "-a", "-m", "Ten", "v1.10.0")
	u.git("tag", "nightly")
	third := u.put("motd", "3\n")
	u.git("push", "-q", "--tags", "origin")
	url := u.serveHTTP()
	for name, test := range map[string]struct {
		cfg  source.Config
		want string
		ref  string
	}{
		"the highest version of a pattern": {source.Config{Tag: "v*"}, second, "v1.10.0"},
		"a tag by name":                    {source.Config{Tag: "v1.9.0"}, first, "v1.9.0"},
		"a pinned commit":                  {source.Config{Commit: first}, first, ""},
		"the default branch":               {source.Config{}, third, "main"},
	} {
		t.Run(name, func(t *testing.T) {
			test.cfg.URL = url
			h := open(t, test.cfg)
			h.fetch()
			h.wantAt(test.want)
			if r := h.fetch(); r.Ref != test.ref || h.Status().Branch != test.ref {
				t.Errorf("reference is %q, status says %q, want %q", r.Ref, h.Status().Branch, test.ref)
			}
			h.fsck()
		})
	}
	t.Run("what is not there is named", func(t *testing.T) {
		h := open(t, source.Config{URL: url, Branch: "master"})
		_, err := h.Fetch(context.Background())
		if !errors.Is(err, source.ErrNotFound) || !strings.Contains(err.Error(), "main") {
			t.Errorf("error is %v, want one that names the branches there are", err)
		}
	})
}
