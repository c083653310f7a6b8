package line

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/shared/sharedtest"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

func filled(m resource.Module, fill Resource) *Resource {
	r := m.New().(*Resource)
	fill.host = r.host
	*r = fill
	if r.Path == "" {
		r.Path = sharedtest.Path
	}
	return r
}

// A story is a line and what becomes of a file.
type story struct {
	had  string
	fill Resource
	want string
}

// tell makes a story of a line.
func tell(had string, fill Resource, want string) sharedtest.Story {
	return sharedtest.Story{Had: had, Want: want, Sensitive: fill.Sensitive, Part: func(m resource.Module, path string) resource.Resource {
		fill.Path = path
		return filled(m, fill)
	}}
}

var stories = map[string]sharedtest.Story{
	"at the end":              tell("a\nb\n", Resource{Title: "c"}, "a\nb\nc\n"),
	"an empty file":           tell("", Resource{Title: "c"}, "c\n"),
	"a missing file":          tell(sharedtest.Missing, Resource{Title: "c", Create: true}, "c\n"),
	"no final newline":        tell("a\nb", Resource{Title: "c"}, "a\nb\nc\n"),
	"carriage returns":        tell("a\r\nb\r\n", Resource{Title: "c"}, "a\r\nb\r\nc\r\n"),
	"carriage returns inside": tell("x=1\r\nb\r\n", Resource{Title: "x=2", Match: "^x="}, "x=2\r\nb\r\n"),
	"in place":                tell("a\n#x=1\nb\n", Resource{Title: "x=2", Match: "^#?x="}, "a\nx=2\nb\n"),
	"in place, at the end":    tell("a\nx=1", Resource{Title: "x=2", Match: "^#?x="}, "a\nx=2"),
	"after":                   tell("[a]\nx\n[b]\n", Resource{Title: "y", After: `^\[a\]`}, "[a]\ny\nx\n[b]\n"),
	"after the last":          tell("a1\na2\nb\n", Resource{Title: "y", After: "^a"}, "a1\na2\ny\nb\n"),
	"after the end":           tell("a", Resource{Title: "y", After: "^a"}, "a\ny\n"),
	"before":                  tell("a1\na2\nb", Resource{Title: "y", Before: "^a"}, "y\na1\na2\nb"),
	"absent":                  tell("a\nb\na\n", Resource{Title: "a", State: "absent"}, "b\n"),
	"absent, open":            tell("b\na", Resource{Title: "a", State: "absent"}, "b\n"),
	"absent by expression":    tell("x=1\nb\n#x=2\n", Resource{Title: "x", Match: "^#?x=", State: "absent"}, "b\n"),
	"a text of its own":       tell("a\n", Resource{Title: "the b", Text: "b"}, "a\nb\n"),
	"sensitive":               tell("a\np=old\n", Resource{Title: "p", Text: "p=s3cr3t", Match: "^p=", Meta: resource.Meta{Sensitive: true}}, "a\np=s3cr3t\n"),
	"sensitive and new":       tell("a\n", Resource{Title: "p", Text: "p=s3cr3t", Meta: resource.Meta{Sensitive: true}}, "a\np=s3cr3t\n"),
}

func TestLinesArePutWhereTheyBelong(t *testing.T) { sharedtest.Placed(t, New, stories) }

func TestLineKeepsThePromisesOfAModule(t *testing.T) { sharedtest.OnTrees(t, New, stories) }

func TestOnHost(t *testing.T) { sharedtest.OnHost(t, "parts-line", New, stories) }

func TestALineThatIsThereIsInOrder(t *testing.T) {
	for name, c := range map[string]story{
		"the line":         {"a\nb\n", Resource{Title: "a"}, ""},
		"the line twice":   {"a\na\n", Resource{Title: "a"}, ""},
		"an open line":     {"b\na", Resource{Title: "a"}, ""},
		"by expression":    {"x=2\n", Resource{Title: "x=2", Match: "^x="}, ""},
		"elsewhere":        {"a\nb\n", Resource{Title: "a", After: "^b"}, ""},
		"nothing to go":    {"a\n", Resource{Title: "b", State: "absent"}, ""},
		"no file":          {sharedtest.Missing, Resource{Title: "b", State: "absent"}, ""},
		"carriage returns": {"a\r\nb\r\n", Resource{Title: "b"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := sharedtest.Machine(t, c.had)
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
		"a missing file":       {story{sharedtest.Missing, Resource{Title: "b"}, ""}, "/etc/x is missing, and `create: true` does not say to make it"},
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := sharedtest.Machine(t, c.had)
			m := New(h)
			found, err := (&resourcetest.Engine{Offline: true}).Check(t.Context(), m, filled(m, c.fill))
			if found.Unknown != c.unknown || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("found %+v, error %v", found, err)
			}
		})
	}
}

func TestTheDifferenceIsAUnifiedDiff(t *testing.T) {
	h, root := sharedtest.Machine(t, "a\n#x=1\nb")
	if err := os.Chmod(filepath.Join(root, sharedtest.Path), 0o644); err != nil {
		t.Fatal(err)
	}
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
			h, root := sharedtest.Machine(t, c.had)
			e := &heldEngine{}
			for _, fill := range []Resource{c.first, c.then} {
				e.converge(t, h, fill)
			}
			sharedtest.Expect(t, root, c.want)
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
			sharedtest.Expect(t, root, c.had)
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

func TestALineThatMovesLeavesTheFileThatItWasIn(t *testing.T) {
	for name, fill := range map[string]Resource{
		"a new one":       {Title: "l", Text: "x=1"},
		"in place of one": {Title: "l", Text: "a=1", Match: "^a"},
		"one that goes":   {Title: "l", Text: "a", State: "absent"},
	} {
		t.Run(name, func(t *testing.T) {
			at := func(path string) func(m resource.Module) resource.Resource {
				fill.Path = path
				one := fill
				return func(m resource.Module) resource.Resource { return filled(m, one) }
			}
			sharedtest.Moves(t, New, "a\nb\n", at(sharedtest.Path), at(sharedtest.Other))
		})
	}
}
