package main

import (
	"context"

	"github.com/spf13/cobra"

	"trued.dev/trued/agent"
)

func (a *app) planCommand() *cobra.Command {
	var offline bool
	c := &cobra.Command{
		Use:     "plan",
		GroupID: "look",
		Short:   "What a run would change, with diffs; changes nothing",
		Long: `Show what a run would change, in order: what, why, and the difference.

The cause stands behind each resource: intended (the desired state changed),
drift (the host changed although the desired state did not), prune (it left
Git), rollback.`,
		Example: `  trued plan
  trued plan --source . --group groups/web
  trued plan -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.plan(c.Context(), agent.Request{Trigger: "plan", Fetch: !offline, Hasty: true})
		},
	}
	a.sourceFlags(c)
	c.Flags().BoolVar(&offline, "no-fetch", false, "plan the last fetched commit")
	return c
}

// plan looks at the host and prints what a run would change.
func (a *app) plan(ctx context.Context, req agent.Request) error {
	ag, err := a.open()
	if err != nil {
		return err
	}
	defer ag.Close()
	if !ag.HasSources() {
		return agent.ErrNoSource
	}
	p, result, err := ag.Plan(ctx, req)
	if err != nil {
		return err
	}
	if a.format == "json" {
		if err := a.writeJSON(resultJSON(result)); err != nil {
			return err
		}
		return done(result.Verdict)
	}
	out := printer{w: a.out, c: palette(a.out)}
	out.plan(p)
	out.sources(result.Sources)
	if result.Verdict == agent.Unusable {
		out.line("There is nothing to plan: no source is usable.")
	} else {
		out.line("%s", planLine(p))
	}
	if out.err != nil {
		return out.err
	}
	return done(result.Verdict)
}
