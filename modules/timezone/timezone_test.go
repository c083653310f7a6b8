package timezone

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

// machine returns a tree with two zones, in what it is given.
func machine(t *testing.T, prepare func(etc string) error) (*host.Host, string) {
	t.Helper()
	root := t.TempDir()
	etc, zones := filepath.Join(root, "etc"), filepath.Join(root, "usr/share/zoneinfo")
	err := errors.Join(os.MkdirAll(etc, 0o755), os.MkdirAll(filepath.Join(zones, "Europe"), 0o755),
		os.WriteFile(filepath.Join(zones, "Europe/Berlin"), []byte("TZif"), 0o644),
		os.WriteFile(filepath.Join(zones, "UTC"), []byte("TZif"), 0o644))
	if err == nil {
		err = prepare(etc)
	}
	if err != nil {
		t.Fatal(err)
	}
	return host.New(root, host.Options{Backups: host.OpenBackups(t.TempDir())}), root
}

func zone(m resource.Module, name string) *Resource {
	r := m.New().(*Resource)
	r.Zone = name
	return r
}

func TestTimezoneKeepsThePromisesOfAModule(t *testing.T) {
	for name, prepare := range map[string]func(etc string) error{
		"nothing": func(string) error { return nil },
		"another": func(etc string) error { return os.Symlink("../usr/share/zoneinfo/UTC", etc+"/localtime") },
		"a file":  func(etc string) error { return os.WriteFile(etc+"/localtime", []byte("TZif"), 0o644) },
		"with its name": func(etc string) error {
			return errors.Join(os.Symlink("/usr/share/zoneinfo/UTC", etc+"/localtime"), os.WriteFile(etc+"/timezone", []byte("UTC\n"), 0o644))
		},
		"its name alone": func(etc string) error {
			return errors.Join(os.Symlink("/usr/share/zoneinfo/Europe/Berlin", etc+"/localtime"), os.WriteFile(etc+"/timezone", []byte("UTC\n"), 0o644))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, root := machine(t, prepare)
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return zone(m, "Europe/Berlin") },
				Dirs:     []string{root}, Offline: true,
			})
		})
	}
}

func TestOnHost(t *testing.T) {
	const prepare = "d=/usr/share/zoneinfo/Europe; test -e $d/Berlin || { mkdir -p $d; printf TZif >$d/Berlin; }; " +
		"ln -sfn /usr/share/zoneinfo/Etc/UTC /etc/localtime; echo Etc/UTC >/etc/timezone"
	if !hosttest.Inside(t, hosttest.Options{Name: "timezone"}, prepare) {
		return
	}
	h := host.New("/", host.Options{Backups: host.OpenBackups(t.TempDir())})
	resourcetest.Run(t, resourcetest.Case{
		Module:   func() resource.Module { return New(h) },
		Resource: func(m resource.Module) resource.Resource { return zone(m, "Europe/Berlin") },
		State: func(t testing.TB) string {
			target, err := os.Readlink("/etc/localtime")
			name, err2 := os.ReadFile("/etc/timezone")
			if err != nil || err2 != nil {
				t.Fatal(err, err2)
			}
			return target + " " + string(name)
		},
	})
}

func TestAZoneThatIsNotThereSaysSo(t *testing.T) {
	h, _ := machine(t, func(string) error { return nil })
	_, err := (&resourcetest.Engine{Offline: true}).Check(t.Context(), New(h), zone(New(h), "Europe/Berlln"))
	if err == nil || !strings.Contains(err.Error(), `no time zone "Europe/Berlln"`) {
		t.Errorf("returned %v", err)
	}
}

func TestTheDifferenceNamesTheZones(t *testing.T) {
	h, _ := machine(t, func(etc string) error { return os.Symlink("/usr/share/zoneinfo/UTC", etc+"/localtime") })
	found, err := (&resourcetest.Engine{Offline: true}).Check(t.Context(), New(h), zone(New(h), "Europe/Berlin"))
	want := resource.Change{Field: "timezone", Old: "UTC", New: "Europe/Berlin"}
	if err != nil || len(found.Diff) != 1 || found.Diff[0] != want {
		t.Errorf("found %+v, error %v", found, err)
	}
}

func TestWrongValuesAreNamed(t *testing.T) {
	for _, bad := range []string{"", "/Europe/Berlin", "../x", "Europe/", "a b"} {
		var wrong *resource.FieldError
		if err := (&Resource{Zone: bad}).Validate(); !errors.As(err, &wrong) || wrong.Field != "timezone" {
			t.Errorf("%q: returned %v", bad, err)
		}
	}
}
