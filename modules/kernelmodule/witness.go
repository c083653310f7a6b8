package kernelmodule

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"trued.dev/trued/internal/resource"
)

// A glance is what the kernel tells of a module.
type glance struct {
	Now presence `json:"now"`
	// Values are those of the parameters that were asked for, and are shown.
	Values map[string]string `json:"values,omitempty"`
}

func (k kernel) glance(name string, keys []string) (g glance, err error) {
	if g.Now, err = k.find(name); err != nil || g.Now == missing {
		return g, err
	}
	for _, key := range keys {
		value, known, err := k.parameter(name, key)
		if err != nil {
			return g, err
		}
		if known {
			if g.Values == nil {
				g.Values = map[string]string{}
			}
			g.Values[key] = value
		}
	}
	return g, nil
}

// A sight is what a Check of a module rests on beside its files.
type sight struct {
	Keys   []string `json:"keys,omitempty"`
	Glance glance   `json:"glance"`
}

// witness is what the files look like now, and what the kernel tells. There is
// none for a secret, which is among that.
func (r *Resource) witness(view resource.View) resource.Witness {
	if view.Offline || r.Sensitive {
		return nil
	}
	var names []string
	for _, f := range r.files() {
		names = append(names, f.Path)
	}
	seen := r.host.WitnessNamed(names...)
	s := sight{Keys: slices.Sorted(maps.Keys(r.Options))}
	var err error
	if s.Glance, err = r.kernel.glance(r.Name(), s.Keys); err != nil || seen == nil {
		return nil
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil
	}
	return append(seen, text...)
}

// Holds implements resource.Examiner.
func (m module) Holds(_ context.Context, name string, w resource.Witness) bool {
	rest, holds := m.host.HoldsNamed(w)
	var s sight
	if !holds || json.Unmarshal(rest, &s) != nil {
		return false
	}
	now, err := m.kernel.glance(normal(name), s.Keys)
	return err == nil && now.Now == s.Glance.Now && maps.Equal(now.Values, s.Glance.Values)
}
