package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

// scratch returns a host below a new directory, and that directory.
func scratch(t *testing.T) (*host.Host, string) {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	for _, made := range []string{root, filepath.Join(root, "etc")} {
		if err := os.Mkdir(made, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return host.New(root, host.Options{
		Backups: host.OpenBackups(filepath.Join(dir, "backups")),
		Digests: host.OpenDigests(filepath.Join(dir, "digests")),
	}), root
}

func write(t *testing.T, name, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

func ptr[T any](v T) *T { return &v }

func TestFileKeepsThePromisesOfAModule(t *testing.T) {
	tree := fstest.MapFS{
		"files/motd":   {Data: []byte("welcome\n"), Mode: 0o644},
		"files/script": {Data: []byte("#!/bin/sh\n"), Mode: 0o755},
		"files/blob":   {Data: []byte{0, 1, 2, 0xff}, Mode: 0o644},
	}
	cases := map[string]struct {
		had    string
		fill   Resource
		secret string
	}{
		"a new file":             {fill: Resource{Content: ptr("hello\n"), Mode: resource.NewMode(0o640)}},
		"a source":               {fill: Resource{Source: "files/motd"}},
		"an executable":          {fill: Resource{Source: "files/script"}},
		"bytes of any kind":      {had: "text", fill: Resource{Source: "files/blob"}},
		"other content":          {had: "before\n", fill: Resource{Content: ptr("after\n")}},
		"another mode":           {had: "same\n", fill: Resource{Content: ptr("same\n"), Mode: resource.NewMode(0o600)}},
		"mode alone":             {had: "same\n", fill: Resource{Mode: resource.NewMode(0o4755)}},
		"an owner":               {fill: Resource{Content: ptr("x"), Owner: strconv.Itoa(os.Geteuid()), Group: strconv.Itoa(os.Getegid())}},
		"a command that accepts": {had: "x", fill: Resource{Content: ptr("good\n"), Accept: "grep good {path}"}},
		"a secret":               {had: "earlier", fill: Resource{Content: ptr("s3cr3t\n")}, secret: "s3cr3t"},
		"an absent file":         {had: "x", fill: Resource{State: "absent"}},
		"nothing yet above it":   {fill: Resource{Path: "/srv/deep/x", Content: ptr("x"), Parents: true}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h, root := scratch(t)
			if c.had != "" {
				write(t, filepath.Join(root, "etc/x"), c.had, 0o644)
			}
			resourcetest.Run(t, resourcetest.Case{
				Module: func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource {
					r := m.New().(*Resource)
					filled := c.fill
					filled.host = r.host
					if *r = filled; r.Path == "" {
						r.Path = "/etc/x"
					}
					return r
				},
				Tree: tree, Dirs: []string{root}, Offline: true, Secret: c.secret,
			})
		})
	}
}

func TestWrongValuesAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		fill  Resource
		field string
	}{
		"no path":                {Resource{}, "file"},
		"a relative path":        {Resource{Path: "etc/x"}, "file"},
		"dots":                   {Resource{Path: "/etc/../x"}, "file"},
		"a newline":              {Resource{Path: "/etc/x\ny"}, "file"},
		"the root":               {Resource{Path: "/"}, "file"},
		"two contents":           {Resource{Path: "/x", Content: ptr(""), Source: "y"}, "content"},
		"an unknown state":       {Resource{Path: "/x", State: "gone"}, "state"},
		"content of nothing":     {Resource{Path: "/x", State: "absent", Content: ptr("")}, "state"},
		"a secret for everyone":  {Resource{Path: "/x", Meta: resource.Meta{Sensitive: true}, Mode: resource.NewMode(0o644)}, "mode"},
		"a command with a quote": {Resource{Path: "/x", Accept: "a 'b"}, "validate"},
	} {
		t.Run(name, func(t *testing.T) {
			var wrong *resource.FieldError
			if err := c.fill.Validate(); !errors.As(err, &wrong) || wrong.Field != c.field {
				t.Errorf("returned %v, want an error in %s", err, c.field)
			}
		})
	}
	good := Resource{Path: "//etc/./x/"}
	if err := good.Validate(); err != nil || good.Name() != "/etc/x" {
		t.Errorf("%q became %q, error %v", good.Path, good.Name(), err)
	}
}

func TestASensitiveFileIsForItsOwnerUnlessItSaysOtherwise(t *testing.T) {
	for want, mode := range map[string]resource.Mode{"0600": {}, "0640": resource.NewMode(0o640)} {
		h, root := scratch(t)
		write(t, filepath.Join(root, "etc/x"), "earlier", 0o644)
		m := New(h)
		r := m.New().(*Resource)
		r.Path, r.Content, r.Mode, r.Sensitive = "/etc/x", ptr("value"), mode, true
		engine := &resourcetest.Engine{Offline: true}
		if err := engine.Load(r); err != nil {
			t.Fatal(err)
		}
		if err := engine.Converge(t.Context(), m, r); err != nil {
			t.Fatal(err)
		}
		if i, err := h.Lstat("/etc/x"); err != nil || i.Mode().String() != want {
			t.Errorf("mode is %s, error %v; want %s", i.Mode(), err, want)
		}
	}
}

func TestAnOwnerThatIsNotThereYetIsADifference(t *testing.T) {
	h, root := scratch(t)
	write(t, filepath.Join(root, "etc/x"), "same", 0o644)
	m := New(h)
	r := m.New().(*Resource)
	r.Path, r.Content, r.Owner = "/etc/x", ptr("same"), "www-data"
	engine := &resourcetest.Engine{Offline: true}
	if err := engine.Load(r); err != nil {
		t.Fatal(err)
	}
	found, err := engine.Check(t.Context(), m, r)
	if err != nil || !found.Diff.Has(host.FieldOwner) {
		t.Errorf("found %+v, error %v", found, err)
	}
	var unknown *host.UnknownUserError
	if _, err := engine.Apply(t.Context(), m, r, found); !errors.As(err, &unknown) {
		t.Errorf("Apply returned %v", err)
	}
	write(t, filepath.Join(root, "etc/passwd"), "www-data:x:33:33::/:\n", 0o644)
	if os.Geteuid() != 0 {
		t.Skip("needs root to give a file away")
	}
	if err := engine.Converge(t.Context(), m, r); err != nil {
		t.Error(err)
	}
}

func TestContentIsLeftAloneOnceThereIsAFile(t *testing.T) {
	h, root := scratch(t)
	m := New(h)
	r := m.New().(*Resource)
	r.Path, r.Content, r.CreateOnly = "/etc/x", ptr("first"), true
	engine := &resourcetest.Engine{Offline: true}
	if err := engine.Load(r); err != nil {
		t.Fatal(err)
	}
	if err := engine.Converge(t.Context(), m, r); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "etc/x"), "changed by hand", 0o644)
	if found, err := engine.Check(t.Context(), m, r); err != nil || !found.InOrder() {
		t.Errorf("found %+v, error %v", found, err)
	}
}

func TestOnlyWhatTheDifferenceStatesIsApplied(t *testing.T) {
	h, root := scratch(t)
	write(t, filepath.Join(root, "etc/x"), "by hand", 0o600)
	m := New(h)
	r := m.New().(*Resource)
	r.Path, r.Content, r.Mode = "/etc/x", ptr("declared"), resource.NewMode(0o640)
	engine := &resourcetest.Engine{Offline: true}
	if err := engine.Load(r); err != nil {
		t.Fatal(err)
	}
	found, err := engine.Check(t.Context(), m, r)
	if err != nil {
		t.Fatal(err)
	}
	found.Diff = found.Diff.Without([]string{host.FieldContent}) // as `ignore` has it
	if _, err := engine.Apply(t.Context(), m, r, found); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(root, "etc/x"))
	i, statErr := h.Lstat("/etc/x")
	if err != nil || statErr != nil || string(data) != "by hand" || i.Mode() != r.Mode {
		t.Errorf("content %q, mode %s, errors %v, %v", data, i.Mode(), err, statErr)
	}
}

func TestRestoreFalseDeletesWhateverWasThere(t *testing.T) {
	h, root := scratch(t)
	write(t, filepath.Join(root, "etc/x"), "before", 0o644)
	m := New(h)
	r := m.New().(*Resource)
	r.Path, r.Content = "/etc/x", ptr("now")
	engine := &resourcetest.Engine{Offline: true}
	if err := engine.Load(r); err != nil {
		t.Fatal(err)
	}
	if err := engine.Converge(t.Context(), m, r); err != nil {
		t.Fatal(err)
	}
	r.Restore = ptr(false) // said later, and nothing else changes
	if err := engine.Converge(t.Context(), m, r); err != nil {
		t.Fatal(err)
	}
	gone, err := engine.Absent(m, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Leave(t.Context(), m, r, gone); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(root, "etc/x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
}

// What others may not read is no more for whoever reads a plan or an event, until
// it is this resource's own.
func TestAFileThatOthersMayNotReadIsTakenOverUnseen(t *testing.T) {
	for mode, shown := range map[os.FileMode]bool{0o644: true, 0o640: false, 0o600: false} {
		root := t.TempDir()
		name := filepath.Join(root, "x")
		if err := errors.Join(os.WriteFile(name, []byte("password = s3cr3t\n"), mode), os.Chmod(name, mode)); err != nil {
			t.Fatal(err)
		}
		m := New(host.New(root, host.Options{}))
		r := m.New().(*Resource)
		plain := "plain\n"
		r.Path, r.Content = "/x", &plain
		engine := &resourcetest.Engine{Offline: true}
		if err := errors.Join(engine.Load(r), r.Validate()); err != nil {
			t.Fatal(err)
		}
		found, err := engine.Check(t.Context(), m, r)
		if err != nil || len(found.Diff) != 1 || found.Diff[0].Redacted == shown || strings.Contains(fmt.Sprint(found.Diff), "s3cr3t") != shown {
			t.Errorf("%v: found %+v, error %v", mode, found.Diff, err)
		}
		// That it was noted before a first change, which failed, makes it nobody's.
		view := engine.View(m, r)
		view.Prior = found.Prior
		if again, err := r.Check(t.Context(), view); err != nil || !slices.Equal(again.Diff, found.Diff) {
			t.Errorf("%v: once it was tried, found %+v, error %v", mode, again.Diff, err)
		}
		if err := engine.Converge(t.Context(), m, r); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("drifted\n"), mode); err != nil {
			t.Fatal(err)
		}
		if found, err = engine.Check(t.Context(), m, r); err != nil || !strings.Contains(fmt.Sprint(found.Diff), "drifted") {
			t.Errorf("%v: of its own found %+v, error %v", mode, found.Diff, err)
		}
	}
}
