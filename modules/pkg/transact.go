package pkg

import (
	"context"
	"errors"
	"slices"

	"trued.dev/trued/internal/resource"
)

// Transact applies all items in as few transactions as their options allow,
// which is nearly always one.
func (m *Module) Transact(ctx context.Context, items []resource.Item) []resource.ItemResult {
	results := make([]resource.ItemResult, len(items))
	if len(items) == 0 {
		return results
	}
	wishes, err := m.prepare(ctx, items)
	if err != nil {
		for i := range results {
			results[i].Err = err
		}
		return results
	}
	for _, group := range byOptions(wishes) {
		m.transactGroup(ctx, group)
	}
	for _, w := range wishes {
		results[w.item].Err = w.err
		if w.claim != "" {
			results[w.item].Result.Prior = w.note.prior(w.claim)
		}
		if w.err != nil && items[w.item].Resource.Common().Sensitive {
			results[w.item].Err = errors.New("the package transaction failed; its messages are withheld, for the resource is sensitive")
			if ctx.Err() != nil {
				results[w.item].Err = ctx.Err()
			}
		}
	}
	return results
}

// byOptions parts the wishes by what counts for a whole transaction. Removals
// and marks go with the first part.
func byOptions(wishes []*wish) [][]*wish {
	var order []options
	groups := map[options][]*wish{}
	var rest []*wish
	for _, w := range wishes {
		switch {
		case w.err != nil:
		case !w.install:
			rest = append(rest, w)
		default:
			if groups[w.opts] == nil {
				order = append(order, w.opts)
			}
			groups[w.opts] = append(groups[w.opts], w)
		}
	}
	slices.SortStableFunc(order, func(a, b options) int {
		return boolInt(a != options{}) - boolInt(b != options{})
	})
	if len(order) == 0 {
		if len(rest) == 0 {
			return nil
		}
		return [][]*wish{rest}
	}
	out := make([][]*wish, len(order))
	for i, o := range order {
		out[i] = groups[o]
	}
	out[0] = append(out[0], rest...)
	return out
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// transactGroup brings about what it can of the wishes. When something went
// wrong that can be laid on some, the rest is tried once more without them.
func (m *Module) transactGroup(ctx context.Context, wishes []*wish) {
	a := &attempt{m: m, banned: map[string]bool{}}
	left := wishes
	for try := 0; try < 2 && len(left) > 0; {
		err := a.once(ctx, left)
		left = undone(left)
		var failed *failure
		if err == nil || ctx.Err() != nil || !errors.As(err, &failed) {
			break
		}
		if failed.Fetch && !m.triedRefresh() && m.refreshOnce(ctx) == nil {
			left = a.retarget(ctx, left) // what could not be downloaded may have moved on
			continue
		}
		left = a.blame(left, failed)
		try++
	}
}

// undone are the wishes that are still to be brought about.
func undone(wishes []*wish) []*wish {
	var left []*wish
	for _, w := range wishes {
		if !w.done && w.refused() == nil {
			left = append(left, w)
		}
	}
	return left
}

// refused returns the error of a wish that is not worth another try.
func (w *wish) refused() error {
	var f *failure
	if w.err == nil || errors.As(w.err, &f) {
		return nil
	}
	return w.err
}
