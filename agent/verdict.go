package agent

import (
	"fmt"
	"strings"

	"trued.dev/trued/internal/apply"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
)

// A Verdict is how a run, or a look at the host, ended.
type Verdict string

// The verdicts, in the order in which they win.
const (
	// Unusable: the configuration or the tree has errors, and there is no last
	// good commit to enforce.
	Unusable Verdict = "unusable"
	// Failed: some resource failed or could not be checked.
	Failed Verdict = "failed"
	// Unhealthy: the host was brought to the desired state, and is not healthy.
	Unhealthy Verdict = "unhealthy"
	// Behind: the newest commit could not be fetched, trusted or loaded.
	Behind Verdict = "behind"
	// Interrupted: the run was cut off.
	Interrupted Verdict = "interrupted"
	// Differs: there are differences that were not applied.
	Differs Verdict = "differs"
	// InOrder: the host is in the desired state, or was brought to it.
	InOrder Verdict = "in order"
)

// verdicts lists those that a run may end with, the best first. Whether the host is
// healthy is known later.
func verdicts() []Verdict {
	return []Verdict{InOrder, Differs, Interrupted, Behind, Failed, Unusable}
}

// andHealth is the verdict on a host that is not healthy.
func (v Verdict) andHealth() Verdict {
	if v == Failed || v == Unusable {
		return v
	}
	return Unhealthy
}

// count counts outcomes.
func count(outcomes []*apply.Outcome) report.Counts {
	var c report.Counts
	for _, o := range outcomes {
		c.Add(report.Outcome(o.Status))
	}
	return c
}

// tally counts resources by kind and outcome. What a partial run did not look at
// is as the last one left it: in order, but for its issues.
func (r *run) tally(outcomes []*apply.Outcome, left []state.Issue) state.Tallies {
	if r.stood {
		return r.agent.witnesses.tally()
	}
	var all state.Tallies
	seen, rest := map[resource.Address]bool{}, map[string]int{}
	add := func(a resource.Address, outcome string) {
		all = all.Add(state.Tally{Kind: a.Kind, Outcome: outcome, Count: 1})
		rest[a.Kind]--
	}
	for _, o := range outcomes {
		add(o.Step.Address, string(o.Status))
		seen[o.Step.Address] = r.partial()
	}
	if !r.partial() {
		return all
	}
	for _, i := range left {
		if !seen[i.Resource] {
			add(i.Resource, i.Outcome)
		}
	}
	for _, t := range r.last.Resources {
		rest[t.Kind] += int(t.Count) //nolint:gosec // resources of a host
	}
	for kind, n := range rest {
		if n > 0 {
			all = all.Add(state.Tally{Kind: kind, Outcome: string(apply.InOrder), Count: uint64(n)})
		}
	}
	return all
}

// judge returns the verdict on a run.
func (r *run) judge(c report.Counts) Verdict {
	behind := false
	loaded := 0
	for _, s := range r.sources {
		behind = behind || s.err != nil
		if s.enforced() {
			loaded++
		}
	}
	switch {
	case loaded == 0 && r.req.PruneSource == "":
		return Unusable
	case r.cut:
		return Interrupted
	case c.Failed > 0 || c.Skipped > 0 || r.unreturned != nil:
		return Failed
	case behind:
		return Behind
	case c.Pending > 0 || c.Reported > 0 || c.Held > 0:
		return Differs
	}
	return InOrder
}

// summary says in one line how a run ended.
func summary(c report.Counts, sources []*sourceRun) string {
	var parts []string
	for _, s := range sources {
		if s.err != nil {
			parts = append(parts, fmt.Sprintf("source %q: %s", s.name(), firstLine(s.err.Error())))
		}
	}
	return strings.Join(append(parts, c.String()), "; ")
}

func firstLine(s string) string {
	line, rest, more := strings.Cut(s, "\n")
	if more && rest != "" {
		return fmt.Sprintf("%s (and %d more)", line, strings.Count(rest, "\n")+1)
	}
	return line
}
