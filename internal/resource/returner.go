package resource

import "context"

// A Returner is a Module whose changes reach further than its resources tell,
// so that a catalog alone does not bring the host back to what it was: packages
// come with others, and leave a version that nobody has any longer.
type Returner interface {
	Module
	// KeepIn has the module keep in a directory of its own, until Renew, what
	// Return needs, durably and before it changes anything. What was noted there
	// by an earlier call, or by an earlier process, stays. What cannot be kept is
	// not changed.
	KeepIn(dir string)
	// Return gives the host back what it had before the first change that was
	// kept in the directory, and leaves alone what the module did not change. It
	// asks no network. It may be called again after it failed or was cut off; a
	// directory that is not there is nothing to do. The error is about all of it,
	// what is wrong with one thing is in the list.
	Return(ctx context.Context, dir string) ([]Returned, error)
}

// Returned is what came of one thing that Return was to bring back, and that was
// not as before.
type Returned struct {
	// Name is that of a resource of the kind.
	Name string
	Diff Diff
	Err  error
}
