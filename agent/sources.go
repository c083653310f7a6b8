package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"time"

	"trued.dev/trued/internal/apply"
	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/secret"
	"trued.dev/trued/internal/source"
	"trued.dev/trued/internal/state"
)

// openSources opens every source of the configuration, at the commit that the
// host was last brought to.
func (a *Agent) openSources() error {
	snap := a.store.Head()
	for _, c := range a.config.Sources {
		dir := filepath.Join(a.store.Dir(), "sources", c.storeName())
		w := a.newWarden(c)
		opt := source.Options{Child: a.opt.FetchChild, Notify: a.fromSource}
		if w.judges() {
			opt.Judge = w
		}
		src, err := source.Open(c.source(), dir, opt)
		if err != nil {
			return err
		}
		if applied := snap.Sources[c.Name].Applied; applied != "" {
			if err := src.SetApplied(applied); err != nil {
				return fmt.Errorf("source %q: %w", c.Name, err)
			}
		}
		a.sources, a.wardens = append(a.sources, src), append(a.wardens, w)
	}
	return a.keepCommits()
}

// HasSources reports whether there is anything to keep the host true to.
func (a *Agent) HasSources() bool { return len(a.sources) > 0 }

// SameConfig reports whether two agents are configured alike.
func (a *Agent) SameConfig(b *Agent) bool { return a.config.same(b.config) }

// A SourceStatus is how a source stands on this host.
type SourceStatus struct {
	source.Status
	Group string `json:"group,omitempty"`
	// Applied is the commit that the host was last brought to, Attempted the
	// newest one seen, when it is another.
	Applied   string `json:"applied,omitempty"`
	Attempted string `json:"attempted,omitempty"`
	Problem   string `json:"problem,omitempty"`
	// Trust is why the applied commit is trusted.
	Trust Trusted `json:"trust"`
	// Confirmed is the commit that the host was healthy with last.
	Confirmed  string            `json:"confirmed,omitempty"`
	Quarantine *state.Quarantine `json:"quarantine,omitempty"`
	Pin        *state.Pin        `json:"pin,omitempty"`
	Subject    string            `json:"subject,omitempty"`
	Author     string            `json:"author,omitempty"`
	// Date is when it was written, Committed when it came to be as it is.
	Date      time.Time `json:"date,omitzero"`
	Committed time.Time `json:"committed,omitzero"`
}

func (a *Agent) statusOf(src source.Source, known state.Source) SourceStatus {
	s := SourceStatus{
		Status: src.Status(), Group: known.Group, Applied: known.Applied,
		Attempted: known.Attempted, Problem: known.Problem, Quarantine: known.Quarantine, Pin: known.Pin,
	}
	snap := a.store.Head()
	if c := snap.Confirmed(src.Name()); c != nil {
		s.Confirmed = c.Commit
	}
	if rev, err := src.Revision(known.Applied); known.Applied != "" && err == nil {
		s.Subject, s.Author, s.Date, s.Committed = rev.Subject, rev.Author, rev.Date, rev.Committed
	}
	if s.Problem == "" {
		s.Problem = s.Error
	}
	s.Trust = a.trusted(s.Name, s.Applied)
	a.mu.Lock()
	defer a.mu.Unlock()
	s.Next = a.next[s.Name]
	return s
}

func reportState(s SourceStatus) report.SourceState {
	written := s.Fetched.Date
	if written.Unix() <= 0 { // a directory has no author and no date
		written = time.Time{}
	}
	return report.SourceState{
		Name: s.Name, Group: s.Group, URL: s.URL, Branch: s.Branch, Applied: s.Applied, Attempted: s.Attempted,
		Author: s.Fetched.Author, Date: report.Timestamp(written), Checked: report.Timestamp(s.Checked),
		Moved: report.Timestamp(s.Moved), Failed: report.Timestamp(s.Failed), Failures: s.Failures,
		Next: report.Timestamp(s.Next), Signer: s.Trust.Signer, Trust: string(s.Trust.Level),
	}
}

// A sourceRun is what becomes of one source in one run.
type sourceRun struct {
	source source.Source
	config SourceConfig
	before state.Source
	// newest is the last commit fetched.
	newest source.Revision
	// revision is the commit whose catalog is enforced, in with what it was
	// loaded.
	revision string
	in       input
	catalog  *catalog.Catalog
	// group is the catalog's. It is known without one when the source stood: when
	// the catalog would be the one that the host is in order with.
	group string
	stood bool
	// distrusted is true when the newest commit may not be applied.
	distrusted bool
	// err says why the newest commit is not enforced, or was not looked for.
	err error
	// warned is true when it was told that its pin is old.
	warned bool
	// old holds the addresses that the revision has for the host as it was.
	old map[resource.Address]bool
}

func (s *sourceRun) name() string { return s.source.Name() }

// fetch asks each source for something newer, where that was asked for or there
// is nothing yet.
func (r *run) fetch(ctx context.Context) {
	for _, s := range r.sources {
		_, has := s.source.Last()
		if !r.req.Fetch && has {
			continue
		}
		fetch := s.source.Fetch
		if r.req.AcceptHistory || r.req.AcceptCommit != "" {
			fetch = func(ctx context.Context) (source.Revision, error) { return s.source.Accept(ctx, r.req.AcceptCommit) }
		}
		if _, err := fetch(ctx); err != nil {
			s.err = err
			r.agent.fetchFailed(ctx, s.name(), err)
		}
	}
	if !r.looks {
		r.agent.freshness(r.started)
	}
	r.standTrust()
	for _, e := range r.agent.hear() {
		r.agent.told(r.rec.incident(incidentOf(e)))
	}
}

// load loads the newest commit, or what stands in for it.
func (s *sourceRun) load(ctx context.Context, r *run) {
	rev, ok := s.source.Last()
	if !ok {
		if s.err == nil {
			s.err = errors.New("was never fetched")
		}
		return
	}
	s.newest = rev
	want := s.wanted()
	if q := s.before.Quarantine; q != nil && q.Commit == want {
		s.goBack(ctx, r, &QuarantinedError{*q})
		return
	}
	if s.distrusted && want == rev.Commit {
		s.fallBack(ctx, r, s.err)
		return
	}
	in := s.inputNow(r)
	if want != rev.Commit {
		if err := s.trusts(r, want); err != nil {
			s.refuse(r, err)
			s.fallBack(ctx, r, err)
			return
		}
	}
	cat, err := s.admit(ctx, r, want, in)
	if err == nil {
		s.enforce(cat, want, in)
		return
	}
	s.refuse(r, err)
	s.fallBack(ctx, r, err)
}

// enforce makes a catalog the one that the host is to be brought to.
func (s *sourceRun) enforce(cat *catalog.Catalog, commit string, in input) {
	s.catalog, s.revision, s.in, s.group = cat, commit, in, cat.Group
}

// enforced reports whether there is a catalog that the host is brought to.
func (s *sourceRun) enforced() bool { return s.catalog != nil || s.stood }

// fallBack takes the last good state: the applied commit with what the host is
// now, or else with what it was then.
func (s *sourceRun) fallBack(ctx context.Context, r *run, why error) {
	s.catalog = nil
	if s.err == nil {
		s.refuse(r, why)
	}
	if t := r.agent.store.Head().Trial; t != nil && t.Failed != "" {
		s.goBack(ctx, r, s.err) // what is applied is bad
		return
	}
	if s.before.Applied == "" {
		return
	}
	now := s.inputNow(r)
	if s.before.Applied != s.revision {
		if cat, err := s.admit(ctx, r, s.before.Applied, now); err == nil {
			s.enforce(cat, s.before.Applied, now)
			return
		}
	}
	then, ok := s.inputBefore()
	if !ok {
		return
	}
	if cat, err := s.admit(ctx, r, s.before.Applied, then); err == nil {
		s.enforce(cat, s.before.Applied, then)
	}
}

func (s *sourceRun) inputBefore() (input, bool) { return decodeInput(s.before.Input) }

func decodeInput(data json.RawMessage) (in input, ok bool) {
	ok = len(data) > 0 && json.Unmarshal(data, &in) == nil
	return in, ok
}

// wanted returns the commit that the host is to be brought to, unless something
// speaks against it.
func (s *sourceRun) wanted() string {
	if s.before.Pin != nil {
		return s.before.Pin.Commit
	}
	return s.newest.Commit
}

func (s *sourceRun) loadAt(r *run, commit string, in input) (*catalog.Catalog, error) {
	tree, err := s.source.Tree(commit)
	if err != nil {
		return nil, err
	}
	key, err := s.key(commit, in)
	if err != nil {
		return nil, err
	}
	if cat := r.kit.loaded[key]; cat != nil {
		return cat, nil
	}
	full := s.catalogInput(in)
	full.Tree, full.Modules, full.Digests = tree, r.kit.modulesOf(r.agent, s.name()), r.agent.contents
	identities := r.agent.config.Secrets.Identities
	if own := s.config.Secrets.Identities; len(own) > 0 {
		identities = own
	}
	full.Secrets = secret.HostKeys(r.agent.host, identities)
	cat, err := catalog.Load(full)
	if err == nil {
		r.kit.loaded[key] = cat
	}
	return cat, err
}

// inputNow is what the source is loaded with today.
func (s *sourceRun) inputNow(r *run) input {
	return input{Facts: r.facts, Group: s.config.Group, Version: r.agent.opt.Version}
}

// catalogInput is all that a catalog is made from, but for the tree.
func (s *sourceRun) catalogInput(in input) catalog.Input {
	return catalog.Input{
		Name: s.name(), Group: in.Group, HostName: in.Facts.Host.Name, Facts: in.Facts, Version: in.Version,
	}
}

// refuse notes why the newest commit is not enforced, and tells of it once per
// commit and reason.
func (s *sourceRun) refuse(r *run, err error) {
	told := s.err != nil && s.err.Error() == err.Error()
	s.err = err
	if told || s.before.Problem != "" && !newlyUnruly(s.before.Problem, err) &&
		(s.before.Attempted == s.newest.Commit || byRules(err) && s.before.Applied == s.newest.Commit) {
		return
	}
	what, says := "load", "cannot be loaded"
	if byRules(err) {
		what, says = "policy", "is not what the host's rules allow"
	}
	r.agent.count(failure{source: s.name(), reason: what, refused: true})
	r.agent.told(r.rec.incident(report.Incident{
		Type: report.SourceRefused, Source: s.name(), Commit: s.newest.Commit, ErrType: what, Err: err,
		Message: fmt.Sprintf("commit %s of source %q %s", Short(s.newest.Commit), s.name(), says),
	}))
}

// explains reports whether a new commit is why a resource left: with the facts
// and the group of the last run, the commit would not have it either.
func (s *sourceRun) explains(r *run, a resource.Address) bool {
	if s.revision == s.before.Applied {
		return false
	}
	then, ok := s.inputBefore()
	if !ok || reflect.DeepEqual(then, s.in) {
		return true
	}
	if s.old == nil {
		s.old = map[resource.Address]bool{}
		cat, err := s.loadAt(r, s.revision, then)
		if err != nil {
			s.old[a] = true // it cannot be told: nothing is removed
			return false
		}
		for _, e := range cat.Entries {
			s.old[e.Address] = true
		}
	}
	return !s.old[a]
}

// newStates returns what is known of each source after the run, where that is
// something new. In observe mode nothing was applied.
func (r *run) newStates(outcomes []*apply.Outcome) (map[string]state.Source, error) {
	changed := map[string]state.Source{}
	if r.partial() {
		return changed, nil // it is no proof that a commit is applied
	}
	head := r.agent.store.Head()
	for _, s := range r.sources {
		now := s.before
		now.URL, now.Branch = s.source.URL(), s.source.Status().Branch
		now.Attempted, now.Problem = "", ""
		if s.enforced() && r.agent.config.Mode != Observe && !r.untouched(s) {
			in, err := s.in.encode()
			if err != nil {
				return nil, err
			}
			if s.before.Applied != "" && s.before.Applied != s.revision && r.trial == nil && s.from(head.Trial) == "" {
				now.Leave(state.Standing{Commit: s.before.Applied, Input: s.before.Input, Group: s.before.Group})
			}
			if !r.cut {
				now.Whole = s.whole(head, outcomes)
			}
			now.Applied, now.Input, now.Group = s.revision, in, s.group
			if s.before.Applied == s.revision && sameFacts(s.before.Input, s.in) {
				now.Input = s.before.Input
			}
		}
		if s.newest.Commit != now.Applied {
			now.Attempted = s.newest.Commit
		}
		if s.err != nil {
			now.Problem = s.err.Error()
		}
		if s.warned || !reflect.DeepEqual(now, s.before) {
			changed[s.name()] = now
		}
		if now.Applied != s.before.Applied {
			if err := s.source.SetApplied(now.Applied); err != nil {
				return nil, fmt.Errorf("source %q: %w", s.name(), err)
			}
		}
		s.before = now
	}
	return changed, nil
}

// untouched reports whether a run was cut off before it changed anything for a
// commit: it is not even on trial.
func (r *run) untouched(s *sourceRun) bool {
	return r.cut && r.rec.trial != nil && r.rec.trial.Sources[s.name()].Commit == s.revision
}

// sameFacts reports whether what a revision was loaded with is what was kept.
func sameFacts(kept json.RawMessage, now input) bool {
	var then input
	return json.Unmarshal(kept, &then) == nil && reflect.DeepEqual(then, now)
}

// status returns how each source stands.
func (r *run) status() []SourceStatus {
	list := make([]SourceStatus, 0, len(r.sources))
	for _, s := range r.sources {
		st := r.agent.statusOf(s.source, s.before)
		st.Problem = ""
		if s.err != nil {
			st.Problem = s.err.Error()
		}
		list = append(list, st)
	}
	return list
}

// states is what events say about the sources.
func (r *run) states() []report.SourceState {
	var list []report.SourceState
	for i, st := range r.status() {
		// What is being applied is what the run's events are about.
		if s := r.sources[i]; s.revision != "" && r.agent.config.Mode != Observe {
			st.Applied, st.Attempted = s.revision, s.newest.Commit
			st.Trust = r.agent.trusted(s.name(), s.revision)
			if s.enforced() {
				st.Group = s.group
			}
		}
		list = append(list, reportState(st))
	}
	return list
}
