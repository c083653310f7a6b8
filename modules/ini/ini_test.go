package ini

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

const missing = "\x00missing"

// put makes a file, or sees to it that it is missing.
func put(t *testing.T, name, had string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if had != missing {
		err = errors.Join(err, os.WriteFile(name, []byte(had), 0o640))
	} else {
		_ = os.Remove(name)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func machine(t *testing.T, had string) (*host.Host, string) {
	t.Helper()
	root := t.TempDir()
	put(t, filepath.Join(root, "etc/x"), had)
	return host.New(root, host.Options{Backups: host.OpenBackups(t.TempDir())}), root
}

// filled is [s] k = v, unless it says otherwise.
func filled(m resource.Module, fill Resource) *Resource {
	r := m.New().(*Resource)
	fill.host = r.host
	*r = fill
	r.Title = "n"
	for _, f := range []struct {
		field *string
		value string
	}{{&r.Path, "/etc/x"}, {&r.Key, "k"}} {
		if *f.field == "" {
			*f.field = f.value
		}
	}
	switch r.Section {
	case "":
		r.Section = "s"
	case "none":
		r.Section = ""
	}
	if r.Value == nil && r.State == "" {
		r.Value = text("v")
	}
	return r
}

func text(s string) *string { return &s }

var stories = map[string]struct {
	had  string
	fill Resource
	want string
}{
	"a new key":             {"[s]\na = b\n\n# about t\n[t]\nc = d\n", Resource{}, "[s]\na = b\nk = v\n\n# about t\n[t]\nc = d\n"},
	"a new section":         {"[a]\nk = w\n", Resource{}, "[a]\nk = w\n\n[s]\nk = v\n"},
	"a missing file":        {missing, Resource{Create: true}, "[s]\nk = v\n"},
	"an empty file":         {"", Resource{}, "[s]\nk = v\n"},
	"another value":         {"; x\n[s]\nk = w\n# k = u\n", Resource{}, "; x\n[s]\nk = v\n# k = u\n"},
	"its own spaces":        {"[s]\n\tk=w\nl  =  w\n", Resource{Key: "l"}, "[s]\n\tk=w\nl  =  v\n"},
	"no spaces":             {"[s]\na=b\n", Resource{Tight: true}, "[s]\na=b\nk=v\n"},
	"no section":            {"a = b\n[s]\nk = w\n", Resource{Section: "none"}, "a = b\nk = v\n[s]\nk = w\n"},
	"no section, and first": {"[s]\nk = w\n", Resource{Section: "none"}, "k = v\n[s]\nk = w\n"},
	"a section of two":      {"[s]\na = b\n[t]\n[s]\nk = w\n", Resource{}, "[s]\na = b\n[t]\n[s]\nk = v\n"},
	"a key alone":           {"[s]\nk\n", Resource{}, "[s]\nk = v\n"},
	"an empty value":        {"[s]\nk = w\n", Resource{Value: text("")}, "[s]\nk = \n"},
	"no final newline":      {"[s]\na = b", Resource{}, "[s]\na = b\nk = v\n"},
	"carriage returns":      {"[s]\r\nk = w\r\n[t]\r\n", Resource{}, "[s]\r\nk = v\r\n[t]\r\n"},
	"absent":                {"[s]\na = b\nk = w\nc = d\n", Resource{State: "absent"}, "[s]\na = b\nc = d\n"},
	"absent, and the last":  {"[s]\nk = w", Resource{State: "absent"}, "[s]\n"},
	"sensitive":             {"[s]\nk = w\n", Resource{Value: text("s3cr3t"), Meta: resource.Meta{Sensitive: true}}, "[s]\nk = s3cr3t\n"},
}

func TestKeysArePutWhereTheyBelong(t *testing.T) {
	for name, c := range stories {
		t.Run(name, func(t *testing.T) {
			h, root := machine(t, c.had)
			m := New(h)
			if err := (&resourcetest.Engine{Offline: true}).Converge(t.Context(), m, filled(m, c.fill)); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(root, "etc/x")); err != nil || string(got) != c.want {
				t.Errorf("the file is\n%q, want\n%q, error %v", got, c.want, err)
			}
		})
	}
}

func conform(t *testing.T, h *host.Host, root string, fill Resource) {
	t.Helper()
	secret := ""
	if fill.Sensitive {
		secret = "s3cr3t"
	}
	resourcetest.Run(t, resourcetest.Case{
		Module:   func() resource.Module { return New(h) },
		Resource: func(m resource.Module) resource.Resource { return filled(m, fill) },
		Dirs:     []string{root}, Offline: h.Offline(), Secret: secret,
	})
}

func TestIniKeepsThePromisesOfAModule(t *testing.T) {
	for name, c := range stories {
		t.Run(name, func(t *testing.T) {
			h, root := machine(t, c.had)
			conform(t, h, root, c.fill)
		})
	}
}

func TestOnHost(t *testing.T) {
	if !hosttest.Inside(t, hosttest.Options{Name: "kinda-ini"}, "") {
		return
	}
	for name, c := range stories {
		t.Run(name, func(t *testing.T) {
			put(t, "/srv/etc/x", c.had)
			fill := c.fill
			fill.Path = "/srv/etc/x"
			conform(t, host.New("/", host.Options{Backups: host.OpenBackups(t.TempDir())}), "/srv/etc", fill)
		})
	}
}

func TestAKeyThatIsThereTwiceIsRefused(t *testing.T) {
	h, _ := machine(t, "[s]\nk = 1\n[t]\nk = 2\n[s]\nk = 3\n")
	m := New(h)
	_, err := (&resourcetest.Engine{Offline: true}).Check(t.Context(), m, filled(m, Resource{}))
	var twice *TwiceError
	if !errors.As(err, &twice) || !strings.Contains(err.Error(), `the key "k" is in its section more than once, in lines 2, 6`) {
		t.Errorf("returned %v", err)
	}
}

func TestWrongValuesAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Resource)
		field  string
	}{
		"no name":          {func(r *Resource) { r.Title = "" }, "ini"},
		"a relative path":  {func(r *Resource) { r.Path = "x" }, "path"},
		"brackets":         {func(r *Resource) { r.Section = "[s]" }, "section"},
		"no key":           {func(r *Resource) { r.Key = "" }, "key"},
		"a key of a value": {func(r *Resource) { r.Key = "a=b" }, "key"},
		"a remark":         {func(r *Resource) { r.Key = "#k" }, "key"},
		"no value":         {func(r *Resource) { r.Value = nil }, "value"},
		"a value of lines": {func(r *Resource) { r.Value = text("a\nb") }, "value"},
		"a value of none":  {func(r *Resource) { r.State = "absent" }, "state"},
		"an unknown state": {func(r *Resource) { r.State = "gone" }, "state"},
	} {
		r := Resource{Title: "n", Path: "/x", Section: "s", Key: "k", Value: text("v")}
		c.change(&r)
		var wrong *resource.FieldError
		if err := r.Validate(); !errors.As(err, &wrong) || wrong.Field != c.field {
			t.Errorf("%s: returned %v, want an error in %s", name, err, c.field)
		}
	}
}
