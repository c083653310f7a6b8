package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/resource"
)

func (a *app) applyCommand() *cobra.Command {
	var req agent.Request
	var boot bool
	c := &cobra.Command{
		Use:     "apply",
		GroupID: "converge",
		Short:   "One run now, then exit",
		Long: `Fetch the sources, bring the host to the desired state, report, and exit.

Without a network the last fetched commit is enforced, and said so.`,
		Example: `  trued apply
  trued apply --source . --group groups/web --root /tmp/image
  trued apply --wait 5m`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			req.Trigger, req.Fetch, req.Hasty = "apply", true, true
			if boot {
				req.Trigger, req.Fetch = "boot", false
			}
			return a.apply(c.Context(), req)
		},
	}
	a.sourceFlags(c)
	c.Flags().DurationVar(&req.Wait, "wait", 0, "wait this long for another run to end")
	c.Flags().BoolVar(&req.AcceptPrune, "accept-prune", false, "remove what is held")
	c.Flags().BoolVar(&req.IgnoreWindows, "now", false, "change what waits for its window, too")
	acceptHistory(c, &req.AcceptHistory, &req.AcceptCommit)
	c.Flags().BoolVar(&boot, "boot", false, "enforce the last fetched commit without asking the network, as at boot")
	return c
}

// anyCommit is what --accept-history takes where no commit is named.
const anyCommit = "any"

// acceptHistory adds the flag by which an operator takes a commit that the host
// would not follow to.
func acceptHistory(c *cobra.Command, accept *bool, commit *string) {
	c.Flags().Func("accept-history", "take the `commit`, of at least 10 digits and no other, although it does not follow from the one applied, "+
		"or from any that this host knows; without one, whatever the server has by now", func(s string) error {
		*accept, *commit = s == anyCommit, s
		if s == anyCommit {
			*commit = ""
			return nil
		}
		if len(s) < 10 || len(s) > 40 || strings.Trim(s, "0123456789abcdefABCDEF") != "" {
			return fmt.Errorf("%q is not the name of a commit: write 10 to 40 of its digits, as status shows them", s)
		}
		return nil
	})
	c.Flags().Lookup("accept-history").NoOptDefVal = anyCommit
}

// apply runs once and prints what came of it.
func (a *app) apply(ctx context.Context, req agent.Request) error {
	return a.converge(ctx, func(ag *agent.Agent, hard context.Context, req agent.Request) (*agent.Result, error) {
		if req.Trigger == "boot" {
			return ag.Run(hard, ctx, req) // the boot does not wait; the daemon goes on with it
		}
		return ag.Converge(hard, ctx, req)
	}, req)
}

// converge has the agent do something by itself and prints what came of it.
func (a *app) converge(ctx context.Context, do func(*agent.Agent, context.Context, agent.Request) (*agent.Result, error), req agent.Request) error {
	debug.SetGCPercent(briefGC)
	ag, err := a.open()
	if err != nil {
		return err
	}
	defer ag.Close()
	if !ag.HasSources() && req.PruneSource == "" {
		return agent.ErrNoSource
	}
	if terminal(a.err) {
		req.Progress = func(addr resource.Address) { fmt.Fprintf(a.err, "\r\033[K%s …", printable(addr.String())) }
		defer fmt.Fprint(a.err, "\r\033[K")
	}
	// A first signal lets the run finish what is in hand; the run itself is cut
	// off half a minute later.
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopWait, cancel) })()
	drain, err := ag.OpenSinks(a.out, a.format == "json")
	if err != nil && req.Trigger == agent.OrderRollback {
		a.say("trued: events are kept, and told later: %v", err) // a host goes back without them
		drain, err = ag.LookAtSinks()
	}
	if err != nil {
		return err
	}
	result, err := do(ag, hard, req)
	a.flush(ctx, drain)
	ag.WriteMetrics(context.WithoutCancel(ctx), drain)
	if err != nil || result == nil {
		return err
	}
	if result.Restart {
		if err := ag.RestartDaemon(hard); err != nil {
			a.say("trued: the daemon should be restarted, since the agent itself changed: %v", err)
		}
	}
	if err := a.printResult(result); err != nil {
		return err
	}
	return done(result.Verdict)
}

const (
	// briefGC lets a process that ends soon have some more memory, and collect it
	// less often.
	briefGC = 400
	// stopWait is how long a stop waits for what is in hand.
	stopWait = 30 * time.Second
	// flushWait bounds how long dead sinks hold up the end of a command.
	flushWait = 5 * time.Second
)

// flush gives the sinks a moment to take their events. What one does not take
// is kept, and is no failure of the command.
func (a *app) flush(ctx context.Context, drain *report.Drain) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), flushWait)
	defer stop()
	if err := drain.Flush(ctx); err != nil {
		a.say("trued: a sink did not take its events; they are kept: %v", err)
	}
}

func (a *app) printResult(r *agent.Result) error {
	if a.format == "json" {
		return a.writeJSON(resultJSON(r))
	}
	out := bufio.NewWriter(a.out) // a first run has a line for each resource
	p := printer{w: out, c: palette(a.out)}
	p.outcomes(r.Outcomes)
	p.sources(r.Sources)
	p.line("%s", verdictLine(r))
	return errors.Join(p.err, out.Flush())
}
