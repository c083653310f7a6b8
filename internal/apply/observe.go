package apply

import (
	"fmt"

	"trued.dev/trued/internal/plan"
	"trued.dev/trued/internal/resource"
)

// Observe returns the outcomes of a plan that is told and not carried out.
func Observe(p *plan.Plan) []*Outcome {
	outcomes := make([]*Outcome, 0, len(p.Steps))
	for _, s := range p.Steps {
		o := &Outcome{Step: s, Cause: s.Cause, Changes: s.Finding.Diff, Why: s.Why, Err: s.Err}
		switch s.Verdict {
		case plan.Aside:
			continue
		case plan.InOrder:
			o.Status = InOrder
			if len(s.Owed) > 0 {
				o.Status, o.Why = Pending, fmt.Sprintf("owes %s", s.Owed[0].Reaction)
			}
		case plan.Change, plan.Report:
			o.Status, o.Why = Pending, "mode is observe"
			if s.Cause == resource.Drift {
				o.Status, o.Why = Reported, ""
			}
		case plan.Unknown, plan.Pending:
			o.Status = Pending
		case plan.Held:
			o.Status = Held
		case plan.Skipped:
			o.Status = Skipped
		default:
			o.Status = Failed
		}
		outcomes = append(outcomes, o)
	}
	return outcomes
}
