package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"trued.dev/trued/internal/apply"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
	"trued.dev/trued/internal/watch"
)

// A Status is what is known of a host without looking at it again.
type Status struct {
	// Line answers in words: is this host in order, at which commit, and if not,
	// why.
	Line      string            `json:"line"`
	Verdict   Verdict           `json:"verdict"`
	Host      string            `json:"host"`
	Version   string            `json:"version"`
	Mode      Mode              `json:"mode"`
	Daemon    bool              `json:"daemon"`
	Schedule  *Schedule         `json:"schedule,omitempty"`
	Suspended *state.Suspension `json:"suspended,omitempty"`
	Sources   []SourceStatus    `json:"sources"`
	LastRun   *state.Run        `json:"last_run,omitempty"`
	Resources int               `json:"resources"`
	Owed      []state.Owed      `json:"owed"`
	Failing   []Failing         `json:"failing"`
	// Contested are resources that somebody changes as often as they are put back.
	Contested []Contested `json:"contested"`
	// Watching is how much is watched for drift; nil where no daemon runs, or
	// where it changes nothing.
	Watching *watch.Status      `json:"watching,omitempty"`
	Orphans  []resource.Address `json:"orphans"`
	// Reboot is one that is asked for, RebootHeld why it is not made now and
	// RebootOpens when its window does.
	Reboot      *state.Reboot `json:"reboot,omitempty"`
	RebootHeld  string        `json:"reboot_held,omitempty"`
	RebootOpens time.Time     `json:"reboot_opens,omitzero"`
	// Waiting are the changes that wait for their windows.
	Waiting []Waiting `json:"waiting,omitempty"`
	// Interrupted is a run that was cut off and not taken up yet.
	Interrupted *state.Run `json:"interrupted,omitempty"`
	// Trial is what was applied and not confirmed yet; Unwell is why the host is not
	// healthy although it goes nowhere.
	Trial   *state.Trial        `json:"trial,omitempty"`
	Unwell  *state.Unwell       `json:"unwell,omitempty"`
	Damaged string              `json:"damaged,omitempty"`
	Sinks   []report.SinkStatus `json:"sinks,omitempty"`
}

// Failing is a resource that failed, and when it is tried again.
type Failing struct {
	Resource resource.Address `json:"resource"`
	Failures int              `json:"failures"`
	RetryAt  time.Time        `json:"retry_at"`
}

// Status returns what is known. It takes no lock and looks at nothing but the
// state.
func (a *Agent) Status(ctx context.Context) (*Status, error) {
	f, err := a.Facts(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.store.Reload(); err != nil {
		return nil, err
	}
	snap := a.store.Snapshot()
	s := &Status{
		Verdict:   Differs,
		Host:      f.Host.Name,
		Version:   a.opt.Version,
		Mode:      a.config.Mode,
		LastRun:   snap.LastRun,
		Resources: len(snap.Inventory),
		Owed:      snap.Owed,
		Failing:   []Failing{},
		Orphans:   []resource.Address{},
		Contested: contested(snap, time.Now()),
		Waiting:   waiting(snap.Holds),
		Damaged:   a.store.Repaired(),
		Trial:     snap.Trial.Public(),
		Unwell:    snap.Unwell,
	}
	if snap.LastRun != nil {
		s.Verdict = Verdict(snap.LastRun.Verdict)
	}
	if s.Unwell != nil && s.LastRun != nil {
		s.Verdict = s.Verdict.andHealth()
	}
	var names []string
	for _, src := range a.sources {
		names = append(names, src.Name())
		s.Sources = append(s.Sources, a.statusOf(src, snap.Sources[src.Name()]))
	}
	for _, addr := range slices.SortedFunc(maps.Keys(snap.Inventory), resource.Address.Compare) {
		e := snap.Inventory[addr]
		if e.Failures > 0 {
			s.Failing = append(s.Failing, Failing{addr, e.Failures, e.RetryAt})
		}
		if !slices.Contains(names, e.Source) {
			s.Orphans = append(s.Orphans, addr)
		}
	}
	if s.Suspended, err = a.store.Suspended(time.Now()); err != nil {
		return nil, err
	}
	if snap.Running != nil && a.store.Free() {
		s.Interrupted = snap.Running
	}
	if s.Reboot = snap.Reboot; s.Reboot != nil && a.ruled {
		h := rebootHold(s.Reboot, snap.Trial, a.mayReboot, a.host.BootID(), time.Now())
		s.RebootHeld, s.RebootOpens = h.Why, h.Opens
	}
	s.Line = s.line()
	return s, nil
}

// line is the first line of status.
func (s *Status) line() string {
	at := s.where()
	switch {
	case s.Suspended != nil:
		return (&SuspendedError{*s.Suspended}).Error() + at
	case s.Interrupted != nil:
		return "a run was cut off and will be taken up by the next" + at
	case s.LastRun == nil:
		return "no run yet" + at
	case s.Trial != nil && s.Trial.Failed != "":
		return "on the way back" + at + ": " + firstLine(s.Trial.Failed)
	}
	words := map[Verdict]string{
		InOrder:     "in order",
		Differs:     "not in order: differences that were not applied",
		Failed:      "not in order: " + failedWords(s.LastRun.Issues),
		Unhealthy:   "not healthy",
		Behind:      "in order with the last good commit, behind the newest",
		Unusable:    "not enforced: no usable source",
		Interrupted: "the last run was cut off",
	}
	line := words[s.Verdict] + at
	if p := s.problem(); p != "" && (s.Verdict == Behind || s.Verdict == Unusable) {
		line += ": " + p
	}
	switch {
	case s.Verdict == Unhealthy && s.Unwell != nil:
		line += ": " + firstLine(s.Unwell.Why)
	case s.Trial.HasWayBack():
		line += ", not confirmed yet (until " + s.Trial.Until.Local().Format(time.TimeOnly) + ")"
	}
	return line
}

func failedWords(issues []state.Issue) string {
	for _, i := range issues {
		if i.Outcome == string(apply.Failed) {
			return i.Resource.String() + " failed"
		}
	}
	return "a resource failed"
}

// where says at which commit and in which group the host is.
func (s *Status) where() string {
	var parts []string
	for _, src := range s.Sources {
		if src.Applied == "" {
			continue
		}
		part := "at " + Short(src.Applied)
		if src.Group != "" {
			part += " of " + src.Group
		}
		if src.Pin != nil {
			part += ", pinned"
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return ""
	}
	return " " + strings.Join(parts, ", ")
}

func (s *Status) problem() string {
	for _, src := range s.Sources {
		if src.Problem != "" {
			return firstLine(src.Problem)
		}
	}
	return ""
}

// Short returns a revision as people write it.
func Short(revision string) string {
	if len(revision) > 12 {
		return revision[:10]
	}
	return revision
}

// line says in one line how a run ended, for the init system.
func (r *Result) line() string {
	where := (&Status{Sources: r.Sources}).where()
	return fmt.Sprintf("%s%s; %s", r.Verdict, where, r.Run.Summary)
}

// issuesKept is how many issues of a run are remembered.
const issuesKept = 100

// issues lists what a run left in another state than desired.
func issues(outcomes []*apply.Outcome) []state.Issue {
	var list []state.Issue
	for _, o := range outcomes {
		switch o.Status {
		case apply.InOrder, apply.Applied, apply.Repaired:
			continue
		}
		why := o.Why
		if o.Err != nil {
			why = firstLine(o.Err.Error())
		}
		if len(list) < issuesKept {
			list = append(list, state.Issue{Resource: o.Step.Address, Outcome: string(o.Status), Why: why})
		}
	}
	return list
}
