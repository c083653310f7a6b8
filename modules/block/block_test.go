package block

import (
	"errors"
	"strings"
	"testing"

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
	r.Title = "n"
	return r
}

func text(s string) *string { return &s }

const (
	begin = "# BEGIN n, kept by trued"
	end   = "# END n"
)

// tell makes a story of a block.
func tell(had string, fill Resource, want string) sharedtest.Story {
	return sharedtest.Story{Had: had, Want: want, Sensitive: fill.Sensitive, Part: func(m resource.Module, path string) resource.Resource {
		fill.Path = path
		return filled(m, fill)
	}}
}

var stories = map[string]sharedtest.Story{
	"at the end":           tell("a\n", Resource{Content: text("x\ny\n")}, "a\n"+begin+"\nx\ny\n"+end+"\n"),
	"at the top":           tell("a\n", Resource{Content: text("x"), Top: true}, begin+"\nx\n"+end+"\na\n"),
	"a missing file":       tell(sharedtest.Missing, Resource{Content: text("x\n"), Create: true}, begin+"\nx\n"+end+"\n"),
	"no final newline":     tell("a", Resource{Content: text("x\n")}, "a\n"+begin+"\nx\n"+end+"\n"),
	"carriage returns":     tell("a\r\n", Resource{Content: text("x\ny\n")}, "a\r\n"+begin+"\r\nx\r\ny\r\n"+end+"\r\n"),
	"another block stays":  tell("# BEGIN m, kept by trued\nz\n# END m\n", Resource{Content: text("x\n")}, "# BEGIN m, kept by trued\nz\n# END m\n"+begin+"\nx\n"+end+"\n"),
	"in its place":         tell("a\n"+begin+"\nold\nlines\n"+end+"\nb", Resource{Content: text("x\n")}, "a\n"+begin+"\nx\n"+end+"\nb"),
	"no lines":             tell("a\n"+begin+"\nold\n"+end+"\n", Resource{Content: text("")}, "a\n"+begin+"\n"+end+"\n"),
	"another comment":      tell("a\n", Resource{Content: text("x\n"), Comment: text(";")}, "a\n; BEGIN n, kept by trued\nx\n; END n\n"),
	"absent":               tell("a\n"+begin+"\nold\n"+end+"\nb\n", Resource{State: "absent"}, "a\nb\n"),
	"absent, and the last": tell("a\n"+begin+"\nold\n"+end, Resource{State: "absent"}, "a\n"),
	"sensitive":            tell("a\n", Resource{Content: text("s3cr3t\n"), Meta: resource.Meta{Sensitive: true}}, "a\n"+begin+"\ns3cr3t\n"+end+"\n"),
}

func TestBlocksArePutWhereTheyBelong(t *testing.T) { sharedtest.Placed(t, New, stories) }

func TestBlockKeepsThePromisesOfAModule(t *testing.T) { sharedtest.OnTrees(t, New, stories) }

func TestOnHost(t *testing.T) { sharedtest.OnHost(t, "parts-block", New, stories) }

func TestMarksThatDoNotPairAreRefused(t *testing.T) {
	for name, had := range map[string]string{
		"no end":      "a\n" + begin + "\nx\n",
		"no begin":    "x\n" + end + "\n",
		"two blocks":  begin + "\n" + end + "\n" + begin + "\n" + end + "\n",
		"the reverse": end + "\n" + begin + "\n",
	} {
		h, _ := sharedtest.Machine(t, had)
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

func TestABlockThatMovesLeavesTheFileThatItWasIn(t *testing.T) {
	at := func(path string) func(m resource.Module) resource.Resource {
		return func(m resource.Module) resource.Resource {
			return filled(m, Resource{Path: path, Content: text("x\n")})
		}
	}
	for name, had := range map[string]string{"a new one": "a\n", "one that was there": "a\n" + begin + "\nold\n" + end + "\n"} {
		t.Run(name, func(t *testing.T) { sharedtest.Moves(t, New, had, at(sharedtest.Path), at(sharedtest.Other)) })
	}
}
