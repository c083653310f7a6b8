// Package window says when a host may be changed: within the windows that allow
// it, and outside of those that deny it.
//
// It knows what a change is of and why it is made, and nothing of how. It reads no
// clock.
package window

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"trued.dev/trued/internal/calendar"
	"trued.dev/trued/internal/resource"
)

// A Set is the windows of a group, or of a host.
type Set struct {
	Allow []Window `yaml:"allow" doc:"what they name is changed within one of them alone"`
	Deny  []Window `yaml:"deny" doc:"what they name is not changed within any of them, whatever is allowed"`
}

// A Window is a time that comes again and again, and what it is for.
type Window struct {
	Calendar  string        `yaml:"calendar" doc:"when it begins, as systemd's OnCalendar: Mon..Fri 22:00"`
	For       time.Duration `yaml:"for" doc:"how long it lasts, such as 4h"`
	Timezone  string        `yaml:"timezone" doc:"the time zone of calendar, such as Europe/Berlin; the host's"`
	Causes    []string      `yaml:"causes" doc:"intended, drift, prune; all of them"`
	Kinds     []string      `yaml:"kinds" doc:"kinds of resources; all"`
	Resources []string      `yaml:"resources" doc:"addresses, or globs of them; all"`
}

// Empty reports whether there is no window at all.
func (s Set) Empty() bool { return len(s.Allow)+len(s.Deny) == 0 }

// With returns the windows of both.
func (s Set) With(t Set) Set {
	return Set{Allow: slices.Concat(s.Allow, t.Allow), Deny: slices.Concat(s.Deny, t.Deny)}
}

// Validate reports everything that is wrong with the windows.
func (s Set) Validate() error {
	var errs []error
	for _, list := range []struct {
		name    string
		windows []Window
	}{{"allow", s.Allow}, {"deny", s.Deny}} {
		for i, w := range list.windows {
			if err := w.Validate(); err != nil {
				errs = append(errs, fmt.Errorf("%s[%d]: %w", list.name, i, err))
			}
		}
	}
	return errors.Join(errs...)
}

// most is the longest window.
const most = 366 * 24 * time.Hour

// Validate reports what is wrong with one window.
func (w Window) Validate() error {
	e, err := calendar.Parse(w.Calendar)
	if err != nil {
		return fmt.Errorf("calendar: %w", err)
	}
	if e.Zone != "" && w.Timezone != "" && e.Zone != w.Timezone {
		return fmt.Errorf("timezone: %s, and calendar says %s", w.Timezone, e.Zone)
	}
	for _, zone := range []string{e.Zone, w.Timezone} {
		if zone == "" {
			continue
		}
		if _, err := calendar.Zone(zone); err != nil {
			return fmt.Errorf("timezone: %w", err)
		}
	}
	if w.For < time.Minute || w.For > most {
		return fmt.Errorf("for: %s is not between a minute and a year: say how long it lasts, such as 4h", w.For)
	}
	causes := []string{string(resource.Intended), string(resource.Drift), string(resource.Prune)}
	for _, c := range w.Causes {
		if !slices.Contains(causes, c) {
			return fmt.Errorf("causes: %q is none of %s", c, strings.Join(causes, ", "))
		}
	}
	for _, pattern := range w.Resources {
		if _, err := (resource.Address{}).Match(pattern); err != nil {
			return fmt.Errorf("resources: %w", err)
		}
		if kind, _, ok := strings.Cut(pattern, ":"); !ok || kind == "" {
			return fmt.Errorf("resources: %q is no address: write kind:name, such as file:/etc/motd or unit:*", pattern)
		}
	}
	return nil
}

// names reports whether the window is for a change.
func (w Window) names(a resource.Address, cause resource.Cause) bool {
	if len(w.Causes) > 0 && !slices.Contains(w.Causes, string(cause)) {
		return false
	}
	if len(w.Kinds) > 0 && !slices.Contains(w.Kinds, a.Kind) {
		return false
	}
	return len(w.Resources) == 0 || slices.ContainsFunc(w.Resources, func(pattern string) bool {
		ok, err := a.Match(pattern)
		return ok && err == nil
	})
}

// An opening is a window that was read.
type opening struct {
	calendar *calendar.Expression
	zone     *time.Location
	long     time.Duration
}

func (w Window) opening(local *time.Location) (opening, error) {
	e, err := calendar.Parse(w.Calendar)
	if err != nil {
		return opening{}, err
	}
	if w.Timezone != "" {
		if local, err = calendar.Zone(w.Timezone); err != nil {
			return opening{}, err
		}
	}
	zone, err := e.In(local)
	return opening{calendar: e, zone: zone, long: w.For}, err
}

// steps bounds how far is looked ahead: windows that follow each other without a
// break never end.
const steps = 100

// end returns when the window that is open at a time closes; false when none is.
func (o opening) end(at time.Time) (time.Time, bool) {
	start, ok := o.calendar.Next(at.Add(-o.long), o.zone)
	if !ok || start.After(at) {
		return time.Time{}, false
	}
	end := start.Add(o.long)
	for range steps {
		next, ok := o.calendar.Next(start, o.zone)
		if !ok || next.After(end) {
			break
		}
		start, end = next, next.Add(o.long)
	}
	return end, true
}

// A Hold is why a change has to wait. The zero value is none.
type Hold struct {
	Why string
	// Opens is when it may be made; zero when that cannot be foreseen.
	Opens time.Time
}

// Any reports whether there is something to wait for.
func (h Hold) Any() bool { return h.Why != "" }

// Or returns what a change waits for that waits for both: the one that opens last,
// and one of which that is not known before all others.
func (h Hold) Or(other Hold) Hold {
	if other.Any() && (!h.Any() || !h.Opens.IsZero() && (other.Opens.IsZero() || other.Opens.After(h.Opens))) {
		return other
	}
	return h
}

// A Judge holds many changes against the same windows at the same time.
type Judge struct {
	set   Set
	at    time.Time
	local *time.Location
	known map[string]Hold // by the windows that name a change
}

// Judge returns one for a time. It is for one goroutine.
func (s Set) Judge(at time.Time, local *time.Location) *Judge {
	return &Judge{set: s, at: at, local: local, known: map[string]Hold{}}
}

// Hold is Set.Hold.
func (j *Judge) Hold(a resource.Address, cause resource.Cause) Hold {
	if j.set.Empty() {
		return Hold{}
	}
	var key []byte
	for _, list := range [][]Window{j.set.Allow, j.set.Deny} {
		for _, w := range list {
			if w.names(a, cause) {
				key = append(key, 'x')
			} else {
				key = append(key, '-')
			}
		}
	}
	key = append(key, cause...)
	h, ok := j.known[string(key)]
	if !ok {
		h = j.set.Hold(a, cause, j.at, j.local)
		j.known[string(key)] = h
	}
	return h
}

// Hold says whether a change may be made at a time, and if not until when. What
// no window that allows names may be changed at any time; what goes back to what
// was good waits for nothing. Windows without a time zone are in the local one.
func (s Set) Hold(a resource.Address, cause resource.Cause, at time.Time, local *time.Location) Hold {
	if cause == resource.Rollback {
		return Hold{}
	}
	allow, err := openings(s.Allow, a, cause, local)
	deny, wrong := openings(s.Deny, a, cause, local)
	if err := errors.Join(err, wrong); err != nil {
		return Hold{Why: "its window cannot be told: " + err.Error()}
	}
	why := ""
	for t, n := at, 0; n < steps; n++ {
		end, denied := latestEnd(deny, t)
		switch {
		case denied:
			if why == "" {
				why = "it is within a window that denies it"
			}
			t = end
		case len(allow) == 0 || isOpen(allow, t):
			if why == "" {
				return Hold{}
			}
			return Hold{Why: why, Opens: t}
		default:
			if why == "" {
				why = "it is outside of its windows"
			}
			next, ok := firstStart(allow, t)
			if !ok {
				return Hold{Why: why + ", and none is to come"}
			}
			t = next
		}
	}
	return Hold{Why: why}
}

func openings(windows []Window, a resource.Address, cause resource.Cause, local *time.Location) ([]opening, error) {
	var list []opening
	for _, w := range windows {
		if !w.names(a, cause) {
			continue
		}
		o, err := w.opening(local)
		if err != nil {
			return nil, err
		}
		list = append(list, o)
	}
	return list, nil
}

func isOpen(list []opening, at time.Time) bool {
	return slices.ContainsFunc(list, func(o opening) bool {
		_, open := o.end(at)
		return open
	})
}

func latestEnd(list []opening, at time.Time) (last time.Time, open bool) {
	for _, o := range list {
		if end, ok := o.end(at); ok {
			open = true
			if end.After(last) {
				last = end
			}
		}
	}
	return last, open
}

func firstStart(list []opening, after time.Time) (first time.Time, ok bool) {
	for _, o := range list {
		if next, found := o.calendar.Next(after, o.zone); found && (!ok || next.Before(first)) {
			first, ok = next, true
		}
	}
	return first, ok
}
