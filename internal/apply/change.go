package apply

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"runtime/debug"
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
	results := make([]resource.ItemResult, len(todo))
	staged := make([]resource.Staged, len(todo))
	for i, s := range todo {
		if err := w.failedBefore(s, todo[:i], results); err != nil {
			results[i].Err = err
			continue
		}
		staged[i], results[i] = stage(ctx, s)
	}
	w.commit(ctx, todo, staged, results)
	return results
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
func stage(ctx context.Context, s *plan.Step) (staged resource.Staged, res resource.ItemResult) {
	defer func() {
		if r := recover(); r != nil {
			staged, res = nil, resource.ItemResult{Err: fmt.Errorf("module %q panicked: %v\n%s", s.Address.Kind, r, debug.Stack())}
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, s.Timeout())
	defer cancel()
	if st, ok := s.Resource.(resource.Stager); ok {
		staged, err := st.Stage(ctx, s.View, s.Finding)
		if err != nil {
			return nil, resource.ItemResult{Err: err}
		}
		return staged, resource.ItemResult{}
	}
	applied, err := s.Resource.Apply(ctx, s.View, s.Finding)
	return nil, resource.ItemResult{Result: applied, Err: err}
}

// failedBefore returns an error when something earlier in the batch that the
// step comes after has failed.
func (w *walk) failedBefore(s *plan.Step, earlier []*plan.Step, results []resource.ItemResult) error {
	for i, e := range earlier {
		if results[i].Err == nil {
			continue
		}
		for _, j := range s.After {
			if j == e.Place {
				return &skipError{on: e.Address}
			}
		}
	}
	return nil
}

// A skipError is a step left out because another failed in the same batch.
type skipError struct{ on resource.Address }

func (e *skipError) Error() string { return fmt.Sprintf("%s did not succeed", e.on) }

// commit makes what was staged durable and visible.
func (w *walk) commit(ctx context.Context, todo []*plan.Step, staged []resource.Staged, results []resource.ItemResult) {
	var dirs []string
	n := 0
	for _, st := range staged {
		if st != nil {
			n++
			dirs = append(dirs, st.Dir())
		}
	}
	together := n >= syncTogether
	if together {
		if err := w.sync(dirs); err != nil {
			abortAll(staged, results, err)
			return
		}
	}
	for i, st := range staged {
		if st == nil || results[i].Err != nil {
			continue
		}
		if err := w.failedBefore(todo[i], todo[:i], results); err != nil {
			st.Abort()
			results[i].Err = err
			continue
		}
		results[i] = commitOne(ctx, st, together)
	}
	if together {
		if err := w.sync(dirs); err != nil {
			for i, st := range staged {
				if st != nil && results[i].Err == nil {
					results[i].Err = err
				}
			}
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

func abortAll(staged []resource.Staged, results []resource.ItemResult, err error) {
	for i, st := range staged {
		if st != nil {
			st.Abort()
			results[i].Err = err
		}
	}
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
