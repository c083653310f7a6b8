package apply

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"trued.dev/trued/internal/plan"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
)

// syncTogether is the number of staged changes from which one sync of the file
// system is cheaper than one of each file.
const syncTogether = 64

// change applies the steps of one batch and returns a result for each.
func (w *walk) change(ctx context.Context, todo []*plan.Step) []resource.ItemResult {
	if w.opt.Progress != nil {
		for _, s := range todo {
			w.opt.Progress(s)
		}
	}
	if t, ok := todo[0].Module.(resource.Transactor); ok {
		return w.transact(ctx, t, todo)
	}
	b := &writing{
		todo:     todo,
		together: manyTogether(todo),
		staged:   make([]resource.Staged, len(todo)),
		unsealed: make([]bool, len(todo)),
		results:  make([]resource.ItemResult, len(todo)),
	}
	for i, s := range todo {
		if b.results[i].Err = b.failedBefore(s, i); b.results[i].Err == nil {
			b.stage(ctx, i)
		}
		b.note(i)
	}
	w.commit(ctx, b)
	return b.results
}

// A writing is one batch of steps that are written together.
type writing struct {
	todo []*plan.Step
	// together is true when the file systems are synced, and not each step.
	together bool
	staged   []resource.Staged
	// unsealed is true for what was applied and is not durable yet.
	unsealed []bool
	// dirs are directories on the file systems to sync.
	dirs    []string
	results []resource.ItemResult
	// failed are the places of the steps that have failed.
	failed []int
}

// note remembers a step that has failed.
func (b *writing) note(i int) {
	if b.results[i].Err != nil {
		b.failed = append(b.failed, i)
	}
}

// manyTogether reports whether so many of the steps can share a sync that it
// pays.
func manyTogether(todo []*plan.Step) bool {
	n := 0
	for _, s := range todo {
		_, stages := s.Resource.(resource.Stager)
		_, unseals := s.Resource.(resource.Unsealer)
		if stages || unseals {
			n++
		}
	}
	return n >= syncTogether
}

// transact hands a batch to a module that changes it in one go. Its own time
// limit is the longest of its members'. A transaction goes on without us, so it
// is let go of as soon as the run is told to stop.
func (w *walk) transact(ctx context.Context, t resource.Transactor, todo []*plan.Step) []resource.ItemResult {
	var limit time.Duration
	var items []resource.Item
	for _, s := range todo {
		limit = max(limit, s.Timeout())
		items = append(items, resource.Item{Resource: s.Resource, View: s.View, Found: s.Finding})
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(w.stop, cancel)()
	return t.Transact(ctx, items)
}

// stage prepares a step, or applies it where nothing can be prepared.
// A module that panics has failed for this resource; the others go on.
func (b *writing) stage(ctx context.Context, i int) {
	s := b.todo[i]
	defer func() {
		if r := recover(); r != nil {
			b.staged[i] = nil
			b.results[i] = resource.ItemResult{Err: fmt.Errorf("module %q panicked: %v\n%s", s.Address.Kind, r, debug.Stack())}
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, s.Timeout())
	defer cancel()
	if st, ok := s.Resource.(resource.Stager); ok {
		staged, err := st.Stage(ctx, s.View, s.Finding)
		if err != nil {
			b.results[i] = resource.ItemResult{Err: err}
			return
		}
		b.staged[i] = staged
		b.dirs = append(b.dirs, staged.Dir())
		return
	}
	if u, ok := s.Resource.(resource.Unsealer); ok && b.together {
		applied, dir, err := u.ApplyUnsealed(ctx, s.View, s.Finding)
		b.results[i] = resource.ItemResult{Result: applied, Err: err}
		b.unsealed[i] = true
		b.dirs = append(b.dirs, dir)
		return
	}
	applied, err := s.Resource.Apply(ctx, s.View, s.Finding)
	b.results[i] = resource.ItemResult{Result: applied, Err: err}
}

// failedBefore returns an error when something earlier in the batch that the
// step at place n of it comes after has failed.
func (b *writing) failedBefore(s *plan.Step, n int) error {
	for _, i := range b.failed {
		if i < n && slices.Contains(s.After, b.todo[i].Place) {
			return &skipError{on: b.todo[i].Address}
		}
	}
	return nil
}

// A skipError is a step left out because another failed in the same batch.
type skipError struct{ on resource.Address }

func (e *skipError) Error() string { return fmt.Sprintf("%s did not succeed", e.on) }

// commit makes what was staged durable and visible.
func (w *walk) commit(ctx context.Context, b *writing) {
	if b.together {
		if err := w.sync(b.dirs); err != nil {
			for _, st := range b.staged {
				if st != nil {
					st.Abort()
				}
			}
			b.fail(err)
			return
		}
	}
	for i, st := range b.staged {
		if st == nil || b.results[i].Err != nil {
			continue
		}
		if err := b.failedBefore(b.todo[i], i); err != nil {
			st.Abort()
			b.results[i].Err = err
		} else {
			b.results[i] = commitOne(ctx, st, b.together)
		}
		b.note(i)
	}
	if b.together {
		if err := w.sync(b.dirs); err != nil {
			b.fail(err)
		}
	}
}

// fail makes an error that of all steps that a sync was for.
func (b *writing) fail(err error) {
	for i, st := range b.staged {
		if (st != nil || b.unsealed[i]) && b.results[i].Err == nil {
			b.results[i].Err = err
		}
	}
}

func commitOne(ctx context.Context, st resource.Staged, synced bool) resource.ItemResult {
	if !synced {
		if err := st.Sync(); err != nil {
			st.Abort()
			return resource.ItemResult{Err: err}
		}
	}
	res, err := st.Commit(ctx)
	if err != nil {
		st.Abort()
		return resource.ItemResult{Err: err}
	}
	if !synced {
		err = st.Seal()
	}
	return resource.ItemResult{Result: res, Err: err}
}

// mustConfirm has a step looked at once more at the end of the run.
func (w *walk) mustConfirm(s *plan.Step) {
	if _, ok := s.Resource.(resource.Confirmer); ok {
		w.confirm = append(w.confirm, confirmation{step: s, at: w.opt.Now()})
	}
}

// confirmDelay is how long something that was started must have lived.
const confirmDelay = time.Second

// confirmAll looks once more at what was started.
func (w *walk) confirmAll(ctx context.Context) error {
	due := w.confirm
	w.confirm = nil
	for _, c := range due {
		select {
		case <-time.After(c.at.Add(confirmDelay).Sub(w.opt.Now())):
		case <-ctx.Done():
			return ctx.Err()
		}
		err := c.step.Resource.(resource.Confirmer).Confirm(ctx)
		if err == nil {
			continue
		}
		o := w.results[c.step.Place]
		o.Err = err
		w.fail(c.step, o)
		put := map[resource.Address]state.Entry{c.step.Address: w.failing(c.step)}
		if err := w.rec.Record(state.Record{Put: put}, []*Outcome{o}); err != nil {
			return err
		}
	}
	return nil
}

// leave has what leaves the host let go before anything else is applied.
func (w *walk) leave(ctx context.Context) error {
	var leavers []*plan.Step
	for _, s := range w.plan.Steps {
		if s.Verdict == plan.Failed && !w.opt.AcceptPrune {
			return nil // the removals will most likely have to wait
		}
		if _, ok := s.Resource.(resource.Leaver); ok && s.Prune && w.heldUp(s) == nil && s.Verdict == plan.Change {
			leavers = append(leavers, s)
		}
	}
	if len(leavers) == 0 {
		return nil
	}
	if err := w.begin(leavers); err != nil {
		return err
	}
	var errs []*Outcome
	for _, s := range leavers {
		if err := s.Resource.(resource.Leaver).Leave(ctx, s.View); err != nil {
			s.Verdict, s.Err = plan.Failed, err
			o := &Outcome{Step: s, Cause: s.Cause, Changes: s.Finding.Diff}
			w.fail(s, o)
			errs = append(errs, o)
			continue
		}
		w.left = append(w.left, s)
	}
	w.opaque = true
	return w.rec.Record(state.Record{Done: true}, errs)
}

// stay takes leave back for what was held up since.
func (w *walk) stay(ctx context.Context) error {
	for _, s := range w.left {
		if o := w.results[s.Place]; o != nil && o.Status != Held {
			continue
		}
		if err := s.Resource.(resource.Leaver).Stay(ctx, s.View); err != nil {
			o := &Outcome{Step: s, Cause: s.Cause, Err: err}
			w.fail(s, o)
			w.results[s.Place] = o
			if err := w.tell(s, o); err != nil {
				return err
			}
		}
	}
	return nil
}

func diffDigest(d resource.Diff) string {
	data, err := json.Marshal(d)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}
