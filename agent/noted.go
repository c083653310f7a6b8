package agent

import (
	"bytes"

	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
)

// noted reports whether something that is held, or about to be, was something
// with the digest before, and is to be that again one day.
func noted(store *state.Store, sum string) bool {
	if sum == "" {
		return false
	}
	names := func(p resource.Prior) bool {
		for _, raw := range p {
			if bytes.Contains(raw, []byte(sum)) {
				return true
			}
		}
		return false
	}
	snap := store.Snapshot()
	if snap.Open != nil {
		for _, intent := range snap.Open.Items {
			if names(intent.Prior) {
				return true
			}
		}
	}
	for _, held := range []map[resource.Address]state.Entry{snap.Inventory, snap.Dropped} {
		for _, e := range held {
			if names(e.Prior) {
				return true
			}
		}
	}
	return false
}
