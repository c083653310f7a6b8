package units

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// React restarts or reloads the unit. A restart makes a reload needless.
func (u *Unit) React(ctx context.Context, view resource.View, owed []resource.Reaction) (resource.Result, error) {
	m := u.manager
	if m.host.Offline() || !u.shouldRun() || isTemplate(u.Name) || len(owed) == 0 {
		return resource.Result{}, nil
	}
	if m.itself(u.Name) {
		return resource.Result{Pending: "the agent restarts itself when the run is over"}, nil
	}
	seen, err := m.observe(ctx, u.Name)
	if err != nil {
		return resource.Result{}, err
	}
	if seen.missing() || seen.masked() {
		return resource.Result{}, nil
	}
	if err := u.Reread(ctx); err != nil {
		return resource.Result{}, err
	}
	if seen.Active == "failed" && u.State == Running {
		if err := m.host.Systemd().ResetFailed(ctx, u.Name); err != nil {
			return resource.Result{}, err
		}
	}
	n := takeNotes(view.Prior)
	err = u.job(ctx, u.reaction(owed), seen.Name, n)
	return resource.Result{Prior: n.changed()}, err
}

func (u *Unit) reaction(owed []resource.Reaction) host.Job {
	switch restart := slices.Contains(owed, resource.Restart); {
	case restart && u.State == Running:
		return host.RestartJob
	case restart:
		return host.TryRestartJob
	case u.State == Running:
		return host.ReloadJob
	default:
		return host.TryReloadJob
	}
}

// A start is what is known of a unit right after it was started.
type start struct {
	// name is the unit's own, which it keeps when an alias of it goes.
	name     string
	at       time.Time
	queued   bool
	restarts uint32
}

// job has a job done, and notes what Confirm is to look at. While the system is
// still starting it is queued alone: waiting could be for something that waits
// for us. What came of a start goes to the notes.
func (u *Unit) job(ctx context.Context, job host.Job, name string, n *notes) error {
	s := u.manager.host.Systemd()
	state, err := s.SystemState(ctx)
	if err != nil {
		return err
	}
	if state == "starting" || state == "initializing" {
		if err := s.Queue(ctx, job, name); err != nil {
			return err
		}
		u.started = &start{name: name, at: time.Now(), queued: true}
		return nil
	}
	if job == host.StopJob {
		return u.explain(ctx, name, s.Do(ctx, job, name))
	}
	s.Pin(ctx, name)
	if err := s.Do(ctx, job, name); err != nil {
		defer s.Unpin(ctx, name)
		return u.explain(ctx, name, err)
	}
	d, err := s.Unit(ctx, name)
	if err != nil {
		return err
	}
	u.started = &start{name: name, at: time.Now(), restarts: d.Restarts}
	return n.remember(u.Name, attemptOf(d, u.manager.host.BootID()))
}

// settle is how long a unit that was started has to show that it lives.
const settle = time.Second

// Confirm looks once more at a unit that was started or restarted.
func (u *Unit) Confirm(ctx context.Context) error {
	if err := u.manager.reloadDue(ctx); err != nil || u.started == nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(settle - time.Since(u.started.at)):
	}
	name := u.started.name
	defer u.manager.host.Systemd().Unpin(ctx, name)
	seen, err := u.manager.observe(ctx, name)
	if err != nil {
		return err
	}
	if u.started.queued && seen.Job != 0 || u.State == Stopped {
		return nil
	}
	d, err := u.manager.host.Systemd().Unit(ctx, name)
	if err != nil {
		return err
	}
	switch {
	case seen.Active == "failed", seen.restarting(), d.Restarts > u.started.restarts:
		return u.explain(ctx, name, fmt.Errorf("unit %q died after it was started", u.Name))
	case seen.active() || u.State != Running || len(d.Unmet) > 0 || d.Oneshot && d.Result == "success":
		return nil
	default:
		return u.explain(ctx, name, fmt.Errorf("unit %q ended after it was started", u.Name))
	}
}

const (
	logLines       = 10
	explainTimeout = 10 * time.Second
)

// explain adds to an error why the unit ended, and its last log lines. It has
// some time of its own: that of the run may be over.
func (u *Unit) explain(ctx context.Context, name string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), explainTimeout)
	defer cancel()
	d, detailErr := u.manager.host.Systemd().Unit(ctx, name)
	if detailErr != nil {
		return err
	}
	var why []string
	if d.Result != "" && d.Result != "success" {
		why = append(why, "result "+d.Result)
	}
	if d.Exit != "" {
		why = append(why, d.Exit)
	}
	if not := slices.Concat(d.Unmet, d.Asserts); len(not) > 0 {
		why = append(why, strings.Join(not, ", ")+" is not met")
	}
	if len(why) > 0 {
		err = fmt.Errorf("%w (%s)", err, strings.Join(why, ", "))
	}
	if log := u.lastLines(ctx, name, d.Activated); log != "" && !u.Sensitive {
		err = fmt.Errorf("%w; its last log lines:\n%s", err, log)
	}
	return err
}

// lastLines returns what the unit, and systemd about it, wrote to the journal
// since it was last activated. Invocation ids are no help: the last words of a
// process that is gone by the time they are read carry none.
func (u *Unit) lastLines(ctx context.Context, name string, activated uint64) string {
	// What the unit wrote last may not have reached the journal's files yet. A
	// journal that cannot do that is read as it is.
	_, _ = u.manager.host.Run(ctx, host.Command{Args: []string{"journalctl", "--sync"}})
	args := []string{
		"journalctl", "--quiet", "--no-pager", "--output=cat", "--unit=" + name,
		fmt.Sprintf("--lines=%d", logLines), fmt.Sprintf("--since=@%d", activated/1e6),
	}
	out, err := u.manager.host.Run(ctx, host.Command{Args: args})
	if err != nil {
		return ""
	}
	return strings.TrimRight(out.Text, "\n")
}
