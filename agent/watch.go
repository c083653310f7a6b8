package agent

import (
	"context"
	"fmt"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/watch"
)

// watch has the watcher of the daemon, if there is one, follow what is in the
// catalog, and whoever touches that be seen. It comes before anything is looked
// at, so that nothing that happens after the look is missed.
func (r *run) watch(entries []catalog.Entry) {
	if r.partial() {
		return
	}
	r.entries = entries
	r.agent.watchCulprits(entries)
	w := r.agent.watcher
	if w == nil {
		return
	}
	targets := make([]watch.Target, 0, len(entries))
	for _, e := range entries {
		if watched, ok := e.Resource.(resource.Watched); ok {
			targets = append(targets, watch.Target{Address: e.Address, Watches: watched.Watches()})
		}
	}
	w.Watch(targets)
}

// watchFirst does it where nothing is watched yet, although the catalog might not
// be needed otherwise.
func (r *run) watchFirst() {
	if w := r.agent.watcher; w != nil && !w.Watching() && !r.partial() {
		r.loaded = true
		r.watch(r.load())
	}
}

// tellLimit tells, once, that not all that should be can be watched.
func (a *Agent) tellLimit(ctx context.Context) error {
	if a.watcher == nil {
		return nil
	}
	s := a.watcher.Status()
	if limited := s.Limit != ""; limited == a.limited || !limited {
		a.limited = limited
		return nil
	}
	err := a.tell(ctx, report.Incident{
		Type: report.WatchLimited, ErrType: "limit",
		Message: fmt.Sprintf("%d resources cannot be watched and are polled: %s", s.Polled, s.Limit),
	})
	a.limited = err == nil
	return err
}
