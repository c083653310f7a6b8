package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	w := &walk{stop: t.Context()}
	results := w.change(t.Context(), []*plan.Step{{Resource: &unprepared{err: want}, Module: kind{newWorld(), "thing"}}})
	if results[0].Err != want {
		t.Errorf("error %v", results[0].Err)
	}
}

// unsealing is a thing that can leave its syncs to others.
type unsealing struct{ *thing }

func (u *unsealing) ApplyUnsealed(ctx context.Context, v resource.View, f resource.Finding) (resource.Result, string, error) {
	res, err := u.Apply(ctx, v, f)
	u.world.act(nothing, "not durable yet")
	return res, "/" + u.ID, err
}

func TestManyThatCanShareASyncAreSealedByTwo(t *testing.T) {
	broken := errors.New("the disk is gone")
	for name, c := range map[string]struct {
		n, syncs int
		err      error
		unsealed bool
	}{
		"many":             {n: syncTogether, syncs: 2, unsealed: true},
		"few":              {n: syncTogether - 1},
		"many and no sync": {n: syncTogether, syncs: 1, err: broken, unsealed: true},
	} {
		t.Run(name, func(t *testing.T) {
			world := newWorld()
			var todo []*plan.Step
			for i := range c.n {
				todo = append(todo, &plan.Step{
					Resource: &unsealing{&thing{ID: fmt.Sprint(i), Value: "x", world: world}}, Module: kind{world, "thing"},
				})
			}
			syncs := 0
			w := &walk{stop: t.Context(), sync: func(dirs []string) error {
				if syncs++; len(dirs) != c.n || len(world.values) != c.n {
					t.Errorf("%d directories are synced when %d things are made", len(dirs), len(world.values))
				}
				return c.err
			}}
			for i, res := range w.change(t.Context(), todo) {
				if !errors.Is(res.Err, c.err) || (res.Err == nil) != (c.err == nil) {
					t.Errorf("%d has error %v, want %v", i, res.Err, c.err)
				}
			}
			if syncs != c.syncs || slices.Contains(world.log, "not durable yet") != c.unsealed {
				t.Errorf("%d syncs, want %d; done: %v", syncs, c.syncs, world.log[:3])
			}
		})
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
