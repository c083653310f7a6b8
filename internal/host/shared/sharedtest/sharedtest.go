// Package sharedtest holds kinds that own parts of files against stories: what
// a file is, a part, and what the file becomes. It knows no kind.
package sharedtest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

const (
	// Missing stands for the text of a file that is not there.
	Missing = "\x00missing"
	// Secret is in the text of each part that is sensitive.
	Secret = "s3cr3t"
	// Path is the file on a machine that is a tree.
	Path = "/etc/x"
	// Other is another one, for a part that moves.
	Other = "/etc/y"

	hostPath = "/srv/etc/x"
)

// A Story is a part, and what becomes of a file.
type Story struct {
	Had  string
	Want string
	// Part returns the part of a file, of a module.
	Part      func(m resource.Module, path string) resource.Resource
	Sensitive bool
}

// put makes a file, or sees to it that it is missing.
func put(t *testing.T, name, had string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if had != Missing {
		err = errors.Join(err, os.WriteFile(name, []byte(had), 0o640))
	} else {
		_ = os.Remove(name)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, root string) *host.Host {
	t.Helper()
	return host.New(root, host.Options{Backups: host.OpenBackups(t.TempDir())})
}

// Machine returns a machine that is a tree with the file.
func Machine(t *testing.T, had string) (*host.Host, string) {
	t.Helper()
	root := t.TempDir()
	put(t, filepath.Join(root, Path), had)
	return open(t, root), root
}

// Expect compares the file of a tree.
func Expect(t *testing.T, root, want string) {
	t.Helper()
	if got, err := os.ReadFile(filepath.Join(root, Path)); err != nil || string(got) != want {
		t.Errorf("the file is\n%q, want\n%q, error %v", got, want, err)
	}
}

// Placed tells whether each file becomes what the story says.
func Placed(t *testing.T, module func(*host.Host) resource.Module, stories map[string]Story) {
	t.Helper()
	for name, s := range stories {
		t.Run(name, func(t *testing.T) {
			h, root := Machine(t, s.Had)
			m := module(h)
			r := s.Part(m, Path)
			e := &resourcetest.Engine{Offline: true}
			if err := errors.Join(e.Load(r), e.Converge(t.Context(), m, r)); err != nil {
				t.Fatal(err)
			}
			Expect(t, root, s.Want)
		})
	}
}

func (s Story) conform(t *testing.T, h *host.Host, module func(*host.Host) resource.Module, dir, path string) {
	t.Helper()
	secret := ""
	if s.Sensitive {
		secret = Secret
	}
	resourcetest.Run(t, resourcetest.Case{
		Module:   func() resource.Module { return module(h) },
		Resource: func(m resource.Module) resource.Resource { return s.Part(m, path) },
		Dirs:     []string{dir}, Offline: h.Offline(), Secret: secret,
	})
}

// OnTrees holds each story against the promises of a module, in a tree.
func OnTrees(t *testing.T, module func(*host.Host) resource.Module, stories map[string]Story) {
	t.Helper()
	for name, s := range stories {
		t.Run(name, func(t *testing.T) {
			h, root := Machine(t, s.Had)
			s.conform(t, h, module, root, Path)
		})
	}
}

// Moves tells that a part which gets another place leaves the one that it had as
// that was, and in the end both. A part of another file is one of Other.
func Moves(t *testing.T, module func(*host.Host) resource.Module, had string, first, then func(m resource.Module) resource.Resource) {
	t.Helper()
	h, root := Machine(t, had)
	put(t, filepath.Join(root, Other), had)
	both := func() string {
		var all string
		for _, name := range []string{Path, Other} {
			text, err := os.ReadFile(filepath.Join(root, name))
			if err != nil {
				t.Fatal(err)
			}
			all += name + ":\n" + string(text)
		}
		return all
	}
	before, m := both(), module(h)
	e, alone := &resourcetest.Engine{Offline: true}, &resourcetest.Engine{Offline: true}
	r := then(m)
	if err := errors.Join(alone.Load(r), alone.Converge(t.Context(), m, r)); err != nil {
		t.Fatal(err)
	}
	want := both()
	put(t, filepath.Join(root, Path), had)
	put(t, filepath.Join(root, Other), had)
	for _, part := range []func(m resource.Module) resource.Resource{first, then} {
		r = part(m)
		if err := errors.Join(e.Load(r), e.Converge(t.Context(), m, r)); err != nil {
			t.Fatal(err)
		}
		if found, err := e.Check(t.Context(), m, r); err != nil || !found.InOrder() {
			t.Errorf("found %+v, error %v", found, err)
		}
	}
	if got := both(); got != want {
		t.Errorf("there is\n%s\nwant\n%s", got, want)
	}
	gone, err := e.Absent(m, r)
	if err == nil {
		err = e.Leave(t.Context(), m, r, gone)
	}
	if got := both(); got != before || err != nil {
		t.Errorf("there is still\n%s\nerror %v", got, err)
	}
}

// OnHost does so on a booted host of a name.
func OnHost(t *testing.T, name string, module func(*host.Host) resource.Module, stories map[string]Story) {
	t.Helper()
	if !hosttest.Inside(t, hosttest.Options{Name: name}, "") {
		return
	}
	for name, s := range stories {
		t.Run(name, func(t *testing.T) {
			put(t, hostPath, s.Had)
			s.conform(t, open(t, "/"), module, filepath.Dir(hostPath), hostPath)
		})
	}
}
