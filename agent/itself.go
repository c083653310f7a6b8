package agent

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"trued.dev/trued/internal/apply"
	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// unitName is the daemon's unit.
const unitName = "trued.service"

// changesAgent reports whether a run changed the agent itself: its package, its
// unit, or its configuration. It is then restarted once, after the run.
func changesAgent(outcomes []*apply.Outcome) bool {
	for _, o := range outcomes {
		if o.Status != apply.Applied && o.Status != apply.Repaired {
			continue
		}
		claims := o.Step.View.Held
		if !o.Step.Prune {
			claims = o.Step.Resource.Claims()
		}
		if slices.ContainsFunc(claims, isSetup) || slices.ContainsFunc(claims, isProgram) && isOld() {
			return true
		}
	}
	return false
}

// isProgram reports whether a claim is on what the program comes with.
func isProgram(c resource.Claim) bool {
	switch c.Space {
	case resource.SpacePackage:
		name, _, _ := strings.Cut(c.Name, ":")
		return name == "trued"
	case resource.SpacePath:
		return c.Name == "/usr/bin/trued"
	}
	return false
}

// isOld reports whether this process is of another program than the one that is
// in its place by now. A package starts the daemon anew by itself, and what then
// learns what came of that is the new one already.
func isOld() bool {
	place, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return true
	}
	runs, err := os.Stat("/proc/self/exe")
	if err != nil {
		return true
	}
	is, err := os.Stat(strings.TrimSuffix(place, " (deleted)"))
	return err != nil || !os.SameFile(runs, is)
}

// isSetup reports whether a claim is on what the agent is told when it starts.
func isSetup(c resource.Claim) bool {
	switch c.Space {
	case resource.SpaceUnit:
		return c.Name == unitName
	case resource.SpacePath:
		return c.Name == DefaultConfig ||
			strings.HasSuffix(c.Name, "/systemd/system/"+unitName) ||
			strings.Contains(c.Name, "/systemd/system/"+unitName+".d/")
	}
	return false
}

// RestartDaemon has the init system start the daemon anew if it runs, without
// waiting: the caller may be what is restarted.
func (a *Agent) RestartDaemon(ctx context.Context) error {
	if a.host.Offline() {
		return nil
	}
	_, err := a.host.Run(ctx, host.Command{Args: []string{"systemctl", "--no-block", "try-restart", unitName}})
	if err != nil {
		return fmt.Errorf("cannot restart %s: %w", unitName, err)
	}
	return nil
}

// stateWait is how long systemd has to say in what state the system is.
const stateWait = 30 * time.Second

// mayRepair reports whether the system is in a state in which drift counts: not
// while it shuts down, nor in rescue or emergency mode.
func (a *Agent) mayRepair(ctx context.Context) bool {
	if a.host.Offline() {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, stateWait)
	defer cancel()
	st, err := a.host.Systemd().SystemState(ctx)
	if err != nil {
		return true // no systemd here that could be shutting down, or none that says so
	}
	return st != "stopping" && st != "maintenance"
}
