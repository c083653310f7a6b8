package plan

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/resource"
)

// node is a resource of which only the links count.
type node struct {
	resource.Meta
	name   string
	claims []resource.Claim
	needs  []resource.Need
	on     []resource.Trigger
}

func (n *node) Name() string                 { return n.name }
func (n *node) Validate() error              { return nil }
func (n *node) Claims() []resource.Claim     { return n.claims }
func (n *node) Needs() []resource.Need       { return n.needs }
func (n *node) Triggers() []resource.Trigger { return n.on }
func (n *node) Check(context.Context, resource.View) (resource.Finding, error) {
	return resource.Finding{}, nil
}

func (n *node) Apply(context.Context, resource.View, resource.Finding) (resource.Result, error) {
	return resource.Result{}, nil
}

func (n *node) React(context.Context, resource.View, []resource.Reaction) (resource.Result, error) {
	return resource.Result{}, nil
}

type plain struct{}

func (plain) Kind() string                                    { return "n" }
func (plain) New() resource.Resource                          { return &node{} }
func (plain) Absent(resource.Held) (resource.Resource, error) { return &node{}, nil }

type packs struct{ plain }

func (packs) Transact(context.Context, []resource.Item) []resource.ItemResult { return nil }

// parse reads a catalog: one resource a line, "name: what it comes after".
// Names with a capital are of a kind that works in transactions; "/path" claims
// and needs paths; "@/path" is what is mounted there; ">glob" needs by glob;
// "~glob" watches.
func parse(text string) []catalog.Entry {
	var entries []catalog.Entry
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		n := &node{name: name, claims: []resource.Claim{resource.Path(name)}}
		if strings.HasPrefix(name, "/") {
			n.needs = resource.ParentNeeds(name)
		}
		if at, ok := strings.CutPrefix(name, "@"); ok {
			n.claims = []resource.Claim{{Space: resource.SpaceMount, Name: at}}
			n.needs = append(resource.ParentNeeds(at), resource.Need{Claim: resource.Path(at)})
		}
		for _, word := range strings.Fields(rest) {
			switch word[0] {
			case '>':
				n.needs = append(n.needs, resource.Need{Claim: resource.Path(word[1:]), Glob: true, Reaction: resource.Refresh})
			case '~':
				n.on = append(n.on, resource.Trigger{On: "n:" + word[1:], Reaction: resource.Restart})
			default:
				n.Requires = append(n.Requires, "n:"+word)
			}
		}
		var m resource.Module = plain{}
		if strings.ToUpper(name[:1]) == name[:1] && !strings.Contains(name, "/") {
			m = packs{}
		}
		entries = append(entries, catalog.Entry{
			Address: resource.Address{Kind: "n", Name: name}, Resource: n, Module: m,
			Origin: resource.Origin{File: "m.yaml", Line: i + 1, Column: 3},
		})
	}
	return entries
}

func TestOrder(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"as written", "a\nb\nc", "a b c"},
		{"moved later only where needed", "a: c\nb\nc", "b c a"},
		{"a chain", "a: b\nb: c\nc", "c b a"},
		{"a path after the directory that holds it", "/d/x/f\nb\n/d", "b /d /d/x/f"},
		{"a path after what is mounted above it", "/d/x/f\n@/d/x\n/d/x\n@/d\n/e", "@/d /d/x @/d/x /d/x/f /e"},
		{"a watcher after what it watches", "s: ~f*\nf1\nf2", "f1 f2 s"},
		{"a need by glob", "P: >/etc/apt/*\n/etc/apt/x", "/etc/apt/x P"},
		{"a need by glob gives way to what was written", "P: >/etc/apt/*\n/etc/apt/x: P", "P /etc/apt/x"},
		{"transactions at the place of the last", "A\nx\nB\ny", "x A B y"},
		{"an earlier resource needs one", "A\nx: A\nB", "A x B"},
		{"no other resource between", "A\nx: A\nB: x\nC", "A x B C"},
		{"members keep their order", "A: B\nx\nB", "x B A"},
		{"a member that waits for something else waits alone", "A\nB: x\nx", "x A B"},
		{"what follows from a member over others closes it", "A\nx: A\ny: x\nB\nz: B", "A x y B z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			entries := parse(c.text)
			g, err := newGraph(entries)
			if err != nil {
				t.Fatal(err)
			}
			order, _ := g.gather(g.order())
			var names []string
			for _, i := range order {
				names = append(names, entries[i].Address.Name)
			}
			if got := strings.Join(names, " "); got != c.want {
				t.Errorf("order is %q, want %q", got, c.want)
			}
		})
	}
}

func TestACycleIsToldWithItsPlaces(t *testing.T) {
	_, err := newGraph(parse("a: b\nb: c\nc: a\nd"))
	var cycle *CycleError
	if !errors.As(err, &cycle) || len(cycle.Path) != 3 {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"m.yaml:1:3", "m.yaml:2:3", "m.yaml:3:3", "n:a", "n:b", "n:c"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
}

func TestAReactionIsFedAlongTheLink(t *testing.T) {
	g, err := newGraph(parse("a\ns: ~a a\nt: ~*"))
	if err != nil {
		t.Fatal(err)
	}
	want := link{to: 0, hard: true, reaction: resource.Restart}
	if !slices.Equal(g.after[1], []link{want}) {
		t.Errorf("s comes after %+v, want %+v", g.after[1], want)
	}
	if len(g.after[2]) != 2 {
		t.Errorf("t watches %+v, want all but itself", g.after[2])
	}
}
