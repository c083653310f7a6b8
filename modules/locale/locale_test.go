package locale

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

const list = "# This file lists locales\n\n# de_DE ISO-8859-1\n# de_DE.UTF-8 UTF-8\nen_US.UTF-8 UTF-8\n# fr_FR.UTF-8 UTF-8\n"

func filled(m resource.Module, fill Resource) *Resource {
	r := m.New().(*Resource)
	fill.host, fill.archive = r.host, r.archive
	*r = fill
	return r
}

// newTree returns a tree of a family of systems, that knows en_US.UTF-8.
func newTree(t *testing.T, family string) (*host.Host, string) {
	t.Helper()
	root := t.TempDir()
	for name, content := range map[string]string{
		"/etc/os-release": "ID=" + family + "\n", "/etc/default/x": "", listFile: list,
		archiveFile: archiveOf("en_US.utf8"), localeDir + "/C.utf8/LC_TIME": "",
	} {
		at := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return host.New(root, host.Options{Backups: host.OpenBackups(t.TempDir())}), root
}

func archiveOf(names ...string) string {
	table := strings.Join(names, "\x00") + "\x00"
	head := make([]byte, 56)
	binary.NativeEndian.PutUint32(head, 0xde020109)
	binary.NativeEndian.PutUint32(head[20:], 100)
	binary.NativeEndian.PutUint32(head[24:], uint32(len(table)))
	return string(head) + strings.Repeat("\x07", 44) + table + "more"
}

func TestLocaleKeepsThePromisesOfAModule(t *testing.T) {
	for name, c := range map[string]struct {
		family string
		fill   Resource
	}{
		"one in a comment":   {"debian", Resource{Title: "de_DE.UTF-8"}},
		"one that is new":    {"debian", Resource{Title: "it_IT.UTF-8"}},
		"an older one":       {"debian", Resource{Title: "de_DE"}},
		"the default":        {"debian", Resource{Title: "de_DE.UTF-8", Default: true, Categories: map[string]string{"LC_TIME": "en_US.UTF-8", "LANGUAGE": "de:en"}}},
		"known, the default": {"debian", Resource{Title: "en_US.UTF-8", Default: true}},
		"the plain one":      {"debian", Resource{Title: "C.UTF-8", Default: true}},
		"of Arch":            {"arch", Resource{Title: "fr_FR.UTF-8", Default: true}},
		"of Fedora":          {"fedora", Resource{Title: "en_US.UTF-8", Default: true}},
	} {
		t.Run(name, func(t *testing.T) {
			h, root := newTree(t, c.family)
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return filled(m, c.fill) },
				Dirs:     []string{root}, Offline: true,
			})
		})
	}
}

func TestTheFilesOfATreeSayWhatIsToBeMade(t *testing.T) {
	h, root := newTree(t, "debian")
	e, m := &resourcetest.Engine{Offline: true}, New(h)
	r := filled(m, Resource{Title: "de_DE.UTF-8", Default: true, Categories: map[string]string{"LC_TIME": "en_US.UTF-8", "LANGUAGE": "de:en"}})
	found, err := e.Check(t.Context(), m, r)
	if err != nil {
		t.Fatal(err)
	}
	if result, err := e.Apply(t.Context(), m, r, found); err != nil || !strings.Contains(result.Pending, "locale-gen") {
		t.Errorf("returned %+v, error %v", result, err)
	}
	for name, want := range map[string]string{
		listFile:              strings.Replace(list, "# de_DE.UTF-8", "de_DE.UTF-8", 1),
		"/etc/default/locale": "# kept by trued\nLANG=de_DE.UTF-8\nLANGUAGE=de:en\nLC_TIME=en_US.UTF-8\n",
	} {
		if got, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q, error %v", name, got, err)
		}
	}
}

// Where the file of the default is a link to another, it stays one.
func TestALinkToTheDefaultStays(t *testing.T) {
	for name, had := range map[string]string{"nowhere yet": "", "a file": "LANG=C\n"} {
		t.Run(name, func(t *testing.T) {
			h, root := newTree(t, "debian")
			err := os.Symlink("../locale.conf", filepath.Join(root, "etc/default/locale"))
			if had != "" {
				err = errors.Join(err, os.WriteFile(filepath.Join(root, "etc/locale.conf"), []byte(had), 0o644))
			}
			if err != nil {
				t.Fatal(err)
			}
			fill := Resource{Title: "en_US.UTF-8", Default: true}
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return filled(m, fill) },
				Dirs:     []string{root}, Offline: true,
			})
			e, m := &resourcetest.Engine{Offline: true}, New(h)
			if err := e.Converge(t.Context(), m, filled(m, fill)); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(root, "etc/locale.conf")); err != nil || !strings.Contains(string(got), "LANG=en_US.UTF-8") {
				t.Errorf("it holds %q, error %v", got, err)
			}
			if _, err := os.Readlink(filepath.Join(root, "etc/default/locale")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatTheMachineKnowsIsReadWithoutAProcess(t *testing.T) {
	h, root := newTree(t, "debian")
	a := New(h).(module).archive
	for name, want := range map[string]bool{"en_US.UTF-8": true, "en_US.utf8": true, "C.UTF-8": true, "de_DE.UTF-8": false, "en_US": false} {
		if got, err := a.has(name); got != want || err != nil {
			t.Errorf("%s: %v, error %v", name, got, err)
		}
	}
	for _, bad := range []string{"", "short", archiveOf("x")[:60], "\x00" + archiveOf("x")[1:]} {
		if err := os.WriteFile(filepath.Join(root, archiveFile), []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := a.has("de_DE.UTF-8"); err == nil {
			t.Errorf("%q is an archive", bad)
		}
	}
}

// TestOnHost makes locales on a booted host.
func TestOnHost(t *testing.T) {
	if !hosttest.Inside(t, hosttest.Options{Name: "locale", Packages: []string{"locales"}}, "sed -i 's/^# en_GB.UTF-8/en_GB.UTF-8/' /etc/locale.gen; locale-gen") {
		return
	}
	h := host.New("/", host.Options{Backups: host.OpenBackups(t.TempDir())})
	known := func(t testing.TB) string {
		out, err := exec.Command("locale", "-a").Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	for name, fill := range map[string]Resource{
		"made":                   {Title: "de_DE.UTF-8", Default: true},
		"made with a variant":    {Title: "de_DE@euro"},
		"known, and the default": {Title: "en_GB.UTF-8", Default: true, Categories: map[string]string{"LC_TIME": "C.UTF-8"}},
	} {
		t.Run(name, func(t *testing.T) {
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return filled(m, fill) },
				Dirs:     []string{"/etc/default"},
				State: func(t testing.TB) string {
					text, err := os.ReadFile(listFile)
					if err != nil {
						t.Fatal(err)
					}
					return known(t) + string(text)
				},
			})
		})
	}
	e, m := &resourcetest.Engine{}, New(h)
	if err := e.Converge(t.Context(), m, filled(m, Resource{Title: "de_DE.UTF-8"})); err != nil {
		t.Fatal(err)
	}
	if now := known(t); !strings.Contains(now, "de_DE.utf8") || !strings.Contains(now, "en_GB.utf8") {
		t.Errorf("the machine knows %s", now)
	}
	if out, err := exec.Command("env", "LC_ALL=de_DE.UTF-8", "date", "-d", "2026-03-01", "+%B").Output(); err != nil || string(out) != "März\n" {
		t.Errorf("it says %q, error %v", out, err)
	}
	if _, err := e.Check(t.Context(), m, filled(m, Resource{Title: "de_DX.UTF-8"})); err == nil || !strings.Contains(err.Error(), "it is misspelled") {
		t.Errorf("returned %v", err)
	}
	if err := os.Rename("/usr/sbin/locale-gen", "/srv/locale-gen"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Check(t.Context(), m, filled(m, Resource{Title: "fr_FR.UTF-8"})); err == nil || !strings.Contains(err.Error(), "declare the package locales") {
		t.Errorf("returned %v", err)
	}
	e.Owner = func(c resource.Claim) (resource.Address, bool) {
		return resource.Address{Kind: "package", Name: c.Name}, c.Name == "locales"
	}
	if found, err := e.Check(t.Context(), m, filled(m, Resource{Title: "fr_FR.UTF-8"})); err != nil || found.Unknown == "" {
		t.Errorf("found %+v, error %v", found, err)
	}
}

func TestWrongValuesAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		fill  Resource
		field string
	}{
		"nothing":             {Resource{}, "locale"},
		"a language":          {Resource{Title: "german"}, "locale"},
		"no character set":    {Resource{Title: "de_DE", Charset: "UTF 8"}, "charset"},
		"parts of no default": {Resource{Title: "de_DE.UTF-8", Categories: map[string]string{"LC_TIME": "C"}}, "categories"},
		"LC_ALL":              {Resource{Title: "de_DE.UTF-8", Default: true, Categories: map[string]string{"LC_ALL": "C"}}, "categories"},
		"another part":        {Resource{Title: "de_DE.UTF-8", Default: true, Categories: map[string]string{"LC_X": "C"}}, "categories"},
		"no locale":           {Resource{Title: "de_DE.UTF-8", Default: true, Categories: map[string]string{"LC_TIME": "x y"}}, "categories"},
		"no language":         {Resource{Title: "de_DE.UTF-8", Default: true, Categories: map[string]string{"LANGUAGE": "x y"}}, "categories"},
	} {
		var wrong *resource.FieldError
		if err := c.fill.Validate(); !errors.As(err, &wrong) || wrong.Field != c.field {
			t.Errorf("%s: returned %v, want an error in %s", name, err, c.field)
		}
	}
}
