package source

import (
	"fmt"

	"trued.dev/trued/internal/source/object"
)

// An extent is how much a tree would be if it were written out: what it refers
// to twice counts twice, so that a small commit cannot unfold into a large one.
type extent struct {
	Size    int64 `json:"size"`
	Entries int64 `json:"entries"`
}

func (e extent) plus(o extent) extent  { return extent{e.Size + o.Size, e.Entries + o.Entries} }
func (e extent) minus(o extent) extent { return extent{e.Size - o.Size, e.Entries - o.Entries} }

// maxNesting is how deep directories may be within each other.
const maxNesting = 200

// A surveyor adds up trees, each once.
type surveyor struct {
	in     *object.Intake
	limits Limits
	known  map[object.ID]extent
}

// checkSize holds the whole tree of the new commit against the limits. What
// is the same as in the commit before is not looked at again.
func (t *transfer) checkSize() error {
	s := &surveyor{in: t.in, limits: t.r.cfg.Limits, known: map[object.ID]extent{}}
	tree, err := s.treeOf(t.tip)
	if err != nil {
		return err
	}
	t.r.mu.Lock()
	was, wasOf := t.r.memory.Extent, t.r.memory.ExtentOf
	t.r.mu.Unlock()
	if !wasOf.IsZero() && t.in.Has(wasOf) {
		old, err := s.treeOf(wasOf)
		if err != nil {
			return err
		}
		change, err := s.compare(old, tree, 0)
		if err != nil {
			return err
		}
		t.extent = was.plus(change)
		return s.check(t.extent)
	}
	t.extent, err = s.tree(tree, 0)
	return err
}

func (s *surveyor) treeOf(commit object.ID) (object.ID, error) {
	_, data, err := s.in.Read(commit, object.MaxCommit)
	if err != nil {
		return object.ID{}, err
	}
	c, err := object.ParseCommit(data)
	return c.Tree, err
}

func (s *surveyor) check(e extent) error {
	if e.Entries > int64(s.limits.Entries) {
		return overLimit("entries", "the commit has more than %d files and directories", s.limits.Entries)
	}
	if e.Size > s.limits.Tree {
		return overLimit("tree", "the commit's files are larger than %d bytes together", s.limits.Tree)
	}
	return nil
}

func (s *surveyor) read(id object.ID, depth int) ([]object.Entry, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("directories are nested deeper than %d%w", maxNesting, hidden{errOverLimit})
	}
	_, data, err := s.in.Read(id, object.MaxTree)
	if err != nil {
		return nil, err
	}
	return object.ParseTree(data)
}

// tree adds up a whole tree.
func (s *surveyor) tree(id object.ID, depth int) (extent, error) {
	if e, ok := s.known[id]; ok {
		return e, nil
	}
	entries, err := s.read(id, depth)
	if err != nil {
		return extent{}, err
	}
	var sum extent
	for _, entry := range entries {
		e, err := s.entry(entry, depth)
		if err != nil {
			return extent{}, err
		}
		sum = sum.plus(e)
		if err := s.check(sum); err != nil {
			return extent{}, err
		}
	}
	s.known[id] = sum
	return sum, nil
}

func (s *surveyor) entry(e object.Entry, depth int) (extent, error) {
	one := extent{Entries: 1}
	switch {
	case e.IsSubmodule():
		return one, nil
	case e.IsTree():
		below, err := s.tree(e.ID, depth+1)
		return one.plus(below), err
	default:
		size, err := s.in.Size(e.ID)
		one.Size = size
		return one, err
	}
}

// compare returns by how much a tree is larger than another.
func (s *surveyor) compare(old, tree object.ID, depth int) (extent, error) {
	if old == tree {
		return extent{}, nil
	}
	before, err := s.read(old, depth)
	if err != nil {
		return extent{}, err
	}
	after, err := s.read(tree, depth)
	if err != nil {
		return extent{}, err
	}
	was := make(map[string]object.Entry, len(before))
	for _, e := range before {
		was[e.Name] = e
	}
	var change extent
	add := func(e extent, err error) error {
		change = change.plus(e)
		return err
	}
	for _, e := range after {
		o, ok := was[e.Name]
		delete(was, e.Name)
		var err error
		switch {
		case ok && o.ID == e.ID && o.Mode == e.Mode:
		case ok && o.IsTree() && e.IsTree():
			err = add(s.compare(o.ID, e.ID, depth+1))
		default:
			if ok {
				was[e.Name] = o
			}
			err = add(s.entry(e, depth))
		}
		if err != nil {
			return extent{}, err
		}
	}
	for _, o := range was {
		e, err := s.entry(o, depth)
		if err != nil {
			return extent{}, err
		}
		change = change.minus(e)
	}
	return change, nil
}
