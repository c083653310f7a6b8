package resourcetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"testing"
	"time"

	"trued.dev/trued/internal/resource"
)

// An Engine drives resources one at a time as the real engine does, and
// remembers what they noted. Its zero value is a host that is the running
// system and has seen no run.
type Engine struct {
	// Tree is what resources load sources, templates and trees from.
	Tree fs.FS
	// Offline is passed on in the view.
	Offline bool
	// Owner tells who holds a claim in the catalog; a resource always holds its
	// own. It may be nil.
	Owner func(resource.Claim) (resource.Address, bool)
	// Said collects all that came out of resources: findings, results, errors.
	Said []string

	held map[resource.Address]resource.Held
}

// Load gives a resource its content, if it takes any.
func (e *Engine) Load(r resource.Resource) error {
	sourced, ok := r.(resource.Sourced)
	if !ok {
		return nil
	}
	return sourced.Load(Loader{FS: e.Tree})
}

// View returns what the resource is told about itself.
func (e *Engine) View(m resource.Module, r resource.Resource) resource.View {
	address := resource.AddressOf(m, r)
	return e.view(address, e.held[address], r.Claims())
}

func (e *Engine) view(a resource.Address, held resource.Held, claims []resource.Claim) resource.View {
	return resource.View{
		Prior:   held.Prior,
		Held:    held.Claims,
		Offline: e.Offline,
		Owner: func(c resource.Claim) (resource.Address, bool) {
			for _, own := range claims {
				if own == c {
					return a, true
				}
			}
			if e.Owner == nil {
				return resource.Address{}, false
			}
			return e.Owner(c)
		},
	}
}

// Check compares the host with the resource.
func (e *Engine) Check(ctx context.Context, m resource.Module, r resource.Resource) (resource.Finding, error) {
	found, err := r.Check(ctx, e.View(m, r))
	e.hear(found, err)
	return found, err
}

// Apply brings about what a check found: in a transaction, in the steps of a
// staged change, or in one go, as the kind wants it.
func (e *Engine) Apply(
	ctx context.Context, m resource.Module, r resource.Resource, found resource.Finding,
) (resource.Result, error) {
	result, err := apply(ctx, m, r, e.View(m, r), found)
	e.hear(result, err)
	return result, err
}

func apply(
	ctx context.Context, m resource.Module, r resource.Resource, view resource.View, found resource.Finding,
) (resource.Result, error) {
	if t, ok := m.(resource.Transactor); ok {
		results := t.Transact(ctx, []resource.Item{{Resource: r, View: view, Found: found}})
		if len(results) != 1 {
			return resource.Result{}, fmt.Errorf("one item has %d results", len(results))
		}
		return results[0].Result, results[0].Err
	}
	stager, ok := r.(resource.Stager)
	if !ok {
		return r.Apply(ctx, view, found)
	}
	staged, err := stager.Stage(ctx, view, found)
	if err != nil {
		return resource.Result{}, err
	}
	if staged.Dir() == "" {
		return resource.Result{}, errors.New("a staged change names no directory")
	}
	if err := staged.Sync(); err != nil {
		staged.Abort()
		return resource.Result{}, err
	}
	result, err := staged.Commit(ctx)
	if err != nil {
		return result, err
	}
	return result, staged.Seal()
}

// Converge checks, applies, settles what is owed, and looks once more at what
// wants to be confirmed. What was noted is remembered.
func (e *Engine) Converge(ctx context.Context, m resource.Module, r resource.Resource) error {
	address := resource.AddressOf(m, r)
	found, err := e.Check(ctx, m, r)
	if err != nil {
		return err
	}
	before := e.held[address].Claims
	e.note(address, before, found.Prior)
	view := e.View(m, r)
	view.Owed = found.Owes
	result, err := apply(ctx, m, r, view, found)
	e.hear(result, err)
	if err != nil {
		// What it held may still be there.
		gone := slices.DeleteFunc(slices.Clone(before), func(c resource.Claim) bool { return slices.Contains(r.Claims(), c) })
		e.note(address, slices.Concat(r.Claims(), gone), result.Prior)
		return err
	}
	e.note(address, r.Claims(), result.Prior)
	e.note(address, r.Claims(), e.held[address].Prior.LettingGo(before, r.Claims()))
	if reactor, ok := r.(resource.Reactor); ok && len(found.Owes) > 0 && !result.Settled {
		result, err := reactor.React(ctx, view, found.Owes)
		e.hear(result, err)
		e.note(address, r.Claims(), result.Prior)
		if err != nil {
			return err
		}
	}
	return e.confirm(ctx, r)
}

func (e *Engine) confirm(ctx context.Context, r resource.Resource) error {
	confirmer, ok := r.(resource.Confirmer)
	if !ok {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Second): // the pause is part of the promise
	}
	err := confirmer.Confirm(ctx)
	e.hear(nil, err)
	return err
}

// Held returns what a resource held after it was last converged.
func (e *Engine) Held(a resource.Address) resource.Held { return e.held[a] }

// Absent returns the value that takes the resource back, made from what would
// be read from the state.
func (e *Engine) Absent(m resource.Module, r resource.Resource) (resource.Resource, error) {
	stored, err := json.Marshal(e.held[resource.AddressOf(m, r)])
	if err != nil {
		return nil, err
	}
	e.Said = append(e.Said, "the state: "+string(stored))
	var held resource.Held
	if err := json.Unmarshal(stored, &held); err != nil {
		return nil, err
	}
	return m.Absent(held)
}

// CheckAbsent checks a value made by Absent.
func (e *Engine) CheckAbsent(
	ctx context.Context, m resource.Module, r, gone resource.Resource,
) (resource.Finding, error) {
	found, err := gone.Check(ctx, e.leaving(m, r))
	e.hear(found, err)
	return found, err
}

// Leave takes a resource back with a value made by Absent.
func (e *Engine) Leave(ctx context.Context, m resource.Module, r, gone resource.Resource) error {
	view := e.leaving(m, r)
	if leaver, ok := gone.(resource.Leaver); ok {
		if err := leaver.Leave(ctx, view); err != nil {
			e.hear(nil, err)
			return err
		}
	}
	found, err := e.CheckAbsent(ctx, m, r, gone)
	if err != nil {
		return err
	}
	if len(found.Diff) == 0 {
		return nil
	}
	result, err := apply(ctx, m, gone, view, found)
	e.hear(result, err)
	return err
}

// leaving is the view of a value that has left the catalog: nobody holds its
// claims any more.
func (e *Engine) leaving(m resource.Module, r resource.Resource) resource.View {
	address := resource.AddressOf(m, r)
	return e.view(address, e.held[address], nil)
}

func (e *Engine) note(a resource.Address, claims []resource.Claim, prior resource.Prior) {
	if e.held == nil {
		e.held = map[resource.Address]resource.Held{}
	}
	held := e.held[a]
	held.Address, held.Claims = a, claims
	if prior != nil {
		held.Prior = maps.Clone(prior)
	}
	e.held[a] = held
}

func (e *Engine) hear(v any, err error) {
	if err != nil {
		e.Said = append(e.Said, "an error: "+err.Error())
	}
	if v == nil {
		return
	}
	said, err := json.Marshal(v)
	if err != nil {
		said = fmt.Appendf(nil, "%+v", v)
	}
	e.Said = append(e.Said, fmt.Sprintf("a %T: %s", v, said))
}

// Witness returns what a Check sees of a resource that is in order; nil where that
// is not enough. What was written just now is not, for a tick of a clock.
func (e *Engine) Witness(t testing.TB, m resource.Module, r resource.Resource) resource.Witness {
	t.Helper()
	if _, examines := m.(resource.Examiner); !examines {
		return nil
	}
	for range 30 {
		found, err := e.Check(t.Context(), m, r)
		if err != nil {
			t.Fatalf("Check: %v", err)
		}
		if found.Witness != nil {
			return found.Witness
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}
