package source

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"trued.dev/trued/internal/source/object"
)

// Obtain brings a commit into the store beside the newest one. It was named on the
// host, so it need not descend from anything; a judge is asked all the same, also of
// one that is there and that it has not agreed to.
func (r *repository) Obtain(ctx context.Context, commit string) error {
	id, err := object.ParseID(commit)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Limits.Time)
	defer cancel()
	end, err := r.begin(ctx)
	if err != nil {
		return explain(ctx, r.cfg.Name, r.URL(), r.cfg.Limits, err)
	}
	defer end()
	s, broken := r.current()
	if s == nil || broken != nil {
		return &Error{Source: r.cfg.Name, URL: r.URL(), Reason: ErrDamaged, Err: fmt.Errorf("the store is to be mended first: %w", broken)}
	}
	var have []object.ID
	if s.Has(id) {
		if r.o.Judge == nil || r.o.Judge.Accepted(id) {
			return nil
		}
		have = []object.ID{id}
	}
	var failed error
	urls := r.cfg.allURLs()
	for i, url := range urls {
		attempt, cancel := share(ctx, len(urls)-i)
		t := &transfer{r: r, ctx: attempt, url: url, store: s, have: have, anyHistory: true, only: commit}
		err := explain(attempt, r.cfg.Name, url, r.cfg.Limits, t.run())
		cancel()
		if err == nil {
			return nil
		}
		failed = joinErrors(failed, err)
	}
	return failed
}

// putBeside makes a commit that was taken in visible, and leaves the newest one
// what it is.
func (c *cache) putBeside(s *object.Store, in *object.Intake, commit object.ID) error {
	if err := in.Commit(); err != nil {
		return err
	}
	shallow := append(c.held(s), c.tip(), commit)
	slices.SortFunc(shallow, func(a, b object.ID) int { return bytes.Compare(a[:], b[:]) })
	return s.SetShallow(slices.Compact(shallow))
}
