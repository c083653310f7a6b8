package line

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

// machine returns a tree with a file, unless it is missing.
func machine(t *testing.T, had string) (*host.Host, string) {
	t.Helper()
	root := t.TempDir()
	name := filepath.Join(root, "etc/x")
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if had != missing {
		err = errors.Join(err, os.WriteFile(name, []byte(had), 0o640))
	}
	if err != nil {
		t.Fatal(err)
	}
	return host.New(root, host.Options{Backups: host.OpenBackups(t.TempDir())}), root
}

func filled(m resource.Module, fill Resource) *Resource {
	r := m.New().(*Resource)
	fill.host = r.host
	*r = fill
	if r.Path == "" {
		r.Path = "/etc/x"
	}
	return r
}

// A story is a line and what becomes of a file.
type story struct {
	had  string
	fill Resource
	want string
}

var stories = map[string]story{
	"at the end":              {"a\nb\n", Resource{Title: "c"}, "a\nb\nc\n"},
	"an empty file":           {"", Resource{Title: "c"}, "c\n"},
	"a missing file":          {missing, Resource{Title: "c", Create: true}, "c\n"},
	"no final newline":        {"a\nb", Resource{Title: "c"}, "a\nb\nc\n"},
	"carriage returns":        {"a\r\nb\r\n", Resource{Title: "c"}, "a\r\nb\r\nc\r\n"},
	"carriage returns inside": {"x=1\r\nb\r\n", Resource{Title: "x=2", Match: "^x="}, "x=2\r\nb\r\n"},
	"in place":                {"a\n#x=1\nb\n", Resource{Title: "x=2", Match: "^#?x="}, "a\nx=2\nb\n"},
	"in place, at the end":    {"a\nx=1", Resource{Title: "x=2", Match: "^#?x="}, "a\nx=2"},
	"after":                   {"[a]\nx\n[b]\n", Resource{Title: "y", After: `^\[a\]`}, "[a]\ny\nx\n[b]\n"},
	"after the last":          {"a1\na2\nb\n", Resource{Title: "y", After: "^a"}, "a1\na2\ny\nb\n"},
	"after the end":           {"a", Resource{Title: "y", After: "^a"}, "a\ny\n"},
	"before":                  {"a1\na2\nb", Resource{Title: "y", Before: "^a"}, "y\na1\na2\nb"},
	"absent":                  {"a\nb\na\n", Resource{Title: "a", State: "absent"}, "b\n"},
	"absent, open":            {"b\na", Resource{Title: "a", State: "absent"}, "b\n"},
	"absent by expression":    {"x=1\nb\n#x=2\n", Resource{Title: "x", Match: "^#?x=", State: "absent"}, "b\n"},
	"a text of its own":       {"a\n", Resource{Title: "the b", Text: "b"}, "a\nb\n"},
	"sensitive":               {"a\np=old\n", Resource{Title: "p", Text: "p=s3cr3t", Match: "^p=", Meta: resource.Meta{Sensitive: true}}, "a\np=s3cr3t\n"},
	"sensitive and new":       {"a\n", Resource{Title: "p", Text: "p=s3cr3t", Meta: resource.Meta{Sensitive: true}}, "a\np=s3cr3t\n"},
}

func TestLinesArePutWhereTheyBelong(t *testing.T) {
	for name, c := range stories {
		t.Run(name, func(t *testing.T) {
			h, root := machine(t, c.had)
			m := New(h)
			if err := (&resourcetest.Engine{Offline: true}).Converge(t.Context(), m, filled(m, c.fill)); err != nil {
				t.Fatal(err)
			}
			expect(t, root, c.want)
		})
	}
}

func expect(t *testing.T, root, want string) {
	t.Helper()
	if got, err := os.ReadFile(filepath.Join(root, "etc/x")); err != nil || string(got) != want {
		t.Errorf("the file is\n%q, want\n%q, error %v", got, want, err)
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

func TestLineKeepsThePromisesOfAModule(t *testing.T) {
	for name, c := range stories {
		t.Run(name, func(t *testing.T) {
			h, root := machine(t, c.had)
			conform(t, h, root, c.fill)
		})
	}
}

func TestOnHost(t *testing.T) {
	if !hosttest.Inside(t, hosttest.Options{Name: "kinda-line"}, "mkdir /srv/etc") {
		return
	}
	for name, c := range stories {
		t.Run(name, func(t *testing.T) {
			h := host.New("/", host.Options{Backups: host.OpenBackups(t.TempDir())})
			err := os.Remove("/srv/etc/x")
			if errors.Is(err, os.ErrNotExist) {
				err = nil
			}
			if c.had != missing {
				err = errors.Join(err, os.WriteFile("/srv/etc/x", []byte(c.had), 0o640))
			}
			if err != nil {
				t.Fatal(err)
			}
			fill := c.fill
			fill.Path = "/srv/etc/x"
			conform(t, h, "/srv/etc", fill)
		})
	}
}

func TestALineThatIsThereIsInOrder(t *testing.T) {
	for name, c := range map[string]story{
		"the line":         {"a\nb\n", Resource{Title: "a"}, ""},
		"the line twice":   {"a\na\n", Resource{Title: "a"}, ""},
		"an open line":     {"b\na", Resource{Title: "a"}, ""},
		"by expression":    {"x=2\n", Resource{Title: "x=2", Match: "^x="}, ""},
		"elsewhere":        {"a\nb\n", Resource{Title: "a", After: "^b"}, ""},
		"nothing to go":    {"a\n", Resource{Title: "b", State: "absent"}, ""},
		"no file":          {missing, Resource{Title: "b", State: "absent"}, ""},
		"carriage returns": {"a\r\nb\r\n", Resource{Title: "b"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := machine(t, c.had)
			m := New(h)
			found, err := (&resourcetest.Engine{Offline: true}).Check(t.Context(), m, filled(m, c.fill))
			if err != nil || !found.InOrder() {
				t.Errorf("found %+v, error %v", found, err)
			}
		})
	}
}

func TestWhatCannotBeToldIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		story
		unknown string
	}{
		"two lines that match": {story{"x=1\ny\nx=2\n", Resource{Title: "x=2", Match: "^x="}, `/etc/x: "^x=" matches lines 1, 3: which of them is meant cannot be told`}, ""},
		"no line to go after":  {story{"a\n", Resource{Title: "b", After: "^c"}, `no line matches "^c", after which the line would go`}, ""},
		"no line to go before": {story{"a\n", Resource{Title: "b", Before: "^c"}, `no line matches "^c", before which the line would go`}, ""},
		"a missing file":       {story{missing, Resource{Title: "b"}, ""}, "/etc/x is missing, and `create: true` does not say to make it"},
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := machine(t, c.had)
			m := New(h)
			found, err := (&resourcetest.Engine{Offline: true}).Check(t.Context(), m, filled(m, c.fill))
			if found.Unknown != c.unknown || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("found %+v, error %v", found, err)
			}
		})
	}
}

func TestTheDifferenceIsAUnifiedDiff(t *testing.T) {
	h, _ := machine(t, "a\n#x=1\nb")
	m := New(h)
	found, err := (&resourcetest.Engine{Offline: true}).Check(t.Context(), m, filled(m, Resource{Title: "x=2", Match: "^#?x="}))
	const want = "--- /etc/x\n+++ /etc/x\n@@ -1,3 +1,3 @@\n a\n-#x=1\n+x=2\n b\n\\ No newline at end of file\n"
	if err != nil || len(found.Diff) != 1 || found.Diff[0].Unified != want {
		t.Errorf("found %+v, error %v", found.Diff, err)
	}
}

// What a line becomes takes the place of what it was, and what was there before
// both comes back.
func TestALineThatChangesTakesItsOwnPlace(t *testing.T) {
	for name, c := range map[string]struct {
		had         string
		first, then Resource
		want        string
	}{
		"another text":       {"a\nb\n", Resource{Title: "l", Text: "x=1", After: "^a"}, Resource{Title: "l", Text: "x=2"}, "a\nx=2\nb\n"},
		"another expression": {"a\n#x=0\nb\n", Resource{Title: "l", Text: "x=1", Match: "^#?x="}, Resource{Title: "l", Text: "x=2", Match: "^x ?="}, "a\nx=2\nb\n"},
		"a secret":           {"a\n", Resource{Title: "l", Text: "p=1", Meta: resource.Meta{Sensitive: true}}, Resource{Title: "l", Text: "p=2", Meta: resource.Meta{Sensitive: true}}, "a\np=2\n"},
	} {
		t.Run(name, func(t *testing.T) {
			h, root := machine(t, c.had)
			e := &heldEngine{}
			for _, fill := range []Resource{c.first, c.then} {
				e.converge(t, h, fill)
			}
			expect(t, root, c.want)
			m := New(h)
			gone, err := m.Absent(e.held)
			if err != nil {
				t.Fatal(err)
			}
			found, err := gone.Check(t.Context(), e.view(nil))
			if err == nil {
				_, err = gone.Apply(t.Context(), e.view(nil), found)
			}
			if err != nil {
				t.Fatal(err)
			}
			expect(t, root, c.had)
		})
	}
}

// heldEngine tells a resource what it held before, as the real engine does.
type heldEngine struct{ held resource.Held }

func (e *heldEngine) view(own []resource.Claim) resource.View {
	return resource.View{Prior: e.held.Prior, Held: e.held.Claims, Offline: true, Owner: func(c resource.Claim) (resource.Address, bool) {
		for _, o := range own {
			if o == c {
				return resource.Address{Kind: "line", Name: "l"}, true
			}
		}
		return resource.Address{}, false
	}}
}

func (e *heldEngine) converge(t *testing.T, h *host.Host, fill Resource) {
	t.Helper()
	r := filled(New(h), fill)
	found, err := r.Check(t.Context(), e.view(r.Claims()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Apply(t.Context(), e.view(r.Claims()), found); err != nil {
		t.Fatal(err)
	}
	e.held = resource.Held{Address: resource.Address{Kind: "line", Name: "l"}, Claims: r.Claims(), Prior: found.Prior}
}

func TestWrongValuesAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		fill  Resource
		field string
	}{
		"no path":              {Resource{Title: "a"}, "path"},
		"two lines":            {Resource{Title: "a", Path: "/x", Text: "a\nb"}, "text"},
		"a name of two lines":  {Resource{Title: "a\nb", Path: "/x"}, "line"},
		"no expression":        {Resource{Title: "a", Path: "/x", Match: "("}, "match"},
		"an endless addition":  {Resource{Title: "b", Path: "/x", Match: "^a"}, "match"},
		"two places":           {Resource{Title: "a", Path: "/x", After: "b", Before: "c"}, "before"},
		"a place for nothing":  {Resource{Title: "a", Path: "/x", After: "b", State: "absent"}, "state"},
		"an unknown state":     {Resource{Title: "a", Path: "/x", State: "gone"}, "state"},
		"an open quote":        {Resource{Title: "a", Path: "/x", Accept: "x '"}, "validate"},
		"a secret in the name": {Resource{Title: "a", Path: "/x", Meta: resource.Meta{Sensitive: true}}, "text"},
	} {
		var wrong *resource.FieldError
		if err := c.fill.Validate(); !errors.As(err, &wrong) || wrong.Field != c.field {
			t.Errorf("%s: returned %v, want an error in %s", name, err, c.field)
		}
	}
}
