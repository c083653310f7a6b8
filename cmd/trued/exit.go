package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/control"
	"trued.dev/trued/internal/state"
)

// The exit codes, the same for every command.
const (
	exitOK        = 0
	exitUsage     = 1
	exitDiffers   = 2
	exitFailed    = 3
	exitBehind    = 4
	exitLocked    = 5
	exitSuspended = 6
)

// exitCode returns what a command that ends with the verdict exits with.
func exitCode(v agent.Verdict) int {
	switch v {
	case agent.InOrder:
		return exitOK
	case agent.Differs:
		return exitDiffers
	case agent.Failed, agent.Interrupted, agent.Unhealthy:
		return exitFailed
	case agent.Behind:
		return exitBehind
	default:
		return exitUsage
	}
}

// A codeError ends a command with an exit code and without a message: what
// there was to say has been said.
type codeError struct{ code int }

func (e *codeError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// done returns the error that ends a command with the verdict.
func done(v agent.Verdict) error {
	if code := exitCode(v); code != exitOK {
		return &codeError{code}
	}
	return nil
}

// exit turns the error of a command into a message with a hint, and a code.
func (a *app) exit(err error) int {
	if err == nil {
		return exitOK
	}
	var code *codeError
	if errors.As(err, &code) {
		return code.code
	}
	a.say("trued: %v", err)
	if h := hint(err); h != "" {
		a.say("hint: %s", h)
	}
	var suspended *agent.SuspendedError
	switch {
	case errors.Is(err, state.ErrLocked):
		return exitLocked
	case errors.As(err, &suspended):
		return exitSuspended
	case errors.Is(err, context.Canceled):
		return exitFailed
	}
	return exitUsage
}

// hint says what to do about an error, where there is something to say.
func hint(err error) string {
	var suspended *agent.SuspendedError
	var newer *state.NewerError
	var cut *shallowError
	switch {
	case errors.Is(err, state.ErrLocked):
		return "it is most likely the daemon's; wait for it with --wait 1m, or ask the daemon with 'trued sync'"
	case errors.As(err, &suspended):
		return "lift it with 'trued resume'; 'trued plan' works meanwhile"
	case errors.Is(err, control.ErrNoDaemon):
		return "start it with 'systemctl start trued', or run once without it: 'trued apply'"
	case errors.As(err, &newer):
		return "nothing was changed on this host"
	case errors.As(err, &cut):
		return "the clone is shallow: have the commits since --from with 'git fetch --unshallow'"
	case errors.Is(err, agent.ErrNoConfig):
		return "copy trued.yaml.example, which is beside it, and set the source; or give --source DIR-or-URL"
	case errors.Is(err, agent.ErrNoBackup):
		return "'trued backup list' shows what there is, with the word for each in the first column"
	case errors.Is(err, fs.ErrPermission):
		return "trued manages the whole host and runs as root; for a tree of your own use --root DIR"
	case errors.Is(err, agent.ErrNoSource):
		return "name a source in /etc/trued/trued.yaml (an example is beside it), or give --source DIR-or-URL"
	}
	return ""
}
