package file

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
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
