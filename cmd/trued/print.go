package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/apply"
	"trued.dev/trued/internal/plan"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/resource"
)

// printer writes for people. It keeps the first error, so that what prints need
// not check each line.
type printer struct {
	w   io.Writer
	c   colours
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", harmless(args)...)
	}
}

// plan prints each step that is not in order, and what is to be said of the others.
func (p *printer) plan(pl *plan.Plan) {
	for _, s := range pl.Steps {
		if s.Differs() {
			p.step(s)
		} else if s.Finding.Note != "" {
			p.line("= %s  (in order)\n    note: %s\n", p.c.bold(s.Address.String()), s.Finding.Note)
		}
	}
	for _, a := range pl.Orphans {
		p.line("? %s  %s", a, p.c.dim("orphan: its source is not configured; see 'trued prune --source' and 'trued forget --source'"))
	}
}

func (p *printer) step(s *plan.Step) {
	mark, paint := "~", p.c.change
	note := string(s.Cause)
	switch {
	case s.Verdict == plan.Failed:
		mark, paint, note = "!", p.c.remove, "cannot be checked"
		if s.Err == nil {
			note = "waiting for its next try"
		}
	case s.Verdict == plan.Skipped:
		mark, paint, note = "!", p.c.remove, "skipped"
	case s.Verdict == plan.Unknown:
		mark, note = "?", "cannot be told yet"
	case s.Verdict == plan.Pending:
		mark, note = "?", "pending"
	case s.Verdict == plan.Held:
		mark, note = "=", string(s.Cause)+", held"
	case s.Verdict == plan.InOrder:
		note = "owed"
	case s.Prune || s.Finding.Diff.Has("state") && changesTo(s.Finding.Diff, "state", "absent"):
		mark, paint = "-", p.c.remove
	case s.Finding.Creates:
		mark, paint = "+", p.c.add
	}
	if s.Verdict == plan.Report {
		note += ", reported and left alone"
	}
	var place painted
	if at := s.Origin.String(); at != "" {
		place = "  " + p.c.dim(at)
	}
	p.line("%s %s  (%s)%s", paint(mark), p.c.bold(s.Address.String()), note, place)
	p.changes(s.Finding.Diff)
	if s.Err != nil {
		p.line("    %s", indent(s.Err.Error(), "    "))
	} else if s.Why != "" {
		p.line("    %s", indent(s.Why, "    "))
	}
	if s.Finding.Note != "" {
		p.line("    note: %s", s.Finding.Note)
	}
	for _, o := range s.Owed {
		p.line("    %s, owed since %s because of %s", o.Reaction, o.Since.Local().Format(time.DateTime), o.Because)
	}
	p.line("")
}

func changesTo(d resource.Diff, field, value string) bool {
	for _, c := range d {
		if c.Field == field {
			return c.New == value
		}
	}
	return false
}

func (p *printer) changes(d resource.Diff) {
	width := 0
	for _, c := range d {
		width = max(width, len(c.Field))
	}
	for _, c := range d {
		switch {
		case c.Redacted:
			p.line("    %-*s  (sensitive)", width, c.Field)
		case c.Unified != "":
			p.line("    %s", c.Field)
			p.unified(c.Unified)
		case c.Old == "":
			p.line("    %-*s  %s", width, c.Field, p.c.add(c.New))
		case c.New == "":
			p.line("    %-*s  %s", width, c.Field, p.c.remove(c.Old))
		default:
			p.line("    %-*s  %s → %s", width, c.Field, p.c.remove(c.Old), p.c.add(c.New))
		}
	}
}

func (p *printer) unified(text string) {
	for l := range strings.Lines(text) {
		l = printable(strings.TrimSuffix(l, "\n"))
		shown := painted(l)
		switch {
		case strings.HasPrefix(l, "+++"), strings.HasPrefix(l, "---"), strings.HasPrefix(l, "@@"):
			shown = p.c.dim(l)
		case strings.HasPrefix(l, "+"):
			shown = p.c.add(l)
		case strings.HasPrefix(l, "-"):
			shown = p.c.remove(l)
		}
		p.line("      %s", shown)
	}
}

func indent(s, by string) string { return strings.ReplaceAll(s, "\n", "\n"+by) }

// planLine sums a plan up.
func planLine(pl *plan.Plan) string {
	var create, change, remove, other int
	causes := map[resource.Cause]int{}
	for _, s := range pl.Steps {
		switch {
		case s.Verdict == plan.InOrder && len(s.Owed) == 0:
			continue
		case s.Verdict != plan.Change && s.Verdict != plan.Unknown && s.Verdict != plan.InOrder:
			other++
			continue
		case s.Prune:
			remove++
		case s.Finding.Creates:
			create++
		default:
			change++
		}
		causes[s.Cause]++
	}
	if create+change+remove+other == 0 {
		return fmt.Sprintf("Nothing to change: %s in order.", resources(len(pl.Steps)))
	}
	line := fmt.Sprintf("Plan: %d to create, %d to change, %d to remove", create, change, remove)
	var why []string
	for _, c := range []resource.Cause{resource.Intended, resource.Drift, resource.Prune, resource.Rollback} {
		if n := causes[c]; n > 0 {
			why = append(why, fmt.Sprintf("%d %s", n, c))
		}
	}
	if len(why) > 0 {
		line += " (" + strings.Join(why, ", ") + ")"
	}
	if other > 0 {
		line += fmt.Sprintf("; %d not to be applied", other)
	}
	return line + "."
}

// resources says how many there are, with the verb that follows.
func resources(n int) string {
	if n == 1 {
		return "1 resource is"
	}
	return fmt.Sprintf("%d resources are", n)
}

// outcomes prints what a run did, one line a resource.
func (p *printer) outcomes(list []*apply.Outcome) {
	for _, o := range list {
		if o.Status == apply.InOrder {
			continue
		}
		mark, paint := "~", p.c.change
		switch o.Status {
		case apply.Failed, apply.Skipped:
			mark, paint = "!", p.c.remove
		case apply.Held, apply.Pending, apply.Reported:
			mark = "="
		default:
			switch {
			case o.Step.Prune:
				mark, paint = "-", p.c.remove
			case o.Creates:
				mark, paint = "+", p.c.add
			}
		}
		cause := ""
		if o.Cause != "" {
			cause = " (" + string(o.Cause) + ")"
		}
		p.line("%s %s  %s%s%s", paint(mark), p.c.bold(o.Step.Address.String()), o.Status, cause, fields(o))
		switch {
		case o.Err != nil:
			p.line("    %s", indent(o.Err.Error(), "    "))
			if at := o.Step.Origin.String(); at != "" {
				p.line("    %s", p.c.dim("written at "+at))
			}
		case o.Why != "":
			p.line("    %s", indent(o.Why, "    "))
		}
	}
}

func fields(o *apply.Outcome) string {
	var names []string
	for _, c := range o.Changes {
		names = append(names, c.Field)
	}
	const shown = 6
	if more := len(names) - shown; more > 0 {
		names = append(names[:shown], fmt.Sprintf("and %d more", more))
	}
	for _, r := range o.Reactions {
		names = append(names, string(r))
	}
	if len(names) == 0 {
		return ""
	}
	return ": " + strings.Join(names, ", ")
}

// sources prints what is wrong with sources.
func (p *printer) sources(list []agent.SourceStatus) {
	for _, s := range list {
		if s.Problem == "" {
			continue
		}
		p.line("%s source %q: %s", p.c.remove("!"), s.Name, indent(s.Problem, "    "))
		if s.Applied != "" {
			p.line("    %s stays in force", agent.Short(s.Applied))
		}
	}
}

// verdictLine sums a run up in one line.
func verdictLine(r *agent.Result) string {
	took := r.Run.Finished.Sub(r.Run.Started).Round(time.Millisecond)
	counts := strings.Replace(r.Counts.String(), "in order", "unchanged", 1) // the verdict has that word
	if r.Unwell != "" {
		counts = r.Unwell + "; " + counts
	}
	return fmt.Sprintf("%s: %s, in %s", capital(string(r.Verdict)), counts, took)
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func (a *app) writeJSON(v any) error {
	enc := json.NewEncoder(escaping{a.out})
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// outcomeJSON is one resource in the output of plan, apply and sync.
type outcomeJSON struct {
	Resource  resource.Address    `json:"resource"`
	Outcome   apply.Status        `json:"outcome"`
	Cause     resource.Cause      `json:"cause,omitempty"`
	Changes   resource.Diff       `json:"changes,omitempty"`
	Reactions []resource.Reaction `json:"reactions,omitempty"`
	Because   []resource.Address  `json:"because,omitempty"`
	Why       string              `json:"why,omitempty"`
	Error     string              `json:"error,omitempty"`
	Origin    string              `json:"origin,omitempty"`
}

type runJSON struct {
	Verdict   agent.Verdict        `json:"verdict"`
	ExitCode  int                  `json:"exit_code"`
	RunID     string               `json:"run_id,omitempty"`
	Resources []outcomeJSON        `json:"resources"`
	Counts    report.Counts        `json:"counts"`
	Sources   []agent.SourceStatus `json:"sources"`
}

func resultJSON(r *agent.Result) runJSON {
	out := runJSON{
		Verdict: r.Verdict, ExitCode: exitCode(r.Verdict), RunID: r.Run.ID,
		Counts: r.Counts, Resources: []outcomeJSON{}, Sources: r.Sources,
	}
	for _, o := range r.Outcomes {
		if o.Status == apply.InOrder {
			continue
		}
		j := outcomeJSON{
			Resource: o.Step.Address, Outcome: o.Status, Cause: o.Cause, Changes: o.Changes,
			Reactions: o.Reactions, Because: o.Because, Why: o.Why, Origin: o.Step.Origin.String(),
		}
		if o.Err != nil {
			j.Error = o.Err.Error()
		}
		out.Resources = append(out.Resources, j)
	}
	return out
}
