package source

import (
	"context"
	"errors"
	"strings"

	"trued.dev/trued/internal/source/object"
	"trued.dev/trued/internal/source/remote"
)

// A repository is a source that is fetched from a Git server, or from a
// repository on this machine.
type repository struct {
	*cache
}

// Fetch brings the newest commit into the store.
func (r *repository) Fetch(ctx context.Context) (Revision, error) {
	return r.fetch(ctx, acceptance{})
}

// Accept is Fetch without asking whether the commit descends from the applied
// one, where it is the one that is named.
func (r *repository) Accept(ctx context.Context, commit string) (Revision, error) {
	return r.fetch(ctx, acceptance{given: true, commit: commit})
}

// An acceptance is what an operator takes whatever it descends from: any commit,
// or those whose name begins so.
type acceptance struct {
	given  bool
	commit string
}

func (a acceptance) of(id object.ID) bool {
	return a.given && strings.HasPrefix(id.String(), strings.ToLower(a.commit))
}

func (r *repository) fetch(ctx context.Context, accepts acceptance) (Revision, error) {
	asked := ctx
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Limits.Time)
	defer cancel()
	end, err := r.begin(ctx)
	if err != nil {
		return Revision{}, explain(ctx, r.cfg.Name, r.URL(), r.cfg.Limits, err)
	}
	defer end()
	r.verifySometimes(ctx)
	before := r.tip()
	rev, err := r.fetchAny(ctx, accepts)
	r.conclude(asked, before, rev, err)
	return rev, err
}

// fetchAny tries the URLs in turn. A refusal ends it: another server is no way
// around the proof.
func (r *repository) fetchAny(ctx context.Context, accepts acceptance) (Revision, error) {
	var failed error
	urls := r.cfg.allURLs()
	for i, url := range urls {
		attempt, cancel := share(ctx, len(urls)-i)
		err := r.attempt(attempt, url, accepts)
		err = explain(attempt, r.cfg.Name, url, r.cfg.Limits, err)
		cancel()
		if err == nil {
			rev, ok := r.Last()
			if !ok {
				return Revision{}, &Error{Source: r.cfg.Name, URL: Redact(url), Reason: ErrDamaged, Err: errors.New("the store lost the commit right after it was fetched")}
			}
			return rev, nil
		}
		if failed = joinErrors(failed, err); errors.Is(err, ErrRefused) || ctx.Err() != nil {
			break
		}
	}
	return Revision{}, failed
}

// attempt fetches from one URL. A store that is damaged, or turns out to be,
// is made anew beside the old one.
func (r *repository) attempt(ctx context.Context, url string, accepts acceptance) error {
	_, broken := r.current()
	if broken == nil {
		err := r.update(ctx, url, accepts)
		if !errors.Is(err, object.ErrDamaged) && !errors.Is(err, object.ErrMissing) {
			return err
		}
		broken = r.damage(err)
	}
	s, err := r.fresh()
	if err != nil {
		return err
	}
	t := &transfer{r: r, ctx: ctx, url: url, store: s, accepts: accepts}
	if err := t.run(); err != nil {
		discard(s)
		return err
	}
	r.tellRepaired(Redact(url), broken)
	return nil
}

func (r *repository) update(ctx context.Context, url string, accepts acceptance) error {
	s, _ := r.current()
	t := &transfer{r: r, ctx: ctx, url: url, store: s, accepts: accepts}
	if tip := r.tip(); !tip.IsZero() {
		t.have = append(t.have, tip)
	}
	r.mu.Lock()
	applied := r.applied
	r.mu.Unlock()
	if !applied.IsZero() && s.Has(applied) && applied != r.tip() {
		t.have = append(t.have, applied)
	}
	return t.run()
}

// A transfer is one fetch from one URL into one store.
type transfer struct {
	r          *repository
	ctx        context.Context
	url        string
	store      *object.Store
	have       []object.ID
	accepts    acceptance
	anyHistory bool
	// only is a commit that is taken in in place of the newest one, and put beside
	// it; empty for the newest.
	only string

	in      *object.Intake
	wanted  map[object.ID]object.Kind
	entries int
	extent  extent
	tip     object.ID
	commits map[object.ID][]object.ID
}

func (t *transfer) run() error {
	req, err := t.r.request(t.url)
	if err != nil {
		return err
	}
	if t.only != "" {
		req.Want = remote.Want{Commit: t.only}
	}
	child, err := t.r.start(t.ctx, &req)
	if err != nil {
		return err
	}
	defer func() { _ = child.Close() }()
	offer, err := child.Open(req)
	if err != nil {
		return err
	}
	t.anyHistory = t.anyHistory || t.accepts.of(offer.Commit)
	if err := t.r.refusedBefore(offer, t.anyHistory); err != nil {
		return err
	}
	if len(t.have) > 0 && offer.Commit == t.have[0] {
		return t.rejudge(child, offer)
	}
	if err := t.judge(child, offer); err != nil {
		return err
	}
	if t.in, err = t.store.Begin(); err != nil {
		return err
	}
	defer t.in.Abort()
	if err := t.receive(child, offer); err != nil {
		return err
	}
	t.salvage()
	if err := t.prove(child); err != nil {
		return err
	}
	if err := t.judgeTree(offer, t.in.Read); err != nil {
		return err
	}
	if err := t.checkSize(); err != nil {
		return err
	}
	// Nothing that has seen the network lives on when the commit is made
	// visible.
	if err := child.Close(); err != nil {
		return err
	}
	if t.only != "" {
		return t.r.putBeside(t.store, t.in, t.tip)
	}
	if err := t.r.publish(t.store, t.in, t.tip); err != nil {
		return err
	}
	t.r.remember(func(m *memory) {
		m.Proven, m.ProvenFrom, m.Ref = t.tip, t.r.applied, offer.Ref
		m.Extent, m.ExtentOf = t.extent, t.tip
	})
	t.r.compactSometimes(t.ctx)
	return nil
}

// salvage takes the commits that the host is at or may have to go back to over
// from the store that is given up, as far as they are whole.
func (t *transfer) salvage() {
	old, _ := t.r.current()
	if old == nil || old == t.store {
		return
	}
	for _, id := range t.r.held(old) {
		if !t.in.Has(id) {
			// What cannot be read is lost, and was reported as damage before.
			_ = t.in.CopyFrom(t.ctx, old, id)
		}
	}
}

func discard(s *object.Store) {
	_ = s.Close()
	_ = object.Remove(s)
}

// request gathers what the child needs.
func (r *repository) request(url string) (remote.Request, error) {
	req := remote.Request{
		URL:   url,
		Want:  remote.Want{Branch: r.cfg.Branch, Tag: r.cfg.Tag, Commit: r.cfg.Commit},
		Agent: "trued",
		Limits: remote.Limits{
			Idle: r.cfg.Limits.Idle, Bytes: r.cfg.Limits.Bytes, Object: r.cfg.Limits.Object, Memory: r.cfg.Limits.Memory,
		},
	}
	if err := r.credentials(&req); err != nil {
		return remote.Request{}, &Error{Source: r.cfg.Name, URL: Redact(url), Reason: ErrDenied, Err: err}
	}
	return req, nil
}

func (r *repository) credentials(req *remote.Request) error {
	if r.o.access == nil {
		return r.cfg.credentials(req)
	}
	u, err := remote.ParseURL(req.URL)
	if err != nil {
		return err
	}
	give(req, *r.o.access)
	req.Nameless = true
	if u.Scheme == "ssh" && req.KnownHosts == nil {
		req.KnownHosts = usualKnownHosts()
	}
	req.Proxy, err = r.cfg.proxyFor(u)
	return err
}
