package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/wayback"
)

const (
	bootUnit         = "trued-boot.service"
	transactionsUnit = "trued-packages.service"
	// rescueTries is how often what did not come back is tried again before the host
	// is left to its agent, and rescuePause the time between.
	rescueTries = 6
	rescuePause = 5 * time.Second
	// letGoWait is how long an agent that was ended may hold the lock.
	letGoWait = 10 * time.Second
)

// A WayBack is how it stands with the way back.
type WayBack struct {
	Armed bool           `json:"armed"`
	Order *wayback.Order `json:"order,omitempty"`
	// Due is how long it is until the host goes back unless somebody confirms.
	Due time.Duration `json:"due,omitempty"`
}

// WayBack tells whether the host goes back by itself, and when. It changes
// nothing.
func (a *Agent) WayBack(ctx context.Context) (WayBack, error) {
	o, err := a.way().Order()
	if o == nil || err != nil {
		return WayBack{}, err
	}
	free := a.idle(ctx)
	o.Seen(a.host.Moment(), free)
	return WayBack{Armed: true, Order: o, Due: max(0, o.Due(a.host.Moment(), free))}, nil
}

// idle reports whether no agent is at work, nor a package transaction that one has
// begun.
func (a *Agent) idle(ctx context.Context) bool {
	return a.store.Free() && a.systemctl(ctx, "is-active", "--quiet", transactionsUnit) != nil
}

// Rescue brings the host back when an order says that it is time, in place of an
// agent that did not: whoever has the lock is ended, and the daemon is started
// again when the host is back. The result is nil when there was nothing to do.
func (a *Agent) Rescue(ctx, stop context.Context, req Request) (*Result, error) {
	o, err := a.way().Order()
	if errors.Is(err, wayback.ErrUnreadable) {
		now := a.host.Moment()
		// It is known that there is one: all of its time begins now.
		a.opt.Log.Warn("the order to go back counts anew", "error", err)
		o = &wayback.Order{Since: time.Now().UTC(), RunTimeout: a.config.RunTimeout, ConfirmWithin: a.config.ConfirmWithin,
			Phase: wayback.Waiting, Begun: now, Moved: now, Boots: []string{now.Boot}}
		err = a.way().Write(*o)
	}
	if err != nil {
		return nil, err
	}
	if o == nil {
		_ = a.systemctl(ctx, "stop", rollbackTimer) // armed by nobody
		return nil, nil
	}
	// After it was read: an agent that begins another one meanwhile is at work.
	now, free := a.host.Moment(), a.idle(ctx)
	if o.Seen(now, free) {
		if err := a.way().Write(*o); err != nil {
			// It can be told again at the next look, if later than it might be.
			a.opt.Log.Warn("cannot note what was seen", "error", err)
		}
	}
	if err := a.refuseSuspended(); err != nil {
		return nil, err // whoever suspended it is there
	}
	if o.Due(now, free) > 0 {
		return nil, nil
	}
	a.opt.Log.Warn("the host goes back in place of its agent", "run", o.Run, "phase", o.Phase)
	if err := a.way().Release(); err != nil {
		a.opt.Log.Warn("cannot make room", "error", err)
	}
	ran := a.systemctl(ctx, "is-active", "--quiet", unitName) == nil
	a.endAgent(ctx, o.Phase == wayback.Running)
	res, err := a.bringBack(ctx, stop, whyRescued(*o), req)
	if err != nil {
		return res, errors.Join(err, a.startAgent(ctx, ran))
	}
	a.disarm(ctx)
	return res, a.startAgent(ctx, ran)
}

func whyRescued(o wayback.Order) string {
	if o.Phase == wayback.Running {
		return fmt.Sprintf("the run did not come to its end within %s (run_timeout), and the agent did not go back", o.RunTimeout)
	}
	return fmt.Sprintf("nobody confirmed it within %s (confirm_within), and the agent did not go back", o.ConfirmWithin)
}

// bringBack goes back, and tries what did not come back some times more.
func (a *Agent) bringBack(ctx, stop context.Context, why string, req Request) (*Result, error) {
	req.Wait = letGoWait
	res, err := a.GoBack(ctx, stop, why, req)
	if res == nil && err == nil {
		return nil, nil // it was confirmed, or gone back from, at the last moment
	}
	again := req
	again.Trigger, again.Hasty = triggerRollback, true
	for try := 1; try < rescueTries && (err != nil || res.Verdict == Failed || res.Verdict == Interrupted); try++ {
		select {
		case <-time.After(rescuePause):
		case <-stop.Done():
			return res, err
		}
		a.releaseLock(ctx)
		if res == nil {
			res, err = a.GoBack(ctx, stop, why, req)
			if res == nil && err == nil {
				return nil, nil
			}
			continue
		}
		res, err = a.Run(ctx, stop, again)
	}
	return res, err
}

// endAgent ends the daemon and whoever else has the lock: it may hang. A package
// transaction goes on, unless it is what did not come to its end.
func (a *Agent) endAgent(ctx context.Context, transaction bool) {
	units := []string{unitName}
	if state, _ := a.host.Run(ctx, host.Command{Args: []string{"systemctl", "show", "--value", "--property=ActiveState", bootUnit}}); strings.TrimSpace(state.Text) == "activating" {
		units = append(units, bootUnit)
	}
	if transaction {
		units = append(units, transactionsUnit)
	}
	// It is told to stop first, so that nobody starts it anew when it is killed.
	_ = a.systemctl(ctx, append([]string{"--no-block", "stop"}, units...)...)
	_ = a.systemctl(ctx, append([]string{"kill", "--signal=KILL"}, units...)...)
	if err := a.systemctl(ctx, append([]string{"stop"}, units...)...); err != nil {
		a.opt.Log.Warn("cannot stop the agent", "error", err)
	}
	a.releaseLock(ctx)
}

// releaseLock ends the process that has the lock, if there is one that does not
// give it back.
func (a *Agent) releaseLock(ctx context.Context) {
	for deadline := time.Now().Add(letGoWait); !a.store.Free(); {
		pid := a.store.Holder()
		if pid > 0 && pid != os.Getpid() && time.Now().After(deadline.Add(-letGoWait/2)) {
			a.opt.Log.Warn("ending the process that holds the lock", "pid", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if time.Now().After(deadline) {
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}

// startAgent starts the daemon where it is meant to run, or did until it was ended.
func (a *Agent) startAgent(ctx context.Context, ran bool) error {
	if !ran && a.systemctl(ctx, "is-enabled", "--quiet", unitName) != nil {
		return nil
	}
	_ = a.systemctl(ctx, "daemon-reload") // its unit may have come back
	_ = a.systemctl(ctx, "reset-failed", unitName, bootUnit)
	if err := a.systemctl(ctx, "--no-block", "start", unitName); err != nil {
		return fmt.Errorf("cannot start the agent: %w", err)
	}
	return nil
}
