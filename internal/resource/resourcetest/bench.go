package resourcetest

import (
	"errors"
	"strings"
	"testing"

	"trued.dev/trued/internal/resource"
)

// A Bench works resources of one kind on a machine for a test, which it fails where
// something does not go well. R is what a resource is filled with.
type Bench[R any] struct {
	Engine Engine
	// Make returns the kind's module as a new run makes it, and a resource of it.
	Make func(fill R) (resource.Module, resource.Resource)
}

// Load returns a resource as a new run loads it.
func (b *Bench[R]) Load(t testing.TB, fill R) (resource.Module, resource.Resource) {
	t.Helper()
	m, r := b.Make(fill)
	if err := errors.Join(b.Engine.Load(r), r.Validate()); err != nil {
		t.Fatal(err)
	}
	return m, r
}

// Check returns how the machine differs.
func (b *Bench[R]) Check(t testing.TB, fill R) resource.Finding {
	t.Helper()
	m, r := b.Load(t, fill)
	found, err := b.Engine.Check(t.Context(), m, r)
	if err != nil {
		t.Fatalf("Check: %v", err)
	}
	return found
}

// Converge brings a resource about and demands that this is the end of it.
func (b *Bench[R]) Converge(t testing.TB, fill R) {
	t.Helper()
	m, r := b.Load(t, fill)
	if err := b.Engine.Converge(t.Context(), m, r); err != nil {
		t.Fatalf("Apply: %v", err)
	}
	b.InOrder(t, fill)
}

// InOrder demands that the machine does not differ.
func (b *Bench[R]) InOrder(t testing.TB, fill R) resource.Finding {
	t.Helper()
	found := b.Check(t, fill)
	if !found.InOrder() {
		t.Errorf("Check found %+v", found)
	}
	return found
}

// Fails demands that a resource cannot be brought about, for a reason that has
// some words in it.
func (b *Bench[R]) Fails(t testing.TB, fill R, wants ...string) {
	t.Helper()
	m, r := b.Load(t, fill)
	err := b.Engine.Converge(t.Context(), m, r)
	if err == nil {
		t.Fatal("it did not fail")
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
}

// Leave takes a resource back and demands that this is the end of it.
func (b *Bench[R]) Leave(t testing.TB, fill R) {
	t.Helper()
	m, r := b.Load(t, fill)
	gone, err := b.Engine.Absent(m, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Engine.Leave(t.Context(), m, r, gone); err != nil {
		t.Fatalf("Apply of what leaves: %v", err)
	}
	if found, err := b.Engine.CheckAbsent(t.Context(), m, r, gone); err != nil || !found.InOrder() {
		t.Errorf("after it left, Check found %+v, error %v", found, err)
	}
}
