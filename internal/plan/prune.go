package plan

import (
	"cmp"
	"fmt"
	"slices"

	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
)

// defaultPruneLimit is how many claims may leave at once even when they are
// more than half of what is held.
const defaultPruneLimit = 20

// A leaver is an entry of the inventory that the catalog no longer has.
type leaver struct {
	address resource.Address
	entry   state.Entry
	// claims are those that nobody else has taken over.
	claims []resource.Claim
}

// leave appends a step for everything that has left Git, in the order in which
// it goes: the reverse of that in which it came.
func (p *Plan) leave(in Input, owners *owners) error {
	here := map[resource.Address]bool{}
	hidden := map[string]bool{} // sources with resources whose names are not known yet
	for _, s := range p.Steps {
		here[s.Address] = true
		if s.Resource == nil && s.Address.Name == "" {
			hidden[s.Source] = true
		}
	}
	leaving := map[string][]leaver{}
	for a, e := range in.State.Inventory {
		if here[a] {
			if e.Left != "" {
				e.Left = ""
				p.Put[a] = e
			}
			continue
		}
		if !slices.Contains(in.Configured, e.Source) {
			p.Orphans = append(p.Orphans, a)
			continue
		}
		if _, loaded := in.Sources[e.Source]; !loaded {
			continue
		}
		l := leaver{address: a, entry: e}
		for _, c := range e.Claims {
			if _, taken := owners.of(c); !taken {
				l.claims = append(l.claims, c)
			}
		}
		if e.Keep || len(l.claims) == 0 {
			p.Drop = append(p.Drop, a)
			continue
		}
		leaving[e.Source] = append(leaving[e.Source], l)
	}
	slices.SortFunc(p.Orphans, resource.Address.Compare)
	slices.SortFunc(p.Drop, resource.Address.Compare)
	for _, name := range in.Configured {
		if err := p.prune(in, name, leaving[name], hidden[name], owners); err != nil {
			return err
		}
	}
	return nil
}

func (p *Plan) prune(in Input, source string, leaving []leaver, hidden bool, owners *owners) error {
	src := in.Sources[source]
	limit := overLimit(in, source, src.PruneLimit, leaving)
	var steps []*Step
	for _, l := range leaving {
		s, err := p.pruneStep(in, l, owners)
		if err != nil {
			return err
		}
		explained, revision := l.entry.Left != "", src.Revision
		if !explained && src.From == "" {
			explained = src.Explains(l.address)
		}
		switch {
		case src.goesBack(l.entry):
			s.Cause, explained, revision = resource.Rollback, true, src.From
		case in.AcceptPrune:
		case hidden:
			s.Verdict, s.Why = Held, "names of resources depend on facts that are not known yet"
		case !explained:
			s.Verdict, s.Why = Held, "no new commit explains why it left: the host's name, group or facts changed"
		case limit != "":
			s.Verdict, s.Why = Held, limit
		}
		if explained && l.entry.Left == "" {
			l.entry.Left = revision
			p.Put[l.address] = l.entry
			s.Entry = l.entry
		}
		steps = append(steps, s)
	}
	sorted, within := inReverse(steps)
	p.placePrunes(sorted)
	for s, before := range within {
		for _, b := range before {
			s.After = append(s.After, b.Place)
		}
	}
	return nil
}

func overLimit(in Input, source string, set int, leaving []leaver) string {
	leave, held := 0, 0
	for _, l := range leaving {
		leave += len(l.claims)
	}
	for _, e := range in.State.Inventory {
		if e.Source == source {
			held += len(e.Claims)
		}
	}
	over := leave > defaultPruneLimit && 2*leave > held
	if set > 0 {
		over = leave > set
	}
	if !over {
		return ""
	}
	return fmt.Sprintf("it would remove %d of %d claims at once", leave, held)
}

func (p *Plan) pruneStep(in Input, l leaver, owners *owners) (*Step, error) {
	s := &Step{
		Address: l.address,
		Source:  l.entry.Source,
		Prune:   true,
		Cause:   resource.Prune,
		Entry:   l.entry,
		Owed:    in.State.OwedTo(l.address),
		View:    resource.View{Prior: l.entry.Prior, Held: l.claims, Owner: owners.of, Offline: in.Offline},
	}
	m, ok := in.Sources[l.entry.Source].Modules[l.address.Kind]
	if !ok {
		m, ok = in.Modules[l.address.Kind]
	}
	if !ok {
		s.Verdict, s.Err = Failed, fmt.Errorf("this trued does not know the kind %q any more", l.address.Kind)
		return s, nil
	}
	value, err := m.Absent(resource.Held{Address: l.address, Claims: l.claims, Prior: l.entry.Prior})
	if err != nil {
		s.Verdict, s.Err = Failed, err
		return s, nil
	}
	s.Module, s.Resource = m, value
	return s, nil
}

// inReverse sorts what leaves: last come, first gone, and never a thing before
// what needed it. It returns the latter, too.
func inReverse(steps []*Step) ([]*Step, map[*Step][]*Step) {
	slices.SortStableFunc(steps, func(a, b *Step) int {
		return cmp.Or(cmp.Compare(b.Entry.Place, a.Entry.Place), b.Address.Compare(a.Address))
	})
	owner := map[resource.Claim]int{}
	for i, s := range steps {
		for _, c := range s.View.Held {
			owner[c] = i
		}
	}
	placed := make([]bool, len(steps))
	blockers := make([][]int, len(steps))
	within := map[*Step][]*Step{}
	for i, s := range steps {
		needy, ok := s.Resource.(resource.Needy)
		if !ok {
			continue
		}
		for _, n := range needy.Needs() {
			for _, claim := range [...]resource.Claim{n.Claim, {Space: resource.SpaceMount, Name: n.Claim.Name}} {
				if claim.Space == resource.SpaceMount && n.Claim.Space != resource.SpacePath {
					continue
				}
				if j, ok := owner[claim]; ok && j != i && !n.Glob {
					blockers[j] = append(blockers[j], i)
					within[steps[j]] = append(within[steps[j]], s)
				}
			}
		}
	}
	reactsFirst(steps, blockers)
	var sorted []*Step
	var put func(i int)
	put = func(i int) {
		if placed[i] {
			return
		}
		placed[i] = true
		for _, j := range blockers[i] {
			put(j)
		}
		sorted = append(sorted, steps[i])
	}
	for i := range steps {
		put(i)
	}
	return sorted, within
}

// reactsFirst has what a leaving resource reacted to go before it, so that it does
// once more where it stays on the host; unless it is what needs the other.
func reactsFirst(steps []*Step, blockers [][]int) {
	place := map[resource.Address]int{}
	for i, s := range steps {
		if _, ok := s.Resource.(resource.Reactor); ok {
			place[s.Address] = i
		}
	}
	for i, s := range steps {
		for _, f := range s.Entry.Feeds {
			if j, ok := place[f.Target]; ok && j != i && !slices.Contains(blockers[i], j) {
				blockers[j] = append(blockers[j], i)
			}
		}
	}
}

// placePrunes appends the steps. Removals of a module that works in
// transactions go along with its last one.
func (p *Plan) placePrunes(prunes []*Step) {
	for _, s := range prunes {
		at := len(p.Steps)
		if _, ok := s.Module.(resource.Transactor); ok && s.Verdict == "" {
			if i := p.lastGroup(s.Module); i >= 0 {
				s.Group = p.Steps[i].Group
				at = i + 1
			} else {
				s.Group = -1
			}
		}
		p.insert(at, s)
	}
}

func (p *Plan) lastGroup(m resource.Module) int {
	for i := len(p.Steps) - 1; i >= 0; i-- {
		if s := p.Steps[i]; s.Group != 0 && together(s.Module) == together(m) {
			return i
		}
	}
	return -1
}

// insert puts a step at a position, and moves what refers to later ones.
func (p *Plan) insert(at int, s *Step) {
	if at == len(p.Steps) {
		s.Place = at
		p.Steps = append(p.Steps, s)
		return
	}
	p.Steps = slices.Insert(p.Steps, at, s)
	s.Place = at
	for i, t := range p.Steps {
		if t == s {
			continue
		}
		t.Place = i
		for k, j := range t.After {
			if j >= at {
				t.After[k]++
			}
		}
		for k, f := range t.Feeds {
			if f.To >= at {
				t.Feeds[k].To++
			}
		}
	}
}
