package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/control"
)

func (a *app) rollbackCommand() *cobra.Command {
	var unconfirmed bool
	order := agent.Order{Do: agent.OrderRollback}
	c := &cobra.Command{
		Use:     "rollback [COMMIT] --reason REASON",
		GroupID: "converge",
		Short:   "Go back from the newest commit, until there is a newer one",
		Long: `Go back to COMMIT, or else to the commit that was confirmed before the last one
that changed this host, and run at once. The newest commit goes into quarantine:
it is not tried again until there is a newer one, or 'trued retry'.

With --unconfirmed it goes back only from what is on trial, if there is anything:
for a host whose agent does not come to that by itself. (trued-rollback.timer does
so once confirm_within is over; see 'trued wayback'.)`,
		Example: `  trued rollback --reason "the shop is slow since"
  trued rollback 3f0c2d9e71 --reason "before the move"`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				order.Commit = args[0]
			}
			if !unconfirmed {
				return a.order(c.Context(), order)
			}
			if order.Commit != "" {
				return errors.New("--unconfirmed goes back to the commit that was confirmed last: name none")
			}
			if order.Reason == "" {
				order.Reason = "nobody confirmed it in time"
			}
			return a.goBack(c.Context(), order.Reason)
		},
	}
	a.orderFlags(c, &order)
	c.Flags().BoolVar(&unconfirmed, "unconfirmed", false, "go back from what nobody has confirmed, if there is anything")
	return c
}

func (a *app) pinCommand() *cobra.Command {
	order := agent.Order{Do: agent.OrderPin}
	c := &cobra.Command{
		Use:     "pin COMMIT --reason REASON",
		GroupID: "converge",
		Short:   "Keep this host at a commit, whatever is newer, across reboots",
		Long: `Keep this host at a commit until 'trued unpin', and run at once. A commit that
the host does not have is fetched. Status, events and metrics say so, with the
reason; after a week it is warned of.`,
		Example: `  trued pin 3f0c2d9e71 --reason "until the fair is over"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			order.Commit = args[0]
			return a.order(c.Context(), order)
		},
	}
	a.orderFlags(c, &order)
	return c
}

func (a *app) unpinCommand() *cobra.Command {
	order := agent.Order{Do: agent.OrderUnpin}
	c := &cobra.Command{
		Use:     "unpin --reason REASON",
		GroupID: "converge",
		Short:   "Follow the newest commit again",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.order(c.Context(), order) },
	}
	a.orderFlags(c, &order)
	return c
}

func (a *app) retryCommand() *cobra.Command {
	order := agent.Order{Do: agent.OrderRetry}
	c := &cobra.Command{
		Use:     "retry --reason REASON",
		GroupID: "converge",
		Short:   "Try a commit again that is in quarantine",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.order(c.Context(), order) },
	}
	a.orderFlags(c, &order)
	return c
}

func (a *app) orderFlags(c *cobra.Command, o *agent.Order) {
	c.Flags().StringVar(&o.Reason, "reason", "", "why; shown by status and in events")
	c.Flags().StringVar(&o.Source, "source", "", "the source's name, where there are several")
	a.rootFlag(c)
}

// order has the daemon carry an order out, or does so itself where none runs.
func (a *app) order(ctx context.Context, o agent.Order) error {
	if strings.TrimSpace(o.Reason) == "" {
		return fmt.Errorf("%s needs --reason: the next one who looks will want to know", o.Do)
	}
	o.By = operator()
	if orRoot(a.rootDir) == "/" {
		client, err := control.Dial(ctx, agent.SocketPath)
		if err == nil {
			return a.ask(ctx, client, control.SyncRequest{Now: true, Order: (*control.Order)(&o)})
		}
		if !errors.Is(err, control.ErrNoDaemon) {
			return err
		}
	}
	return a.apply(ctx, agent.Request{Trigger: o.Do, Order: &o, Hasty: true, Wait: runWait})
}

// goBack brings the host back from what is on trial.
func (a *app) goBack(ctx context.Context, reason string) error {
	return a.converge(ctx, func(ag *agent.Agent, hard context.Context, req agent.Request) (*agent.Result, error) {
		result, err := ag.GoBack(hard, ctx, reason, req)
		if result == nil && err == nil {
			_, err = fmt.Fprintln(a.out, "Nothing is on trial.")
		}
		return result, err
	}, agent.Request{Trigger: agent.OrderRollback, Wait: runWait})
}

// runWait is how long a way back waits for a run that is under way.
const runWait = 10 * time.Minute
