package plan

import (
	"slices"

	"trued.dev/trued/internal/resource"
)

// gather moves resources of modules that work in transactions together: those
// with no other resource between them in the graph go at the place of the last
// of them, unless something earlier waits for one. It returns the new order and
// for each entry its transaction, 0 for none.
func (g *graph) gather(order []int) ([]int, []int) {
	groups := make([]int, len(g.entries))
	open := map[any]*group{}
	var all []*group
	for pos, i := range order {
		if !g.transacts(i) {
			// Whatever waits for a member closes the group: it must go first.
			for m, gr := range open {
				if gr.feeds(g, i) {
					delete(open, m)
				}
			}
			continue
		}
		m := together(g.entries[i].Module)
		gr := open[m]
		if gr == nil {
			gr = &group{id: len(all) + 1}
			all = append(all, gr)
			open[m] = gr
		}
		gr.members = append(gr.members, i)
		gr.last = pos
		groups[i] = gr.id
	}
	if len(all) == 0 {
		return order, groups
	}
	return place(order, groups, all), groups
}

// together is what modules have in common that work in the same transactions:
// the word by which they share batches, or a module itself.
func together(m resource.Module) any {
	if b, ok := m.(resource.Batched); ok && b.Batch() != "" {
		return b.Batch()
	}
	return m
}

func (g *graph) transacts(i int) bool {
	_, ok := g.entries[i].Module.(resource.Transactor)
	return ok && g.entries[i].Resource != nil
}

// A group is one transaction in the making.
type group struct {
	id      int
	members []int
	last    int
}

// feeds reports whether the entry comes after a member.
func (gr *group) feeds(g *graph, i int) bool {
	for _, l := range g.after[i] {
		if slices.Contains(gr.members, l.to) {
			return true
		}
	}
	return false
}

func place(order, groups []int, all []*group) []int {
	placed := make([]int, 0, len(order))
	for pos, i := range order {
		if groups[i] == 0 {
			placed = append(placed, i)
			continue
		}
		if gr := all[groups[i]-1]; gr.last == pos {
			placed = append(placed, gr.members...)
		}
	}
	return placed
}
