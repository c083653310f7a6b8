package plan

import (
	"container/heap"
	"fmt"
	"slices"
	"strings"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/resource"
)

// A link says that one entry comes after another.
type link struct {
	to int
	// hard: when the other fails, this one is skipped.
	hard bool
	// reaction is what a change of the other makes this one owe.
	reaction resource.Reaction
}

// A graph holds, for each entry of a catalog, what it comes after.
type graph struct {
	entries []catalog.Entry
	after   [][]link
}

// newGraph finds the links between entries: what is required or watched by
// address, and what follows from claims and needs.
func newGraph(entries []catalog.Entry) (*graph, error) {
	g := &graph{entries: entries, after: make([][]link, len(entries))}
	byAddress := make(map[resource.Address]int, len(entries))
	owner := map[resource.Claim][]int{} // several where they own parts
	for i, e := range entries {
		byAddress[e.Address] = i
		if e.Resource == nil {
			continue
		}
		for _, c := range e.Resource.Claims() {
			c.Part = ""
			if have := owner[c]; len(have) == 0 || have[len(have)-1] != i {
				owner[c] = append(have, i)
			}
		}
	}
	for i, e := range entries {
		if e.Resource == nil {
			continue
		}
		for _, want := range e.Resource.Common().Requires {
			if err := g.linkAddress(i, want, byAddress, link{hard: true}); err != nil {
				return nil, err
			}
		}
		if r, ok := e.Resource.(resource.Reactor); ok {
			for _, t := range r.Triggers() {
				if err := g.linkAddress(i, t.On, byAddress, link{reaction: t.Reaction}); err != nil {
					return nil, err
				}
			}
		}
	}
	g.linkNeeds(owner)
	return g, g.cycle()
}

// linkAddress links i to each entry that the address or glob on matches.
// Whether it must match something is the catalog's to say.
func (g *graph) linkAddress(i int, on string, byAddress map[resource.Address]int, l link) error {
	if a, err := resource.ParseAddress(on); err == nil {
		if to, ok := byAddress[a]; ok {
			l.to = to
			g.add(i, l)
			return nil
		}
	}
	if !strings.ContainsAny(on, "*?[") {
		return nil
	}
	for to, e := range g.entries {
		ok, err := e.Address.Match(on)
		if err != nil {
			return fmt.Errorf("%s: %w", g.entries[i].Origin, err)
		}
		if ok && to != i {
			l.to = to
			g.add(i, l)
		}
	}
	return nil
}

// linkNeeds adds what claims and needs imply. A need by glob is the weakest: it
// gives way where the other side was written to come later.
func (g *graph) linkNeeds(owner map[resource.Claim][]int) {
	type weak struct {
		from int
		need resource.Need
	}
	var weaks []weak
	for i, e := range g.entries {
		needy, ok := e.Resource.(resource.Needy)
		if !ok {
			continue
		}
		for _, n := range needy.Needs() {
			if n.Glob {
				weaks = append(weaks, weak{i, n})
				continue
			}
			for _, to := range owner[resource.Claim{Space: n.Claim.Space, Name: n.Claim.Name}] {
				if to != i {
					g.add(i, link{to: to, hard: true, reaction: n.Reaction})
				}
			}
			if n.Claim.Space != resource.SpacePath {
				continue
			}
			for _, to := range owner[resource.Claim{Space: resource.SpaceMount, Name: n.Claim.Name}] {
				if to != i {
					g.add(i, link{to: to, hard: true})
				}
			}
		}
	}
	if len(weaks) == 0 {
		return
	}
	claims := make([]resource.Claim, 0, len(owner))
	for c := range owner {
		claims = append(claims, c)
	}
	slices.SortFunc(claims, func(a, b resource.Claim) int { return strings.Compare(a.String(), b.String()) })
	matched := map[resource.Claim][]int{}
	for _, w := range weaks {
		targets, seen := matched[w.need.Claim]
		if !seen {
			for _, c := range claims {
				if c.Space != w.need.Claim.Space {
					continue
				}
				if ok, _ := (resource.Address{Kind: c.Space, Name: c.Name}).Match(c.Space + ":" + w.need.Claim.Name); ok {
					targets = append(targets, owner[c]...)
				}
			}
			matched[w.need.Claim] = targets
		}
		for _, to := range targets {
			if to != w.from && !g.reaches(to, w.from) {
				g.add(w.from, link{to: to, hard: true, reaction: w.need.Reaction})
			}
		}
	}
}

func (g *graph) add(i int, l link) {
	for k, have := range g.after[i] {
		if have.to == l.to && (have.reaction == l.reaction || have.reaction == "" || l.reaction == "") {
			g.after[i][k].hard = have.hard || l.hard
			if l.reaction != "" {
				g.after[i][k].reaction = l.reaction
			}
			return
		}
	}
	g.after[i] = append(g.after[i], l)
}

// reaches reports whether entry i comes, over any number of links, after j.
func (g *graph) reaches(i, j int) bool {
	seen := map[int]bool{}
	todo := []int{i}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if at == j {
			return true
		}
		if seen[at] {
			continue
		}
		seen[at] = true
		for _, l := range g.after[at] {
			todo = append(todo, l.to)
		}
	}
	return false
}

// A CycleError is a set of resources each of which comes after the next.
type CycleError struct {
	Path    []resource.Address
	Origins []resource.Origin
}

func (e *CycleError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: dependency cycle: ", e.Origins[0])
	for i, a := range e.Path {
		fmt.Fprintf(&b, "%s (%s) → ", a, e.Origins[i])
	}
	b.WriteString(e.Path[0].String())
	return b.String()
}

// cycle returns a *CycleError when there is one.
func (g *graph) cycle() error {
	const (
		white = iota
		grey
		black
	)
	colour := make([]int, len(g.entries))
	var stack []int
	var visit func(i int) error
	visit = func(i int) error {
		colour[i] = grey
		stack = append(stack, i)
		for _, l := range g.after[i] {
			switch colour[l.to] {
			case grey:
				return g.cycleError(stack[slices.Index(stack, l.to):])
			case white:
				if err := visit(l.to); err != nil {
					return err
				}
			}
		}
		stack = stack[:len(stack)-1]
		colour[i] = black
		return nil
	}
	for i := range g.entries {
		if colour[i] == white {
			if err := visit(i); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *graph) cycleError(path []int) error {
	e := &CycleError{}
	for _, i := range path {
		e.Path = append(e.Path, g.entries[i].Address)
		e.Origins = append(e.Origins, g.entries[i].Origin)
	}
	return e
}

// order returns the entries' indices in the order in which they apply: as
// written, each moved later only where it must come after another.
func (g *graph) order() []int {
	before := make([][]int, len(g.entries))
	waits := make([]int, len(g.entries))
	for i, links := range g.after {
		waits[i] = len(links)
		for _, l := range links {
			before[l.to] = append(before[l.to], i)
		}
	}
	ready := &intHeap{}
	for i, n := range waits {
		if n == 0 {
			heap.Push(ready, i)
		}
	}
	sorted := make([]int, 0, len(g.entries))
	for ready.Len() > 0 {
		i := heap.Pop(ready).(int)
		sorted = append(sorted, i)
		for _, j := range before[i] {
			if waits[j]--; waits[j] == 0 {
				heap.Push(ready, j)
			}
		}
	}
	return sorted
}

type intHeap []int

func (h intHeap) Len() int           { return len(h) }
func (h intHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h intHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *intHeap) Push(x any)        { *h = append(*h, x.(int)) }
func (h *intHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
