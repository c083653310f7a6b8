// Package torture_test is the proof that nothing is lost when a run is cut off
// or the file system refuses.
//
// Over a tree that has a bit of everything, the program itself is stopped at each
// system call that writes: looked at there, killed there, told there that the
// call failed, or there the image of the file system is copied, which loses what
// was never synced. On booted hosts, with units and packages beside that, runs by
// hand, the daemon and the host itself are killed at random moments, and the
// managed paths are looked at all along from outside.
//
// After each, the next run must end in the desired state, and nothing may have
// been half written at any moment, be left over, be claimed that was not done, be
// told not at all or twice, or have been restarted not at all or needlessly.
//
// The tests run a sample; TORTURE=full runs all, as `make torture` does, which
// ends with the figures. Random moments come from TORTURE_SEED. A failure on a
// host names the seed and, as TORTURE_FROM, the round that shows it again.
package torture_test

import (
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Getenv(childMark) != "" {
		os.Unsetenv(childMark)
		fmt.Fprintln(os.Stderr, becomeChild())
		os.Exit(127)
	}
	flag.Parse()
	_ = flag.Set("test.parallel", "6") // trials wait more than they work
	os.Exit(m.Run())
}

// full reports whether every call is to be tried, and not a sample.
func full() bool { return os.Getenv("TORTURE") == "full" }

// A world is a program, a source whose desired state can be chosen, and what
// the tree holds before and after the run that is tortured.
type world struct {
	program, source string
	// scratch is a file system in memory: what is durable there is so at once, and
	// what a power cut loses is seen on an image of a file system alone.
	scratch        string
	base, old, new snapshot
	// tree is converged to the old state.
	tree string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("torture needs root")
		}
		t.Skip("needs root")
	}
	dir := t.TempDir()
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", "mode=755", "torture", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("cannot mount: %v\n%s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	w := &world{scratch: dir, program: filepath.Join(dir, "trued"), source: filepath.Join(dir, "source"), tree: filepath.Join(dir, "tree")}
	build := exec.Command("go", "build", "-o", w.program, "trued.dev/trued/cmd/trued")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build the program: %v\n%s", err, out)
	}
	write := func(name, content string, mode os.FileMode) {
		must(t, os.MkdirAll(filepath.Dir(w.tree+name), 0o755))
		must(t, os.WriteFile(w.tree+name, []byte(content), mode))
		must(t, os.Chmod(w.tree+name, mode))
	}
	write("/etc/passwd", "root:x:0:0::/:/bin/sh\nsvc:x:1234:1234::/:/bin/sh\n", 0o644)
	write("/etc/group", "root:x:0:\nsvc:x:1234:\n", 0o644)
	write("/etc/os-release", "ID=debian\n", 0o644)
	write("/etc/before-leaving", "there before, and back when it leaves\n", 0o600)
	write("/etc/before-staying", "there before, and managed\n", 0o664)
	must(t, os.Chown(w.tree+"/etc/before-leaving", 1234, 1234))
	must(t, os.Symlink("before", w.tree+"/etc/before-link"))
	write("/etc/trued/trued.yaml", "sources:\n  - name: infra\n    dir: "+w.source+"\n    group: g\nreport: []\n", 0o644)
	w.base = look(t, w.tree)
	for _, at := range []struct {
		desire string
		into   *snapshot
	}{{"old", &w.old}, {"new", &w.new}} {
		w.desire(t, at.desire)
		w.converge(t, w.tree)
		*at.into = look(t, w.tree)
		if at.desire == "old" {
			w.tree = w.copy(t)
		}
	}
	w.tree += "-old"
	return w
}

// desire makes one of the states the source's.
func (w *world) desire(t *testing.T, state string) {
	t.Helper()
	must(t, os.RemoveAll(w.source))
	files := map[string]string{"g/group.yaml": "allow_empty: true\nprune_limit: 1000\n"}
	if state != "none" {
		files["g/all.yaml"] = manifest(state)
		for i := range 70 {
			files[fmt.Sprintf("g/files/tree/%02d/file", i)] = fmt.Sprintf("tree %d %s\n", i, state)
		}
		files["g/files/tree/only-"+state+"/file"] = "a directory of its own\n"
	}
	for name, content := range files {
		name = filepath.Join(w.source, name)
		must(t, os.MkdirAll(filepath.Dir(name), 0o755))
		must(t, os.WriteFile(name, []byte(content), 0o644))
	}
}

// manifest is the desired state: each kind that works on a tree, with content,
// owners and modes that change, something that leaves and something that comes.
func manifest(state string) string {
	var b strings.Builder
	other := map[string]string{"old": "0640", "new": "0600"}[state]
	owner := map[string]string{"old": "root", "new": "svc"}[state]
	for i := range 6 {
		fmt.Fprintf(&b, "- {file: /etc/app/%d.conf, content: \"%s %s\\n\", owner: %s, mode: \"%s\", parents: true}\n",
			i, state, strings.Repeat("x", 5000*i), owner, other)
	}
	fmt.Fprintf(&b, `
- {file: /etc/before-staying, content: "%[1]s\n", mode: "0644"}
- {file: /etc/mended, content: "the same\n", owner: %[2]s, mode: "%[3]s"}
- {file: /etc/only/deep/%[1]s, content: "%[1]s\n", parents: true}
- {file: /etc/judged, content: "%[1]s\n", mode: "0644", validate: "true"}
- {file: /etc/judged-%[1]s, content: "%[1]s\n", mode: "0644", validate: "true"}
- {link: /etc/before-link, target: %[1]s}
- {directory: /srv/own-%[1]s, owner: svc, mode: "0750", parents: true}
- {directory: /srv/tree, source: files/tree, parents: true, file_mode: "%[3]s", timeout: 1h}
- {sysctl: net.core.somaxconn, value: %[4]d}
- unit: worker.service
  restart_on: [file:/etc/app/0.conf, directory:/srv/tree]
  enabled: true
  content: "[Service]\nExecStart=/bin/%[1]s\n[Install]\nWantedBy=multi-user.target\n"
  drop_ins: {10-%[1]s.conf: "[Service]\nNice=1\n"}
`, state, owner, other, map[string]int{"old": 4001, "new": 4002}[state])
	if state == "old" {
		b.WriteString(`
- {file: /etc/before-leaving, content: "managed for a while\n", mode: "0644", owner: root, group: root}
- {link: /etc/leaves, target: /etc/passwd}
`)
	} else {
		for i := range 70 { // enough to share one sync
			fmt.Fprintf(&b, "- {file: /srv/many-%02d, content: \"many %d\\n\", mode: \"0640\", timeout: 1h}\n", i, i)
		}
	}
	return b.String()
}

func (w *world) copy(t *testing.T) string {
	t.Helper()
	to := w.tree + "-old"
	w.copyTo(t, w.tree, to)
	return w.tree
}

func (w *world) copyTo(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.MkdirAll(to, 0o755))
	if out, err := exec.Command("cp", "-a", from+"/.", to).CombinedOutput(); err != nil {
		t.Fatalf("cannot copy: %v\n%s", err, out)
	}
}

// apply is the command of one run.
func (w *world) apply(root string) []string { return []string{w.program, "apply", "--root", root} }

// converge runs once without being tortured.
func (w *world) converge(t *testing.T, root string) {
	t.Helper()
	args := w.apply(root)
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("the run does not end in the desired state: %v\n%s", err, out)
	}
}

// claims fails when the state says that something was brought about that was
// not: then the plan takes the difference for drift.
func (w *world) claims(t *testing.T, root, when string) {
	t.Helper()
	out, _ := exec.Command(w.program, "plan", "--root", root, "-o", "json").Output()
	claimed(t, out, when)
}

// claimed judges a plan.
func claimed(t *testing.T, out []byte, when string) {
	t.Helper()
	var plan struct {
		Resources []struct{ Resource, Cause, Outcome string }
	}
	if err := json.Unmarshal(out, &plan); err != nil {
		t.Fatalf("%s: the plan cannot be read: %v\n%s", when, err, out)
	}
	for _, r := range plan.Resources {
		// One that is pending is in order and owes a restart.
		if r.Cause == "drift" && r.Outcome != "in_order" && r.Outcome != "pending" {
			t.Errorf("%s: the state claims that %s was brought about: %s", when, r.Resource, r.Outcome)
		}
	}
}

// after proves that the next run mends all, and that nothing is left over.
func (w *world) after(t *testing.T, root, when string) {
	t.Helper()
	w.claims(t, root, when)
	w.converge(t, root)
	now := look(t, root)
	for name := range union(now, w.new) {
		if now[name] != w.new[name] {
			t.Errorf("%s: after the next run %s is %q, want %q", when, name, now[name], w.new[name])
		}
	}
	must(t, filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
		if err == nil && temporary.MatchString(name) {
			t.Errorf("%s: %s is left over", when, name)
		}
		return err
	}))
}

var temporary = regexp.MustCompile(`/\.(trued-|keep-|state\.json-|ledger\.jsonl-|key-|digests-)[^/]*$|/history/\.[^/]*$`)

// A snapshot says what is at each path.
type snapshot map[string]string

// look takes one, of all but the agent's own.
func look(t *testing.T, root string) snapshot {
	t.Helper()
	s := snapshot{}
	must(t, filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		at := strings.TrimPrefix(name, root)
		switch {
		case err != nil && os.IsNotExist(err):
			return nil
		case err != nil:
			return err
		case at == "/var" || at == "/lost+found":
			return fs.SkipDir
		case at == "" || strings.HasPrefix(d.Name(), ".trued-"):
			return nil
		}
		s[at], err = describe(name)
		return err
	}))
	return s
}

// describe says what is at a path, at one moment: a file is looked at through
// one descriptor.
func describe(name string) (string, error) {
	i, err := os.Lstat(name)
	if err != nil {
		return "", err
	}
	switch i.Mode().Type() {
	case fs.ModeDir:
		st := i.Sys().(*syscall.Stat_t)
		return fmt.Sprintf("directory %04o %d:%d", st.Mode&0o7777, st.Uid, st.Gid), nil
	case fs.ModeSymlink:
		target, err := os.Readlink(name)
		return "link " + target, err
	}
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if i, err = f.Stat(); err != nil {
		return "", err
	}
	st := i.Sys().(*syscall.Stat_t)
	data, err := io.ReadAll(f)
	return tellFile(st.Mode, st.Uid, st.Gid, data), err
}

func tellFile(mode, uid, gid uint32, data []byte) string {
	return fmt.Sprintf("file %04o %d:%d %d %.4x", mode&0o7777, uid, gid, len(data), sha256.Sum256(data))
}

// holds fails when a path is neither as it was nor as it will be.
func (w *world) holds(t *testing.T, root, when string) {
	t.Helper()
	now := look(t, root)
	for name := range union(now, w.old, w.new) {
		if why := judge(name, now[name], w.old, w.new); why != "" {
			t.Errorf("%s: %s", when, why)
		}
	}
}

// judge says what is wrong with a path between two states.
func judge(name, is string, old, now snapshot) string {
	was, will := old[name], now[name]
	if is == was || is == will || underway(is, was, will) {
		return ""
	}
	return fmt.Sprintf("%s is %q, and neither %q nor %q", name, is, was, will)
}

// underway reports what two calls cannot do in one: of what is mended in place
// one attribute is new before the other.
func underway(is, was, will string) bool {
	a, b, c := strings.Fields(is), strings.Fields(was), strings.Fields(will)
	if len(a) < 3 || len(a) != len(b) || len(a) != len(c) {
		return false
	}
	for i := range a {
		attribute := i == 1 || i == 2
		if a[i] != b[i] && (a[i] != c[i] || !attribute) || !attribute && b[i] != c[i] {
			return false
		}
	}
	return true
}

func union(all ...snapshot) map[string]bool {
	names := map[string]bool{}
	for _, s := range all {
		for name := range maps.Keys(s) {
			names[name] = true
		}
	}
	return names
}
