package host

import (
	"context"

	"trued.dev/trued/internal/resource"
)

// A Step is a staged change without preparation: all of it is done, and made
// durable, at Commit.
type Step struct {
	// Where is a directory on the file system that the change is on, for this
	// process.
	Where string
	// Do makes the change. nil is no change.
	Do func(ctx context.Context) error
}

// Dir returns Where.
func (s Step) Dir() string { return s.Where }

// Sync has nothing to do.
func (s Step) Sync() error { return nil }

// Commit makes the change.
func (s Step) Commit(ctx context.Context) (resource.Result, error) {
	if err := ctx.Err(); err != nil || s.Do == nil {
		return resource.Result{}, err
	}
	return resource.Result{}, s.Do(ctx)
}

// Seal has nothing to do.
func (s Step) Seal() error { return nil }

// Abort has nothing to do.
func (s Step) Abort() {}

// Finish takes a staged change from its preparation to its end.
func Finish(ctx context.Context, s resource.Staged) (resource.Result, error) {
	if err := s.Sync(); err != nil {
		s.Abort()
		return resource.Result{}, err
	}
	result, err := s.Commit(ctx)
	if err != nil {
		return result, err
	}
	return result, s.Seal()
}

// Exists returns the nearest directory at or above a path of the machine that
// is there, for this process.
func (h *Host) Exists(name string) string {
	for ; name != "/"; name = parent(name) {
		if i, err := h.Lstat(name); err == nil && i.Type() == TypeDirectory {
			return h.Path(name)
		}
	}
	return h.root
}
