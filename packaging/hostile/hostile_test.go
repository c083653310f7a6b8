// Package hostile_test gives the program repositories of somebody who means
// harm. Each must end in an error that names the place, within bounds on time
// and on memory.
package hostile_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
)

const (
	// deadline is what only a program that hangs comes to.
	deadline = 10 * time.Minute
	// most is the memory of a program, and that of all it starts, in KiB.
	most = 1 << 20

	manifest = "groups/web/a.yaml"
)

// A harm is what is wrong with a repository.
type harm struct {
	name string
	// files are the repository's; make adds what is no file.
	files map[string]string
	make  func(t *testing.T, dir string)
	// says is in the error. Where reading a source comes first, and tells more,
	// applied is what apply says in its place.
	says, applied string
	// fetched is a harm that validate does not see.
	fetched bool
	// full is a harm that takes long to make.
	full bool
}

func harms() []harm {
	one := func(text string) map[string]string { return map[string]string{manifest: text} }
	template := func(text string) map[string]string {
		return map[string]string{manifest: "- file: /etc/a\n  template: t\n", "groups/web/t": text}
	}
	return []harm{
		{name: "many manifests", make: manifests(10_001), says: `group "groups/web" has more than 10000 manifests`},
		{name: "100,000 manifests", make: manifests(100_000), says: `group "groups/web" has more than 10000 manifests`, full: true},
		{name: "name with a newline", files: map[string]string{"groups/web/a\nb.yaml": "- fiel: x\n"}, says: "b.yaml:1:3: ", applied: `rename it: "a\nb.yaml"`},
		{name: "name with control characters", files: map[string]string{"groups/web/\x1b[2J\a.yaml": "- fiel: x\n"}, says: "groups/web/\uFFFD[2J\uFFFD.yaml:1:3: ", applied: `rename it: "\x1b[2J\a.yaml"`},
		{name: "name that is no UTF-8", files: map[string]string{"groups/web/\xff\xfe.yaml": "- fiel: x\n"}, says: `"groups/web/\xff\xfe.yaml" is not within the repository`, applied: `rename it: "\xff\xfe.yaml"`},
		{name: "path with a newline", files: one("- file: \"/etc/a\\nb\"\n  content: x\n"), says: manifest + ":1:9: "},
		{name: "path that is no UTF-8", files: one("- file: /etc/\xff\n  content: x\n"), says: manifest + ":"},
		{name: "path of 4,096 bytes", files: one("- file: /" + strings.Repeat("x", 4096) + "\n  content: x\n"), says: manifest + ":1:9: "},
		{name: "path with two dots", files: one("- file: /etc/../../x\n  content: x\n"), says: manifest + ":1:9: "},
		{name: "source out of the repository", files: one("- file: /etc/a\n  source: ../../../etc/shadow\n"), says: manifest + ":2:11: "},
		{name: "link out of the repository", files: one("- file: /etc/a\n  source: files/a\n"), make: link("files/a", "/etc/shadow"), says: manifest + ":2:11: "},
		{name: "directory out of the repository", files: one("- file: /etc/a\n  source: files/shadow\n"), make: link("files", "/etc"), says: manifest + ":2:11: "},
		{name: "manifest out of the repository", files: one("- file: /etc/a\n  content: x\n"), make: link("b.yaml", "/etc/passwd"), says: "groups/web/b.yaml"},
		{name: "YAML bomb", files: one(bomb()), says: manifest + ":"},
		{name: "YAML without end", files: one(strings.Repeat("[", 1<<20)), says: manifest + ":"},
		{name: "large manifest", make: sparse("big.yaml", 1<<31), says: "groups/web/big.yaml"},
		{name: "template bomb", files: template(`{{ $s := "xxxxxxxx" }}{{ range 60 }}{{ $s = print $s $s }}{{ end }}`), says: "groups/web/t:1:"},
		{name: "template without end", files: template(`{{ range 9000000000000000000 }}{{ end }}`), says: "groups/web/t:1:"},
		{name: "template of itself", files: template(`{{ define "a" }}{{ template "a" }}{{ template "a" }}{{ end }}{{ template "a" }}`), says: "groups/web/t:1:"},
		{name: "expression without end", files: one("- file: /etc/a\n  when: count(1..10000, count(1..10000, count(1..10000, true) > 0) > 0) > 0\n"), says: manifest + ":2:"},
		{name: "large expression", files: one("- file: /etc/a\n  when: len(1..9000000000000000000) > 0\n"), says: manifest + ":2:"},
		{name: "blob of 2 GiB", files: one("- file: /etc/a\n  source: files/big\n"), make: sparse("files/big", 1<<31), says: "groups/web/files/big", fetched: true},
	}
}

func manifests(n int) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		for i := range n {
			put(t, filepath.Join(dir, fmt.Sprintf("groups/web/%06d.yaml", i)), "- file: /etc/x\n")
		}
	}
}

func link(name, target string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, "groups/web", name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		} else if err != nil {
			put(t, filepath.Join(dir, "groups/web", filepath.Dir(name), "beside"), "")
			link(name, target)(t, dir)
		}
	}
}

// sparse makes a file that is large and takes no room.
func sparse(name string, size int64) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		name := filepath.Join(dir, "groups/web", name)
		put(t, name, "")
		if err := os.Truncate(name, size); err != nil {
			t.Fatal(err)
		}
	}
}

func bomb() string {
	var b strings.Builder
	b.WriteString("- &a0 {file: /x, content: lol}\n")
	for i := range 30 {
		fmt.Fprintf(&b, "- &a%d [%s*a%d]\n", i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), i)
	}
	return b.String()
}

func put(t *testing.T, name, text string) {
	t.Helper()
	err := os.WriteFile(name, []byte(text), 0o600)
	if errors.Is(err, os.ErrNotExist) {
		err = errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(text), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// build returns the program as it is shipped.
func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "trued")
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "nethttpomithttp2", "-ldflags", "-s -w", "-o", program, "trued.dev/trued/cmd/trued")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

func full() bool { return os.Getenv("TORTURE") == "full" }

// TestAuthorOfTheRepositoryDoesNoHarm checks and applies each repository.
func TestAuthorOfTheRepositoryDoesNoHarm(t *testing.T) {
	program := build(t)
	for _, h := range harms() {
		if h.full && !full() {
			continue
		}
		t.Run(h.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range h.files {
				put(t, filepath.Join(dir, name), text)
			}
			if h.make != nil {
				h.make(t, dir)
			}
			if !h.fetched {
				wantRefused(t, h.says, program, "validate", dir)
			}
			wantNotApplied(t, cmp.Or(h.applied, h.says), program, dir)
		})
	}
}

// wantNotApplied applies a source to a host that has applied nothing yet.
func wantNotApplied(t *testing.T, says, program, source string) {
	t.Helper()
	root := t.TempDir()
	put(t, filepath.Join(root, "etc/hostname"), "web-1\n")
	wantRefused(t, says, program, "apply", "--config", filepath.Join(root, "none"), "--root", root, "--source", source, "--group", "groups/web")
	entries, err := os.ReadDir(filepath.Join(root, "etc"))
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files in /etc, error %v", len(entries), err)
	}
}

// wantRefused runs a program that must end with exit code 1, say why, and say it in
// text that is safe to show.
func wantRefused(t *testing.T, says, program string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	text := out.String()
	if ctx.Err() != nil {
		t.Fatalf("%s: %v", args[0], ctx.Err())
	}
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(text, says) {
		t.Errorf("%s: %v, want exit code 1 and %q\n%.2000s", args[0], err, says, text)
	}
	if !utf8.ValidString(text) || strings.ContainsAny(text, "\x1b\a") {
		t.Errorf("%s prints what a terminal obeys: %.2000q", args[0], text)
	}
	if strings.Contains(text, "panic:") || strings.Contains(text, "goroutine ") {
		t.Errorf("%s: %.2000s", args[0], text)
	}
	use := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if use.Maxrss > most {
		t.Errorf("%s took %d KiB", args[0], use.Maxrss)
	}
	t.Logf("%s: %d KiB, CPU %v", args[0], use.Maxrss, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
}
