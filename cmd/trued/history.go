package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
)

func (a *app) historyCommand() *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use:     "history [RUN]",
		GroupID: "look",
		Short:   "Earlier runs on this host, and one of them in full",
		Example: `  trued history
  trued history 01f0c2aa`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			ag, err := a.open()
			if err != nil {
				return err
			}
			defer ag.Close()
			if len(args) == 1 {
				past, err := ag.PastRun(args[0])
				if err != nil {
					return err
				}
				return a.printPast(past)
			}
			runs, err := ag.History(limit)
			if err != nil {
				return err
			}
			return a.printHistory(runs)
		},
	}
	c.Flags().IntVarP(&limit, "limit", "n", 20, "how many runs to show")
	a.rootFlag(c)
	return c
}

func (a *app) printHistory(runs []state.Past) error {
	if a.format == "json" {
		list := []state.Run{}
		for _, r := range runs {
			list = append(list, r.Run)
		}
		return a.writeJSON(list)
	}
	p := printer{w: a.out, c: palette(a.out)}
	if len(runs) == 0 {
		p.line("No runs yet that changed or told anything.")
	}
	for _, r := range runs {
		summary := r.Run.Summary
		for _, c := range r.Run.Commits {
			if c.Signer != "" {
				summary += "; signed by " + c.Signer
			}
		}
		p.line("%s  %s  %-11s %-8s %s", r.Run.Started.Local().Format(time.DateTime),
			shortRun(r.Run.ID), r.Run.Verdict, r.Run.Trigger, summary)
	}
	return p.err
}

// shortRun is the end of a run's id, where its randomness is.
func shortRun(id string) string { return id[max(0, len(id)-12):] }

func (a *app) printPast(past *state.Past) error {
	if a.format == "json" {
		return a.writeJSON(past)
	}
	p := printer{w: a.out, c: palette(a.out)}
	p.line("run %s, %s, caused by %s", past.Run.ID, past.Run.Started.Local().Format(time.DateTime), past.Run.Trigger)
	p.line("%s: %s", past.Run.Verdict, past.Run.Summary)
	for _, c := range past.Run.Commits {
		if c.Signer != "" {
			p.line("%s at %s, signed by %s (%s)", c.Source, agent.Short(c.Revision), c.Signer, c.Trust)
		}
	}
	for _, raw := range past.Events {
		var e report.Event
		if err := json.Unmarshal(raw, &e); err != nil {
			return fmt.Errorf("cannot read event: %w", err)
		}
		p.line("")
		p.line("%s  %s", e.Time, e.Message)
		for _, c := range e.Changes {
			switch {
			case c.Redacted:
				p.line("    %s  (sensitive)", c.Field)
			case c.Unified != "":
				p.line("    %s", c.Field)
				p.unified(c.Unified)
			default:
				p.line("    %s  %s → %s", c.Field, c.Old, c.New)
			}
		}
	}
	return p.err
}

func (a *app) explainCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "explain ADDRESS",
		GroupID: "look",
		Short:   "One resource: where it comes from, what it owns and waits for, what happened to it",
		Example: `  trued explain file:/etc/motd
  trued explain unit:nginx.service`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ag, err := a.open()
			if err != nil {
				return err
			}
			defer ag.Close()
			e, err := ag.Explain(c.Context(), args[0])
			if err != nil {
				return err
			}
			if a.format == "json" {
				return a.writeJSON(e)
			}
			return a.printExplanation(e)
		},
	}
	a.sourceFlags(c)
	return c
}

func (a *app) printExplanation(e *agent.Explanation) error {
	p := printer{w: a.out, c: palette(a.out)}
	p.line("%s", p.c.bold(e.Resource.String()))
	p.field("state", "%s", e.Verdict)
	if e.Origin.File != "" {
		p.field("written", "%s", e.Origin)
		p.field("source", "%s, group %s", e.Origin.Source, e.Origin.Group)
	}
	for _, o := range e.Overrides {
		p.field("override", "%s", o)
	}
	if e.Each != "" {
		p.field("each.key", "%s", e.Each)
	}
	for _, u := range e.Uses {
		from := u.Origin.String()
		if from == "" {
			from = "of this host"
			if !strings.HasPrefix(u.Path, "facts.") {
				from = "not given"
			}
		}
		p.field("uses", "%s  %s", u.Path, from)
	}
	for _, c := range e.Claims {
		p.field("owns", "%s", c)
	}
	for _, w := range e.Watches {
		p.field("watched", "%s %s", w.Space, w.Name)
	}
	if len(e.Watches) == 0 && e.Origin.File != "" {
		p.field("watched", "by full runs alone")
	}
	for _, w := range e.After {
		p.field("after", "%s", w)
	}
	for _, f := range e.Feeds {
		p.field("causes", "%s of %s", f.Reaction, f.Target)
	}
	for _, o := range e.Owed {
		p.field("owed", "%s because of %s, since %s", o.Reaction, o.Because, ago(o.Since))
	}
	claims := slices.SortedFunc(maps.Keys(e.Prior), func(a, b resource.Claim) int {
		return strings.Compare(a.String(), b.String())
	})
	for _, c := range claims {
		p.field("prior", "%s: %s", c, e.Prior[c])
	}
	if e.Why != "" {
		p.field("why", "%s", e.Why)
	}
	p.changes(e.Diff)
	for _, l := range e.Last {
		p.field("history", "%s", l)
	}
	return p.err
}
