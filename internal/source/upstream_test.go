package source_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/source"
)

// A upstream is a repository that the tests push to, by git itself.
type upstream struct {
	t    testing.TB
	bare string
	work string
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	dir := t.TempDir()
	u := &upstream{t: t, bare: filepath.Join(dir, "hosts.git"), work: filepath.Join(dir, "work")}
	u.run(dir, "init", "-q", "--bare", "-b", "main", u.bare)
	u.run(dir, "init", "-q", "-b", "main", u.work)
	u.git("remote", "add", "origin", u.bare)
	return u
}

func (u *upstream) run(dir string, args ...string) string {
	u.t.Helper()
	return u.runIn(dir, "", args...)
}

// runIn runs git with something to read.
func (u *upstream) runIn(dir, input string, args ...string) string {
	u.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader(input)
	cmd.Env = append(os.Environ(),
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com",
		"GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		u.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (u *upstream) git(args ...string) string {
	u.t.Helper()
	return u.run(u.work, args...)
}

func (u *upstream) write(name, content string) {
	u.t.Helper()
	name = filepath.Join(u.work, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		u.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		u.t.Fatal(err)
	}
}

// commit commits all that is in the work tree and pushes it.
func (u *upstream) commit(message string) string {
	u.t.Helper()
	u.git("add", "-A")
	u.git("commit", "-q", "--allow-empty", "-m", message)
	u.git("push", "-q", "-f", "origin", "HEAD")
	return u.git("rev-parse", "HEAD")
}

// put writes one file and commits it.
func (u *upstream) put(name, content string) string {
	u.t.Helper()
	u.write(name, content)
	return u.commit("Write " + name)
}

// A host is a source as an agent has it, with the events it was told of.
type host struct {
	source.Source
	t      testing.TB
	cfg    source.Config
	dir    string
	events []source.Event
	now    func() time.Time
}

func open(t *testing.T, cfg source.Config) *host {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "infra"
	}
	h := &host{t: t, cfg: cfg, dir: filepath.Join(t.TempDir(), "store")}
	h.reopen()
	return h
}

// reopen is what a restart of the agent does.
func (h *host) reopen() {
	h.t.Helper()
	if h.Source != nil {
		if err := h.Close(); err != nil {
			h.t.Fatal(err)
		}
	}
	s, err := source.Open(h.cfg, h.dir, source.Options{
		Child:  []string{"/proc/self/exe", "fetch-child"},
		Now:    h.now,
		Notify: func(e source.Event) { h.events = append(h.events, e) },
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.Source = s
	h.t.Cleanup(func() { _ = s.Close() })
}

// json is the configuration, for an agent in a process of its own.
func (h *host) json() string {
	h.t.Helper()
	data, err := json.Marshal(h.cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(data)
}

func (h *host) fetch() source.Revision {
	h.t.Helper()
	r, err := h.Fetch(context.Background())
	if err != nil {
		h.t.Fatalf("Fetch: %v", err)
	}
	return r
}

func (h *host) wantAt(commit string) {
	h.t.Helper()
	if r, ok := h.Last(); !ok || r.Commit != commit {
		h.t.Fatalf("last commit is %q, want %q", r.Commit, commit)
	}
}

func (h *host) read(commit, name string) string {
	h.t.Helper()
	tree, err := h.Tree(commit)
	if err != nil {
		h.t.Fatal(err)
	}
	data, err := fs.ReadFile(tree, name)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(data)
}

// fsck has git itself check the store.
func (h *host) fsck() {
	h.t.Helper()
	store := filepath.Join(h.dir, "current")
	out, err := exec.Command("git", "-c", "safe.directory=*", "--git-dir", store, "fsck", "--strict", "--no-dangling").CombinedOutput()
	if err != nil || strings.Contains(string(out), "error") {
		h.t.Fatalf("git fsck: %v\n%s", err, out)
	}
}

func (h *host) event(typ string) (source.Event, bool) {
	for _, e := range h.events {
		if e.Type == typ {
			return e, true
		}
	}
	return source.Event{}, false
}

func names(events []source.Event) string {
	var list []string
	for _, e := range events {
		list = append(list, fmt.Sprint(e.Type, ": ", e.Message))
	}
	return strings.Join(list, "\n")
}
