package report

import (
	"fmt"
	"strings"
	"time"

	"trued.dev/trued/internal/culprit"
	"trued.dev/trued/internal/resource"
)

// A ResourceOutcome is what came of one resource.
type ResourceOutcome struct {
	Address resource.Address
	// Source is the name of the source that the resource comes from.
	Source  string
	Cause   resource.Cause
	Outcome Outcome
	Changes resource.Diff
	// Sensitive blanks every value, wherever it was forgotten.
	Sensitive bool
	// Creates is true when the thing did not exist before.
	Creates bool
	// Reaction is what was done because something else changed.
	Reaction resource.Reaction
	// Note says why it is pending, held or skipped, or adds a remark.
	Note     string
	Duration time.Duration
	// ErrType is the class of Err, one word; empty leaves it to the error.
	ErrType string
	Err     error
	// Culprit is a hint of who caused drift; nil where there is none.
	Culprit *culprit.Culprit
}

// Resource returns the event of one resource that is not simply in order.
func (r *Run) Resource(o ResourceOutcome) Event {
	if o.Cause == resource.Drift && o.Outcome == Applied {
		o.Outcome = Repaired
	}
	ms := o.Duration.Milliseconds()
	e := Event{
		Resource:   o.Address.String(),
		Kind:       o.Address.Kind,
		Cause:      string(o.Cause),
		Outcome:    o.Outcome,
		Reaction:   string(o.Reaction),
		DurationMS: &ms,
	}
	e.Type, e.Severity = classify(o)
	e.Changes, e.Omitted = changes(o)
	setError(&e, o.ErrType, o.Err)
	e.Message = o.message()
	e = r.stamp(e, o.Source)
	if o.Culprit != nil {
		e.blame(o.Culprit)
	}
	return e
}

// blame adds the hint of who did it, also to the message, of which it is what is
// cut last.
func (e *Event) blame(c *culprit.Culprit) {
	at, err := time.Parse(time.RFC3339Nano, e.Time)
	if err != nil {
		return // never: stamp wrote it
	}
	name := func(s string) string { return oneLine(cutTo(s, maxValue)) }
	e.Culprit = name(c.Text(at))
	e.CulpritAction, e.CulpritTime = name(c.What), timestamp(c.When)
	e.CulpritLogin, e.CulpritUnit = name(c.LoginUser), name(c.Unit)
	e.ProcessPID, e.ProcessUser = c.PID, name(c.User)
	e.ProcessExecutable, e.ProcessName = name(c.Executable), name(c.Name())
	hint := "; hint: " + cutTo(e.Culprit, maxMessage/2)
	e.Message = cutTo(e.Message, maxMessage-len(hint)) + hint
}

// Contested returns the event that a resource is changed by somebody as often as
// it is put back.
func (r *Run) Contested(o ResourceOutcome, message string) Event {
	return r.about(ResourceContested, Warning, o, message)
}

// Calmed returns the event that nobody does so any more.
func (r *Run) Calmed(o ResourceOutcome, message string) Event {
	return r.about(ResourceCalmed, Notice, o, message)
}

func (r *Run) about(t Type, severity Severity, o ResourceOutcome, message string) Event {
	return r.stamp(Event{
		Type: t, Severity: severity, Message: message,
		Resource: o.Address.String(), Kind: o.Address.Kind, Cause: string(o.Cause), Outcome: o.Outcome,
	}, o.Source)
}

// classify tells the type of a resource's event. What was only looked at, or
// waits, is pending whatever it waits for.
func classify(o ResourceOutcome) (Type, Severity) {
	switch o.Outcome {
	case Failed:
		return ResourceFailed, Error
	case Skipped:
		return ResourceSkipped, Warning
	case Held:
		return ResourcePending, Warning
	case Pending:
		return ResourcePending, Notice
	}
	switch {
	case o.reacted():
		return ResourceChanged, Info
	case o.Cause == resource.Drift:
		return ResourceDrifted, Warning
	case o.Outcome == Reported:
		return ResourcePending, Notice
	default:
		return ResourceChanged, Info
	}
}

// reacted reports whether the resource was in order by itself, and only did what
// the change of another caused, be that drift.
func (o ResourceOutcome) reacted() bool {
	done := o.Outcome == Applied || o.Outcome == Repaired
	leaves := o.Cause == resource.Prune || o.Cause == resource.Rollback && o.Reaction == ""
	return done && len(o.Changes) == 0 && !leaves
}

// stays reports whether a resource did nothing but give back what it has no longer: of
// one that leaves as a whole, no single change says so.
func (o ResourceOutcome) stays() bool {
	return o.Cause == resource.Prune && len(o.Changes) > 0 && o.Changes[0].Cause == resource.Prune
}

// message says in one line what came of the resource.
func (o ResourceOutcome) message() string {
	name, what := o.Address.String(), o.fields()
	var s string
	switch {
	case o.Outcome == Failed:
		s = name + " failed" + what
	case o.Outcome == Skipped:
		s = name + " was skipped"
	case o.Outcome == Held:
		s = name + " is held" + what
	case o.Outcome == Pending:
		s = name + " is pending" + what
	case o.Outcome == Reported && o.Cause == resource.Drift:
		s = name + " drifted, and was left as it is" + what
	case o.Outcome == Reported:
		s = name + " would change" + what
	case o.reacted() && o.Reaction != "":
		s = fmt.Sprintf("%s: %s done", name, o.Reaction)
	case o.reacted():
		s = name + " reacted"
	case o.Cause == resource.Drift:
		s = name + " drifted, and was put back" + what
	case o.stays():
		s = name + " gave back what it has no longer" + what
	case o.Cause == resource.Prune:
		s = name + " left its group, and was pruned"
	case o.Cause == resource.Rollback:
		s = name + " was rolled back" + what
	case o.Creates:
		s = name + " was created"
	default:
		s = name + " was changed" + what
	}
	if len(o.Changes) > 0 && o.Reaction != "" {
		s += fmt.Sprintf(", %s done", o.Reaction)
	}
	if o.Note != "" {
		s += ": " + o.Note
	}
	if o.Err != nil {
		s += ": " + o.Err.Error()
	}
	return s
}

// fields names the first attributes that differ: " (content, mode)".
func (o ResourceOutcome) fields() string {
	const shown = 4
	var names []string
	for i, c := range o.Changes {
		if i == shown {
			names = append(names, fmt.Sprintf("%d more", len(o.Changes)-shown))
			break
		}
		names = append(names, c.Field)
	}
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// changes returns what an event says of the differences, within its bounds, and
// how many were left off.
func changes(o ResourceOutcome) ([]Change, int) {
	var kept []Change
	size := 0
	for i, c := range o.Changes {
		out := Change{Field: cutTo(c.Field, maxName)}
		if c.Cause != o.Cause {
			out.Cause = string(c.Cause)
		}
		if c.Redacted || o.Sensitive {
			out.Redacted = true
		} else {
			var a, b, d bool
			out.Old, a = cut(c.Old, maxValue)
			out.New, b = cut(c.New, maxValue)
			out.Unified, d = cut(c.Unified, maxUnified)
			out.Cut = a || b || d
		}
		size += len(out.Field) + len(out.Old) + len(out.New) + len(out.Unified) + 64
		if size > maxChanges {
			return kept, len(o.Changes) - i
		}
		kept = append(kept, out)
	}
	return kept, 0
}
