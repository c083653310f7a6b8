package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"
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
			ag, err := a.open()
			if err != nil {
				return err
			}
			defer ag.Close()
			var until time.Time
			if length > 0 {
				until = time.Now().Add(length).UTC().Truncate(time.Second)
			}
			if err := ag.Suspend(c.Context(), reason, operator(), until); err != nil {
				return err
			}
			if until.IsZero() {
				fmt.Fprintf(a.out, "Suspended until 'trued resume': %s\n", reason)
			} else {
				fmt.Fprintf(a.out, "Suspended until %s: %s\n", until.Local().Format(time.DateTime), reason)
			}
			return nil
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
			ag, err := a.open()
			if err != nil {
				return err
			}
			defer ag.Close()
			if err := ag.Resume(c.Context()); err != nil {
				return err
			}
			fmt.Fprintln(a.out, "Resumed.")
			return nil
		},
	}
	a.rootFlag(c)
	return c
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
