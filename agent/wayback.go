package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
	"trued.dev/trued/internal/wayback"
)

// While a commit is on trial two things are kept that the state cannot hold: what
// modules need to give back more than their resources tell of, and an order for
// whoever comes when this agent is dead.

const (
	rollbackTimer = "trued-rollback.timer"
	// keptDir is where modules keep things, a directory for each kind.
	keptDir = "kept"
	// returningFile is in it from when they give them back.
	returningFile = "returning"
	// systemctlWait is how long the service manager may take to start a timer.
	systemctlWait = 20 * time.Second
)

func (a *Agent) way() wayback.Dir { return wayback.Dir(filepath.Join(a.store.Dir(), "wayback")) }

func (a *Agent) keptPath(name string) string { return filepath.Join(a.way().Path(keptDir), name) }

// arm makes sure that the host goes back also without this agent. It is called
// before the first change of a trial; when it fails nothing is changed.
func (a *Agent) arm(ctx context.Context, t *state.Trial) error {
	if !t.HasWayBack() || t.Failed != "" || a.opt.ConfigFile == "" || a.host.Offline() {
		return nil
	}
	o := wayback.Order{
		Run: t.Run, Since: t.Since, RunTimeout: a.config.RunTimeout, ConfirmWithin: a.config.ConfirmWithin, Begun: a.host.Moment(),
	}
	if err := a.way().Arm(o, "/proc/self/exe", a.opt.ConfigFile, a.rulesFile()); err != nil {
		return err
	}
	if err := a.way().Load(); err != nil {
		a.opt.Log.Warn("should the disk become full, the way back may not find room", "error", err)
	}
	if !a.way().Executable() {
		a.opt.Log.Warn("the kept program cannot be run where it is; with the agent dead, the installed one is to go back",
			"path", a.way().Path(wayback.ProgramFile))
	}
	if err := a.systemctl(ctx, "start", rollbackTimer); err != nil {
		a.opt.Log.Warn("nobody goes back should the agent die", "error", err)
	}
	return nil
}

// disarm ends an order. What it was about has come to its end: when this fails,
// whoever looks at the order next finds that out.
func (a *Agent) disarm(ctx context.Context) {
	o, err := a.way().Order()
	if o == nil && err == nil {
		return
	}
	if err := a.way().Disarm(); err != nil {
		a.opt.Log.Warn("the order to go back stays; it does nothing", "error", err)
	}
	_ = a.systemctl(ctx, "stop", rollbackTimer) // without an order it finds nothing to do
}

// moved tells that an order waits for something else now.
func (a *Agent) moved(to wayback.Phase) {
	if err := a.way().Move(to, a.host.Moment()); err != nil {
		a.opt.Log.Warn("the host may go back although the agent lives", "error", err)
	}
}

// systemctl asks the service manager, where there is one.
func (a *Agent) systemctl(ctx context.Context, args ...string) error {
	if a.host.Offline() {
		return nil
	}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return errors.New("systemd does not run here")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), systemctlWait)
	defer cancel()
	_, err := a.host.Run(ctx, host.Command{Args: append([]string{"systemctl"}, args...)})
	return err
}

// takeUp brings an order up to what a new run finds: one whose trial is over goes,
// and one whose run was cut off waits for its end again.
func (a *Agent) takeUp(ctx context.Context) {
	t := a.store.Head().Trial
	switch {
	case !t.HasWayBack():
		a.disarm(ctx)
	case t.Failed != "":
		a.moved(wayback.Returning)
	case t.Ended.IsZero():
		if err := a.way().Resume(a.host.Moment()); err != nil {
			a.opt.Log.Warn("the host may go back although the agent lives", "error", err)
		}
	}
}

// broken tells that a run could not be recorded, so that nobody will see its end.
func (a *Agent) broken() {
	if err := a.way().GiveUp(a.host.Moment()); err != nil {
		a.opt.Log.Warn("the host goes back later than it might", "error", err)
	}
}

// trialMoved follows what a record says of the trial.
func (a *Agent) trialMoved(ctx context.Context, t *state.Trial) {
	switch {
	case t == nil:
	case !t.HasWayBack():
		a.disarm(ctx)
	case t.Failed != "":
		a.moved(wayback.Returning)
	case !t.Ended.IsZero():
		a.moved(wayback.Waiting)
	}
}

// confirmed drops what was kept for a way that nobody goes any more.
func (a *Agent) confirmed() {
	if err := os.RemoveAll(a.way().Path(keptDir)); err != nil {
		a.opt.Log.Warn("cannot remove what was kept for the way back", "error", err)
	}
}

// keepOld has modules keep what they are about to take away, while there is a way
// back.
func (r *run) keepOld() error {
	t := r.trial
	if t == nil {
		t = r.agent.store.Head().Trial
	}
	if !t.HasWayBack() || t.Failed != "" || r.agent.config.Mode == Observe || r.agent.host.Offline() {
		return nil
	}
	// What did not come back from an earlier commit comes back with this one.
	if err := os.Remove(r.agent.keptPath(returningFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot begin to keep what is changed: %w", err)
	}
	for _, m := range r.kit.modules {
		if k, ok := m.(resource.Returner); ok {
			k.KeepIn(r.agent.keptPath(m.Kind()))
		}
	}
	return nil
}

// returning reports whether there is something that modules have to give back.
func (r *run) returning() bool {
	if r.agent.config.Mode == Observe || r.partial() {
		return false
	}
	if t := r.agent.store.Head().Trial; t != nil && t.Failed != "" {
		_, err := os.Stat(r.agent.way().Path(keptDir))
		return err == nil
	}
	_, err := os.Stat(r.agent.keptPath(returningFile))
	return err == nil
}

// giveBack has modules give back what they kept. What does not come back is tried
// again by the next run; the rest goes on all the same.
func (r *run) giveBack(ctx context.Context) error {
	if !r.returning() {
		return nil
	}
	// After this run nothing else may tell that the host was on its way back.
	if err := os.WriteFile(r.agent.keptPath(returningFile), nil, 0o600); err != nil {
		r.agent.opt.Log.Warn("should not all come back in this run, the next does not try again", "error", err)
	}
	for _, m := range r.kit.modules {
		k, ok := m.(resource.Returner)
		if !ok {
			continue
		}
		list, err := k.Return(ctx, r.agent.keptPath(m.Kind()))
		if err != nil {
			r.unreturned = errors.Join(r.unreturned, fmt.Errorf("cannot give back what was kept of %ss: %w", m.Kind(), err))
		}
		for _, what := range list {
			if err := r.tellReturned(m.Kind(), what); err != nil {
				return err
			}
		}
	}
	if len(r.rec.waiting) > 0 {
		if err := r.rec.write(state.Record{}); err != nil { // told now, whatever comes
			return err
		}
	}
	if r.unreturned != nil {
		r.agent.opt.Log.Error("not all is as before the commit", "error", r.unreturned)
		return nil
	}
	r.agent.confirmed()
	return nil
}

func (r *run) tellReturned(kind string, what resource.Returned) error {
	o := report.ResourceOutcome{
		Address: resource.Address{Kind: kind, Name: what.Name}, Cause: resource.Rollback, Outcome: report.Applied, Changes: what.Diff,
	}
	if what.Err != nil {
		o.Outcome, o.Err = report.Failed, what.Err
		r.unreturned = errors.Join(r.unreturned, what.Err)
	}
	return r.rec.tell(o)
}
