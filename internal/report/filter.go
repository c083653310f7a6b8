package report

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// A Filter says which events a sink gets; the zero value lets all through.
type Filter struct {
	// Types, of which one must match.
	Types []TypePattern `yaml:"types" doc:"types of events, such as run.finished or resource.*"`
	// Causes, of which one must match; an event that has none does not.
	Causes []CauseWord `yaml:"causes" doc:"causes of changes: intended, drift, prune, rollback"`
	// Severity is the least one.
	Severity Severity `yaml:"severity" doc:"the least severity: info, notice, warning, error"`
}

// A TypePattern is a type of event, or a prefix of some: resource.*.
type TypePattern string

// UnmarshalText takes only what some type matches.
func (p *TypePattern) UnmarshalText(text []byte) error {
	pattern := TypePattern(text)
	if !slices.ContainsFunc(Types(), pattern.matches) {
		return fmt.Errorf("%q matches no type of event: write one such as run.finished, or resource.*", text)
	}
	*p = pattern
	return nil
}

func (p TypePattern) matches(t Type) bool {
	if prefix, ok := strings.CutSuffix(string(p), "*"); ok {
		return strings.HasPrefix(string(t), prefix)
	}
	return string(p) == string(t)
}

// A CauseWord is the cause of a change.
type CauseWord string

// UnmarshalText takes only the words that there are.
func (c *CauseWord) UnmarshalText(text []byte) error {
	switch CauseWord(text) {
	case "intended", "drift", "prune", "rollback":
		*c = CauseWord(text)
		return nil
	}
	return fmt.Errorf("unknown cause %q: write intended, drift, prune or rollback", text)
}

// UnmarshalText takes only the words that there are.
func (s *Severity) UnmarshalText(text []byte) error {
	if !slices.Contains(Severities(), Severity(text)) {
		return fmt.Errorf("unknown severity %q: write info, notice, warning or error", text)
	}
	*s = Severity(text)
	return nil
}

// all reports whether the filter lets everything through.
func (f Filter) all() bool { return len(f.Types) == 0 && len(f.Causes) == 0 && f.Severity == "" }

// passes reports whether an event gets through. What is no event does, so that
// it does not go unseen; so does what tells of the sink itself.
func (f Filter) passes(event json.RawMessage) bool {
	if f.all() {
		return true
	}
	var e struct {
		Type     Type     `json:"type"`
		Severity Severity `json:"severity"`
		Cause    string   `json:"trued.cause"`
	}
	if err := json.Unmarshal(event, &e); err != nil || e.Type == ReportTested || e.Type == ReportDropped {
		return true
	}
	if len(f.Types) > 0 && !slices.ContainsFunc(f.Types, func(p TypePattern) bool { return p.matches(e.Type) }) {
		return false
	}
	if len(f.Causes) > 0 && !slices.Contains(f.Causes, CauseWord(e.Cause)) {
		return false
	}
	return f.Severity == "" || slices.Index(Severities(), e.Severity) >= slices.Index(Severities(), f.Severity)
}

// pick returns the events that get through, and where they stood.
func (f Filter) pick(events []Stored) (picked []Stored, places []int) {
	for i, e := range events {
		if f.passes(e.Event) {
			picked = append(picked, e)
			places = append(places, i)
		}
	}
	return picked, places
}
