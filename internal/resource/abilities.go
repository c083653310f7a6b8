package resource

import "context"

// What follows are abilities that a Module or a Resource may have beyond the
// contract. The engine finds them by type assertion and knows no kind.

// Needy is a Resource that comes after others by what they claim.
type Needy interface {
	Needs() []Need
}

// Sourced is a Resource with content from its group's directory. Load is
// called once, after decoding and before Validate.
type Sourced interface {
	Load(Loader) error
}

// A Loader reads content for a resource. Paths are relative to the group that
// the manifest belongs to. Its errors name the path.
type Loader interface {
	// Source returns a file as it is.
	Source(path string) (*Content, error)
	// Template returns a file with its template executed.
	Template(path string) (*Content, error)
	// Tree returns all that is below a directory, parents first, in name order.
	Tree(path string) ([]TreeEntry, error)
}

// Reactor is a Resource that answers to the change of others. A reaction is
// recorded as owed before the change that causes it, and struck off when React
// returns nil, so it may be asked for again after a crash.
type Reactor interface {
	// Triggers lists what the resource watches, by address.
	Triggers() []Trigger
	// React does what is owed, in one go. Doing nothing is right when the
	// resource should not be running. Early reactions come in a call of their
	// own, before the resource is checked; the others after it was applied.
	React(ctx context.Context, view View, owed []Reaction) (Result, error)
}

// A Settler is a Reactor that can tell from the host what it has done already,
// by a run that was cut off before it could strike that off, or by others.
type Settler interface {
	Reactor
	// Due returns those of the debts that are not settled. What is in doubt is
	// due.
	Due(ctx context.Context, view View, debts []Debt) ([]Debt, error)
}

// A Debt is a reaction that is owed, with what is known of its cause.
type Debt struct {
	Reaction Reaction
	// Own is true when a change of the resource itself is the cause.
	Own bool
	// Begun is a moment before the cause came about.
	Begun Moment
	// Placed is a moment after it; it is unknown when a run was cut off between
	// the two.
	Placed Moment
}

// A Moment is a point in time of the clock that runs from boot and that nobody
// sets. The zero value is an unknown one.
type Moment struct {
	// Boot is the id of the boot.
	Boot string `json:"boot"`
	// Micros are the microseconds of the monotonic clock.
	Micros uint64 `json:"us"`
}

// Known reports whether the moment is one.
func (m Moment) Known() bool { return m.Boot != "" }

// Before reports whether the moment is before the given one of a boot that is
// the present one.
func (m Moment) Before(now Moment) bool {
	return m.Known() && now.Known() && (m.Boot != now.Boot || m.Micros < now.Micros)
}

// Stager is a Resource whose change can be prepared apart from being made
// visible, so that many share one sync of the file system. Stage is then
// called in place of Apply.
type Stager interface {
	Stage(ctx context.Context, view View, found Finding) (Staged, error)
}

// A Staged change waits to become visible. The calls come in the order
// Sync, Commit, Seal; Abort instead of Commit. For many changes the engine
// syncs the file systems of Dir in place of Sync and of Seal.
type Staged interface {
	// Dir is a directory on the file system that the change is on.
	Dir() string
	// Sync makes the prepared content durable.
	Sync() error
	// Commit makes the change visible, by rename where content changes.
	Commit(ctx context.Context) (Result, error)
	// Seal makes the new name durable.
	Seal() error
	// Abort leaves no trace of the preparation.
	Abort()
}

// Unsealer is a Resource that cannot be staged and whose change can still share
// the syncs of many. ApplyUnsealed is then called in place of Apply, and the
// engine syncs the file system of the directory that it returns, before what was
// staged beside it becomes visible and once more before the change counts as
// done.
type Unsealer interface {
	ApplyUnsealed(ctx context.Context, view View, found Finding) (res Result, dir string, err error)
}

// Batched is a Module whose neighbouring resources may be handled under one
// ledger record. Modules that return the same word share batches.
type Batched interface {
	Batch() string
}

// Transactor is a Module whose resources change in one transaction: the engine
// gathers them as far as order allows.
type Transactor interface {
	Module
	// Transact applies all items, removals among them, and returns one outcome
	// for each, in their order. One that cannot be had does not keep the others
	// from being applied.
	Transact(ctx context.Context, items []Item) []ItemResult
}

// An Item is one resource of a transaction.
type Item struct {
	Resource Resource
	View     View
	Found    Finding
}

// An ItemResult is what came of an Item.
type ItemResult struct {
	Result Result
	Err    error
}

// Confirmer is a Resource that is looked at once more at the end of the run,
// at least a second after it was applied or reacted.
type Confirmer interface {
	Confirm(ctx context.Context) error
}

// Leaver is a value made by Absent that must let go before anything else is
// applied, such as a unit that is stopped before its files change.
type Leaver interface {
	Leave(ctx context.Context, view View) error
	// Stay takes Leave back, when the removal has to wait after all.
	Stay(ctx context.Context, view View) error
}

// Costly is a Resource whose Check starts a process or takes long, and says
// so; it is not checked more often than a full run asks for.
type Costly interface {
	Costly() bool
}

// Closer is a Module that holds something open for the time of a run.
type Closer interface {
	Close() error
}

// An Attacher is a Module that may have left something under way when the agent
// last let go of it, such as a package transaction. Attach is called once,
// before anything is checked; it returns when that has ended, or when ctx is done.
type Attacher interface {
	Attach(ctx context.Context) error
}

// An Ender is an Attacher that can put an end to what it has under way, for whoever
// takes back what that is for. What is half done is repaired by what comes next.
type Ender interface {
	Attacher
	End(ctx context.Context) error
}

// A Freshener is a Module that relies on knowledge from outside that ages, such
// as a package index. Freshen is called once, after Attach and before anything
// is checked, in a run that may change the host and never for a plan. It does
// nothing while what the resources rely on is fresh. Its error is a remark: the
// run goes on with what was known before.
type Freshener interface {
	Freshen(ctx context.Context, resources []Resource) error
}

// A Renewer is a Module that keeps what it reads for the time of a run. Where a
// commit is loaded already, the module and the values that it made serve one run
// after another: Renew is called before each but the first, while nothing else
// uses them, and the module forgets all that it knows of the host. A module
// without it keeps nothing.
type Renewer interface {
	Renew()
}

// An Examiner is a Module that can tell from a Witness of its own, without the
// resource, whether what was seen then is still so. It never guesses: false is
// right whenever it cannot tell. A module without it must be asked by Check.
type Examiner interface {
	Module
	Holds(ctx context.Context, name string, w Witness) bool
}

// A Foreseer is an Examiner that asks the host for many resources at once.
// Foresee is called right before Holds is called for some of the names, and once
// more with none when that is over.
type Foreseer interface {
	Examiner
	Foresee(ctx context.Context, names []string)
}

// A Remarker is a Resource about which there may be something to say that is no
// error and needs no host: it is allowed, and probably not meant.
type Remarker interface {
	Remark() string
}

// An Exemplar is a Module that shows how its resources are written: some lines
// of a manifest, for the reference.
type Exemplar interface {
	Example() string
}

// Watched is a Resource that says what on the host may make it differ, so that
// drift is seen as it happens. What is not watched is found by the next full run.
// It is asked after a run, so that it may look at the host.
type Watched interface {
	Watches() []Watch
}

// A Watch is one thing on the host whose change may concern a resource.
type Watch struct {
	Space WatchSpace `json:"space"`
	// Name is a cleaned absolute path, or a unit's name; of what is polled it is
	// for people.
	Name string `json:"name"`
	// Locks are files that the keeper of a database locks while it works. What it
	// keeps, and files that belong to that, are looked at once it is done.
	Locks []string `json:"locks,omitempty"`
}

// A WatchSpace says what a Watch names.
type WatchSpace string

// The spaces.
const (
	// WatchPath is whatever is at a path: its content, its attributes, and
	// whether it is there.
	WatchPath WatchSpace = "path"
	// WatchTree is a path and all that is below it.
	WatchTree WatchSpace = "tree"
	// WatchUnit is a unit of the service manager: its state and its enablement.
	WatchUnit WatchSpace = "unit"
	// WatchDatabase is a file of somebody who writes it at the end of much work.
	WatchDatabase WatchSpace = "database"
	// WatchPoll is what tells nobody when it changes. It is asked for time and
	// again, by the resource's witness alone.
	WatchPoll WatchSpace = "poll"
)

// WatchPaths returns the watches of some paths.
func WatchPaths(names ...string) []Watch {
	watches := make([]Watch, len(names))
	for i, name := range names {
		watches[i] = Watch{Space: WatchPath, Name: name}
	}
	return watches
}

// A Discloser is a Module that cannot keep some attributes of its resources from
// others on the host, or from what is told of them. A secret is refused there.
type Discloser interface {
	// Discloses says how the value of an attribute would get out; "" where it is
	// kept.
	Discloses(key string) string
}
