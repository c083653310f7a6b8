package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

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
	a := r.agent
	if w := a.watcher; w == nil {
		a.watchCulprits(entries)
	} else if !a.follow(func() { a.watchCulprits(entries); w.Watch(targets(entries)) }, followWait) {
		a.opt.Log.Warn("what is managed is not all watched", "error", errNoAnswer)
	}
}

func targets(entries []catalog.Entry) []watch.Target {
	list := make([]watch.Target, 0, len(entries))
	for _, e := range entries {
		if watched, ok := e.Resource.(resource.Watched); ok {
			list = append(list, watch.Target{Address: e.Address, Watches: watched.Watches()})
		}
	}
	return list
}

// followWait is how long a run waits until all that it looks at is watched.
const followWait = 10 * time.Second

var errNoAnswer = errors.New("a file system does not answer")

// follow does something that may wait for any file system of the host, and waits
// for it no longer than told: one that hangs must not keep the run from the rest.
// When it is done later, or was left out since the one before hangs still, all is
// to be looked at again.
func (a *Agent) follow(do func(), wait time.Duration) bool {
	select {
	case a.following <- struct{}{}:
	default:
		return false
	}
	done := make(chan struct{})
	go func() {
		defer func() { <-a.following }()
		do()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(wait):
	}
	go func() {
		<-done
		a.watcher.Suspect(errNoAnswer.Error())
	}()
	return false
}

// watchFirst does it where nothing is watched yet, although the catalog might not
// be needed otherwise.
func (r *run) watchFirst(ctx context.Context) {
	if w := r.agent.watcher; w != nil && !w.Watching() && !r.partial() {
		r.loaded = true
		r.watch(r.load(ctx))
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
