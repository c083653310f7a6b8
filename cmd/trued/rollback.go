package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"trued.dev/trued/agent"
)

func (a *app) rollbackCommand() *cobra.Command {
	var unconfirmed bool
	var reason string
	c := &cobra.Command{
		Use:     "rollback --unconfirmed",
		GroupID: "converge",
		Short:   "Go back to the commit that was confirmed last",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !unconfirmed {
				return errors.New("rollback needs --unconfirmed")
			}
			return a.goBack(c.Context(), reason)
		},
	}
	c.Flags().BoolVar(&unconfirmed, "unconfirmed", false, "go back from what nobody has confirmed, if there is anything")
	c.Flags().StringVar(&reason, "reason", "nobody confirmed it in time", "why; shown by status and in events")
	return c
}

// goBack brings the host back from what is on trial.
func (a *app) goBack(ctx context.Context, reason string) error {
	return a.converge(ctx, func(ag *agent.Agent, hard context.Context, req agent.Request) (*agent.Result, error) {
		result, err := ag.GoBack(hard, ctx, reason, req)
		if result == nil && err == nil {
			_, err = fmt.Fprintln(a.out, "Nothing is on trial.")
		}
		return result, err
	}, agent.Request{Wait: runWait})
}

// runWait is how long a way back waits for a run that is under way.
const runWait = 10 * time.Minute
