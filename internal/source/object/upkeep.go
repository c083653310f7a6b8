package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
)

// reach calls visit for each object of the commits' trees, once, what refers
// after what is referred to. It reads commits and trees, and hashes them.
func (s *Store) reach(ctx context.Context, commits []ID, visit func(ID, Kind) error) error {
	seen := map[ID]bool{}
	var tree func(id ID) error
	tree = func(id ID) error {
		if seen[id] {
			return nil
		}
		seen[id] = true
		if err := ctx.Err(); err != nil {
			return err
		}
		kind, data, err := s.Read(id, MaxTree)
		if err != nil {
			return err
		}
		if kind != Tree {
			return damaged(id.String(), fmt.Errorf("it is a %s and no tree", kind))
		}
		entries, err := ParseTree(data)
		if err != nil {
			return damaged(id.String(), err)
		}
		for _, e := range entries {
			switch {
			case e.IsTree():
				err = tree(e.ID)
			case e.IsSubmodule() || seen[e.ID]:
				continue
			default:
				seen[e.ID] = true
				err = visit(e.ID, Blob)
			}
			if err != nil {
				return err
			}
		}
		return visit(id, Tree)
	}
	for _, id := range commits {
		if seen[id] {
			continue
		}
		seen[id] = true
		c, err := s.Commit(id)
		if err != nil {
			return err
		}
		if err := tree(c.Tree); err != nil {
			return err
		}
		if err := visit(id, Commit); err != nil {
			return err
		}
	}
	return nil
}

// Verify hashes everything that the commits' trees hold.
func (s *Store) Verify(ctx context.Context, commits ...ID) error {
	return s.reach(ctx, commits, func(id ID, kind Kind) error {
		if kind != Blob {
			// It was hashed when it was read.
			return nil
		}
		_, _, r, err := s.Reader(id)
		if err != nil {
			return err
		}
		defer func() { _ = r.Close() }()
		return drain(r)
	})
}

func drain(r io.Reader) error {
	buf := make([]byte, 1<<15)
	for {
		if _, err := r.Read(buf); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// CopyFrom takes a commit and its tree over from another store. The commit
// comes last, so that it is there only when all of it is.
func (in *Intake) CopyFrom(ctx context.Context, from *Store, commit ID) error {
	return from.reach(ctx, []ID{commit}, func(id ID, _ Kind) error {
		if in.Has(id) {
			return nil
		}
		return in.copyOne(from, id)
	})
}

func (in *Intake) copyOne(from *Store, id ID) error {
	kind, size, r, err := from.Reader(id)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	_, err = in.Add(kind, size, r, id)
	return err
}

const maxPacks = 16

// Compact keeps the store small: many packs become one, and what none of the
// commits needs is left out. It does nothing while that is not worth it.
func (s *Store) Compact(ctx context.Context, commits ...ID) error {
	s.mu.RLock()
	packs := append([]*pack(nil), s.packs...)
	s.mu.RUnlock()
	if len(packs) < 2 {
		return nil
	}
	// The largest pack is written anew only when most of it is of no use.
	sort.SliceStable(packs, func(i, j int) bool { return packs[i].cost() > packs[j].cost() })
	base, others := packs[0], int64(0)
	for _, p := range packs[1:] {
		others += p.cost()
	}
	if len(packs) <= maxPacks && others <= base.cost() {
		return nil
	}
	var live []ID
	var size int64
	lengths := base.lengths()
	err := s.reach(ctx, commits, func(id ID, _ Kind) error {
		live = append(live, id)
		if at, ok := base.find(id); ok {
			size += lengths[at]
		}
		return nil
	})
	if err != nil {
		return err
	}
	full := others > base.cost() || 2*size < base.size
	in, err := s.Begin()
	if err != nil {
		return err
	}
	defer in.Abort()
	in.again = true
	for _, id := range live {
		if _, ok := base.find(id); ok && !full {
			continue
		}
		if err := in.copyOne(s, id); err != nil {
			return err
		}
	}
	old := packs[1:]
	if full {
		old = packs
	}
	if err := in.Commit(); err != nil {
		return err
	}
	return s.drop(old)
}

// drop removes packs whose objects are elsewhere. Whoever still reads from
// them goes on.
func (s *Store) drop(old []*pack) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := s.packs[len(s.packs)-1]
	gone := map[*pack]bool{}
	for _, p := range old {
		gone[p] = true
		if p.name == newest.name {
			// The new pack has the same content, and so the same name.
			continue
		}
		if err := os.Remove(p.name + ".idx"); err != nil {
			return fmt.Errorf("cannot write to the store: %w", err)
		}
		if err := os.Remove(p.name + ".pack"); err != nil {
			return fmt.Errorf("cannot write to the store: %w", err)
		}
	}
	var kept []*pack
	for _, p := range s.packs {
		if !gone[p] {
			kept = append(kept, p)
		}
	}
	s.packs = kept
	return nil
}

// cost is what a pack takes on disk with its index.
func (p *pack) cost() int64 { return p.size + 8 + 1024 + 28*int64(len(p.ids)) + 40 }

// lengths returns how many bytes the entry at each offset has.
func (p *pack) lengths() map[int64]int64 {
	offsets := append([]int64(nil), p.offsets...)
	sort.Slice(offsets, func(i, j int) bool { return offsets[i] < offsets[j] })
	all := make(map[int64]int64, len(offsets))
	for i, at := range offsets {
		end := p.size - packTrailer
		if i+1 < len(offsets) {
			end = offsets[i+1]
		}
		all[at] = end - at
	}
	return all
}
