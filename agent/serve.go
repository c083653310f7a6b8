package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"trued.dev/trued/internal/control"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
)

// SocketPath is where the daemon answers.
const SocketPath = "/run/trued/trued.sock"

var _ control.Agent = (*desk)(nil)

// desk answers the control socket for a daemon.
type desk struct{ d *Daemon }

// Desk returns what answers the control socket.
func (d *Daemon) Desk() control.Agent { return &desk{d} }

func (k *desk) Status(ctx context.Context) (json.RawMessage, error) {
	s, err := k.d.agent.Status(ctx)
	if err != nil {
		return nil, err
	}
	schedule := k.d.Schedule()
	s.Daemon, s.Schedule, s.Sinks = true, &schedule, k.d.drain.Status()
	if k.d.agent.watcher != nil {
		watching := k.d.agent.watcher.Status()
		s.Watching = &watching
	}
	return json.Marshal(s)
}

func (k *desk) Sync(ctx context.Context, r control.SyncRequest, progress func(string)) (control.SyncReply, error) {
	trigger := "sync"
	if r.Order != nil {
		trigger = r.Order.Do
	}
	result, err := k.d.Sync(ctx, Request{
		Trigger:       trigger,
		Fetch:         !r.Now,
		AcceptPrune:   r.AcceptPrune,
		IgnoreWindows: r.IgnoreWindows,
		AcceptHistory: r.AcceptHistory,
		AcceptCommit:  r.AcceptCommit,
		Hasty:         true,
		Wait:          lockWait,
		Order:         (*Order)(r.Order),
		Progress:      func(a resource.Address) { progress(a.String()) },
	})
	var refused *OrderError
	var suspended *SuspendedError
	switch {
	case errors.As(err, &suspended):
		return control.SyncReply{}, &control.Error{Code: CodeSuspended, Message: suspended.Error()}
	case errors.As(err, &refused):
		return control.SyncReply{}, &control.Error{Code: CodeRefused, Message: refused.Error()}
	case errors.Is(err, state.ErrLocked):
		return control.SyncReply{}, &control.Error{Code: CodeLocked, Message: err.Error()}
	case err != nil:
		return control.SyncReply{}, err
	}
	summary := result.Run.Summary
	if result.Unwell != "" {
		summary = result.Unwell + "; " + summary
	}
	return control.SyncReply{
		ExitCode: k.d.agent.opt.ExitCode(result.Verdict),
		Summary:  fmt.Sprintf("%s: %s", result.Verdict, summary),
		RunID:    result.Run.ID,
	}, nil
}

// Codes of errors that a caller acts on.
const (
	CodeSuspended = "suspended"
	CodeLocked    = "locked"
	CodeRefused   = "refused"
)

func (k *desk) Suspend(ctx context.Context, r control.SuspendRequest) error {
	defer k.d.changed()
	defer k.d.drain.Notify()
	return k.d.agent.Suspend(ctx, r)
}

func (k *desk) Resume(ctx context.Context) error {
	defer k.d.changed()
	defer k.d.drain.Notify()
	return k.d.agent.Resume(ctx)
}
