package agent

import (
	"context"
	"slices"
	"time"

	"trued.dev/trued/internal/plan"
)

// A glance is a look at the network that is begun before drift is put back: what
// answered must answer again afterwards. It goes on beside the repair, which waits
// only for what is known to answer on this host, so that a gateway that answers
// nobody costs nothing. What answers meanwhile counts as well.
type glance struct {
	heard  chan string
	enough context.CancelFunc
	found  []string
}

// glanceWait is how long drift waits for the network to answer, where it is to be
// back in 300 ms.
const glanceWait = 100 * time.Millisecond

// mostHeard is more than there is to hear.
const mostHeard = 8

// lookAround looks at the network before a run that is on no trial puts drift back.
func (r *run) lookAround(ctx context.Context, p *plan.Plan) {
	if r.agent.health == nil || r.agent.config.Mode == Observe || r.trial != nil || r.agent.store.Head().Trial != nil ||
		!slices.ContainsFunc(p.Steps, func(s *plan.Step) bool { return s.Verdict == plan.Change }) {
		return
	}
	r.glance = glanceBy(ctx, r.agent.health)
	r.glance.await(r.agent.answering)
}

func glanceBy(ctx context.Context, p Prober) *glance {
	ctx, enough := context.WithCancel(ctx)
	g := &glance{heard: make(chan string, mostHeard), enough: enough}
	go func() {
		defer close(g.heard)
		p.Reach(ctx, func(what string) { g.heard <- what })
	}()
	return g
}

// await waits for what is known to answer, and for whatever may where nothing is
// known yet.
func (g *glance) await(known []string) {
	late := time.NewTimer(glanceWait)
	defer late.Stop()
	for known == nil || !g.has(known) {
		select {
		case what, more := <-g.heard:
			if !more {
				return
			}
			g.found = append(g.found, what)
		case <-late.C:
			return
		}
	}
}

func (g *glance) has(known []string) bool {
	return !slices.ContainsFunc(known, func(what string) bool { return !slices.Contains(g.found, what) })
}

// endGlance ends the look when the repair is done. What has answered is what the
// next repair waits for, unless something is missing that did before.
func (r *run) endGlance() {
	if r.glance == nil {
		return
	}
	known := r.agent.answering
	r.reached, r.agent.answering = r.glance.end(), nil
	if r.glance.has(known) {
		r.agent.answering = r.reached
	} // or else it may answer again, and is waited for like whatever may
	r.glance = nil
}

// end returns what has answered, which may be nothing and is not nil.
func (g *glance) end() []string {
	g.enough()
	for what := range g.heard {
		g.found = append(g.found, what)
	}
	return append([]string{}, g.found...)
}
