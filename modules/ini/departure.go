package ini

import (
	"context"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/shared"
	"trued.dev/trued/internal/resource"
)

// A noted is what was there of a key before it was managed.
type noted struct {
	shared.Noted
	// Line is the whole line that was there, in the place At.
	Line *string `json:"line,omitempty"`
	At   int     `json:"at,omitempty"`
	// NoSection is true when the section was not there.
	NoSection bool `json:"no_section,omitempty"`
	Removed   bool `json:"removed,omitempty"`
}

// note returns the prior with what is new to it, or nil.
func (r *Resource) note(prior resource.Prior, text *shared.Text, exists bool) (resource.Prior, error) {
	var n noted
	known, err := shared.Recall(prior, r.claim(), &n)
	if err != nil {
		return nil, err
	}
	if !known {
		n.Existed, n.Open = exists, text.Open()
		at, err := find(text, r.Section, r.Key)
		if err == nil && at.line >= 0 {
			line := text.Line(at.line)
			n.Line, n.At = &line, at.line
		}
		n.NoSection = !at.section
	}
	n.Sensitive, n.Removed = r.Sensitive, r.absent()
	return shared.Note(prior, r.claim(), n)
}

// A departure takes a key away again, or gives back the line that was there.
type departure struct {
	resource.Meta

	host  *host.Host
	held  resource.Held
	claim resource.Claim
	noted noted
	ok    bool
}

func newDeparture(h *host.Host, held resource.Held) (*departure, error) {
	d := &departure{host: h, held: held}
	for _, c := range held.Claims {
		if c.Space == resource.SpacePath && strings.HasPrefix(c.Part, partMark) {
			var err error
			if d.ok, err = shared.Recall(held.Prior, c, &d.noted); err != nil {
				return nil, err
			}
			d.claim, d.Sensitive = c, d.noted.Sensitive
		}
	}
	return d, nil
}

func (d *departure) Name() string { return d.held.Address.Name }

func (d *departure) Validate() error { return nil }

func (d *departure) Claims() []resource.Claim { return d.held.Claims }

func (d *departure) Needs() []resource.Need { return resource.ParentNeeds(d.claim.Name) }

// Place is the file.
func (d *departure) Place() shared.Place {
	return shared.Place{
		Path: d.claim.Name, Field: "value", Leaves: true, Made: !d.noted.Existed, Sensitive: d.Sensitive,
	}
}

// Check compares the file with what it is without the key.
func (d *departure) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	if !d.ok {
		return resource.Finding{}, ctx.Err()
	}
	return shared.Check(ctx, d.host, d, view, nil)
}

// Apply gives back what was there.
func (d *departure) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	return shared.Apply(ctx, d.host, d, view, found)
}

// Edit gives back what was there.
func (d *departure) Edit(text *shared.Text, view resource.View) error {
	if _, held := view.Owner(d.claim); held {
		return nil
	}
	section, key := cutPart(d.claim.Part)
	at, err := find(text, section, key)
	if err != nil {
		return err
	}
	before := text.Len()
	last := at.line == before-1
	switch was := d.noted.Line; {
	case was != nil && at.line >= 0:
		text.Set(at.line, *was)
		return nil
	case was != nil && d.noted.Removed:
		d.insert(text, at, section, *was)
		return nil
	case was != nil || at.line < 0:
		return nil // somebody took it away, and may have it so
	}
	text.Delete(at.line, at.line+1)
	if d.noted.NoSection {
		dropSection(text, section)
	}
	if last && d.noted.Open {
		text.Unclose()
	}
	return nil
}

// insert puts a line back where it was, if that is in its section still.
func (d *departure) insert(text *shared.Text, at place, section, line string) {
	where := min(d.noted.At, text.Len())
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
	if last && d.noted.Open {
		text.Unclose()
	}
}
