package resource

import (
	"slices"
	"strings"
)

// A Diff is the difference between the host and a resource: plain data that is
// printed, kept and sent. Where a value is sensitive it was never put in.
type Diff []Change

// A Change is one attribute that differs.
type Change struct {
	// Field is the attribute's key in the manifest, such as "mode", or with a
	// path for one file of a tree: "content:/srv/www/index.html".
	Field string `json:"field"`
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
	// Unified is a unified diff, for text that is too long for Old and New.
	Unified  string `json:"unified,omitempty"`
	Redacted bool   `json:"redacted,omitempty"`
	// Cause is set where the module knows better than the engine: a newer
	// package for `latest` is intended, a file that left a tree is pruned.
	Cause Cause `json:"cause,omitempty"`
}

// Cause tells why a resource changes.
type Cause string

// The causes.
const (
	Intended Cause = "intended"
	Drift    Cause = "drift"
	Prune    Cause = "prune"
	Rollback Cause = "rollback"
)

// Has reports whether a change of the field is part of the diff.
func (d Diff) Has(field string) bool {
	for _, c := range d {
		if c.Field == field {
			return true
		}
	}
	return false
}

// Redacted returns the diff with the fields that differ and no value.
func (d Diff) Redacted() Diff {
	for i, c := range d {
		d[i] = Change{Field: c.Field, Cause: c.Cause, Redacted: true}
	}
	return d
}

// RedactedIn returns the diff with no value of a field.
func (d Diff) RedactedIn(field string) Diff {
	for i, c := range d {
		if c.Field == field {
			d[i] = Change{Field: c.Field, Cause: c.Cause, Redacted: true}
		}
	}
	return d
}

// Without returns the diff less the changes of the named fields, those of a
// tree's files ("mode:/srv/x") included. What is given back stays in it: its claim
// is let go with it.
func (d Diff) Without(fields []string) Diff {
	if len(fields) == 0 {
		return d
	}
	var kept Diff
	for _, c := range d {
		if field, _, _ := strings.Cut(c.Field, ":"); c.Cause == Prune || !slices.Contains(fields, field) {
			kept = append(kept, c)
		}
	}
	return kept
}
