package agent

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/source"
)

// fromSource keeps what a source has to tell until somebody records it.
func (a *Agent) fromSource(e source.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.heard = append(a.heard, e)
	if e.Type == source.EventRefused {
		a.failures[failure{source: e.Source, reason: cmp.Or(e.Reason, "history"), refused: true}]++
	}
}

// hear returns what sources had to tell since the last time.
func (a *Agent) hear() []source.Event {
	a.mu.Lock()
	defer a.mu.Unlock()
	heard := a.heard
	a.heard = nil
	return heard
}

// unfetched names the sources that were never fetched.
func (a *Agent) unfetched() []string {
	var names []string
	for _, s := range a.sources {
		if _, ok := s.Last(); !ok {
			names = append(names, s.Name())
		}
	}
	return names
}

// plans notes when each source is polled next.
func (a *Agent) plans(next map[string]time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next = next
}

// Poll asks the named sources for something newer. It returns what each came
// to, and whether there is a commit that no run has seen yet; the error joins
// those of the fetches. What sources have to tell waits for tellHeard.
func (a *Agent) Poll(ctx context.Context, names []string) (news bool, polled map[string]error, err error) {
	polled = map[string]error{}
	reload := a.store.ReloadHead()
	snap := a.store.Head()
	errs := []error{reload}
	for _, s := range a.sources {
		switch {
		case !slices.Contains(names, s.Name()):
			continue
		case reload != nil:
			polled[s.Name()] = reload
			continue
		}
		rev, err := s.Fetch(ctx)
		if polled[s.Name()] = err; err != nil {
			a.fetchFailed(ctx, s.Name(), err)
			errs = append(errs, err)
			continue
		}
		seen := snap.Sources[s.Name()]
		if rev.Commit != seen.Applied && rev.Commit != seen.Attempted {
			news = true
		}
	}
	a.freshness(time.Now())
	return news, polled, errors.Join(errs...)
}

// tellHeard records what sources had to tell outside of a run. What cannot be
// recorded now, since a run of another process is under way, waits for the next
// time.
func (a *Agent) tellHeard(ctx context.Context) error {
	heard := a.hear()
	for i, e := range heard {
		if err := a.tell(ctx, incidentOf(e)); err != nil {
			a.mu.Lock()
			a.heard = append(heard[i:len(heard):len(heard)], a.heard...)
			a.mu.Unlock()
			return err
		}
	}
	return nil
}

func incidentOf(e source.Event) report.Incident {
	i := report.Incident{Type: report.Type(e.Type), Source: e.Source, Commit: e.Revision, Message: e.Message, Err: e.Err}
	var known *source.Error
	if errors.As(e.Err, &known) {
		i.ErrType = known.Type()
	}
	if i.Signer = e.Signer; e.Reason != "" {
		i.ErrType = e.Reason
	}
	return i
}
