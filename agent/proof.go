package agent

import (
	"context"
	"errors"
	"sync"
)

// A proof is the daemon's wait for the health of the host after a run. It goes on
// beside everything else that the daemon does: drift is put back meanwhile, and a
// newer commit need not wait for the end of it.
type proof struct {
	of     *Result
	cancel context.CancelFunc
	// call waits for what comes of it; it may be nil.
	call *syncCall
	// then and err are what came of it.
	then next
	err  error
}

// proofs are those of a daemon: at most one counts at a time.
type proofs struct {
	all     sync.WaitGroup
	ended   chan *proof
	current *proof
	// back is what has to be gone back from, and reboot what is to be proven after a
	// reboot, as soon as nothing else is in hand.
	back, reboot *proof
}

// begin waits for the health of the host after a run, unless that is waited for
// already. It reports whether it will answer whoever asked for the run.
func (p *proofs) begin(ctx context.Context, a *Agent, w done) bool {
	if w.result == nil || !w.result.unproven {
		return false
	}
	if old := p.current; old != nil {
		if t := old.of.trial; w.call == nil && t != nil && t.SameAs(w.result.trial) && t.Run == w.result.trial.Run {
			return false
		}
		p.drop()
	}
	ctx, cancel := context.WithCancel(ctx)
	of := *w.result
	now := &proof{of: &of, cancel: cancel, call: w.call}
	p.current = now
	p.all.Go(func() {
		defer cancel()
		now.then, now.err = a.settle(ctx, now.of, !w.reboot)
		select {
		case p.ended <- now:
		case <-ctx.Done():
		}
	})
	return w.call != nil
}

// drop ends the wait: something else has come. Whoever waited hears of the run.
func (p *proofs) drop() {
	if p.current != nil {
		p.current.cancel()
		p.current.answer()
		p.current = nil
	}
}

// take takes in what a wait came to, if it still counts.
func (p *proofs) take(ended *proof) {
	if ended != p.current {
		return
	}
	p.current = nil
	switch ended.then {
	case goBack:
		p.back = ended
		return
	case rebootFirst:
		p.reboot = ended
	}
	ended.answer()
}

func (p *proof) answer() {
	if p.call != nil {
		p.call.reply <- syncReply{p.of, nil}
		p.call = nil
	}
}

// end waits for what is in hand, which ctx has told to stop.
func (p *proofs) end() {
	p.drop()
	p.all.Wait()
}

// proved takes in what the wait for the health of the host came to.
func (d *Daemon) proved(p *proof) {
	if p.err != nil && !errors.Is(p.err, context.Canceled) {
		d.agent.opt.Log.Error("cannot tell whether the host is healthy", "error", p.err)
	}
	d.proofs.take(p)
	d.drain.Notify()
	d.changed()
}

// goBack hands out the run that brings the host back.
func (d *Daemon) goBack(ctx, stop context.Context) {
	p := d.proofs.back
	d.proofs.back = nil
	d.start(ctx, stop, Request{Trigger: triggerRollback, Hasty: true, Wait: lockWait}, p.call)
}

// rebootFirst hands out the reboot that what is on trial asks for.
func (d *Daemon) rebootFirst(ctx, stop context.Context) {
	p := d.proofs.reboot
	d.proofs.reboot = nil
	d.reboot(ctx, stop, p)
}

const triggerRollback = "rollback"
