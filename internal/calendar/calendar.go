// Package calendar says when a calendar expression of systemd comes true, such
// as `Mon..Fri 02:30` or `*-*-01 04:00 Europe/Berlin`, on hosts with systemd and
// without.
//
// It reads no clock and starts nothing: what comes next is asked of it with a
// time to count from.
package calendar

import (
	"fmt"
	"slices"
	"time"
)

const (
	// lastYear is the last one that systemd knows.
	lastYear   = 2199
	lastSecond = 7258118400 // 2200-01-01
)

// An Expression is a set of moments.
type Expression struct {
	// Zone is the name of the time zone that the expression ends with, if any.
	Zone string

	text string
	// at is the only moment, when it is not zero.
	at                  time.Time
	weekdays            [7]bool // from Sunday
	someDays            bool
	year, month, day    []span
	hour, minute, micro []span
	fromEnd             bool // days count from the month's end
}

// A span is one number, several with the same distance, or with to < 0 all from
// the first on. None at all is any.
type span struct{ from, to, every int }

func (e *Expression) String() string { return e.text }

// In returns the time zone that counts: that of the expression, or the given one.
func (e *Expression) In(zone *time.Location) (*time.Location, error) {
	if e.Zone == "" {
		return zone, nil
	}
	return Zone(e.Zone)
}

// Zone returns the time zone of a name, by the data base of the machine: half a
// megabyte in the program would be for hosts without one alone.
func Zone(name string) (*time.Location, error) {
	loc, err := time.LoadLocation(name)
	switch {
	case name == "" || name == "Local":
		return nil, fmt.Errorf("%q is not the name of a time zone, such as Europe/Berlin or UTC", name)
	case err != nil:
		return nil, fmt.Errorf("%q is not the name of a time zone, such as Europe/Berlin or UTC, or the package tzdata is missing", name)
	}
	return loc, nil
}

// most bounds the search, as systemd's is bounded.
const most = 1000

// Next returns the first moment after a time, counted in a time zone; false when
// there is none. What a clock that is set forward leaves out does not come on that
// day, and what it shows twice when it is set back counts once, the first time.
func (e *Expression) Next(after time.Time, zone *time.Location) (time.Time, bool) {
	if !e.at.IsZero() {
		return e.at, e.at.After(after)
	}
	w := wallOf(after.Add(time.Microsecond).Truncate(time.Microsecond), zone)
	for range most {
		done, ok := e.step(&w, zone)
		if !ok {
			return time.Time{}, false
		}
		if !done {
			continue
		}
		if t := w.time(zone); t.After(after) {
			return t, true
		}
		w.micro++ // the second of two hours that look the same
		w = w.normal(zone)
	}
	return time.Time{}, false
}

// step moves the wall clock on to where it matches. It returns false while there
// is more to match, and ok false when nothing ever will.
func (e *Expression) step(w *wall, zone *time.Location) (done, ok bool) {
	*w = w.normal(zone)
	year, found := next(e.year, w.year)
	if !found || year > lastYear {
		return false, false
	}
	if year != w.year {
		*w = wall{year: year, month: 1, day: 1}
	}
	month, found := next(e.month, w.month)
	if !found {
		*w = wall{year: w.year + 1, month: 1, day: 1}
		return false, true
	}
	if month != w.month {
		*w = wall{year: w.year, month: month, day: 1}
	}
	last := time.Date(w.year, time.Month(w.month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
	day, found := next(e.days(last), w.day)
	if !found || day > last {
		*w = wall{year: w.year, month: w.month + 1, day: 1}
		return false, true
	}
	if day != w.day {
		*w = wall{year: w.year, month: w.month, day: day}
	}
	if e.someDays && !e.weekdays[time.Date(w.year, time.Month(w.month), w.day, 0, 0, 0, 0, time.UTC).Weekday()] {
		*w = wall{year: w.year, month: w.month, day: w.day + 1}
		return false, true
	}
	return e.stepTime(w, zone)
}

func (e *Expression) stepTime(w *wall, zone *time.Location) (done, ok bool) {
	hour, found := next(e.hour, w.hour)
	if !found || hour > 23 {
		*w = wall{year: w.year, month: w.month, day: w.day + 1}
		return false, true
	}
	if hour != w.hour {
		w.hour, w.minute, w.micro = hour, 0, 0
	}
	if n := w.normal(zone); n != *w {
		// The clock leaves this hour out.
		*w = n
		return false, true
	}
	minute, found := next(e.minute, w.minute)
	if !found || minute > 59 {
		w.hour, w.minute, w.micro = w.hour+1, 0, 0
		return false, true
	}
	if minute != w.minute {
		w.minute, w.micro = minute, 0
	}
	micro, found := next(e.micro, w.micro)
	if !found || micro >= 60e6 {
		w.minute, w.micro = w.minute+1, 0
		return false, true
	}
	w.micro = micro
	if n := w.normal(zone); n != *w {
		*w = n
		return false, true
	}
	return true, true
}

// days returns the days of a month with so many, counted from its begin.
func (e *Expression) days(last int) []span {
	if !e.fromEnd {
		return e.day
	}
	days := make([]span, 0, len(e.day))
	for _, s := range e.day {
		c := span{from: last + 1 - s.from, to: -1, every: s.every}
		if s.to > 0 {
			c.from, c.to = last+1-s.to, c.from
		}
		days = append(days, c)
	}
	return days
}

// next returns the first number of the spans that is not below the given one.
func next(spans []span, from int) (int, bool) {
	if len(spans) == 0 {
		return from, true
	}
	var found []int
	for _, s := range spans {
		switch {
		case s.from >= from:
			found = append(found, s.from)
		case s.every > 0:
			n := s.from + (from-s.from+s.every-1)/s.every*s.every
			if s.to < 0 || n <= s.to {
				found = append(found, n)
			}
		}
	}
	if len(found) == 0 {
		return 0, false
	}
	return slices.Min(found), true
}

// A wall is what a clock and a calendar on the wall show.
type wall struct{ year, month, day, hour, minute, micro int }

func wallOf(t time.Time, zone *time.Location) wall {
	t = t.In(zone)
	return wall{t.Year(), int(t.Month()), t.Day(), t.Hour(), t.Minute(), t.Second()*1e6 + t.Nanosecond()/1e3}
}

// normal returns what is shown in place of what no clock shows.
func (w wall) normal(zone *time.Location) wall { return wallOf(w.time(zone), zone) }

// time returns the first moment at which this is shown.
func (w wall) time(zone *time.Location) time.Time {
	t := time.Date(w.year, time.Month(w.month), w.day, w.hour, w.minute, 0, 0, zone).Add(time.Duration(w.micro) * time.Microsecond)
	if back := w.sinceShown(t.In(zone)); back > 0 {
		return t.Add(back) // never shown: what is, goes on from there
	}
	start, _ := t.ZoneBounds()
	if start.IsZero() {
		return t
	}
	_, before := start.Add(-1).Zone()
	_, now := t.Zone()
	if earlier := t.Add(time.Duration(now-before) * time.Second); earlier.Before(start) && wallOf(earlier, zone) == wallOf(t, zone) {
		return earlier
	}
	return t
}

// sinceShown returns by how much this is later than what is shown at a moment.
func (w wall) sinceShown(t time.Time) time.Duration {
	s := wallOf(t, t.Location())
	return w.inUTC().Sub(s.inUTC())
}

// inUTC is for counting alone.
func (w wall) inUTC() time.Time {
	return time.Date(w.year, time.Month(w.month), w.day, w.hour, w.minute, 0, 0, time.UTC).Add(time.Duration(w.micro) * time.Microsecond)
}
