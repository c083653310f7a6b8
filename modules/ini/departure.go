package ini

import (
	"strings"

	"trued.dev/trued/internal/host/shared"
	"trued.dev/trued/internal/resource"
)

// A noted is what was there of a key before it was managed.
type noted struct {
	shared.Noted
	shared.Spot // of the line

	// Line is the whole line that was there.
	Line *string `json:"line,omitempty"`
	// NoSection is true when the section was not there, or had nothing in it but what
	// other resources put there.
	NoSection bool `json:"no_section,omitempty"`
	Removed   bool `json:"removed,omitempty"`
}

// note returns the prior with what is new to it, or nil.
func (r *Resource) note(prior resource.Prior, text *shared.Text, exists bool, view resource.View) (resource.Prior, error) {
	var n noted
	known, err := prior.Recall(r.claim(), &n)
	if err != nil {
		return nil, err
	}
	if !known {
		n.Existed, n.Open = exists, text.Open()
		at, err := find(text, r.Section, r.Key)
		if err == nil && at.line >= 0 {
			line := text.Line(at.line)
			n.Line, n.Spot = &line, shared.SpotOf(text, at.line, at.line+1)
		}
		n.NoSection = !at.section || at.line < 0 && r.others(text, view)
	}
	n.Sensitive, n.Removed = r.Sensitive, r.absent()
	return prior.With(r.claim(), n)
}

// others reports whether the section has keys, and all of them are other resources'.
func (r *Resource) others(text *shared.Text, view resource.View) bool {
	keys := 0
	current := ""
	for i := range text.Len() {
		line := strings.TrimSpace(text.Line(i))
		if name, ok := header(line); ok {
			current = name
		} else if current == r.Section && line != "" {
			key, _, ok := cutKey(line)
			if _, managed := view.Owner(r.claimOf(key)); !ok || !managed {
				return false
			}
			keys++
		}
	}
	return keys > 0
}

// Restore takes the key away again, or gives back the line that was there.
func (n *noted) Restore(text *shared.Text, c resource.Claim) error {
	section, key := cutPart(c.Part)
	at, err := find(text, section, key)
	if err != nil {
		return err
	}
	before := text.Len()
	last := at.line == before-1
	switch was := n.Line; {
	case was != nil && at.line >= 0:
		text.Set(at.line, *was)
		return nil
	case was != nil && n.Removed:
		n.insert(text, at, section, *was)
		return nil
	case was != nil || at.line < 0:
		return nil // somebody took it away, and may have it so
	}
	text.Delete(at.line, at.line+1)
	if n.NoSection {
		dropSection(text, section)
	}
	if last && n.Open {
		text.Unclose()
	}
	return nil
}

// insert puts a line back where it was, if that is in its section still.
func (n *noted) insert(text *shared.Text, at place, section, line string) {
	where := n.In(text)
	current := ""
	for i := range where {
		if name, ok := header(strings.TrimSpace(text.Line(i))); ok {
			current = name
		}
	}
	if current != section {
		at.add(text, section, line)
		return
	}
	last := where == text.Len()
	text.Insert(where, line)
	if last && n.Open {
		text.Unclose()
	}
}
