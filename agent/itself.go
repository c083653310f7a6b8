package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"

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
		if slices.ContainsFunc(claims, isAgent) {
			return true
		}
	}
	return false
}

func isAgent(c resource.Claim) bool {
	switch c.Space {
	case resource.SpacePackage:
		name, _, _ := strings.Cut(c.Name, ":")
		return name == "trued"
	case resource.SpaceUnit:
		return c.Name == unitName
	case resource.SpacePath:
		return c.Name == DefaultConfig || c.Name == "/usr/bin/trued" ||
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

// mayRepair reports whether the system is in a state in which drift counts: not
// while it shuts down, nor in rescue or emergency mode.
func (a *Agent) mayRepair(ctx context.Context) bool {
	if a.host.Offline() {
		return true
	}
	st, err := a.host.Systemd().SystemState(ctx)
	if err != nil {
		return true // no systemd here that could be shutting down
	}
	return st != "stopping" && st != "maintenance"
}
