package plan

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
)

// Make orders the catalog, checks every resource, and finds what leaves. Its
// error is one of the catalog as a whole, such as a *CycleError; what is wrong
// with one resource stands in its step.
func Make(ctx context.Context, in Input) (*Plan, error) {
	g, err := newGraph(in.Entries)
	if err != nil {
		return nil, err
	}
	order, groups := g.gather(g.order())
	p := &Plan{Put: map[resource.Address]state.Entry{}, in: in}
	owners := newOwners(in.Entries)
	steps := make([]*Step, len(in.Entries))
	for pos, i := range order {
		steps[i] = newStep(in, in.Entries[i], pos, groups[i], owners)
		p.Steps = append(p.Steps, steps[i])
	}
	inheritPrior(p.Steps, in.State, owners)
	for i, links := range g.after {
		for _, l := range links {
			if l.hard {
				steps[i].After = append(steps[i].After, steps[l.to].Place)
			}
			if l.reaction != "" {
				steps[l.to].Feeds = append(steps[l.to].Feeds, Feed{To: steps[i].Place, Reaction: l.reaction})
			}
		}
	}
	if in.Only != nil {
		return p, p.makePartial(ctx)
	}
	if err := p.leave(in, owners); err != nil {
		return nil, err
	}
	p.recall()
	p.strike(in.State)
	if err := p.check(ctx, p.Steps); err != nil {
		return nil, err
	}
	p.hold()
	p.spread()
	return p, nil
}

func newStep(in Input, e catalog.Entry, pos, group int, owners *owners) *Step {
	s := &Step{
		Address:  e.Address,
		Resource: e.Resource,
		Module:   e.Module,
		Origin:   e.Origin,
		Source:   e.Origin.Source,
		Place:    pos,
		Group:    group,
		Entry:    in.State.Inventory[e.Address],
		Owed:     in.State.OwedTo(e.Address),
	}
	s.View = resource.View{
		Prior:   s.Entry.Prior,
		Held:    s.Entry.Claims,
		Owner:   owners.of,
		Offline: in.Offline,
	}
	if e.Pending != "" {
		s.Verdict, s.Why = Pending, e.Pending
	}
	return s
}

// Owners tells who claims what in the catalog.
type owners struct {
	whole map[resource.Claim]resource.Address
	parts map[resource.Claim]resource.Address
}

func newOwners(entries []catalog.Entry) *owners {
	o := &owners{whole: map[resource.Claim]resource.Address{}, parts: map[resource.Claim]resource.Address{}}
	for _, e := range entries {
		if e.Resource == nil {
			continue
		}
		for _, c := range e.Resource.Claims() {
			if c.Part == "" {
				o.whole[c] = e.Address
			} else {
				o.parts[c] = e.Address
				o.parts[resource.Claim{Space: c.Space, Name: c.Name}] = e.Address
			}
		}
	}
	return o
}

// of returns the owner of what clashes with the claim.
func (o *owners) of(c resource.Claim) (resource.Address, bool) {
	if a, ok := o.whole[resource.Claim{Space: c.Space, Name: c.Name}]; ok {
		return a, true
	}
	a, ok := o.parts[c]
	return a, ok
}

// exactly reports whether a claim is somebody's, and not just one that clashes with it.
func (o *owners) exactly(c resource.Claim) bool {
	whole := resource.Claim{Space: c.Space, Name: c.Name}
	if _, taken := o.whole[whole]; taken {
		return c == whole
	}
	_, taken := o.parts[c]
	return taken && c != whole
}

// inheritPrior hands what was noted about a claim to the resource that holds
// it now. A claim that was let go before is nobody's to hand on: what was noted of
// it is out of date. Nor is all of something where its resource is to stay on the
// host, for one that takes over a part.
func inheritPrior(steps []*Step, snap state.Snapshot, owners *owners) {
	byAddress := make(map[resource.Address]*Step, len(steps))
	for _, s := range steps {
		byAddress[s.Address] = s
	}
	for from, e := range snap.Inventory {
		var held map[resource.Claim]bool // made for what is handed on alone
		for c, note := range e.Prior {
			to, ok := owners.of(c)
			if !ok || to == from {
				continue
			}
			if held == nil {
				held = claimsOf(e.Claims)
			}
			s := byAddress[to]
			if _, has := s.View.Prior[c]; has || s.Resource == nil || !held[c] || e.Keep && !owners.exactly(c) {
				continue
			}
			s.View.Prior = maps.Clone(s.View.Prior)
			if s.View.Prior == nil {
				s.View.Prior = resource.Prior{}
			}
			s.View.Prior[c] = note
		}
	}
}

func claimsOf(claims []resource.Claim) map[resource.Claim]bool {
	set := make(map[resource.Claim]bool, len(claims))
	for _, c := range claims {
		set[c] = true
	}
	return set
}

// check runs the Check of those of the steps that can be checked, in parallel.
func (p *Plan) check(ctx context.Context, steps []*Step) error {
	var wg sync.WaitGroup
	next := make(chan *Step)
	for range 2 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for s := range next {
				s.check(ctx, p.in)
			}
		})
	}
	for _, s := range steps {
		if s.Verdict == "" || (s.Verdict == Held && s.Resource != nil) {
			next <- s
		}
	}
	close(next)
	wg.Wait()
	return ctx.Err()
}

func (s *Step) check(ctx context.Context, in Input) {
	held := s.Verdict == Held
	if !s.Prune {
		digest, err := in.Digest(Desired{s.Address.Kind, s.Resource})
		if err != nil {
			s.Verdict, s.Err = Failed, err
			return
		}
		s.Digest = digest
		same, back := s.Entry.Digest == digest, in.Sources[s.Source].From != ""
		// What waited for its window all along is not what the bad commit changed.
		_, waited := in.State.Holds[s.Address]
		switch {
		case back && (!same && !waited || s.Entry.Begun != nil):
			s.Cause = resource.Rollback
		case same:
			s.Cause = resource.Drift
		default:
			s.Cause = resource.Intended
		}
		if e := s.Entry; !in.Hasty && e.Failing == digest && e.Waits(in.Now) {
			s.Verdict = Failed
			s.Why = fmt.Sprintf("failed %d times in a row; the next try is due at %s", e.Failures, e.RetryAt.Format(time.TimeOnly))
			return
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.Timeout())
	defer cancel()
	s.Look(ctx)
	if held {
		s.Verdict = Held
	}
}

// Look checks the resource and takes in what it found. A module that panics has
// failed for this resource; the others go on.
func (s *Step) Look(ctx context.Context) {
	defer func() {
		if r := recover(); r != nil {
			s.judge(resource.Finding{}, fmt.Errorf("module %q panicked: %v\n%s", s.Address.Kind, r, debug.Stack()))
		}
	}()
	found, err := s.Resource.Check(ctx, s.View)
	if s.Entry.Secret {
		found.Diff = found.Diff.Redacted()
	}
	s.judge(found, err)
}

// judge takes in what a Check found.
func (s *Step) judge(found resource.Finding, err error) {
	s.Finding, s.Err = found, err
	switch {
	case err != nil:
		s.Verdict = Failed
		return
	case found.Pending != "":
		s.Verdict, s.Why = Pending, found.Pending
		return
	case found.Unknown != "":
		s.Verdict, s.Why = Unknown, found.Unknown
		return
	}
	if !found.Creates {
		s.Finding.Diff = found.Diff.Without(s.Resource.Common().Ignore)
	}
	if len(s.Finding.Diff) == 0 {
		s.Verdict = InOrder
		return
	}
	s.Verdict = Change
	if c := s.Finding.Diff[0].Cause; c != "" && sameCause(s.Finding.Diff) {
		s.Cause = c
	}
	if s.Cause == resource.Drift && s.Resource.Common().Drift == "report" {
		s.Verdict = Report
	}
}

func sameCause(d resource.Diff) bool {
	return !slices.ContainsFunc(d, func(c resource.Change) bool { return c.Cause != d[0].Cause })
}

// spread carries failures and waiting on to what comes after.
func (p *Plan) spread() {
	for _, s := range p.Steps {
		if s.Prune {
			continue
		}
		for _, i := range s.After {
			switch on := p.Steps[i]; on.Verdict {
			case Failed, Skipped:
				if s.Verdict != Failed {
					s.Verdict, s.Why = Skipped, fmt.Sprintf("%s did not succeed", on.Address)
				}
			case Pending:
				if s.Verdict == Change || s.Verdict == Unknown {
					s.Verdict, s.Why = Pending, fmt.Sprintf("%s is pending", on.Address)
				}
			}
		}
	}
}

// recall adds the reactions of those who reacted to a resource as it is now: when
// it goes, or goes back, that concerns them, too. After a revert no catalog says so
// any more.
func (p *Plan) recall() {
	var place map[resource.Address]int
	for _, s := range p.Steps {
		if len(s.Entry.Feeds) == 0 {
			continue
		}
		if place == nil {
			place = p.reactors()
		}
		for _, f := range s.Entry.Feeds {
			to, ok := place[f.Target]
			switch {
			case !ok || to == s.Place || slices.Contains(s.Feeds, Feed{To: to, Reaction: f.Reaction}):
			case p.Steps[to].Prune && to < s.Place: // it is gone by then
			default:
				s.Feeds = append(s.Feeds, Feed{To: to, Reaction: f.Reaction, Recalled: true})
			}
		}
	}
}

// reactors returns where those are that can react.
func (p *Plan) reactors() map[resource.Address]int {
	place := map[resource.Address]int{}
	for i, s := range p.Steps {
		if _, ok := s.Resource.(resource.Reactor); ok {
			place[s.Address] = i
		}
	}
	return place
}

// strike finds what is owed to resources that are gone, or that only wait to go.
func (p *Plan) strike(snap state.Snapshot) {
	here := map[resource.Address]bool{}
	for _, s := range p.Steps {
		here[s.Address] = here[s.Address] || !s.Prune || s.Verdict == ""
	}
	for _, o := range snap.Owed {
		if !here[o.Target] {
			p.Strike = append(p.Strike, o)
		}
	}
}
