package units

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"trued.dev/trued/internal/resource"
)

// before is what is noted about a unit before anything of it was changed.
type before struct {
	Exists bool `json:"exists"`
	Active bool `json:"active"`
	Masked bool `json:"masked,omitempty"`
	// Enabled is systemd's word for the unit's file.
	Enabled string `json:"enabled,omitempty"`
	// Linked is the file outside of the search path that the unit's name in it
	// is a link to.
	Linked string `json:"linked,omitempty"`
	// Last is what came of the last start, where systemd may have forgotten it.
	Last *attempt `json:"last,omitempty"`
}

// An attempt is a start that left the unit inactive and is in order.
type attempt struct {
	Boot string    `json:"boot"`
	At   time.Time `json:"at"`
	// Unmet names the start condition that was not met; "" for a unit that did
	// its work and ended.
	Unmet string `json:"unmet,omitempty"`
}

// recent reports whether the attempt was made in this boot and, if a condition
// was not met, lately.
func (a *attempt) recent(boot string) bool {
	if a == nil || a.Boot != boot {
		return false
	}
	age := time.Since(a.At)
	return a.Unmet == "" || age >= 0 && age < retryCondition
}

func (b before) enabled() bool {
	return b.Enabled == "enabled" || b.Enabled == "enabled-runtime"
}

// readBefore returns what was noted; ok is false when nothing was.
func readBefore(p resource.Prior, name string) (b before, ok bool, err error) {
	raw, ok := p[Claim(name)]
	if !ok {
		return before{}, false, nil
	}
	if err := json.Unmarshal(raw, &b); err != nil {
		return before{}, false, fmt.Errorf("cannot read what was noted about unit %q: %w", name, err)
	}
	return b, true, nil
}

// notes gathers what to note beside what is noted already.
type notes struct {
	prior resource.Prior
	added bool
}

func takeNotes(known resource.Prior) *notes {
	n := &notes{prior: maps.Clone(known)}
	if n.prior == nil {
		n.prior = resource.Prior{}
	}
	return n
}

// add notes something about a claim unless it was noted before trued made any
// change to it.
func (n *notes) add(c resource.Claim, v any) error {
	if _, known := n.prior[c]; known {
		return nil
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("cannot note %q: %w", c, err)
	}
	n.prior[c] = raw
	n.added = true
	return nil
}

// remember notes what came of a start, beside what was noted of the unit.
func (n *notes) remember(name string, last *attempt) error {
	b, noted, err := readBefore(n.prior, name)
	if err != nil || !noted || b.Last == nil && last == nil {
		return err
	}
	b.Last = last
	n.drop(Claim(name))
	return n.add(Claim(name), b)
}

// drop forgets a claim.
func (n *notes) drop(c resource.Claim) {
	if _, known := n.prior[c]; known {
		delete(n.prior, c)
		n.added = true
	}
}

// changed returns all notes, or nil when there is nothing new among them.
func (n *notes) changed() resource.Prior {
	if !n.added {
		return nil
	}
	return n.prior
}
