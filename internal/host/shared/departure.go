package shared

import (
	"context"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// A Record is what a kind noted about one part of a file, which is enough to
// give it back. It has a Noted in it.
type Record interface {
	OfFile() *Noted
	// Restore makes a text what it was without the part that has the claim.
	Restore(text *Text, c resource.Claim) error
}

// OfFile returns what is noted about the file itself.
func (n *Noted) OfFile() *Noted { return n }

// A Departure gives back the parts of a file that a resource had.
type Departure struct {
	resource.Meta

	host  *host.Host
	held  resource.Held
	field string
	path  string
	parts []record
}

type record struct {
	claim resource.Claim
	noted Record
}

// NewDeparture reads what was noted under the claims whose part begins with a
// mark. fresh returns an empty record to read into, and field is the field of
// the difference.
func NewDeparture(h *host.Host, held resource.Held, mark, field string, fresh func() Record) (*Departure, error) {
	d := &Departure{host: h, held: held, field: field}
	for _, c := range held.Claims {
		if c.Space != resource.SpacePath || !strings.HasPrefix(c.Part, mark) {
			continue
		}
		d.path = c.Name
		n := fresh()
		ok, err := held.Prior.Recall(c, n)
		if err != nil {
			return nil, err
		}
		if ok {
			d.parts = append(d.parts, record{c, n})
			d.Sensitive = d.Sensitive || n.OfFile().Sensitive
		}
	}
	return d, nil
}

// Name returns the name of the resource that leaves.
func (d *Departure) Name() string { return d.held.Address.Name }

// Validate has nothing to say: nobody wrote this.
func (d *Departure) Validate() error { return nil }

// Claims are those that are given up.
func (d *Departure) Claims() []resource.Claim { return d.held.Claims }

// Needs are the directories above the file.
func (d *Departure) Needs() []resource.Need { return resource.ParentNeeds(d.path) }

// Place is the file.
func (d *Departure) Place() Place {
	p := Place{Path: d.path, Field: d.field, Leaves: true, Sensitive: d.Sensitive}
	for _, r := range d.parts {
		p.Made = p.Made || !r.noted.OfFile().Existed
	}
	return p
}

// Check compares the file with what it is without the parts.
func (d *Departure) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	if len(d.parts) == 0 {
		return resource.Finding{}, ctx.Err()
	}
	return Check(ctx, d.host, d, view, nil)
}

// Apply gives back what was there.
func (d *Departure) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	return Apply(ctx, d.host, d, view, found)
}

// Edit gives back what was there of each part that nobody else has now.
func (d *Departure) Edit(text *Text, view resource.View) error {
	for _, r := range d.parts {
		if _, held := view.Owner(r.claim); held {
			continue
		}
		if err := r.noted.Restore(text, r.claim); err != nil {
			return err
		}
	}
	return nil
}
