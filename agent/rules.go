package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/document"
	"trued.dev/trued/internal/health"
	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/policy"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
	"trued.dev/trued/internal/wayback"
)

// The host's own rules are read for each run. A commit that breaks one is refused
// like one that cannot be loaded, before anything of it is applied. What is
// applied is written by a machine that asks the rules once more, for the very
// directory that is held open.

// A RulesError is rules that cannot be relied on. Without them nothing is enforced.
type RulesError struct{ Err error }

func (e *RulesError) Error() string { return fmt.Sprintf("the host's rules cannot be read: %v", e.Err) }
func (e *RulesError) Unwrap() error { return e.Err }

func (a *Agent) rulesFile() string { return filepath.Join(a.opt.Root, policy.File) }

// readRules reads the host's rules. No file is no rules. On the way back from a commit
// that broke them, those count by which it was admitted: with none at all it would be
// there to stay.
func (a *Agent) readRules() error {
	rules, err := loadRules(a.rulesFile())
	if err != nil {
		rules, err = a.rulesBefore(err)
	}
	if err != nil {
		a.rules = nil
		return &RulesError{err}
	}
	a.rules = rules
	return nil
}

// rulesBefore returns the rules that were kept with the order to go back, where that
// is what the host does.
func (a *Agent) rulesBefore(wrong error) (*policy.Policy, error) {
	if t := a.store.Head().Trial; t == nil || t.Failed == "" {
		return nil, wrong
	}
	o, err := a.way().Order()
	switch {
	case err != nil || o == nil:
		return nil, wrong
	case o.Rules == wayback.NoRules:
		return nil, nil
	case o.Rules == wayback.RulesKept:
		return loadRules(a.way().Path(wayback.RulesFile))
	}
	return nil, wrong
}

// unruly returns a failure when the commit on trial has broken the host's rules:
// nothing would be enforced any more, not even what takes it back. What an operator
// has broken meanwhile is no fault of the commit's.
func (a *Agent) unruly(t *state.Trial) []health.Failure {
	if !t.HasWayBack() {
		return nil
	}
	if _, err := loadRules(a.rulesFile()); err != nil && a.writesRules(t) {
		return []health.Failure{{Probe: "rules", Why: (&RulesError{err}).Error()}}
	}
	return nil
}

// writesRules reports whether a source on trial has, or had before the trial, the
// file of rules, or something above it, by any of their names.
func (a *Agent) writesRules(t *state.Trial) bool {
	if a.store.Reload() != nil {
		return false // whoever judges the commit fails by that
	}
	known := func(name string) []string {
		also, err := a.host.KnownAs(name, true)
		if err != nil {
			return []string{name}
		}
		return append(also, name)
	}
	rules := known(policy.File)
	above := func(name string) bool {
		return slices.ContainsFunc(rules, func(file string) bool {
			return file == name || strings.HasPrefix(file, strings.TrimSuffix(name, "/")+"/")
		})
	}
	snap := a.store.Snapshot()
	for _, held := range []map[resource.Address]state.Entry{snap.Inventory, snap.Dropped} {
		for _, e := range held {
			if _, on := t.Sources[e.Source]; on && slices.ContainsFunc(e.Claims, func(c resource.Claim) bool {
				return c.Space == resource.SpacePath && slices.ContainsFunc(known(c.Name), above)
			}) {
				return true
			}
		}
	}
	return false
}

// loadRules reads a file of rules that nobody but root, or the agent's own user,
// can have written.
func loadRules(name string) (*policy.Policy, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) //nolint:gosec // below the root that the operator named
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open rules: %w", err)
	}
	defer f.Close()
	if err := guarded(f, name); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, document.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read rules %q: %w", name, err)
	}
	return policy.Parse(name, data)
}

// guarded refuses rules that others could change, or their directory.
func guarded(f *os.File, name string) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("cannot look at rules %q: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("rules %q: not a regular file", name)
	}
	dir, err := os.Stat(filepath.Dir(name))
	if err != nil {
		return fmt.Errorf("cannot look at rules %q: %w", name, err)
	}
	for _, at := range []struct {
		name string
		info fs.FileInfo
	}{{name, info}, {filepath.Dir(name), dir}} {
		st, ok := at.info.Sys().(*syscall.Stat_t)
		if !ok || st.Uid != 0 && int(st.Uid) != os.Geteuid() || at.info.Mode().Perm()&0o022 != 0 {
			return fmt.Errorf("rules %q: %q can be changed by others: chown root and chmod go-w", name, at.name)
		}
	}
	return nil
}

// admit loads a commit and holds it against the rules.
func (s *sourceRun) admit(ctx context.Context, r *run, commit string, in input) (*catalog.Catalog, error) {
	if r.unruly != nil {
		return nil, r.unruly
	}
	cat, err := s.loadAt(r, commit, in)
	limited := r.kit.limited[s.name()]
	if err != nil || limited == nil {
		return cat, err
	}
	judged, err := r.agent.rules.Judge(ctx, cat, r.agent.host.Survey())
	if err != nil {
		return nil, err
	}
	limited.judged.Store(judged)
	return cat, nil
}

// leaving tells the judgements of sources of which something leaves the host, or
// leaves where it was for another place.
func (r *run) leaving(inventory map[resource.Address]state.Entry) {
	for _, s := range r.sources {
		l := r.kit.limited[s.name()]
		if l == nil || s.catalog == nil || l.judged.Load() == nil {
			continue
		}
		here := make(map[resource.Address]resource.Resource, len(s.catalog.Entries))
		for _, e := range s.catalog.Entries {
			here[e.Address] = e.Resource
		}
		for a, e := range inventory {
			if e.Source != s.name() {
				continue
			}
			if now, stays := here[a]; !stays || moves(e.Claims, now) {
				l.judged.Load().Leaving()
				break
			}
		}
	}
}

// moves reports whether a resource that stays gives back something that it has held:
// a claim of a name by which it claims nothing any more. It gives back what was noted
// there, just as what leaves does.
func moves(held []resource.Claim, now resource.Resource) bool {
	if now == nil || now.Common().Keeps() {
		return false
	}
	claims := now.Claims()
	if slices.Equal(held, claims) {
		return false
	}
	type name struct{ space, name string }
	stays := make(map[name]bool, len(claims))
	for _, c := range claims {
		stays[name{c.Space, c.Name}] = true
	}
	return slices.ContainsFunc(held, func(c resource.Claim) bool { return !stays[name{c.Space, c.Name}] })
}

// byRules reports whether a commit was refused by the host's rules, or for want of
// them.
func byRules(err error) bool {
	var refused *policy.Refusal
	var unread *RulesError
	return errors.As(err, &refused) || errors.As(err, &unread)
}

// newlyUnruly reports whether a commit that was refused before is refused by the
// rules now, or by others.
func newlyUnruly(before string, err error) bool { return byRules(err) && err.Error() != before }

// limited is the modules of one source that rules are about.
type limited struct {
	modules []resource.Module
	byKind  map[string]resource.Module
	judged  atomic.Pointer[policy.Judgement]
}

// Permit implements host.Guard: nothing is written before there is a judgement.
func (l *limited) Permit(name string, known []string) error {
	judged := l.judged.Load()
	if judged == nil {
		return &policy.ForbiddenError{Path: name, Leads: known, Why: "the rules were not asked"}
	}
	return judged.Permit(name, known)
}

// modulesOf returns the modules for a source.
func (k *kit) modulesOf(a *Agent, source string) []resource.Module {
	if !a.rules.Concerns(source) {
		return k.modules
	}
	l := k.limited[source]
	if l == nil {
		l = &limited{byKind: map[string]resource.Module{}}
		l.modules = a.opt.Modules(a.host.Guarded(l, source))
		for i, m := range l.modules {
			if _, sole := m.(resource.Sole); sole {
				l.modules[i] = k.byKind[m.Kind()]
			}
			l.byKind[m.Kind()] = l.modules[i]
		}
		k.limited[source] = l
	}
	return l.modules
}

// byKindOf returns the modules for what leaves a source.
func (k *kit) byKindOf(source string) map[string]resource.Module {
	if l := k.limited[source]; l != nil {
		return l.byKind
	}
	return nil
}

// all are the modules of all sources, each once.
func (k *kit) all() []resource.Module {
	all := slices.Clone(k.modules)
	for _, l := range k.limited {
		for _, m := range l.modules {
			if _, sole := m.(resource.Sole); !sole {
				all = append(all, m)
			}
		}
	}
	return all
}

var _ host.Guard = (*limited)(nil)
