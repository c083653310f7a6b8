package link

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

func scratch(t *testing.T) (*host.Host, string) {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	return host.New(root, host.Options{Backups: host.OpenBackups(filepath.Join(dir, "backups"))}), root
}

func TestLinkKeepsThePromisesOfAModule(t *testing.T) {
	for name, c := range map[string]struct {
		had  func(at string) error
		fill Resource
	}{
		"a new link":      {fill: Resource{Target: "../somewhere"}},
		"another target":  {had: func(at string) error { return os.Symlink("before", at) }, fill: Resource{Target: "after"}},
		"a file by force": {had: func(at string) error { return os.WriteFile(at, []byte("x"), 0o600) }, fill: Resource{Target: "after", Force: true}},
		"an absent link":  {had: func(at string) error { return os.Symlink("before", at) }, fill: Resource{State: "absent"}},
		"nothing above":   {fill: Resource{Path: "/srv/deep/x", Target: "y", Parents: true}},
		"a sensitive one": {fill: Resource{Target: "s3cr3t", Meta: resource.Meta{Sensitive: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			h, root := scratch(t)
			if c.had != nil {
				if err := c.had(filepath.Join(root, "etc/x")); err != nil {
					t.Fatal(err)
				}
			}
			secret := ""
			if c.fill.Sensitive {
				secret = c.fill.Target
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
				Dirs: []string{root}, Offline: true, Secret: secret,
			})
		})
	}
}

func TestALinkReplacesNothingElseUnlessForced(t *testing.T) {
	h, root := scratch(t)
	for name, make := range map[string]func(at string) error{
		"file":      func(at string) error { return os.WriteFile(at, []byte("x"), 0o600) },
		"directory": func(at string) error { return os.Mkdir(at, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := make(filepath.Join(root, "etc", name)); err != nil {
				t.Fatal(err)
			}
			r := New(h).New().(*Resource)
			r.Path, r.Target = "/etc/"+name, "y"
			_, err := (&resourcetest.Engine{}).Check(t.Context(), New(h), r)
			var wrong *host.TypeError
			if !errors.As(err, &wrong) {
				t.Errorf("returned %v", err)
			}
			r.Force = true
			if err := (&resourcetest.Engine{}).Converge(t.Context(), New(h), r); err != nil {
				t.Fatal(err)
			}
			if target, err := os.Readlink(filepath.Join(root, "etc", name)); err != nil || target != "y" {
				t.Errorf("the link is %q, error %v", target, err)
			}
		})
	}
}

func TestWrongValuesAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		fill  Resource
		field string
	}{
		"no path":          {Resource{Target: "x"}, "link"},
		"no target":        {Resource{Path: "/x"}, "target"},
		"a newline":        {Resource{Path: "/x", Target: "a\nb"}, "target"},
		"an unknown state": {Resource{Path: "/x", Target: "y", State: "gone"}, "state"},
		"target of none":   {Resource{Path: "/x", Target: "y", State: "absent"}, "state"},
	} {
		var wrong *resource.FieldError
		if err := c.fill.Validate(); !errors.As(err, &wrong) || wrong.Field != c.field {
			t.Errorf("%s: returned %v, want an error in %s", name, err, c.field)
		}
	}
}
