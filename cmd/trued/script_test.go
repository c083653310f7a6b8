package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"trued.dev/trued/internal/report/reporttest"
)

var update = flag.Bool("update", false, "write what is compared into the scripts and the README")

func TestMain(m *testing.M) {
	// The program starts itself to fetch; run from within a test, it is this one.
	if len(os.Args) == 2 && os.Args[1] == "fetch-child" {
		main()
	}
	testscript.Main(m, map[string]func(){"trued": main})
}

// TestScripts runs the whole program, one script for each story. A script works
// in a directory of its own: host is the root of its host, repo its repository,
// and events.jsonl gets the events, each of which is held against the schema.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                filepath.Join("..", "..", "testdata", "script"),
		Setup:              setUpScript,
		Condition:          scriptCondition,
		RequireUniqueNames: true,
		UpdateScripts:      *update,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":       expectCode,
			"remember":   remember,
			"unchanged":  unchanged,
			"perm":       checkPerm,
			"json":       checkJSON,
			"replace":    replace,
			"fill":       fill,
			"waitlocked": waitLocked,
			"nosecret":   noSecret,
		},
	})
}

func setUpScript(env *testscript.Env) error {
	work := env.WorkDir
	self, err := exec.LookPath("trued")
	if err != nil {
		return err
	}
	recipes, err := filepath.Abs(filepath.Join("..", "..", "packaging", "recipes"))
	if err != nil {
		return err
	}
	env.Vars = append(env.Vars, "TRUED="+self, "RECIPES="+recipes,
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.com",
		"GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.com",
	)
	for name, text := range map[string]string{
		"etc/hostname":   "web-1\n",
		"etc/machine-id": "0123456789abcdef0123456789abcdef\n",
		"etc/os-release": "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n",
		"etc/passwd":     "root:x:0:0:root:/root:/bin/bash\n",
		"etc/group":      "root:x:0:\n",
	} {
		name = filepath.Join(work, "host", name)
		if _, err := os.Lstat(name); err == nil {
			continue
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			return err
		}
	}
	err = filepath.WalkDir(work, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() != "trued.yaml" {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(name, bytes.ReplaceAll(text, []byte("$WORK"), []byte(work)), 0o600)
	})
	env.Defer(func() { _ = syscall.Unmount(filepath.Join(work, "host", "small"), syscall.MNT_DETACH) })
	env.Defer(func() { checkEvents(env.T().(testing.TB), filepath.Join(work, "events.jsonl")) })
	return err
}

// checkEvents holds what a script's runs told against the schema.
func checkEvents(t testing.TB, name string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		t.Error(err)
		return
	}
	reporttest.ValidLines(t, bytes.NewReader(text))
}

func scriptCondition(name string) (bool, error) {
	if name == "root" {
		return os.Getuid() == 0, nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// expectCode runs a program that ends with an exit code: code CODE PROGRAM ARG...
func expectCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code CODE PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s: exit code %d, not %d", strings.Join(args[1:], " "), got, want)
	}
}

// remember DIR keeps what is in a directory, for unchanged DIR to compare. The
// state is left out: reading it is not what makes a host another.
func remember(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: remember DIR")
	}
	ts.Setenv("REMEMBERED_"+args[0], fingerprint(ts, ts.MkAbs(args[0])))
}

func unchanged(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: unchanged DIR")
	}
	before, now := ts.Getenv("REMEMBERED_"+args[0]), fingerprint(ts, ts.MkAbs(args[0]))
	if before == "" {
		ts.Fatalf("remember %s first", args[0])
	}
	if neg == (before == now) {
		ts.Fatalf("%s before:\n%s\nand now:\n%s", args[0], before, now)
	}
}

// fingerprint lists all that there is to see of a tree but for access times.
func fingerprint(ts *testscript.TestScript, dir string) string {
	var b strings.Builder
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		if below == "var/lib/trued" {
			return fs.SkipDir
		}
		if below == "var" || below == "var/lib" {
			return nil // the state may be made in it
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&b, "%s %v %d:%d %d", below, info.Mode(), st.Uid, st.Gid, st.Ino)
		if below != "." { // as above
			fmt.Fprintf(&b, " %d", info.ModTime().UnixNano())
		}
		switch {
		case info.Mode().IsRegular():
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q", text[:min(len(text), 200)])
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " -> %s", target)
		}
		b.WriteByte('\n')
		return nil
	})
	ts.Check(err)
	return b.String()
}

// checkPerm expects a mode: perm MODE FILE.
func checkPerm(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: perm MODE FILE")
	}
	info, err := os.Lstat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s, not %s", args[1], got, args[0])
	}
}

// checkJSON looks into the last output: json PATH PATTERN, where PATH has names
// and indices between dots.
func checkJSON(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: json PATH PATTERN")
	}
	var v any
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &v); err != nil {
		ts.Fatalf("standard output is not JSON: %v", err)
	}
	for name := range strings.SplitSeq(args[0], ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i >= len(in) {
				ts.Fatalf("no %s in %v", name, in)
			}
			v = in[i]
		default:
			v = nil
		}
	}
	text, ok := v.(string)
	if !ok {
		data, err := json.Marshal(v)
		ts.Check(err)
		text = string(data)
	}
	if regexp.MustCompile(args[1]).MatchString(text) == neg {
		ts.Fatalf("%s is %s", args[0], text)
	}
}

// replace FILE OLD NEW edits a file in place; backslash n is a new line.
func replace(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: replace FILE OLD NEW")
	}
	name := ts.MkAbs(args[0])
	text := ts.ReadFile(args[0])
	line := strings.NewReplacer(`\n`, "\n")
	before, after := line.Replace(args[1]), line.Replace(args[2])
	if !strings.Contains(text, before) {
		ts.Fatalf("no %q in %s", before, args[0])
	}
	info, err := os.Stat(name)
	ts.Check(err)
	ts.Check(os.WriteFile(name, []byte(strings.Replace(text, before, after, 1)), info.Mode().Perm()))
}

// fill FILE BYTES HEAD makes a large file that begins with HEAD.
func fill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: fill FILE BYTES HEAD")
	}
	size, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(args[2]+strings.Repeat("#", size-len(args[2]))), 0o600))
}

// waitLocked waits until somebody else holds the lock on a file.
func waitLocked(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitlocked FILE")
	}
	for {
		f, err := os.Open(ts.MkAbs(args[0]))
		ts.Check(err)
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		ts.Check(f.Close())
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return
		}
		ts.Check(err)
		runtime.Gosched()
	}
}

// secretMark begins every secret of a script.
const secretMark = "hunter2"

// noSecret looks for secrets: nosecret PLACE..., where a place is an output, a
// file, or a directory with all names and contents in it. The content of a backup,
// and the repository itself, are where they belong, for root alone.
func noSecret(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: nosecret PLACE...")
	}
	search := func(where, text string) {
		if at := strings.Index(text, secretMark); at >= 0 {
			ts.Fatalf("a secret is in %s: …%s…", where, text[max(0, at-200):min(len(text), at+100)])
		}
	}
	for _, place := range args {
		if place == "stdout" || place == "stderr" {
			search(place, ts.ReadFile(place))
			continue
		}
		ts.Check(filepath.WalkDir(ts.MkAbs(place), func(name string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			search("a name", e.Name())
			info, err := e.Info()
			if err != nil || !info.Mode().IsRegular() {
				return err
			}
			if strings.Contains(name, "/var/lib/trued/backups/") || strings.Contains(name, "/var/lib/trued/sources/") {
				return nil
			}
			text, err := os.ReadFile(name)
			search(name, string(text))
			return err
		}))
	}
}
