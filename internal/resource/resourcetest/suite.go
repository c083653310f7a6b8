// Package resourcetest holds the promises of a module as tests: one suite that
// every kind passes, and a small engine that drives a resource as the real one
// does, for the tests of one kind.
//
// It knows no kind and no host. What a case is about is told it by the case.
package resourcetest

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"trued.dev/trued/internal/resource"
)

// A Case is a resource that is not on the host yet, or differs from it.
type Case struct {
	// Module makes the module anew over the same host, as each run does.
	Module func() resource.Module
	// Resource fills a value that the module's New returned.
	Resource func(m resource.Module) resource.Resource
	// Tree is what the resource loads sources, templates and trees from.
	Tree fs.FS
	// Dirs are directories whose trees the case is about, for this process: a
	// scratch root, or some directories of a booted host.
	Dirs []string
	// State describes what else the case is about, such as what the service
	// manager says of a unit. It may be nil.
	State func(t testing.TB) string
	// Offline is true when the root is not the running system.
	Offline bool
	// Secret is a value of the resource that must not come out. When it is set,
	// the resource is sensitive.
	Secret string
	// Leaves is true when what is there after the resource left differs from
	// what was there before, as for a package's data.
	Leaves bool
	// Owner tells who holds a claim in the catalog, besides the resource itself.
	Owner func(resource.Claim) (resource.Address, bool)
}

// Run holds a case against the promises that every module makes.
func Run(t *testing.T, c Case) {
	t.Helper()
	s := &suite{Case: c, engine: Engine{Tree: c.Tree, Offline: c.Offline, Owner: c.Owner}}
	before := s.lasting(t)
	steps := []struct {
		name string
		run  func(t *testing.T)
	}{
		{"a value that was filled is valid and claims something", s.valid},
		{"check writes nothing", s.checkWritesNothing},
		{"a cancelled context stops it", s.cancelled},
		{"what was prepared and given up leaves no trace", s.aborted},
		{"apply then check is empty", s.applyThenCheck},
		{"a second apply is a no-op", s.secondApply},
		{"what was seen holds until it changes", s.witnessHolds},
		{"absence gives back what was there", func(t *testing.T) { s.absent(t, before) }},
		{"a sensitive value appears in no output", s.noSecret},
	}
	for _, step := range steps {
		if !t.Run(step.name, step.run) {
			return
		}
	}
}

type suite struct {
	Case
	engine Engine
}

func (s *suite) make(t *testing.T) (resource.Module, resource.Resource) {
	t.Helper()
	m := s.Module()
	r := s.Resource(m)
	if s.Secret != "" {
		r.Common().Sensitive = true
	}
	if err := s.engine.Load(r); err != nil {
		t.Fatalf("Load: %v", err)
	}
	return m, r
}

func (s *suite) valid(t *testing.T) {
	_, r := s.make(t)
	if err := r.Validate(); err != nil {
		t.Errorf("Validate: %v", err)
	}
	if r.Name() == "" {
		t.Error("Name is empty")
	}
	claims := r.Claims()
	if len(claims) == 0 {
		t.Error("Claims is empty")
	}
	for _, c := range claims {
		if back, err := resource.ParseClaim(c.String()); err != nil || back != c {
			t.Errorf("claim %q parses back as %q, error %v", c, back, err)
		}
		if c.Space == resource.SpacePath && !watched(r, c.Name) {
			t.Errorf("%q is claimed and not watched", c.Name)
		}
	}
}

// watched reports whether a resource says that a change at a path concerns it.
func watched(r resource.Resource, name string) bool {
	w, ok := r.(resource.Watched)
	return ok && slices.ContainsFunc(w.Watches(), func(w resource.Watch) bool {
		switch w.Space {
		case resource.WatchPath, resource.WatchDatabase:
			return w.Name == name
		case resource.WatchTree:
			return w.Name == name || strings.HasPrefix(name, w.Name+"/")
		}
		return false
	})
}

func (s *suite) checkWritesNothing(t *testing.T) {
	m, r := s.make(t)
	before := s.exact(t)
	found, err := s.engine.Check(t.Context(), m, r)
	if err != nil {
		t.Fatalf("Check: %v", err)
	}
	if found.InOrder() {
		t.Error("Check found nothing to do: the case shows nothing")
	}
	s.same(t, before, s.exact(t))
}

func (s *suite) cancelled(t *testing.T) {
	m, r := s.make(t)
	found, err := s.engine.Check(t.Context(), m, r)
	if err != nil {
		t.Fatalf("Check: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before := s.exact(t)
	if _, err := s.engine.Check(ctx, m, r); !errors.Is(err, context.Canceled) {
		t.Errorf("Check with a cancelled context returned %v", err)
	}
	if _, err := s.engine.Apply(ctx, m, r, found); !errors.Is(err, context.Canceled) {
		t.Errorf("Apply with a cancelled context returned %v", err)
	}
	s.same(t, before, s.exact(t))
}

func (s *suite) aborted(t *testing.T) {
	m, r := s.make(t)
	stager, ok := r.(resource.Stager)
	if !ok {
		return
	}
	found, err := s.engine.Check(t.Context(), m, r)
	if err != nil {
		t.Fatalf("Check: %v", err)
	}
	before := s.lasting(t)
	staged, err := stager.Stage(t.Context(), s.engine.View(m, r), found)
	if err != nil {
		t.Fatalf("Stage: %v", err)
	}
	staged.Abort()
	s.same(t, before, s.lasting(t))
}

func (s *suite) applyThenCheck(t *testing.T) {
	m, r := s.make(t)
	before := s.lasting(t)
	stated := s.followed(statedWrites(r)) // as a host's rules see it: before anything is done
	if err := s.engine.Converge(t.Context(), m, r); err != nil {
		t.Fatalf("Apply: %v", err)
	}
	if _, runs := r.(resource.Runner); !runs || len(stated) > 0 {
		// The rest does what its author has it run, and is judged by that.
		wroteOnly(t, stated, before, s.lasting(t))
	}
	s.inOrder(t, m, r)
}

func (s *suite) secondApply(t *testing.T) {
	m, r := s.make(t)
	s.inOrder(t, m, r)
	before := s.exact(t)
	if err := s.engine.Converge(t.Context(), m, r); err != nil {
		t.Fatalf("Apply: %v", err)
	}
	s.same(t, before, s.exact(t))
}

// holds asks a module that a new run made.
func (s *suite) holds(t *testing.T, name string, seen resource.Witness) bool {
	t.Helper()
	m, examines := s.Module().(resource.Examiner)
	if !examines || seen == nil {
		return false
	}
	if f, ok := m.(resource.Foreseer); ok {
		f.Foresee(t.Context(), []string{name})
		defer f.Foresee(t.Context(), nil)
	}
	return m.Holds(t.Context(), name, seen)
}

func (s *suite) witnessHolds(t *testing.T) {
	m, r := s.make(t)
	seen := s.engine.Witness(t, m, r)
	if seen != nil && !s.holds(t, r.Name(), seen) {
		t.Error("nothing changed, and what was seen does not hold")
	}
	if s.Secret != "" && strings.Contains(string(seen), s.Secret) {
		t.Error("the sensitive value is in the witness")
	}
}

func (s *suite) absent(t *testing.T, before []string) {
	m, r := s.make(t)
	seen := s.engine.Witness(t, m, r)
	gone, err := s.engine.Absent(m, r)
	if err != nil {
		t.Fatalf("Absent: %v", err)
	}
	exact := s.exact(t)
	if _, err := s.engine.CheckAbsent(t.Context(), m, r, gone); err != nil {
		t.Fatalf("Check of what leaves: %v", err)
	}
	s.same(t, exact, s.exact(t))
	if err := s.engine.Leave(t.Context(), m, r, gone); err != nil {
		t.Fatalf("Apply of what leaves: %v", err)
	}
	found, err := s.engine.CheckAbsent(t.Context(), m, r, gone)
	if err != nil {
		t.Fatalf("Check of what left: %v", err)
	}
	if !found.InOrder() {
		t.Errorf("after it left, Check found %+v", found)
	}
	if !s.Leaves {
		s.same(t, before, s.lasting(t))
	}
	if s.holds(t, r.Name(), seen) {
		t.Error("what was seen of the resource still holds after it left")
	}
}

func (s *suite) noSecret(t *testing.T) {
	if s.Secret == "" {
		return
	}
	for _, said := range s.engine.Said {
		if strings.Contains(said, s.Secret) {
			t.Errorf("the sensitive value is in %s", said)
		}
	}
}

func (s *suite) inOrder(t *testing.T, m resource.Module, r resource.Resource) {
	t.Helper()
	found, err := s.engine.Check(t.Context(), m, r)
	if err != nil {
		t.Fatalf("Check: %v", err)
	}
	if !found.InOrder() {
		t.Errorf("Check found %+v", found)
	}
}

func (s *suite) exact(t *testing.T) []string   { return s.fingerprint(t, true) }
func (s *suite) lasting(t *testing.T) []string { return s.fingerprint(t, false) }

func (s *suite) fingerprint(t *testing.T, times bool) []string {
	t.Helper()
	var lines []string
	for _, dir := range s.Dirs {
		lines = append(lines, Fingerprint(t, dir, times)...)
	}
	if s.State != nil {
		lines = append(lines, s.State(t))
	}
	return lines
}

func (s *suite) same(t *testing.T, before, after []string) {
	t.Helper()
	for _, line := range before {
		if !slices.Contains(after, line) {
			t.Errorf("was there and is not now: %s", line)
		}
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			t.Errorf("is there and was not before: %s", line)
		}
	}
}
