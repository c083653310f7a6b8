package ini

import (
	"errors"
	"strings"
	"testing"

	"trued.dev/trued/internal/host/shared/sharedtest"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

// filled is [s] k = v, unless it says otherwise.
func filled(m resource.Module, fill Resource) *Resource {
	r := m.New().(*Resource)
	fill.host = r.host
	*r = fill
	r.Title = "n"
	for _, f := range []struct {
		field *string
		value string
	}{{&r.Path, sharedtest.Path}, {&r.Key, "k"}} {
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

// tell makes a story of a key.
func tell(had string, fill Resource, want string) sharedtest.Story {
	return sharedtest.Story{Had: had, Want: want, Sensitive: fill.Sensitive, Part: func(m resource.Module, path string) resource.Resource {
		fill.Path = path
		return filled(m, fill)
	}}
}

var stories = map[string]sharedtest.Story{
	"a new key":             tell("[s]\na = b\n\n# about t\n[t]\nc = d\n", Resource{}, "[s]\na = b\nk = v\n\n# about t\n[t]\nc = d\n"),
	"a new section":         tell("[a]\nk = w\n", Resource{}, "[a]\nk = w\n\n[s]\nk = v\n"),
	"a missing file":        tell(sharedtest.Missing, Resource{Create: true}, "[s]\nk = v\n"),
	"an empty file":         tell("", Resource{}, "[s]\nk = v\n"),
	"another value":         tell("; x\n[s]\nk = w\n# k = u\n", Resource{}, "; x\n[s]\nk = v\n# k = u\n"),
	"its own spaces":        tell("[s]\n\tk=w\nl  =  w\n", Resource{Key: "l"}, "[s]\n\tk=w\nl  =  v\n"),
	"no spaces":             tell("[s]\na=b\n", Resource{Tight: true}, "[s]\na=b\nk=v\n"),
	"no section":            tell("a = b\n[s]\nk = w\n", Resource{Section: "none"}, "a = b\nk = v\n[s]\nk = w\n"),
	"no section, and first": tell("[s]\nk = w\n", Resource{Section: "none"}, "k = v\n[s]\nk = w\n"),
	"a section of two":      tell("[s]\na = b\n[t]\n[s]\nk = w\n", Resource{}, "[s]\na = b\n[t]\n[s]\nk = v\n"),
	"a key alone":           tell("[s]\nk\n", Resource{}, "[s]\nk = v\n"),
	"an empty value":        tell("[s]\nk = w\n", Resource{Value: text("")}, "[s]\nk = \n"),
	"no final newline":      tell("[s]\na = b", Resource{}, "[s]\na = b\nk = v\n"),
	"carriage returns":      tell("[s]\r\nk = w\r\n[t]\r\n", Resource{}, "[s]\r\nk = v\r\n[t]\r\n"),
	"absent":                tell("[s]\na = b\nk = w\nc = d\n", Resource{State: "absent"}, "[s]\na = b\nc = d\n"),
	"absent, and the last":  tell("[s]\nk = w", Resource{State: "absent"}, "[s]\n"),
	"sensitive":             tell("[s]\nk = w\n", Resource{Value: text("s3cr3t"), Meta: resource.Meta{Sensitive: true}}, "[s]\nk = s3cr3t\n"),
}

func TestKeysArePutWhereTheyBelong(t *testing.T) { sharedtest.Placed(t, New, stories) }

func TestIniKeepsThePromisesOfAModule(t *testing.T) { sharedtest.OnTrees(t, New, stories) }

func TestOnHost(t *testing.T) { sharedtest.OnHost(t, "parts-ini", New, stories) }

func TestAKeyThatIsThereTwiceIsRefused(t *testing.T) {
	h, _ := sharedtest.Machine(t, "[s]\nk = 1\n[t]\nk = 2\n[s]\nk = 3\n")
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

func TestAKeyThatMovesLeavesWhereItWas(t *testing.T) {
	first := func(m resource.Module) resource.Resource { return filled(m, Resource{}) }
	for name, fill := range map[string]Resource{
		"to another file":    {Path: sharedtest.Other},
		"to another section": {Section: "t"},
		"to another key":     {Key: "other"},
	} {
		for what, had := range map[string]string{"new": "[s]\na = b\n", "there before": "[s]\na = b\nk = earlier\n"} {
			t.Run(name+", "+what, func(t *testing.T) {
				sharedtest.Moves(t, New, had, first, func(m resource.Module) resource.Resource { return filled(m, fill) })
			})
		}
	}
}
