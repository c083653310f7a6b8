package main

import (
	"time"

	"github.com/spf13/cobra"
)

func (a *app) healthCommand() *cobra.Command {
	var wait bool
	c := &cobra.Command{
		Use:     "health",
		GroupID: "look",
		Short:   "Look at the health of this host, by the probes of its groups",
		Long: `Look once with each probe that the groups of this host name under health: in
group.yaml, at the commit that the host is kept to, and at the network: what of it
answers, and what answered before a change that is not settled and does not now. The
exit code is 3 when one is not good. Nothing follows from it: after a run the daemon
looks by itself.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ag, err := a.open()
			if err != nil {
				return err
			}
			defer ag.Close()
			reports, err := ag.Health(c.Context(), wait)
			if err != nil {
				return err
			}
			good := true
			p := printer{w: a.out, c: palette(a.out)}
			for _, r := range reports {
				good = good && r.Good
				if a.format == "json" {
					continue
				}
				if r.Good {
					p.line("%s  %s  %s", p.c.add("good"), printable(r.Probe), p.c.dim(r.Target+", after "+r.Took.Round(time.Millisecond).String()))
				} else {
					p.line("%s  %s  %s: %s", p.c.remove("bad "), printable(r.Probe), printable(r.Target), printable(r.Why))
				}
			}
			switch {
			case a.format == "json":
				p.err = a.writeJSON(reports)
			case len(reports) == 0:
				p.line("No probes: name some under health: in group.yaml. Of the network nothing answers.")
			}
			if p.err == nil && !good {
				return &codeError{exitFailed}
			}
			return p.err
		},
	}
	c.Flags().BoolVar(&wait, "wait", false, "wait until each probe is good, as after a run")
	a.sourceFlags(c)
	return c
}
