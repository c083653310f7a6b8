package block

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

func filled(m resource.Module, fill Resource) *Resource {
	r := m.New().(*Resource)
	fill.host = r.host
	*r = fill
	if r.Path == "" {
		r.Path = "/etc/x"
	}
	r.Title = "n"
	return r
}

func text(s string) *string { return &s }

const (
	begin = "# BEGIN n, kept by trued"
	end   = "# END n"
)

var stories = map[string]struct {
	had  string
	fill Resource
	want string
}{
	"at the end":           {"a\n", Resource{Content: text("x\ny\n")}, "a\n" + begin + "\nx\ny\n" + end + "\n"},
	"at the top":           {"a\n", Resource{Content: text("x"), Top: true}, begin + "\nx\n" + end + "\na\n"},
	"a missing file":       {missing, Resource{Content: text("x\n"), Create: true}, begin + "\nx\n" + end + "\n"},
	"no final newline":     {"a", Resource{Content: text("x\n")}, "a\n" + begin + "\nx\n" + end + "\n"},
	"carriage returns":     {"a\r\n", Resource{Content: text("x\ny\n")}, "a\r\n" + begin + "\r\nx\r\ny\r\n" + end + "\r\n"},
	"another block stays":  {"# BEGIN m, kept by trued\nz\n# END m\n", Resource{Content: text("x\n")}, "# BEGIN m, kept by trued\nz\n# END m\n" + begin + "\nx\n" + end + "\n"},
	"in its place":         {"a\n" + begin + "\nold\nlines\n" + end + "\nb", Resource{Content: text("x\n")}, "a\n" + begin + "\nx\n" + end + "\nb"},
	"no lines":             {"a\n" + begin + "\nold\n" + end + "\n", Resource{Content: text("")}, "a\n" + begin + "\n" + end + "\n"},
	"another comment":      {"a\n", Resource{Content: text("x\n"), Comment: text(";")}, "a\n; BEGIN n, kept by trued\nx\n; END n\n"},
	"absent":               {"a\n" + begin + "\nold\n" + end + "\nb\n", Resource{State: "absent"}, "a\nb\n"},
	"absent, and the last": {"a\n" + begin + "\nold\n" + end, Resource{State: "absent"}, "a\n"},
	"sensitive":            {"a\n", Resource{Content: text("s3cr3t\n"), Meta: resource.Meta{Sensitive: true}}, "a\n" + begin + "\ns3cr3t\n" + end + "\n"},
}

func TestBlocksArePutWhereTheyBelong(t *testing.T) {
	for name, c := range stories {
		t.Run(name, func(t *testing.T) {
			h, root := machine(t, c.had)
			m := New(h)
			r := filled(m, c.fill)
			e := &resourcetest.Engine{Offline: true}
			if err := errors.Join(e.Load(r), e.Converge(t.Context(), m, r)); err != nil {
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

func TestBlockKeepsThePromisesOfAModule(t *testing.T) {
	for name, c := range stories {
		t.Run(name, func(t *testing.T) {
			h, root := machine(t, c.had)
			conform(t, h, root, c.fill)
		})
	}
}

func TestOnHost(t *testing.T) {
	if !hosttest.Inside(t, hosttest.Options{Name: "kinda-block"}, "") {
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

func TestMarksThatDoNotPairAreRefused(t *testing.T) {
	for name, had := range map[string]string{
		"no end":      "a\n" + begin + "\nx\n",
		"no begin":    "x\n" + end + "\n",
		"two blocks":  begin + "\n" + end + "\n" + begin + "\n" + end + "\n",
		"the reverse": end + "\n" + begin + "\n",
	} {
		h, _ := machine(t, had)
		m := New(h)
		r := filled(m, Resource{Content: text("x\n")})
		e := &resourcetest.Engine{Offline: true}
		if err := e.Load(r); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Check(t.Context(), m, r); err == nil || !strings.Contains(err.Error(), "do not mark one block") {
			t.Errorf("%s: returned %v", name, err)
		}
	}
}

func TestWrongValuesAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		fill  Resource
		field string
	}{
		"no name":          {Resource{Path: "/x", Content: text("")}, "block"},
		"no path":          {Resource{Title: "n", Content: text("")}, "path"},
		"no content":       {Resource{Title: "n", Path: "/x"}, "content"},
		"two contents":     {Resource{Title: "n", Path: "/x", Content: text(""), Source: "x"}, "content"},
		"its own mark":     {Resource{Title: "n", Path: "/x", Content: text(end + "\n")}, "content"},
		"a comment of two": {Resource{Title: "n", Path: "/x", Content: text(""), Comment: text("#\n")}, "comment"},
		"an unknown state": {Resource{Title: "n", Path: "/x", Content: text(""), State: "gone"}, "state"},
		"content of none":  {Resource{Title: "n", Path: "/x", Content: text(""), State: "absent"}, "state"},
	} {
		r := c.fill
		if r.Source == "" {
			if err := r.Load(nil); err != nil {
				t.Fatal(err)
			}
		}
		var wrong *resource.FieldError
		if err := r.Validate(); !errors.As(err, &wrong) || wrong.Field != c.field {
			t.Errorf("%s: returned %v, want an error in %s", name, err, c.field)
		}
	}
}
