package agent

import (
	"fmt"
	"sync"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/plan"
	"trued.dev/trued/internal/resource"
)

// A kit is the modules of a run with what was loaded by them. The daemon hands
// it on from run to run, so that a commit that is loaded already is not read and
// parsed again.
//
// What is in a kit is trusted for the very commit and the digest of everything
// else that the catalog was made from. When anything else is wanted, or when a
// run did not end well, the kit is dropped as a whole: values belong to the
// modules that made them, and so neither can pile up. It is never written down.
type kit struct {
	modules []resource.Module
	byKind  map[string]resource.Module
	// limited are the modules of sources that the host's rules are about, each on
	// a machine of its own, and rules the digest of those.
	limited map[string]*limited
	rules   string
	loaded  map[loadedKey]*catalog.Catalog

	mu      sync.Mutex
	digests map[plan.Desired]string
}

// A loadedKey stands for all that a catalog is made from.
type loadedKey struct{ commit, input string }

func (a *Agent) newKit() *kit {
	k := &kit{
		modules: a.opt.Modules(a.host),
		byKind:  map[string]resource.Module{},
		loaded:  map[loadedKey]*catalog.Catalog{},
		digests: map[plan.Desired]string{},
		limited: map[string]*limited{},
		rules:   a.rules.Digest(),
	}
	for _, m := range k.modules {
		k.byKind[m.Kind()] = m
	}
	return k
}

// takeKit returns the kit that the last run left, or nil. Nobody else has it
// until keepKit.
func (a *Agent) takeKit() *kit {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := a.kept
	a.kept = nil
	return k
}

// keepKit leaves a kit for the next run.
func (a *Agent) keepKit(k *kit) {
	a.mu.Lock()
	old := a.kept
	a.kept = k
	a.mu.Unlock()
	if old != nil {
		old.close()
	}
}

// renew makes the modules forget what they know of the host, and the catalogs
// what they keep to write.
func (k *kit) renew() {
	for _, c := range k.loaded {
		c.Shed()
	}
	for _, m := range k.all() {
		if r, ok := m.(resource.Renewer); ok {
			r.Renew()
		}
	}
}

func (k *kit) close() {
	for _, m := range k.all() {
		if c, ok := m.(resource.Closer); ok {
			_ = c.Close()
		}
	}
}

// digest returns the digest of a desired value, which is made once for as long
// as the value is kept.
func (k *kit) digest(d plan.Desired, make func(any) (string, error)) (string, error) {
	k.mu.Lock()
	sum, ok := k.digests[d]
	k.mu.Unlock()
	if ok {
		return sum, nil
	}
	sum, err := make(d)
	if err == nil {
		k.mu.Lock()
		k.digests[d] = sum
		k.mu.Unlock()
	}
	return sum, err
}

// wantKit makes sure that the kit of the run has the newest commit of every
// source, or nothing.
func (r *run) wantKit() {
	if r.kit.rules != r.agent.rules.Digest() {
		r.kit.close()
		r.kit = r.agent.newKit()
	}
	for _, s := range r.sources {
		rev, ok := s.source.Last()
		if !ok {
			continue
		}
		key, err := s.key(rev.Commit, s.inputNow(r))
		if err != nil || r.kit.loaded[key] == nil {
			if len(r.kit.loaded) > 0 {
				r.kit.close()
				r.kit = r.agent.newKit()
			}
			r.agent.contents.turn()
			return
		}
	}
}

func (s *sourceRun) key(commit string, in input) (loadedKey, error) {
	sum, err := s.catalogInput(in).Digest()
	if err != nil {
		return loadedKey{}, fmt.Errorf("source %q: %w", s.name(), err)
	}
	return loadedKey{commit: commit, input: sum}, nil
}
