package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/control"
)

func (a *app) suspendCommand() *cobra.Command {
	var reason string
	var length time.Duration
	c := &cobra.Command{
		Use:     "suspend --reason REASON [--for DURATION]",
		GroupID: "converge",
		Short:   "Stop convergence, across reboots; 'trued plan' still works",
		Example: `  trued suspend --reason "moving the database" --for 2h`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if reason == "" {
				return errors.New("suspend needs --reason: the next one who looks will want to know")
			}
			if length < 0 {
				return fmt.Errorf("--for %s is in the past", length)
			}
			req := control.SuspendRequest{Reason: reason, For: length, By: operator()}
			err := a.steer(c.Context(), func(by steering) error { return by.Suspend(c.Context(), req) })
			if err != nil {
				return err
			}
			until := "'trued resume'"
			if length > 0 {
				until = time.Now().Add(length).Format(time.DateTime)
			}
			_, err = fmt.Fprintf(a.out, "Suspended until %s: %s\n", until, printable(reason))
			return err
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why; shown by status and in every refusal")
	c.Flags().DurationVar(&length, "for", 0, "how long, such as 2h; without it until 'trued resume'")
	a.rootFlag(c)
	return c
}

func (a *app) resumeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "resume",
		GroupID: "converge",
		Short:   "Take convergence up again",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			err := a.steer(c.Context(), func(by steering) error { return by.Resume(c.Context()) })
			if err == nil {
				_, err = fmt.Fprintln(a.out, "Resumed.")
			}
			return err
		},
	}
	a.rootFlag(c)
	return c
}

// steering stops and restarts convergence: the daemon does, or where none runs,
// this process.
type steering interface {
	Suspend(ctx context.Context, r control.SuspendRequest) error
	Resume(ctx context.Context) error
}

// steer asks the daemon where one runs, so that its events leave at once.
func (a *app) steer(ctx context.Context, do func(steering) error) error {
	if orRoot(a.rootDir) == "/" {
		client, err := control.Dial(ctx, agent.SocketPath)
		if err == nil {
			return do(client)
		}
		if !errors.Is(err, control.ErrNoDaemon) {
			return err
		}
	}
	ag, err := a.open()
	if err != nil {
		return err
	}
	defer ag.Close()
	drain, err := ag.OpenSinks(a.out, a.format == "json")
	if err != nil {
		return err
	}
	if err := do(ag); err != nil {
		return err
	}
	a.flush(ctx, drain)
	return nil
}

// operator is who runs the command, behind sudo where that is known.
func operator() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}
