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
func (t *transfer) prove(child *remote.Client, offer remote.Offer) error {
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
		return r.refuse(offer, t.tip, applied, "this host was at it before, so the server went back")
	}
	limit := r.cfg.Limits.History
	for depth := 8; ; depth *= 8 {
		found, complete := descends(t.commits, t.tip, goals)
		switch {
		case found:
			return nil
		case complete:
			return r.refuse(offer, t.tip, applied, "their histories are not connected that way")
		case len(t.commits) >= limit || depth > 8*limit:
			return r.refuse(offer, t.tip, applied, fmt.Sprintf("not among the %d commits before it that were looked at, limits.history", len(t.commits)))
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
func (r *repository) refuse(offer remote.Offer, tip, applied object.ID, detail string) error {
	r.remember(func(m *memory) { m.Refused, m.RefusedBy, m.RefusedDetail = tip, applied, detail })
	return &RefusedError{Applied: applied.String(), Offered: tip.String(), Detail: detail}
}

// refusedBefore repeats a refusal while nothing has changed.
func (r *repository) refusedBefore(offer remote.Offer, anyHistory bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.memory
	if anyHistory || m.Refused.IsZero() || offer.Commit != m.Refused || r.applied != m.RefusedBy {
		return nil
	}
	return &RefusedError{Applied: m.RefusedBy.String(), Offered: m.Refused.String(), Detail: m.RefusedDetail}
}

// checkSize holds the whole tree of the new commit against the limit.
func (t *transfer) checkSize() error {
	limits := t.r.cfg.Limits
	entries, size := 0, int64(0)
	seen := map[object.ID]bool{}
	commit, err := t.commitInfo()
	if err != nil {
		return err
	}
	todo := []object.ID{commit.Tree}
	for len(todo) > 0 {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[id] {
			continue
		}
		seen[id] = true
		_, data, err := t.in.Read(id, object.MaxTree)
		if err != nil {
			return err
		}
		list, err := object.ParseTree(data)
		if err != nil {
			return err
		}
		entries += len(list)
		for _, e := range list {
			switch {
			case e.IsTree():
				todo = append(todo, e.ID)
			case !e.IsSubmodule():
				n, err := t.in.Size(e.ID)
				if err != nil {
					return err
				}
				size += n
			}
		}
		if entries > limits.Entries {
			return overLimit("entries", "the commit has more than %d files and directories", limits.Entries)
		}
		if size > limits.Tree {
			return overLimit("tree", "the commit's files are larger than %d bytes together", limits.Tree)
		}
	}
	return nil
}

func (t *transfer) commitInfo() (object.CommitInfo, error) {
	_, data, err := t.in.Read(t.tip, object.MaxCommit)
	if err != nil {
		return object.CommitInfo{}, err
	}
	return object.ParseCommit(data)
}
