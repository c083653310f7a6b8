package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"trued.dev/trued/internal/apply"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
)

// A recorder turns outcomes into events and writes them with the records that
// they belong to, so that neither is there without the other.
type recorder struct {
	store  *state.Store
	log    *slog.Logger
	stream *report.Run
	run    state.Run
	// opened: the run's first event is in line; begun: the ledger says that the
	// run is under way.
	opened, begun bool
	// waiting are events that no change of the state hangs on; they go with the
	// next record.
	waiting []json.RawMessage
	// told counts those of them that are about resources.
	told state.Tallies
	// events are all of the run, for the history.
	events     []json.RawMessage
	noteworthy bool
	// culprits are asked who caused drift since that time.
	culprits culprits
	since    time.Time
	// trial is what is to be on trial from the first change on; nil when nothing is
	// new. changed is true once something was.
	trial   *state.Trial
	changed bool
	// arm makes the way back sure before that.
	arm func(*state.Trial) error
	// drifts are what the run found to have drifted, blamed what of that somebody
	// was looked for.
	drifts []state.Drift
	blamed []resource.Claim
	// handled is called when the packages that are being changed are done with.
	handled func()
	// holds are the changes that waited for their windows before this run.
	holds map[resource.Address]state.Hold
}

// Record implements apply.Recorder.
func (r *recorder) Record(rec state.Record, outcomes []*apply.Outcome) error {
	if err := r.open(); err != nil {
		return err
	}
	r.handle(rec)
	for _, o := range outcomes {
		if h, known := r.holds[o.Step.Address]; known && waits(o) {
			o.Told = h.Change == change(o)
		}
		if o.Status == apply.InOrder || o.Told {
			continue
		}
		told := reportOutcome(o)
		told.Culprit = r.blame(o)
		r.drifted(o, told.Culprit)
		e := r.stream.Resource(told)
		if err := r.queue(e); err != nil {
			return err
		}
		r.told = r.told.Add(state.Tally{Kind: e.Kind, Cause: resource.Cause(e.Cause), Outcome: string(e.Outcome), Count: 1})
		r.noteworthy = r.noteworthy || o.Status == apply.Applied || o.Status == apply.Repaired || o.Status == apply.Failed
	}
	if rec.Begin == nil && !rec.Done && len(rec.Put) == 0 && len(rec.Drop) == 0 &&
		len(rec.Owe) == 0 && len(rec.Placed) == 0 && len(rec.Settle) == 0 {
		return nil
	}
	return r.write(rec)
}

// tell tells of something that was done to a resource apart from the plan.
func (r *recorder) tell(o report.ResourceOutcome) error {
	r.noteworthy, r.changed = true, true
	if err := r.open(); err != nil {
		return err
	}
	return r.queue(r.stream.Resource(o))
}

// incident tells of something that happened to a source during the run.
func (r *recorder) incident(i report.Incident) error {
	r.noteworthy = true
	if err := r.open(); err != nil { // events are numbered in the order in which they are told
		return err
	}
	return r.queue(r.stream.Incident(i))
}

// open puts the event that the run started before all others.
func (r *recorder) open() error {
	if r.opened {
		return nil
	}
	r.opened = true
	return r.queue(r.stream.Started(r.run.Trigger))
}

func (r *recorder) queue(e report.Event) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("cannot encode event: %w", err)
	}
	r.waiting = append(r.waiting, data)
	r.events = append(r.events, data)
	return nil
}

func (r *recorder) write(rec state.Record) error {
	if !r.begun {
		r.begun = true
		run := r.run
		rec.Started = &run
	}
	if rec.Begin != nil && r.trial != nil {
		if err := r.store.Reserve(); err != nil {
			r.log.Warn("a disk that the commit fills may keep the host from going back", "error", err)
		}
	}
	if rec.Begin != nil {
		if r.trial != nil {
			if err := r.arm(r.trial); err != nil {
				return err
			}
		}
		rec.Trial, r.trial, r.changed = r.trial, nil, true
	}
	rec.Events, r.waiting = r.waiting, nil
	rec.Told, r.told = r.told, nil
	return r.store.Append(rec)
}

// finish writes the record that closes the run: what sources have become where
// that is new, and in its event what is wrong with one, be that new or not.
func (r *recorder) finish(end state.Record, counts report.Counts, code int, problem string) error {
	if err := r.open(); err != nil {
		return err
	}
	err := r.queue(r.stream.Finished(report.Result{
		Counts: counts, Duration: end.Finished.Finished.Sub(end.Finished.Started), ExitCode: code,
		Message: problem,
	}))
	if err != nil {
		return err
	}
	return r.write(end)
}

// problem says what is wrong with the first source that something is wrong with.
func problem(sources []*sourceRun) string {
	for _, s := range sources {
		if s.err != nil {
			return fmt.Sprintf("source %q: %s", s.name(), firstLine(s.err.Error()))
		}
	}
	return ""
}

func reportOutcome(o *apply.Outcome) report.ResourceOutcome {
	r := report.ResourceOutcome{
		Address:  o.Step.Address,
		Source:   o.Step.Source,
		Cause:    o.Cause,
		Outcome:  report.Outcome(o.Status),
		Changes:  o.Changes,
		Creates:  o.Creates,
		Note:     o.Why,
		Duration: o.Duration,
		Err:      o.Err,
	}
	if o.Status == apply.Failed && o.Err == nil { // what went wrong before keeps it from being tried
		r.Err, r.ErrType, r.Note = errors.New(o.Why), "waiting", ""
	}
	if len(o.Reactions) > 0 {
		r.Reaction = o.Reactions[0]
	}
	if o.Step.Resource != nil {
		r.Sensitive = o.Step.Resource.Common().Sensitive
	}
	if len(o.Because) > 0 && r.Note == "" {
		r.Note = "because of " + o.Because[0].String()
		if n := len(o.Because) - 1; n > 0 {
			r.Note += fmt.Sprintf(" and %d more", n)
		}
	}
	return r
}
