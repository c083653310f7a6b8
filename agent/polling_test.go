package agent

import (
	"context"
	"testing"
	"time"
)

// hand gives the daemon a poll that ends when it is cut off.
func hand(t *testing.T, d *Daemon) (ended context.Context) {
	t.Helper()
	ended, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	d.polling = &polling{cancel: cancel}
	return ended
}

// A bad commit may be why no server answers, and then the host would wait for that.
func TestGoingBackWaitsForNoPoll(t *testing.T) {
	d := &Daemon{}
	d.hurry()
	ended := hand(t, d)
	if d.hurry(); ended.Err() != nil {
		t.Error("it was cut off although there is nothing to go back from")
	}
	d.proofs.back = &proof{}
	if d.hurry(); ended.Err() == nil {
		t.Error("it goes on")
	}
}

// A poll gives way to drift once it takes long, and the one after it does not.
func TestAPollGivesWayToDriftOnce(t *testing.T) {
	d := &Daemon{}
	ended := hand(t, d)
	if d.yields() {
		t.Error("it gives way before it takes long")
	}
	patience := make(chan time.Time)
	d.polling.patience = patience
	if d.impatience() != (<-chan time.Time)(patience) {
		t.Error("nobody is told when it takes long")
	}
	d.polling.late, d.polling.patience = true, nil
	if !d.yields() {
		t.Error("it does not give way")
	}
	if d.cutPoll(); ended.Err() == nil || !d.driftWaits || d.yields() {
		t.Errorf("after it was cut off: %v, %+v", ended.Err(), d)
	}
	d.endPoll(done{cut: true})
	if d.polling != nil || !d.wasCut || d.impatience() != nil {
		t.Errorf("after its end: %+v", d)
	}
	hand(t, d)
	if d.endPoll(done{}); d.wasCut {
		t.Error("the poll after the next has no end either")
	}
}
