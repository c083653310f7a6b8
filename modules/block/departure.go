package block

import (
	"context"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/shared"
	"trued.dev/trued/internal/resource"
)

// A noted is what was there of a block before it was managed.
type noted struct {
	shared.Noted
	// Had tells whether the block was there, with these lines after so many.
	Had   bool     `json:"had,omitempty"`
	Lines []string `json:"lines,omitempty"`
	At    int      `json:"at,omitempty"`
	// Marks are the lines that mark the block.
	Marks *[2]string `json:"marks,omitempty"`
}

// note returns the prior with what is new to it, or nil.
func (r *Resource) note(prior resource.Prior, text *shared.Text, exists bool) (resource.Prior, error) {
	var n noted
	known, err := shared.Recall(prior, r.claim(), &n)
	if err != nil {
		return nil, err
	}
	m := r.marks()
	if !known {
		n.Existed, n.Open = exists, text.Open()
		from, to, err := m.find(text)
		if err == nil && from >= 0 {
			n.Had, n.At = true, from
			for i := from + 1; i < to; i++ {
				n.Lines = append(n.Lines, text.Line(i))
			}
		}
	}
	if n.Marks != nil && *n.Marks != [2]string{m.begin, m.end} {
		old := marks{n.Marks[0], n.Marks[1]}
		if from, _, err := old.find(text); err == nil && from >= 0 {
			return shared.Note(prior, r.claim(), n) // until it has moved
		}
	}
	n.Marks, n.Sensitive = &[2]string{m.begin, m.end}, r.Sensitive
	return shared.Note(prior, r.claim(), n)
}

// A departure takes a block away again, or gives back the one that was there.
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
		Path: d.claim.Name, Field: "content", Leaves: true, Made: !d.noted.Existed, Sensitive: d.Sensitive,
	}
}

// Check compares the file with what it is without the block.
func (d *departure) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	if !d.ok || d.noted.Marks == nil {
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
	m := marks{d.noted.Marks[0], d.noted.Marks[1]}
	from, to, err := m.find(text)
	if err != nil {
		return err
	}
	if d.noted.Had {
		earlier := &Resource{lines: d.noted.Lines}
		if from >= 0 {
			return earlier.replace(text, from, to)
		}
		at := min(d.noted.At, text.Len())
		last := at == text.Len()
		text.Insert(at, append(append([]string{m.begin}, d.noted.Lines...), m.end)...)
		if last && d.noted.Open {
			text.Unclose()
		}
		return nil
	}
	if from < 0 {
		return nil
	}
	last := to == text.Len()-1
	text.Delete(from, to+1)
	if last && d.noted.Open {
		text.Unclose()
	}
	return nil
}
