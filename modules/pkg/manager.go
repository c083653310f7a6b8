package pkg

import (
	"context"
	"slices"
	"time"

	"trued.dev/trued/internal/resource"
)

// A manager is a package manager as this kind needs it. Versions are strings in
// the manager's own form, which only its Compare orders.
type manager interface {
	// Installed reads the manager's own database, without a process. The answer
	// is never older than the call.
	Installed(ctx context.Context) (*database, error)
	// Holds reports whether Installed would return what it returned with the
	// witness.
	Holds(w resource.Witness) bool
	// Offers tells what the index has for each of the names. It may start a
	// process, and changes nothing.
	Offers(ctx context.Context, names []string) (map[string]offer, error)
	// Refreshed is when the index was last fetched; zero for never.
	Refreshed() time.Time
	// Configured is when the manager's own configuration last changed.
	Configured() time.Time
	// Refresh fetches the index.
	Refresh(ctx context.Context) error
	// Simulate tells what a transaction would do, and changes nothing. The error
	// is a *refusal when the manager will not do it.
	Simulate(ctx context.Context, t transaction) (effect, error)
	// Repair finishes what an interrupted transaction left half done.
	Repair(ctx context.Context) error
	// Commit does a transaction. When ctx is done it lets go: the transaction
	// goes on, and the error wraps that of ctx. Other errors may be a *failure.
	Commit(ctx context.Context, t transaction) error
	// Attach waits for a transaction that an earlier Commit let go of.
	Attach(ctx context.Context) error
	// End kills such a transaction, at whatever point it is.
	End(ctx context.Context) error
	// Busy reports whether somebody else is changing packages right now.
	Busy() bool
	// Compare orders two versions.
	Compare(a, b string) int
	// Ready says what keeps the manager from changing anything; empty for nothing.
	Ready() string
}

// A remainder is a manager that cannot purge: there, purged is absent.
type remainder interface {
	// Remains says what stays of a package.
	Remains() string
}

// A status is what a package manager's database says of a package.
type status string

// The states that are told apart. All but installed and the two kinds of gone
// want a repair.
const (
	installed       status = "installed"
	notInstalled    status = "not-installed"
	configFiles     status = "config-files"
	halfInstalled   status = "half-installed"
	unpacked        status = "unpacked"
	halfConfigured  status = "half-configured"
	triggersAwaited status = "triggers-awaited"
	triggersPending status = "triggers-pending"
)

// broken reports whether a transaction stopped half way through the package.
func (s status) broken() bool {
	switch s {
	case installed, notInstalled, configFiles, "":
		return false
	default:
		return true
	}
}

// A record is one package in the manager's database.
type record struct {
	Name     string
	Arch     string
	Version  string
	Status   status
	Held     bool
	Auto     bool // came as a dependency of another
	Vital    bool // the system does not work without it
	Provides []provided
}

// A provided name may have a version of its own.
type provided struct {
	Name, Version string
}

// An offer is what the index has for a name.
type offer struct {
	// Candidate is the version that the manager would choose; empty for none.
	Candidate string
	// Versions are all that can be had, best first.
	Versions []string
	// Providers are the packages that provide a name which is no package itself.
	Providers []string
}

func (o offer) known() bool { return len(o.Versions) > 0 || len(o.Providers) > 0 }

// A target is a package to install, at a version or at the candidate's.
type target struct {
	Name, Version string
	// File is a package on this machine, to be taken in place of the index's.
	File string
}

// A transaction is what a package manager is asked to do in one go.
type transaction struct {
	Install []target
	Remove  []string
	// Purge are removed with their configuration.
	Purge []string
	// Hold, Unhold and Auto are marks that are set when the rest is done.
	Hold, Unhold, Auto []string

	options
	Downgrades bool
	MoveHeld   bool
	// Reinstall unpacks named packages again that are at the version already.
	Reinstall bool
	// Fix is about no package that was declared: the manager mends what is half
	// done or lacks a dependency.
	Fix bool
	// Orphans removes what came as a dependency and is needed no longer; for
	// simulations alone.
	Orphans bool
}

// names are all packages that the transaction is about, less the marks.
func (t transaction) names() []string {
	var names []string
	for _, p := range t.Install {
		names = append(names, p.Name)
	}
	return slices.Concat(names, t.Remove, t.Purge)
}

// moves reports whether the transaction is more than marks.
func (t transaction) moves() bool {
	return t.Fix || len(t.Install)+len(t.Remove)+len(t.Purge) > 0
}

// Options are what holds for all packages of a transaction.
type options struct {
	// Recommends is "true", "false", or empty for what the host is set to.
	Recommends   string
	NewConffiles bool
}

// An effect is what a transaction would do to the host.
type effect struct {
	Installs []move
	Removes  []string
}

// A move is a package that is installed, or goes from one version to another.
type move struct {
	Name, From, To string
}

// A refusal is a package manager's no to a set of packages, before anything was
// changed.
type refusal struct {
	Reason string
}

func (r *refusal) Error() string { return r.Reason }

// A failure is a transaction that went wrong on the way.
type failure struct {
	// Culprits are the packages that the manager blames.
	Culprits []string
	// Fetch is true when a package could not be downloaded, which a newer index
	// may cure.
	Fetch bool
	Err   error
}

func (f *failure) Error() string { return f.Err.Error() }
func (f *failure) Unwrap() error { return f.Err }
