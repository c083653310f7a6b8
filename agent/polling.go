package agent

import (
	"context"
	"time"
)

// A polling is a look for new commits that is in hand. A server that says nothing must
// not keep drift from being put back: once a poll takes long, drift cuts it off. The
// poll comes again right after that, and may take as long as it takes, so that drift
// without end keeps no commit away.
type polling struct {
	cancel context.CancelFunc
	// patience fires when drift waits no longer; nil where it has to.
	patience <-chan time.Time
	late     bool
}

// pollPatience is how long drift waits for a poll.
const pollPatience = time.Second

// poll hands out a look for new commits.
func (d *Daemon) poll(ctx context.Context, names []string) {
	within, cancel := context.WithCancel(ctx)
	d.polling = &polling{cancel: cancel}
	if !d.wasCut {
		d.polling.patience = time.After(pollPatience)
	}
	go func() {
		news, polled, err := d.agent.Poll(within, names)
		cut := within.Err() != nil
		d.agent.told(d.agent.tellLimit(ctx))
		d.work <- done{polled: polled, news: news, err: err, cut: cut}
	}()
}

// endPoll takes in that a poll has come to its end.
func (d *Daemon) endPoll(w done) {
	d.polling.cancel()
	d.polling, d.wasCut = nil, w.cut
}

// impatience signals that a poll takes long.
func (d *Daemon) impatience() <-chan time.Time {
	if d.polling == nil {
		return nil
	}
	return d.polling.patience
}

// yields reports whether what is in hand may be cut off for drift.
func (d *Daemon) yields() bool { return d.polling != nil && d.polling.late }

// hurry has a poll end at once when the host has to go back: what it goes back from may
// be why no server answers.
func (d *Daemon) hurry() {
	if d.polling != nil && d.proofs.back != nil {
		d.polling.cancel()
	}
}

// cutPoll has a poll end at once. Drift comes when it has.
func (d *Daemon) cutPoll() {
	d.polling.late = false
	d.polling.cancel()
	d.driftWaits = true
}
