package hostile_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A gitRepository is one whose objects Git itself would not make.
type gitRepository struct {
	t   *testing.T
	dir string
}

func newGitRepository(t *testing.T) gitRepository {
	t.Helper()
	r := gitRepository{t, t.TempDir()}
	r.git(nil, "init", "-q", "-b", "main")
	return r
}

func (r gitRepository) git(in []byte, args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Stdin = r.dir, bytes.NewReader(in)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=Eve", "GIT_AUTHOR_EMAIL=eve@example.com", "GIT_COMMITTER_NAME=Eve", "GIT_COMMITTER_EMAIL=eve@example.com")
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("git %.200q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// tree writes a tree of one entry, whatever it is called.
func (r gitRepository) tree(mode, name, object string) string {
	r.t.Helper()
	id, err := hex.DecodeString(object)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.git(append([]byte(mode+" "+name+"\x00"), id...), "hash-object", "-t", "tree", "-w", "--literally", "--stdin")
}

// commit makes the group, with one entry, the branch.
func (r gitRepository) commit(mode, name, object string) {
	r.t.Helper()
	root := r.tree("40000", "groups", r.tree("40000", "web", r.tree(mode, name, object)))
	r.git(nil, "update-ref", "refs/heads/main", r.git(nil, "commit-tree", "-m", "Harm", root))
}

// TestObjectsThatGitWouldNotMakeDoNoHarm applies commits whose trees no work
// tree has, and one with a file that is larger than a source may have.
func TestObjectsThatGitWouldNotMakeDoNoHarm(t *testing.T) {
	program := build(t)
	text := []byte("- file: /etc/a\n  content: x\n")
	for name, c := range map[string]struct{ entry, says string }{
		"two dots":           {"..", `".."`},
		"a slash":            {"../../etc/a.yaml", `"../../etc/a.yaml"`},
		"Git's own":          {".git", `".git"`},
		"a newline":          {"a\nb.yaml", `"a\nb.yaml"`},
		"control characters": {"\x1b[2J\a.yaml", `"\x1b[2J\a.yaml"`},
		"no UTF-8":           {"\xff\xfe.yaml", `"\xff\xfe.yaml"`},
		"4,096 bytes":        {strings.Repeat("x", 4091) + ".yaml", "too long for a file"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newGitRepository(t)
			r.commit("100644", c.entry, r.git(text, "hash-object", "-w", "--stdin"))
			wantNotApplied(t, c.says, program, "file://"+r.dir)
		})
	}
	t.Run("a tree of itself by name", func(t *testing.T) {
		r := newGitRepository(t)
		id := r.tree("100644", "a.yaml", r.git(text, "hash-object", "-w", "--stdin"))
		for range 300 {
			id = r.tree("40000", "d", id)
		}
		r.commit("40000", "d", id)
		wantNotApplied(t, "deep", program, "file://"+r.dir)
	})
	t.Run("a large blob", func(t *testing.T) {
		size := int64(101 << 20)
		if full() {
			size = 1 << 31
		}
		r := newGitRepository(t)
		name := filepath.Join(t.TempDir(), "large")
		put(t, name, "")
		if err := os.Truncate(name, size); err != nil {
			t.Fatal(err)
		}
		r.commit("100644", "large", r.git(nil, "hash-object", "-w", name))
		wantNotApplied(t, fmt.Sprintf("has %d bytes, more than the limit of %d (limits.object)", size, 100<<20), program, "file://"+r.dir)
	})
}
