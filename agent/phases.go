package agent

import "time"

// The parts of a run that are timed.
const (
	phaseRecover = "recover"
	phaseFetch   = "fetch"
	phaseWitness = "witness"
	phaseLoad    = "load"
	phasePlan    = "plan"
	phaseApply   = "apply"
)

// phases are how long the parts of a run took.
type phases struct {
	took    map[string]time.Duration
	current string
	since   time.Time
}

// begin ends the part that is under way and begins another.
func (p *phases) begin(name string) {
	p.end()
	p.current, p.since = name, time.Now()
}

// end ends the part that is under way, and returns what all of them took.
func (p *phases) end() map[string]time.Duration {
	if p.current == "" {
		return p.took
	}
	if p.took == nil {
		p.took = map[string]time.Duration{}
	}
	p.took[p.current] += time.Since(p.since)
	p.current = ""
	return p.took
}
