package source

import (
	"errors"
	"fmt"
	"slices"

	"trued.dev/trued/internal/source/object"
	"trued.dev/trued/internal/source/remote"
)

// prove looks for the applied commit among the ancestors of the new one. It
// asks for as many generations of commits as that takes.
func (t *transfer) prove(child *remote.Client) error {
	r := t.r
	r.mu.Lock()
	applied, m := r.applied, r.memory
	r.mu.Unlock()
	if applied.IsZero() || applied == t.tip || t.anyHistory || r.cfg.pinned() {
		return nil
	}
	// A commit that was proven to descend from the applied one is as good as
	// that one; its own ancestors are not asked for again.
	goals := []object.ID{applied}
	if m.ProvenFrom == applied {
		goals = append(goals, m.Proven)
	}
	var have []object.ID
	for _, id := range t.have {
		if slices.Contains(goals, id) {
			have = append(have, id)
		}
	}
	if slices.Contains(m.Seen, t.tip) {
		return r.refuse(t.tip, applied, "this host was at it before, so the server went back")
	}
	limit := r.cfg.Limits.History
	for depth := 8; ; depth *= 8 {
		found, complete := descends(t.commits, t.tip, goals)
		switch {
		case found:
			return nil
		case complete:
			return r.refuse(t.tip, applied, "their histories are not connected that way")
		case len(t.commits) >= limit || depth > 8*limit:
			return r.refuse(t.tip, applied, fmt.Sprintf("not among the %d commits before it that were looked at, limits.history", len(t.commits)))
		}
		// The new commit is not asked for again as one that the host has, since
		// the server would then see no reason to send its ancestors.
		more := &ancestors{transfer: t, limit: limit}
		before := len(t.commits)
		err := child.Get(remote.Ask{Have: have, Depth: min(depth, limit+1), CommitsOnly: true}, more)
		if err != nil {
			return err
		}
		if len(t.commits) == before && depth > limit {
			return errors.New("server does not send the commits before the newest one")
		}
	}
}

// descends reports whether one of the goals is reached from tip, and whether
// all of the history was looked at.
func descends(commits map[object.ID][]object.ID, tip object.ID, goals []object.ID) (found, complete bool) {
	complete = true
	seen := map[object.ID]bool{tip: true}
	todo := []object.ID{tip}
	for len(todo) > 0 {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if slices.Contains(goals, id) {
			return true, complete
		}
		parents, known := commits[id]
		if !known {
			complete = false
			continue
		}
		for _, p := range parents {
			if !seen[p] {
				seen[p] = true
				todo = append(todo, p)
			}
		}
	}
	return false, complete
}

// refuse remembers a commit that is not accepted, so that the next poll need
// not look into it again.
func (r *repository) refuse(tip, applied object.ID, detail string) error {
	r.remember(func(m *memory) { m.Refused, m.RefusedBy, m.RefusedDetail, m.Distrust = tip, applied, detail, nil })
	return &RefusedError{Applied: applied.String(), Offered: tip.String(), Detail: detail}
}

// refusedBefore repeats a refusal while nothing has changed.
func (r *repository) refusedBefore(offer remote.Offer, anyHistory bool) error {
	r.mu.Lock()
	m, applied := r.memory, r.applied
	r.mu.Unlock()
	if anyHistory || m.Refused.IsZero() || offer.Commit != m.Refused || applied != m.RefusedBy {
		return nil
	}
	if m.Distrust != nil {
		return r.distrustedBefore(m)
	}
	return &RefusedError{Applied: m.RefusedBy.String(), Offered: m.Refused.String(), Detail: m.RefusedDetail}
}
