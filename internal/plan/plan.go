// Package plan works out what a run would do: the order of resources, what each
// differs in and why, what leaves the host, and what has to wait.
//
// A plan is data. Making one reads the host through the resources' Check and
// changes nothing; carrying it out is the business of package apply.
package plan

import (
	"time"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
	"trued.dev/trued/internal/window"
)

// A Verdict is what is to become of a step.
type Verdict string

// The verdicts.
const (
	// InOrder: the host is as desired.
	InOrder Verdict = "in order"
	// Change: it differs and will be changed.
	Change Verdict = "change"
	// Unknown: it cannot be told before something else is applied.
	Unknown Verdict = "unknown"
	// Pending: the host must first come to something.
	Pending Verdict = "pending"
	// Report: it drifted and `drift: report` leaves it alone.
	Report Verdict = "report"
	// Held: a prune that waits for an operator or for a better run, or a change
	// that waits for its window.
	Held Verdict = "held"
	// Failed: it could not be checked, or it failed before and its next try is
	// not due.
	Failed Verdict = "failed"
	// Skipped: what it comes after did not succeed.
	Skipped Verdict = "skipped"
	// Aside: the plan is a partial one and does not look at it. It is there for
	// what may come to be owed to it.
	Aside Verdict = "aside"
)

// A Plan is the ordered list of what would change, and why.
type Plan struct {
	Steps []*Step
	// Drop lists entries of the inventory that need nothing done: what they held
	// has another owner, or stays by `prune: false`.
	Drop []resource.Address
	// Put holds entries of the inventory to be written although nothing changes
	// on the host.
	Put map[resource.Address]state.Entry
	// Orphans are held for a source that is not configured any more.
	Orphans []resource.Address
	// Strike lists debts of resources that are gone.
	Strike []state.Owed

	in Input
}

// A Step is one resource of the plan.
type Step struct {
	Address  resource.Address
	Resource resource.Resource
	Module   resource.Module
	Origin   resource.Origin
	Source   string
	// Place is the position in the plan.
	Place int
	// Prune is true for what leaves the host.
	Prune bool
	// Group is the transaction that the step belongs to, 0 for none.
	Group int
	// After lists the steps, by position, whose failure skips this one.
	After []int
	// Feeds lists who owes what when this step changes.
	Feeds []Feed

	View    resource.View
	Finding resource.Finding
	Err     error
	Verdict Verdict
	// Why explains a verdict that is not plain from the finding.
	Why   string
	Cause resource.Cause
	// Digest of what is desired.
	Digest string
	// Entry is what the inventory held before.
	Entry state.Entry
	Owed  []state.Owed
	// Window is true for what waits for its window, or for what does; Opens is when
	// that is, zero when it cannot be foreseen.
	Window bool
	Opens  time.Time
}

// A Feed is a reaction that a change of the step causes.
type Feed struct {
	To       int
	Reaction resource.Reaction
	// Recalled is true when only an earlier catalog said so.
	Recalled bool
}

// Differs reports whether the host is not as desired, or cannot be told to be.
func (s *Step) Differs() bool { return s.Verdict != InOrder || len(s.Owed) > 0 }

// Timeout returns how long the step may take.
func (s *Step) Timeout() time.Duration {
	if s.Resource != nil {
		if t := s.Resource.Common().Timeout; t > 0 {
			return t
		}
	}
	if _, ok := s.Module.(resource.Transactor); ok {
		return 30 * time.Minute
	}
	return 5 * time.Minute
}

// Keeps reports whether the resource stays when it leaves Git.
func (s *Step) Keeps() bool { return s.Resource != nil && s.Resource.Common().Keeps() }

// Source is what the plan needs to know of a source.
type Source struct {
	// Revision is the one being applied.
	Revision string
	// PruneLimit is the number of claims that may leave at once; 0 for the
	// default of 20 if that is more than half of what is held.
	PruneLimit int
	// Modules by kind are those for what leaves, where they are not the plan's.
	Modules map[string]resource.Module
	// Explains reports whether a new commit is why a resource left, rather than
	// changed facts or another group.
	Explains func(resource.Address) bool
	// From is the commit that the source goes back from, or empty: what that one
	// brought goes, whatever would be held otherwise.
	From string
}

// goesBack reports whether an entry of the inventory that the catalog lacks is
// what a commit brought that the source goes back from. What waited to be pruned
// before that commit came goes on waiting.
func (s Source) goesBack(e state.Entry) bool {
	return s.From != "" && (e.Left == "" || e.Left == s.From)
}

// Desired is what the digest of a desired state is made of.
type Desired struct {
	Kind  string            `json:"kind"`
	Value resource.Resource `json:"value"`
}

// An Input is what a plan is made from.
type Input struct {
	Entries []catalog.Entry
	State   state.Snapshot
	// Modules by kind.
	Modules map[string]resource.Module
	// Sources that were loaded, by name. Of a configured source that was not,
	// nothing is pruned.
	Sources map[string]Source
	// Configured names all sources of the configuration.
	Configured []string
	// Digest is state.Store's.
	Digest      func(Desired) (string, error)
	Offline     bool
	AcceptPrune bool
	// Hasty tries again at once what failed before.
	Hasty bool
	// Only makes the plan a partial one: it looks at these resources and at what
	// those that differ stand on, and nothing leaves the host. nil is all.
	Only map[resource.Address]bool
	// Blocked are resources that are not as desired, beside those that failed:
	// what comes after one is not looked at by a partial plan.
	Blocked map[resource.Address]bool
	// Window says whether a resource of a source may be changed now; nil when
	// everything may.
	Window func(source string, a resource.Address, cause resource.Cause) window.Hold
	Now    time.Time
}
