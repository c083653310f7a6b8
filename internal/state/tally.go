package state

import (
	"cmp"
	"slices"
	"strings"

	"trued.dev/trued/internal/resource"
)

// A Tally is how many resources of a kind came to the same.
type Tally struct {
	Kind    string         `json:"kind"`
	Cause   resource.Cause `json:"cause,omitempty"`
	Outcome string         `json:"outcome"`
	Count   uint64         `json:"count"`
}

// Tallies are in the order of their keys, each of which is there once.
type Tallies []Tally

// Add returns the tallies with more of them; like append it may change those
// that there are.
func (t Tallies) Add(more ...Tally) Tallies {
	for _, m := range more {
		i, found := slices.BinarySearchFunc(t, m, Tally.compare)
		if found {
			t[i].Count += m.Count
		} else {
			t = slices.Insert(t, i, m)
		}
	}
	return t
}

func (t Tally) compare(u Tally) int {
	return cmp.Or(strings.Compare(t.Kind, u.Kind), cmp.Compare(t.Cause, u.Cause), strings.Compare(t.Outcome, u.Outcome))
}
