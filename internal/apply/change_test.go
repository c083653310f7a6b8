package apply

import (
	"context"
	"testing"

	"trued.dev/trued/internal/plan"
	"trued.dev/trued/internal/resource"
)

// preparation is what a thing prepares; a nil one is still a resource.Staged.
type preparation struct{ dir string }

func (p *preparation) Dir() string { return p.dir }
func (p *preparation) Sync() error { return nil }
func (p *preparation) Commit(context.Context) (resource.Result, error) {
	return resource.Result{}, nil
}
func (p *preparation) Seal() error { return nil }
func (p *preparation) Abort()      {}

// unprepared is a thing that cannot be prepared.
type unprepared struct {
	thing
	err error
}

func (u *unprepared) Stage(context.Context, resource.View, resource.Finding) (resource.Staged, error) {
	var none *preparation
	return none, u.err
}

func TestWhatCouldNotBePreparedIsNotCommitted(t *testing.T) {
	want := context.DeadlineExceeded
	staged, res := stage(t.Context(), &plan.Step{Resource: &unprepared{err: want}})
	if staged != nil || res.Err != want {
		t.Errorf("staged %v with error %v", staged, res.Err)
	}
}

// together is a kind whose neighbours are written in one go.
type together struct{ kind }

func (together) Batch() string { return "files" }

func TestWhatLeavesIsNotInOneBatchWithWhatMayFail(t *testing.T) {
	m := together{kind{newWorld(), "thing"}}
	steps := []*plan.Step{{Module: m}, {Module: m}, {Module: m, Prune: true}, {Module: m, Prune: true}}
	w := &walk{plan: &plan.Plan{Steps: steps}}
	if a, b := len(w.batch(0)), len(w.batch(2)); a != 2 || b != 2 {
		t.Errorf("%d go together and then %d", a, b)
	}
}
