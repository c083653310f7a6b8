package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/state"
)

// An Order is what an operator wants to become of a source before the run that
// carries it out. It is kept across reboots.
type Order struct {
	// Do is rollback, pin, unpin or retry.
	Do string `json:"do"`
	// Source may be empty where there is one, and for retry, which is then of all.
	Source string `json:"source,omitempty"`
	// Commit is a whole name, or the beginning of one that the host knows.
	Commit string `json:"commit,omitempty"`
	Reason string `json:"reason"`
	By     string `json:"by,omitempty"`
}

// The orders.
const (
	OrderRollback = "rollback"
	OrderPin      = "pin"
	OrderUnpin    = "unpin"
	OrderRetry    = "retry"
)

// An OrderError is why an order cannot be carried out. Nothing was changed.
type OrderError struct{ Message string }

func (e *OrderError) Error() string { return e.Message }

func disobey(format string, args ...any) error { return &OrderError{fmt.Sprintf(format, args...)} }

// obey writes down what the operator ordered, with the events that tell of it.
func (r *run) obey(ctx context.Context) error {
	o := r.req.Order
	if o == nil {
		return nil
	}
	if strings.TrimSpace(o.Reason) == "" {
		return disobey("%s needs a reason: the next one who looks will want to know", o.Do)
	}
	if len(o.Reason) > maxReason || len(o.By) > maxReason {
		return disobey("the reason or the name is longer than %d bytes", maxReason)
	}
	sources, err := r.ordered(*o)
	if err != nil {
		return err
	}
	rec := state.Record{Sources: map[string]state.Source{}}
	for _, s := range sources {
		var told report.Incident
		switch o.Do {
		case OrderRollback:
			told, err = s.orderRollback(ctx, r, *o, &rec)
		case OrderPin:
			told, err = s.orderPin(ctx, r, *o)
		case OrderUnpin:
			told, err = s.orderUnpin()
		default:
			told, err = s.orderRetry()
		}
		if err != nil {
			return err
		}
		told.Source, told.Reason = s.name(), o.Reason
		if o.By != "" {
			told.Message += " (by " + o.By + ")"
		}
		if err := r.rec.incident(told); err != nil {
			return err
		}
		rec.Sources[s.name()] = s.before
	}
	if err := r.rec.write(rec); err != nil {
		return err
	}
	return r.agent.keepCommits()
}

// ordered returns the sources that an order is about.
func (r *run) ordered(o Order) ([]*sourceRun, error) {
	if r.agent.config.Mode == Observe && o.Do == OrderRollback {
		return nil, disobey("mode is observe: nothing is changed, so nothing can be gone back from")
	}
	var found []*sourceRun
	for _, s := range r.sources {
		switch {
		case o.Source != "" && s.name() != o.Source:
		case o.Source == "" && o.Do == OrderRetry && s.before.Quarantine == nil:
		default:
			found = append(found, s)
		}
	}
	switch {
	case o.Source != "" && len(found) == 0:
		return nil, disobey("there is no source %q", o.Source)
	case len(found) == 0:
		return nil, disobey("no commit is in quarantine")
	case len(found) > 1 && o.Do != OrderRetry:
		return nil, disobey("there are several sources: name one with --source")
	}
	return found, nil
}

// orderRollback has the host go back from the commit that it would be brought to
// otherwise: to the named one, or else to the one that was confirmed before.
func (s *sourceRun) orderRollback(ctx context.Context, r *run, o Order, rec *state.Record) (report.Incident, error) {
	if p := s.before.Pin; p != nil {
		return report.Incident{}, disobey("source %q is pinned to commit %s: pin it to another, or unpin it", s.name(), Short(p.Commit))
	}
	var fetched bool
	if s.newest, fetched = s.source.Last(); !fetched {
		return report.Incident{}, disobey("source %q was never fetched: there is nothing to go back from", s.name())
	}
	snap := r.agent.store.Head()
	back := snap.Confirmed(s.name())
	if back != nil && back.Commit == s.newest.Commit {
		back = s.before.Whole
	}
	if back == nil || back.Commit == s.newest.Commit {
		back = nil
		for _, p := range s.before.Previous {
			if p.Commit != s.newest.Commit {
				back = &p
				break
			}
		}
	}
	if q := s.before.Quarantine; o.Commit == "" && q != nil && q.Commit == s.newest.Commit {
		return report.Incident{}, disobey("the host has gone back from commit %s of source %q already: name the one to go back to", Short(q.Commit), s.name())
	}
	if o.Commit != "" {
		commit, err := s.find(ctx, r, o.Commit)
		if err != nil {
			return report.Incident{}, err
		}
		back = s.standingAt(back, commit)
	}
	switch {
	case back == nil:
		return report.Incident{}, disobey("source %q has no earlier commit that this host was healthy with: name one", s.name())
	case back.Commit == s.newest.Commit:
		return report.Incident{}, disobey("commit %s is the newest of source %q: have it tried with 'trued retry', or pin it", Short(back.Commit), s.name())
	}
	now := time.Now().UTC()
	s.before.Quarantine = &state.Quarantine{Commit: s.newest.Commit, Since: now, Why: o.Reason, By: o.By}
	t := &state.Trial{Run: r.stream.ID(), Since: now, Until: now.Add(r.agent.config.RunTimeout + r.agent.config.ConfirmWithin), Failed: o.Reason, Sources: map[string]state.Probation{}}
	if snap.Trial != nil {
		for name, p := range snap.Trial.Sources {
			t.Sources[name] = p
		}
	}
	if s.before.Applied != back.Commit || snap.Trial != nil {
		from := s.before.Applied
		if p, on := t.Sources[s.name()]; on {
			from = p.Commit
		}
		t.Sources[s.name()] = state.Probation{Commit: from, Back: back}
		rec.Trial, rec.Put = t, t.Regained(snap.Dropped)
	}
	return report.Incident{
		Type:    report.CommitQuarantined,
		Message: fmt.Sprintf("commit %s of source %q is given up; the host goes back to %s", Short(s.newest.Commit), s.name(), Short(back.Commit)),
	}, nil
}

// standingAt returns a commit with what it was loaded with, where that is known.
func (s *sourceRun) standingAt(confirmed *state.Standing, commit string) *state.Standing {
	if confirmed != nil && confirmed.Commit == commit {
		return confirmed
	}
	for _, known := range s.before.Previous {
		if known.Commit == commit {
			return &known
		}
	}
	return &state.Standing{Commit: commit, Group: s.before.Group}
}

func (s *sourceRun) orderPin(ctx context.Context, r *run, o Order) (report.Incident, error) {
	commit, err := s.find(ctx, r, o.Commit)
	if err != nil {
		return report.Incident{}, err
	}
	s.before.Pin = &state.Pin{Commit: commit, Since: time.Now().UTC(), Reason: o.Reason, By: o.By}
	if q := s.before.Quarantine; q != nil && q.Commit == commit {
		s.before.Quarantine = nil
	}
	return report.Incident{Type: report.CommitPinned, Message: fmt.Sprintf("source %q is pinned to commit %s", s.name(), Short(commit))}, nil
}

func (s *sourceRun) orderUnpin() (report.Incident, error) {
	if s.before.Pin == nil {
		return report.Incident{}, disobey("source %q is not pinned", s.name())
	}
	message := fmt.Sprintf("source %q is pinned to commit %s no more", s.name(), Short(s.before.Pin.Commit))
	s.before.Pin = nil
	return report.Incident{Type: report.CommitUnpinned, Message: message}, nil
}

func (s *sourceRun) orderRetry() (report.Incident, error) {
	q := s.before.Quarantine
	if q == nil {
		return report.Incident{}, disobey("no commit of source %q is in quarantine", s.name())
	}
	s.before.Quarantine = nil
	return report.Incident{Type: report.CommitReleased, Message: fmt.Sprintf("commit %s of source %q is tried again", Short(q.Commit), s.name())}, nil
}

const (
	commitLength = 40
	maxReason    = 1 << 10
)

// find returns the whole name of a commit. One that the host does not have is
// fetched.
func (s *sourceRun) find(ctx context.Context, r *run, name string) (string, error) {
	name = strings.ToLower(name)
	var known []string
	last, _ := s.source.Last()
	add := func(commit string) {
		if commit != "" && strings.HasPrefix(commit, name) && !slices.Contains(known, commit) {
			known = append(known, commit)
		}
	}
	for _, commit := range []string{last.Commit, s.before.Applied, s.before.Attempted} {
		add(commit)
	}
	snap := r.agent.store.Head()
	if st := snap.Confirmed(s.name()); st != nil {
		add(st.Commit)
	}
	for _, st := range s.before.Previous {
		add(st.Commit)
	}
	if s.before.Quarantine != nil {
		add(s.before.Quarantine.Commit)
	}
	if s.before.Pin != nil {
		add(s.before.Pin.Commit)
	}
	switch {
	case len(known) == 1 && name != "":
		name = known[0]
	case len(known) > 1:
		return "", disobey("commit %q may be each of %s", name, strings.Join(known, ", "))
	case len(name) != commitLength:
		return "", disobey("this host knows no commit %q: write all %d digits of its name", name, commitLength)
	}
	if _, err := s.source.Revision(name); err == nil && s.trusts(r, name) == nil {
		return name, nil
	}
	// An order is no way around the signatures that are required: the judge is asked
	// of what it has not agreed to.
	if err := s.source.Obtain(ctx, name); err != nil {
		return "", disobey("cannot have commit %s: %v", Short(name), err)
	}
	return name, s.trusts(r, name)
}

// trusts reports why a commit that the host has may not be applied.
func (s *sourceRun) trusts(r *run, commit string) error {
	rev, err := s.source.Revision(commit)
	if err != nil {
		return err
	}
	if err := r.agent.wardens[slices.Index(r.sources, s)].standing(s.source, rev); err != nil {
		return &OrderError{err.Error()}
	}
	return nil
}

// pinWarns is how old a pin is when it is told of again, each time.
const pinWarns = 7 * 24 * time.Hour

// warnOfPins tells of pins that are older than anybody is likely to have meant.
func (r *run) warnOfPins(now time.Time) error {
	for _, s := range r.sources {
		p := s.before.Pin
		if p == nil || r.partial() || now.Sub(later(p.Since, p.Told)) < pinWarns {
			continue
		}
		err := r.rec.incident(report.Incident{
			Type: report.CommitPinned, Severity: report.Warning, Source: s.name(), Reason: p.Reason,
			Message: fmt.Sprintf("source %q is pinned to commit %s for %d days", s.name(), Short(p.Commit), int(now.Sub(p.Since).Hours()/24)),
		})
		if err != nil {
			return err
		}
		pin := *p
		pin.Told = now
		s.before.Pin = &pin
		s.warned = true
	}
	return nil
}
