package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/report"
)

func (a *app) reportCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "report",
		GroupID: "look",
		Short:   "How the sinks of the events stand; deliver now; test them",
		Args:    cobra.NoArgs,
	}
	c.AddCommand(a.reportStatusCommand(), a.reportFlushCommand(), a.reportTestCommand())
	return c
}

func (a *app) reportStatusCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "What waits for each sink, since when, and why",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.withAgent(func(ag *agent.Agent) error {
				drain, err := ag.LookAtSinks()
				if err != nil {
					return err
				}
				return a.printSinks(drain.Status())
			})
		},
	}
	a.rootFlag(c)
	return c
}

func (a *app) reportFlushCommand() *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use:   "flush",
		Short: "Deliver what waits now, without the pause after a failure",
		Long: `Try each sink once, at once, and show how they stand after that. What a sink does
not take is kept. The exit code is 3 when one failed.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withSinks(c.Context(), wait, func(ctx context.Context, _ *agent.Agent, drain *report.Drain) error {
				failed := drain.Flush(ctx)
				if err := a.printSinks(drain.Status()); err != nil {
					return err
				}
				if failed != nil {
					return &codeError{exitFailed}
				}
				return nil
			})
		},
	}
	c.Flags().DurationVar(&wait, "wait", time.Minute, "give up after this long")
	a.rootFlag(c)
	return c
}

func (a *app) reportTestCommand() *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use:   "test",
		Short: "Send one marked event through each sink, and say what came of it",
		Long: `Send one event of type report.tested to each sink, past its filter and its spool,
and say what came of it. The exit code is 3 when one failed.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withSinks(c.Context(), wait, func(ctx context.Context, ag *agent.Agent, drain *report.Drain) error {
				results, err := ag.TestSinks(ctx, drain)
				if err != nil {
					return err
				}
				return a.printTests(results)
			})
		},
	}
	c.Flags().DurationVar(&wait, "wait", 15*time.Second, "give up after this long")
	a.rootFlag(c)
	return c
}

// withSinks opens the agent and its sinks for a limited time.
func (a *app) withSinks(ctx context.Context, limit time.Duration, do func(context.Context, *agent.Agent, *report.Drain) error) error {
	return a.withAgent(func(ag *agent.Agent) error {
		drain, err := ag.OpenSinks(a.out, a.format == "json")
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return do(ctx, ag, drain)
	})
}

// withAgent opens the agent. The daemon may deliver beside it.
func (a *app) withAgent(do func(*agent.Agent) error) error {
	ag, err := a.open()
	if err != nil {
		return err
	}
	defer ag.Close()
	return do(ag)
}

func (a *app) printTests(results []report.TestResult) error {
	failed := false
	p := printer{w: a.out, c: palette(a.out)}
	for _, r := range results {
		failed = failed || r.Error != ""
		if a.format == "json" {
			continue
		}
		if r.Error != "" {
			p.line("%s: failed: %s", p.c.bold(r.Name), printable(r.Error))
		} else {
			p.line("%s: sent", p.c.bold(r.Name))
		}
	}
	err := p.err
	if a.format == "json" {
		err = a.writeJSON(results)
	}
	if err == nil && failed {
		err = &codeError{exitFailed}
	}
	return err
}

func (a *app) printSinks(sinks []report.SinkStatus) error {
	if a.format == "json" {
		return a.writeJSON(sinks)
	}
	p := printer{w: a.out, c: palette(a.out)}
	for _, s := range sinks {
		p.line("%s", p.c.bold(s.Name))
		switch {
		case s.Spool != nil:
			p.spool(s)
		case s.Ahead > 0:
			p.field("waiting", "%s in the ledger", count(s.Ahead, "event"))
		default:
			p.field("waiting", "nothing")
		}
		if s.Error != "" {
			p.field("error", "%s", s.Error)
		}
	}
	return p.err
}

func (p *printer) spool(s report.SinkStatus) {
	q := s.Spool
	if q.Waiting == 0 {
		p.field("waiting", "nothing")
	} else {
		p.field("waiting", "%s (%d bytes), the oldest %s", count(q.Waiting, "event"), q.Bytes, ago(q.Oldest))
	}
	p.field("arrived", "last %s", ago(q.LastSuccess))
	if q.LastFailure.After(q.LastSuccess) {
		p.field("failed", "%s: %s", ago(q.LastFailure), q.Failure)
	}
	if q.Lost > 0 {
		p.field("dropped", "%s", count(q.Lost, "event"))
	}
}
