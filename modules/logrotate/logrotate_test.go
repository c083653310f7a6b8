package logrotate

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

var tree = fstest.MapFS{
	"files/app":     {Data: []byte("/var/log/app.log {\n\tweekly\n}\n")},
	"templates/app": {Data: []byte("/var/log/app.log {\n\tdaily\n}\n")},
}

func text(s string) Resource {
	var r Resource
	r.Content.Content = &s
	return r
}

func filled(m resource.Module, fill Resource) *Resource {
	r := m.New().(*Resource)
	fill.host = r.host
	*r = fill
	if r.File == "" {
		r.File = "app"
	}
	return r
}

func ptr[T any](v T) *T { return &v }

func full() Resource {
	return Resource{
		Paths: []string{"/var/log/app/*.log", "/var/log/with space.log"}, Frequency: "daily", Size: "100M", Rotate: ptr(14),
		Compress: ptr(true), DelayCompress: true, MissingOK: ptr(true), NotIfEmpty: true, Create: "0640 root adm",
		Su: "root adm", SharedScripts: true, PreRotate: "true", PostRotate: "if true; then\n  echo \"$1\" >/dev/null\nfi\n",
		Options: []string{"dateext", "maxage 90"},
	}
}

var cases = map[string]struct {
	fill   Resource
	had    string
	secret string
}{
	"all of the short form": {fill: full()},
	"a log that is missing": {fill: Resource{Paths: []string{"/var/log/nosuch.log"}, Frequency: "weekly", Rotate: ptr(0), Compress: ptr(false), MissingOK: ptr(false)}},
	"content in place":      {fill: text("/var/log/app.log {\n\tmonthly\n}\n"), had: "/var/log/app.log {\n\tyearly\n}\n"},
	"one to go":             {fill: Resource{State: "absent"}, had: "/var/log/app.log {\n}\n"},
	"a sensitive one":       {fill: text("# zaphod\n/var/log/app.log {\n\tmonthly\n}\n"), secret: "zaphod"},
}

func newTree(t *testing.T, had string) (*host.Host, string) {
	t.Helper()
	root := t.TempDir()
	err := os.MkdirAll(filepath.Join(root, directory), 0o755)
	if had != "" {
		err = errors.Join(err, os.WriteFile(filepath.Join(root, place("app")), []byte(had), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	return host.New(root, host.Options{Backups: host.OpenBackups(t.TempDir())}), root
}

func needsLogrotate(t *testing.T) {
	t.Helper()
	if host.LocalProgram(program) == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("logrotate is not installed")
		}
		t.Skip("needs logrotate")
	}
}

func TestLogrotateKeepsThePromisesOfAModule(t *testing.T) {
	needsLogrotate(t)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h, root := newTree(t, c.had)
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return filled(m, c.fill) },
				Tree:     tree, Dirs: []string{root}, Offline: true, Secret: c.secret,
			})
		})
	}
}

func TestOnHost(t *testing.T) {
	if !hosttest.Inside(t, hosttest.Options{Name: "logrotate", Packages: []string{"logrotate"}}, "") {
		return
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			err := os.RemoveAll(place("app"))
			if c.had != "" {
				err = errors.Join(err, os.WriteFile(place("app"), []byte(c.had), 0o644))
			}
			if err != nil {
				t.Fatal(err)
			}
			h := host.New("/", host.Options{Backups: host.OpenBackups(t.TempDir())})
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return filled(m, c.fill) },
				Tree:     tree, Dirs: []string{directory, "/var/lib/logrotate"}, Secret: c.secret,
			})
		})
	}
	t.Run("logrotate does what is said", rotates)
}

func rotates(t *testing.T) {
	const log = "/var/log/app.log"
	if err := os.WriteFile(log, []byte("one\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h := host.New("/", host.Options{Backups: host.OpenBackups(t.TempDir())})
	e := &resourcetest.Engine{}
	r := filled(New(h), Resource{Paths: []string{log}, Rotate: ptr(2), Create: "0600 root root", PostRotate: "echo rotated >/var/log/said"})
	if err := errors.Join(e.Load(r), e.Converge(t.Context(), New(h), r)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Run(t.Context(), host.Command{Args: []string{"logrotate", "--force", "/etc/logrotate.conf"}}); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(log + ".1")
	said, err2 := os.ReadFile("/var/log/said")
	info, err3 := os.Stat(log)
	if err := errors.Join(err, err2, err3); err != nil || string(old) != "one\n" || string(said) != "rotated\n" || info.Mode() != 0o600 {
		t.Errorf("old %q, said %q, new %v, error %v", old, said, info, err)
	}
}

func TestWhatLogrotateDoesNotTakeIsNotPutInPlace(t *testing.T) {
	needsLogrotate(t)
	for want, fill := range map[string]Resource{
		"line 2 unknown option 'weekli'":  text("/var/log/app.log {\n\tweekli\n}\n"),
		"unknown user 'nosuch'":           {Paths: []string{"/var/log/app.log"}, Create: "0640 nosuch adm"},
		"line 4 unknown option 'keepall'": {Paths: []string{"/var/log/app.log"}, Frequency: "daily", Options: []string{"keepall"}},
		"Ignoring app because it's empty": text(""),
	} {
		h, root := newTree(t, "/var/log/app.log {\n}\n")
		before := strings.Join(resourcetest.Fingerprint(t, root, false), "\n")
		e := &resourcetest.Engine{Offline: true}
		r := filled(New(h), fill)
		if err := e.Load(r); err != nil {
			t.Fatal(err)
		}
		if err := e.Converge(t.Context(), New(h), r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("returned %v, want %q", err, want)
		}
		if after := strings.Join(resourcetest.Fingerprint(t, root, false), "\n"); after != before {
			t.Errorf("%s: the tree is\n%s\nand was\n%s", want, after, before)
		}
	}
}

func TestManyLogsHideNoFault(t *testing.T) {
	needsLogrotate(t)
	h, root := newTree(t, "")
	logs := t.TempDir()
	for i := range 600 {
		if err := os.WriteFile(filepath.Join(logs, strings.Repeat("x", 100)+string(rune('a'+i%26))+strings.Repeat("y", i/26)+".log"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	e := &resourcetest.Engine{Offline: true}
	r := filled(New(h), text(logs+"/*.log {\n\tweekli\n}\n"))
	if err := e.Load(r); err != nil {
		t.Fatal(err)
	}
	if err := e.Converge(t.Context(), New(h), r); err == nil || !strings.Contains(err.Error(), "weekli") {
		t.Errorf("returned %v", err)
	}
	if entries, err := os.ReadDir(filepath.Join(root, directory)); err != nil || len(entries) > 0 {
		t.Errorf("there is %v, error %v", entries, err)
	}
	r = filled(New(h), text(logs+"/*.log {\n\tweekly\n}\n"))
	if err := errors.Join(e.Load(r), e.Converge(t.Context(), New(h), r)); err != nil {
		t.Error(err)
	}
}

func TestWithoutLogrotateNothingIsGuessed(t *testing.T) {
	managed := func(c resource.Claim) (resource.Address, bool) {
		return resource.Address{Kind: "package", Name: "logrotate"}, c == brings()
	}
	none := func(resource.Claim) (resource.Address, bool) { return resource.Address{}, false }
	var found resource.Finding
	if err := missing(resource.View{Owner: managed}, &found); err != nil || !strings.HasPrefix(found.Unknown, "package:logrotate brings") {
		t.Errorf("found %+v, error %v", found, err)
	}
	if err := missing(resource.View{Owner: none}, &found); err == nil || !strings.Contains(err.Error(), "declare the package logrotate") {
		t.Errorf("returned %v", err)
	}
	if err := missing(resource.View{Owner: none, Offline: true}, &found); err != nil || found.Pending == "" {
		t.Errorf("found %+v, error %v", found, err)
	}
}

func TestTwoFilesDoNotRotateOneLog(t *testing.T) {
	a := Resource{File: "a", Paths: []string{"/var/log/app.log"}}
	b := Resource{File: "b", Paths: []string{"/var/log/other.log", "/var/log/app.log"}}
	clash := false
	for _, c := range a.Claims() {
		for _, d := range b.Claims() {
			clash = clash || c.Clashes(d)
		}
	}
	if !clash {
		t.Error("no claim says so")
	}
}

func TestWrongValuesAreNamed(t *testing.T) {
	logs := []string{"/var/log/app.log"}
	both := text("/var/log/app.log {\n}\n")
	both.Frequency = "daily"
	for name, c := range map[string]struct {
		fill  Resource
		field string
	}{
		"a name that is ignored":   {Resource{File: "a.bak", Paths: logs}, "logrotate"},
		"a hidden name":            {Resource{File: ".a", Paths: logs}, "logrotate"},
		"a path for a name":        {Resource{File: "a/b", Paths: logs}, "logrotate"},
		"no log":                   {Resource{Frequency: "daily"}, "paths"},
		"a relative log":           {Resource{Paths: []string{"app.log"}}, "paths"},
		"another frequency":        {Resource{Paths: logs, Frequency: "sometimes"}, "frequency"},
		"no size":                  {Resource{Paths: logs, Size: "big"}, "size"},
		"a size of two letters":    {Resource{Paths: logs, Size: "1kB"}, "size"},
		"too few":                  {Resource{Paths: logs, Rotate: ptr(-2)}, "rotate"},
		"two lines":                {Resource{Paths: logs, Create: "0640\nsu"}, "create"},
		"two directives in one":    {Resource{Paths: logs, Options: []string{"dateext\ncompress"}}, "options"},
		"a script that ends early": {Resource{Paths: logs, PostRotate: "true\n endscript\n"}, "postrotate"},
		"both forms":               {both, "frequency"},
		"absent with logs":         {Resource{Paths: logs, State: "absent"}, "state"},
		"another state":            {Resource{State: "gone"}, "state"},
	} {
		if c.fill.File == "" {
			c.fill.File = "a"
		}
		var wrong *resource.FieldError
		if err := c.fill.Validate(); !errors.As(err, &wrong) || wrong.Field != c.field {
			t.Errorf("%s: returned %v, want an error in %s", name, err, c.field)
		}
	}
}
