package plan

import (
	"testing"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/resource"
)

// named is a module that shares transactions by a word.
type named struct {
	packs
	kind string
}

func (n named) Kind() string { return n.kind }
func (named) Batch() string  { return "parts" }

// parts is a file of two parts, of two kinds, with others between and after.
func parts() []catalog.Entry {
	part := func(kind, name string) catalog.Entry {
		return catalog.Entry{
			Address: resource.Address{Kind: kind, Name: name}, Module: named{kind: kind},
			Resource: &node{name: name, claims: []resource.Claim{{Space: resource.SpacePath, Name: "/x", Part: name}}},
		}
	}
	needy := catalog.Entry{
		Address: resource.Address{Kind: "n", Name: "needy"}, Module: plain{},
		Resource: &node{name: "needy", needs: []resource.Need{{Claim: resource.Path("/x"), Reaction: resource.Restart}}},
	}
	between := catalog.Entry{
		Address: resource.Address{Kind: "n", Name: "between"}, Module: plain{}, Resource: &node{name: "between"},
	}
	return []catalog.Entry{needy, part("line", "a"), between, part("block", "b")}
}

func TestPartsOfSeveralKindsChangeInOneTransaction(t *testing.T) {
	g, err := newGraph(parts())
	if err != nil {
		t.Fatal(err)
	}
	_, groups := g.gather(g.order())
	if groups[1] == 0 || groups[1] != groups[3] {
		t.Errorf("the transactions are %v", groups)
	}
}

func TestWhatNeedsAFileComesAfterTheOwnerOfEachPart(t *testing.T) {
	g, err := newGraph(parts())
	if err != nil {
		t.Fatal(err)
	}
	var after []int
	for _, l := range g.after[0] {
		if l.reaction == resource.Restart {
			after = append(after, l.to)
		}
	}
	if len(after) != 2 || after[0] != 1 || after[1] != 3 {
		t.Errorf("it comes after %v", after)
	}
}
