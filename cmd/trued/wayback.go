package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"trued.dev/trued/agent"
)

func (a *app) waybackCommand() *cobra.Command {
	var whenDue bool
	c := &cobra.Command{
		Use:     "wayback",
		GroupID: "look",
		Short:   "Whether the host goes back by itself, and when",
		Long: `Tell whether the host goes back to the commit that was confirmed last should
its agent die, and how long it is until then.

Before the first change of a commit that nobody has confirmed, the agent arms the
way back: it keeps its own program, configuration and rules below
/var/lib/trued/wayback, writes the order 'armed' there, and starts
trued-rollback.timer. When the commit is confirmed, the order goes. When it is
not, within confirm_within of the end of the run, trued-rollback.service has the
kept program take the place of the agent and go back.

'trued suspend' holds it.`,
		Example: `  trued wayback
  journalctl -u trued-rollback`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if whenDue {
				return a.rescue(c.Context())
			}
			return a.showWayBack(c.Context())
		},
	}
	c.Flags().BoolVar(&whenDue, "when-due", false, "go back now if it is time: what trued-rollback.service starts")
	return c
}

// rescue goes back in place of the agent, if it is time.
func (a *app) rescue(ctx context.Context) error {
	return a.converge(ctx, func(ag *agent.Agent, hard context.Context, req agent.Request) (*agent.Result, error) {
		return ag.Rescue(hard, ctx, req)
	}, agent.Request{Trigger: agent.OrderRollback})
}

func (a *app) showWayBack(ctx context.Context) error {
	ag, err := a.open()
	if err != nil {
		return err
	}
	defer ag.Close()
	w, err := ag.WayBack(ctx)
	if err != nil {
		return err
	}
	if a.format == "json" {
		return a.writeJSON(w)
	}
	line := "not armed: nothing is on trial"
	if w.Armed {
		line = fmt.Sprintf("armed since %s: unless it is confirmed, the host goes back in %s",
			w.Order.Since.Local().Format(time.DateTime), w.Due.Round(time.Second))
	}
	_, err = fmt.Fprintln(a.out, line)
	return err
}
