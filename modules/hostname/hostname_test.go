package hostname

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

func called(m resource.Module, name string) *Resource {
	r := m.New().(*Resource)
	r.Host = name
	return r
}

func TestHostnameKeepsThePromisesOfAModule(t *testing.T) {
	for name, had := range map[string]string{"another": "old\n", "no newline": "old", "nothing": ""} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			err := os.Mkdir(filepath.Join(root, "etc"), 0o755)
			if had != "" {
				err = errors.Join(err, os.WriteFile(filepath.Join(root, "etc/hostname"), []byte(had), 0o644))
			}
			if err != nil {
				t.Fatal(err)
			}
			h := host.New(root, host.Options{Backups: host.OpenBackups(t.TempDir())})
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return called(m, "web-1") },
				Dirs:     []string{root}, Offline: true,
			})
		})
	}
}

// TestOnHost renames a booted host, which has a name of its own.
func TestOnHost(t *testing.T) {
	if !hosttest.Inside(t, hosttest.Options{Name: "hostname"}, "") {
		return
	}
	h := host.New("/", host.Options{Backups: host.OpenBackups(t.TempDir())})
	resourcetest.Run(t, resourcetest.Case{
		Module:   func() resource.Module { return New(h) },
		Resource: func(m resource.Module) resource.Resource { return called(m, "web-1.example.com") },
		State: func(t testing.TB) string {
			text, err := os.ReadFile("/etc/hostname")
			if err != nil {
				t.Fatal(err)
			}
			now, err := live()
			if err != nil {
				t.Fatal(err)
			}
			return string(text) + now
		},
	})
}

func TestWrongValuesAreNamed(t *testing.T) {
	for _, bad := range []string{"", "-a", "a-", "a..b", "a b", "a_b", ".a", "a.", strings.Repeat("a", 65)} {
		var wrong *resource.FieldError
		if err := called(New(nil), bad).Validate(); !errors.As(err, &wrong) || wrong.Field != "hostname" {
			t.Errorf("%q: returned %v", bad, err)
		}
	}
}
