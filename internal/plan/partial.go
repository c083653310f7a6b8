package plan

import "context"

// A partial plan has all steps of the catalog in their order, so that claims,
// owners and debts are those of a full one, and looks at few of them.

// makePartial looks at the steps that were asked for, and then, as long as one
// differs, at what that stands on. All others are put aside.
func (p *Plan) makePartial(ctx context.Context) error {
	blocked := p.blocked()
	asked := make([]bool, len(p.Steps))
	var todo []*Step
	for i, s := range p.Steps {
		if p.in.Only[s.Address] && !blocked[i] {
			asked[i] = true
			todo = append(todo, s)
		}
	}
	for len(todo) > 0 {
		if err := p.check(ctx, todo); err != nil {
			return err
		}
		var under []*Step
		for _, s := range todo {
			if s.Verdict == InOrder {
				continue
			}
			for _, i := range s.After {
				if !asked[i] && !blocked[i] {
					asked[i] = true
					under = append(under, p.Steps[i])
				}
			}
		}
		todo = under
	}
	for i, s := range p.Steps {
		if !asked[i] {
			s.Verdict, s.Why = Aside, ""
		}
	}
	p.hold()
	p.spread()
	return nil
}

// blocked returns which steps are left to a full run, which has its own date for
// a next try: those that failed, those that the last run could not bring about for
// another reason, and all that comes after one of either.
func (p *Plan) blocked() []bool {
	blocked := make([]bool, len(p.Steps))
	for i, s := range p.Steps {
		blocked[i] = s.Verdict != "" || s.Entry.Failures > 0 || p.in.Blocked[s.Address]
		for _, j := range s.After {
			blocked[i] = blocked[i] || blocked[j]
		}
	}
	return blocked
}

// Include looks at a step that was put aside.
func (p *Plan) Include(ctx context.Context, s *Step) {
	s.Verdict = ""
	s.check(ctx, p.in)
}
