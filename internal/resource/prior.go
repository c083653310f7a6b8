package resource

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// A Prior is what a module noted about the host before it changed anything,
// and what it must remember to take the change back, by the claim that it is
// about. Keyed by claim, it follows the claim when another resource takes it
// over: all kinds that claim paths note a host.PathPrior under them.
type Prior map[Claim]json.RawMessage

// Recall reads what was noted under a claim into a value, and reports whether
// there was anything.
func (p Prior) Recall(c Claim, into any) (bool, error) {
	raw, ok := p[c]
	if !ok {
		return false, nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return false, fmt.Errorf("cannot read what was noted about %q: %w", c, err)
	}
	return true, nil
}

// With returns a copy with a value noted under a claim, or nil when that is
// what is noted already.
func (p Prior) With(c Claim, value any) (Prior, error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("cannot note what %q is: %w", c, err)
	}
	if bytes.Equal(p[c], raw) {
		return nil, nil
	}
	added := maps.Clone(p)
	if added == nil {
		added = Prior{}
	}
	added[c] = raw
	return added, nil
}

// LettingGo returns what is still noted by one that held some claims, and has others
// now: what it was told of a claim that it let go is out of date when it, or another,
// has that again.
func (p Prior) LettingGo(held, claims []Claim) Prior {
	if slices.Equal(held, claims) || len(p) == 0 {
		return p
	}
	stays := make(map[Claim]bool, len(claims))
	for _, c := range claims {
		stays[c] = true
	}
	left := p
	for _, c := range held {
		if _, noted := left[c]; !noted || stays[c] {
			continue
		}
		if len(left) == len(p) {
			left = maps.Clone(p)
		}
		delete(left, c)
	}
	return left
}
