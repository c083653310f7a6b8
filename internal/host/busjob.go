package host

import (
	"context"
	"fmt"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
)

// A Job is something that systemd is asked to do with a unit.
type Job string

// The jobs.
const (
	StartJob      Job = "start"
	StopJob       Job = "stop"
	RestartJob    Job = "restart"
	TryRestartJob Job = "try-restart"
	// ReloadJob reloads, or restarts what cannot be reloaded, or starts.
	ReloadJob Job = "reload-or-restart"
	// TryReloadJob is ReloadJob for a unit that is active, and nothing for another.
	TryReloadJob Job = "reload-or-try-restart"
)

// A JobError is a job that ended in another way than "done".
type JobError struct {
	Job    Job
	Unit   string
	Result string // canceled, timeout, failed, dependency, assert …
}

func (e *JobError) Error() string {
	return fmt.Sprintf("%s of unit %q ended as %q", e.Job, e.Unit, e.Result)
}

// Queue asks for a job and does not wait for it.
func (s *Systemd) Queue(ctx context.Context, job Job, unit string) error {
	_, _, err := s.enqueue(ctx, job, unit, nil)
	return err
}

// Do asks for a job and waits for its end, or until ctx is done, which does not
// take the job back. The error is a *JobError when the job was not done.
func (s *Systemd) Do(ctx context.Context, job Job, unit string) error {
	// The library writes to the channel with a lock held: the buffer keeps a
	// waiter that has gone from blocking all others.
	done := make(chan string, 1)
	conn, id, err := s.enqueue(ctx, job, unit, done)
	if err != nil {
		return err
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case result := <-done:
			if result == "done" || result == "skipped" {
				return nil
			}
			return &JobError{Job: job, Unit: unit, Result: result}
		case <-ctx.Done():
			return fmt.Errorf("%s of unit %q has not ended: %w", job, unit, ctx.Err())
		case <-tick.C:
			// The signal is lost when the connection breaks: then the job is
			// over when the unit has it no more, and the unit's state tells.
			if conn.Connected() {
				continue
			}
			if status, err := s.Units(ctx, []string{unit}); err == nil && status[0].Job != id {
				return nil
			}
		}
	}
}

func (s *Systemd) enqueue(ctx context.Context, job Job, unit string, done chan<- string) (*systemd.Conn, uint32, error) {
	conn, _, err := s.connection()
	if err != nil {
		return nil, 0, err
	}
	call := map[Job]func(context.Context, string, string, chan<- string) (int, error){
		StartJob:      conn.StartUnitContext,
		StopJob:       conn.StopUnitContext,
		RestartJob:    conn.RestartUnitContext,
		TryRestartJob: conn.TryRestartUnitContext,
		ReloadJob:     conn.ReloadOrRestartUnitContext,
		TryReloadJob:  conn.ReloadOrTryRestartUnitContext,
	}[job]
	id, err := call(ctx, unit, "replace", done)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot %s unit %q: %w", job, unit, err)
	}
	return conn, uint32(id), nil
}

// Pin keeps systemd from forgetting what became of a unit once it is inactive,
// until Unpin or until the connection ends. It is a courtesy: without a bus
// there is no pin.
func (s *Systemd) Pin(ctx context.Context, unit string) { s.ref(ctx, "RefUnit", unit) }

// Unpin is the reverse of Pin.
func (s *Systemd) Unpin(ctx context.Context, unit string) { s.ref(ctx, "UnrefUnit", unit) }

func (s *Systemd) ref(ctx context.Context, method, unit string) {
	if _, raw, err := s.connection(); err == nil {
		_ = manager(ctx, raw, method, unit).Err
	}
}

// ResetFailed makes systemd forget that a unit failed, and how often it was
// started lately.
func (s *Systemd) ResetFailed(ctx context.Context, unit string) error {
	conn, _, err := s.connection()
	if err != nil {
		return err
	}
	if err := conn.ResetFailedUnitContext(ctx, unit); err != nil {
		return fmt.Errorf("cannot reset unit %q: %w", unit, err)
	}
	return nil
}
