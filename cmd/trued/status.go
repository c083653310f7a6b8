package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/control"
	"trued.dev/trued/internal/state"
	"trued.dev/trued/internal/trust"
	"trued.dev/trued/internal/watch"
)

func (a *app) statusCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "status",
		GroupID: "look",
		Short:   "Is this host in order, at which commit, and if not, why",
		Long: `Show the state of this host: applied commit, drift, last and next run, what is
owed, suspended or not. It asks the daemon where one runs, and reads the state
where none does. The exit code is that of the last run.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.status(c.Context())
			if err != nil {
				return err
			}
			if a.format == "json" {
				err = a.writeJSON(s)
			} else {
				err = a.printStatus(s)
			}
			if err != nil {
				return err
			}
			if s.Suspended != nil {
				return &codeError{exitSuspended}
			}
			return done(s.Verdict)
		},
	}
	a.rootFlag(c)
	return c
}

// status asks the daemon, or reads the state where there is none, or none any more.
func (a *app) status(ctx context.Context) (*agent.Status, error) {
	if orRoot(a.rootDir) == "/" {
		s, err := a.askStatus(ctx)
		if err == nil || !errors.Is(err, control.ErrNoDaemon) && !control.IsLeaving(err) {
			return s, err
		}
	}
	ag, err := a.open()
	if err != nil {
		return nil, err
	}
	defer ag.Close()
	return ag.Status(ctx)
}

func (a *app) askStatus(ctx context.Context) (*agent.Status, error) {
	client, err := control.Dial(ctx, agent.SocketPath)
	if err != nil {
		return nil, err
	}
	raw, err := client.Status(ctx)
	if err != nil {
		return nil, err
	}
	var s agent.Status
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("cannot understand the daemon's status: %w", err)
	}
	return &s, nil
}

// shownIssues keeps status on one screen.
const shownIssues = 8

func (a *app) printStatus(s *agent.Status) error {
	p := printer{w: a.out, c: palette(a.out)}
	p.line("%s", p.c.bold(capital(s.Line)))
	p.line("")
	p.field("host", "%s, %s held, trued %s%s", s.Host, count(s.Resources, "resource"), s.Version, modeWords(s.Mode))
	for _, src := range s.Sources {
		p.source(src)
	}
	if r := s.LastRun; r != nil {
		p.field("last run", "%s, %s (%s)", ago(r.Finished), r.Summary, r.Trigger)
	}
	p.trial(s)
	p.next(s)
	p.watching(s.Watching)
	if s.Damaged != "" {
		p.field("state", "%s", s.Damaged)
	}
	if s.LastRun != nil {
		for i, issue := range s.LastRun.Issues {
			if i == shownIssues {
				p.field("", "… and %d more", len(s.LastRun.Issues)-shownIssues)
				break
			}
			p.field(issue.Outcome, "%s: %s", issue.Resource, issue.Why)
		}
	}
	p.drifts(s.LastRun)
	for i, f := range s.Failing {
		if i == shownIssues {
			break
		}
		p.field("retry", "%s after %d failures, at %s", f.Resource, f.Failures, f.RetryAt.Local().Format(time.TimeOnly))
	}
	for i, o := range s.Owed {
		if i == shownIssues {
			break
		}
		p.field("owed", "%s of %s because of %s", o.Reaction, o.Target, o.Because)
	}
	p.waiting(s.Waiting)
	p.reboot(s)
	for i, f := range s.Contested {
		if i == shownIssues {
			break
		}
		p.field("contested", "%s since %s: somebody changes it as often as it is put back", f.Resource, f.Since.Local().Format(time.TimeOnly))
	}
	if n := len(s.Orphans); n > 0 {
		p.field("orphans", "%d held for sources that are not configured: %s …", n, s.Orphans[0])
	}
	for _, sink := range s.Sinks {
		if sink.Error != "" {
			p.field("sink", "%s fails since %s: %s", sink.Name, ago(sink.Since), sink.Error)
		}
	}
	return p.err
}

// waiting says what waits for its window, and when that opens.
func (p *printer) waiting(list []agent.Waiting) {
	for i, w := range list {
		if i == shownIssues {
			p.field("", "… and %d more; 'trued sync --now' does not wait", len(list)-shownIssues)
			return
		}
		opens := "its next window cannot be foreseen"
		if !w.Opens.IsZero() {
			opens = "its window opens " + w.Opens.Local().Format("Mon "+time.DateTime)
		}
		p.field("window", "%s: %s", w.Resource, opens)
	}
}

// reboot says that one is asked for, and why it is not made.
func (p *printer) reboot(s *agent.Status) {
	if s.Reboot == nil {
		return
	}
	words := "asked for since " + s.Reboot.Since.Local().Format(time.DateTime)
	if len(s.Reboot.Packages) > 0 {
		words += " by " + strings.Join(s.Reboot.Packages, ", ")
	}
	switch {
	case !s.RebootOpens.IsZero():
		words += "; its window opens " + s.RebootOpens.Local().Format("Mon "+time.DateTime)
	case s.RebootHeld != "":
		words += "; " + s.RebootHeld
	}
	p.field("reboot", "%s", words)
}

// drifts says what was found to have drifted lately, and who that is likely to go
// back to.
func (p *printer) drifts(r *state.Run) {
	if r == nil {
		return
	}
	for i, d := range r.Drifts {
		if i == shownIssues {
			p.field("", "… and %d more", len(r.Drifts)-shownIssues)
			return
		}
		hint := ""
		if d.Hint != "" {
			hint = "; hint: " + d.Hint
		}
		p.field("drift", "%s, %s%s", d.Resource, d.Outcome, hint)
	}
}

// watching says how much is watched for drift, and what is not.
func (p *printer) watching(w *watch.Status) {
	if w == nil {
		return
	}
	words := fmt.Sprintf("%s, in %d directories", count(w.Resources, "resource"), w.Directories)
	if w.Units > 0 {
		words += " and " + count(w.Units, "unit")
	}
	if w.Polled > 0 {
		words += fmt.Sprintf("; %d polled", w.Polled)
	}
	if w.UnitsUnheard {
		words += "; systemd cannot be heard"
	}
	if w.Limit != "" {
		words += "; not all can be watched: " + w.Limit
	}
	p.field("watching", "%s", words)
}

// trial says what nobody has confirmed yet, and how the host is.
func (p *printer) trial(s *agent.Status) {
	if t := s.Trial; t != nil {
		for name, on := range t.Sources {
			back := "there is nothing to go back to"
			if on.Back != nil {
				back = "the way back leads to " + agent.Short(on.Back.Commit)
			}
			p.field("on trial", "%s of %s since %s; %s", agent.Short(on.Commit), name, t.Since.Local().Format(time.TimeOnly), back)
		}
	}
	if s.Unwell != nil {
		p.field("unwell", "%s: %s", ago(s.Unwell.Since), s.Unwell.Why)
	}
}

func reasoned(why, by string) string {
	if by != "" {
		return why + " (" + by + ")"
	}
	return why
}

func modeWords(m agent.Mode) string {
	if m == agent.Observe {
		return ", observing: nothing is changed"
	}
	return ""
}

func (p *printer) field(name, format string, args ...any) {
	p.line("  %-9s %s", name, printable(fmt.Sprintf(format, args...)))
}

func (p *printer) source(s agent.SourceStatus) {
	where := s.URL
	if s.Branch != "" {
		where += " " + s.Branch
	}
	p.field("source", "%s: %s", s.Name, where)
	if s.Applied != "" {
		p.field("applied", "%s%s", agent.Short(s.Applied), commitWords(s.Subject, s.Author, s.Date))
	}
	if words := trustWords(s.Trust); words != "" {
		p.field("trusted", "%s", words)
	}
	if s.Attempted != "" && s.Attempted != s.Applied {
		words := ""
		if f := s.Fetched; f.Commit == s.Attempted {
			words = commitWords(f.Subject, f.Author, f.Date)
		}
		p.field("newest", "%s%s", agent.Short(s.Attempted), words)
	}
	if pin := s.Pin; pin != nil {
		p.field("pinned", "to %s for %s: %s", agent.Short(pin.Commit), time.Since(pin.Since).Round(time.Second), reasoned(pin.Reason, pin.By))
	}
	if s.Problem != "" {
		first, rest, more := strings.Cut(s.Problem, "\n")
		if more {
			first += fmt.Sprintf(" (and %d more; 'trued plan' shows all)", strings.Count(rest, "\n")+1)
		}
		p.field("problem", "%s", first)
	}
	if s.Failures > 0 {
		p.field("failing", "%s in a row since %s, the last %s", count(s.Failures, "time"), s.Since.Local().Format(time.DateTime), ago(s.Failed))
	}
	if words := checkedWords(s); words != "" {
		p.field("checked", "%s", words)
	}
}

// trustWords say why the applied commit is trusted, where anything is required.
func trustWords(t agent.Trusted) string {
	var parts []string
	if t.Signer != "" {
		parts = append(parts, "signed by "+t.Signer)
	}
	if t.Key != "" {
		parts = append(parts, t.Key)
	}
	if t.Level != "" && t.Level != trust.None {
		parts = append(parts, "required: "+string(t.Level))
	}
	if t.Stale {
		parts = append(parts, "but the newest commit is too old to be it")
	}
	return strings.Join(parts, ", ")
}

// checkedWords says when a source was looked at, and when it is again.
func checkedWords(s agent.SourceStatus) string {
	var parts []string
	if !s.Checked.IsZero() {
		parts = append(parts, ago(s.Checked))
	}
	if !s.Moved.IsZero() {
		parts = append(parts, "moved "+ago(s.Moved))
	}
	if !s.Failed.IsZero() && s.Failures == 0 {
		parts = append(parts, "failed "+ago(s.Failed))
	}
	if !s.Next.IsZero() {
		parts = append(parts, "next "+in(s.Next))
	}
	return strings.Join(parts, ", ")
}

func commitWords(subject, author string, date time.Time) string {
	switch {
	case subject == "":
		return ""
	case date.Unix() <= 0: // a directory has no author and no date
		return "  " + subject
	}
	return fmt.Sprintf("  %q, %s, %s", subject, author, date.Local().Format(time.DateTime))
}

func (p *printer) next(s *agent.Status) {
	switch {
	case s.Schedule == nil:
		p.field("daemon", "not running")
	case s.Schedule.Doing != "":
		p.field("now", "%s", s.Schedule.Doing)
	default:
		p.field("next", "poll %s, full run %s", in(s.Schedule.NextPoll), in(s.Schedule.NextRun))
	}
}

func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return time.Since(t).Round(time.Second).String() + " ago"
}

func in(t time.Time) string {
	if t.IsZero() {
		return "not planned"
	}
	return "in " + max(0, time.Until(t)).Round(time.Second).String()
}
