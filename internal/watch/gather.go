package watch

import "time"

// A gathering is what may have changed and nobody has taken yet. It holds no
// more than there are resources, whatever happens on the host.
type gathering struct {
	ready      chan struct{}
	ids        map[int32]bool
	everything string
	// partly is true when of everything only what somebody is at work on is left;
	// waiting are those of ids that are known to have to wait for that.
	partly  bool
	waiting map[int32]bool
	// first and last are when the first and the last of it were seen.
	first, last time.Time
	timer       *time.Timer
	// due is when the timer fires; zero when it does not.
	due time.Time
}

func (g *gathering) begin(now time.Time) {
	if g.empty() {
		g.first = now
	}
	g.last = now
	if g.ids == nil {
		g.ids = map[int32]bool{}
	}
}

func (g *gathering) empty() bool { return len(g.ids) == 0 && g.everything == "" }

func (g *gathering) clear() {
	g.ids, g.waiting, g.everything, g.partly = nil, nil, "", false
	g.first, g.last = time.Time{}, time.Time{}
}

// wait returns how long what there is has to wait for more of it.
func (g *gathering) wait(o Options) time.Duration {
	now := time.Now()
	return min(g.last.Add(o.Quiet).Sub(now), g.first.Add(o.Longest).Sub(now))
}

// soon sees to it that what there is will be told. A storm of events does not
// move the timer: it looks for itself, when it is over, whether to wait.
func (g *gathering) soon(o Options, tell func()) {
	if g.due.IsZero() || g.due.After(g.last.Add(o.Quiet)) {
		g.again(o.Quiet, tell)
	}
}

func (g *gathering) again(after time.Duration, tell func()) {
	g.due = time.Now().Add(after)
	if g.timer == nil {
		g.timer = time.AfterFunc(after, tell)
		return
	}
	g.timer.Reset(after)
}

func (g *gathering) stop() {
	if g.timer != nil {
		g.timer.Stop()
	}
}

// move makes what there is that of another index.
func (g *gathering) move(from, to *index) {
	g.waiting = nil
	if len(g.ids) == 0 {
		return
	}
	ids := map[int32]bool{}
	for id := range g.ids {
		if now, ok := to.ids[from.addresses[id]]; ok {
			ids[now] = true
		}
	}
	g.ids = ids
}
