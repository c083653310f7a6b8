package host

import (
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/resource"
)

// A Departure gives back all paths that a resource held: the value that Absent
// of the kinds that claim paths returns, or is made of.
type Departure struct {
	resource.Meta

	// Trial, where there is one, must accept the machine with each file that is
	// given its earlier content. What there is comes back when it does not.
	Trial func(ctx context.Context) error

	host  *Host
	name  string
	paths []string // those within others first
	noted map[string]PathPrior
	// full are directories that turned out to hold more than what leaves.
	full map[string]bool
}

// NewDeparture reads what was noted about the paths of held.
func NewDeparture(h *Host, held resource.Held) (*Departure, error) {
	d := &Departure{host: h, name: held.Address.Name, noted: map[string]PathPrior{}, full: map[string]bool{}}
	for _, c := range held.Claims {
		if c.Space != resource.SpacePath || c.Part != "" {
			continue
		}
		prior, ok, err := NotedPath(held.Prior, c.Name)
		if err != nil {
			return nil, err
		}
		if ok {
			d.paths = append(d.paths, c.Name)
			d.noted[c.Name] = prior
			h.departing.Store(c.Name, true)
			d.Sensitive = d.Sensitive || prior.Leaving.Sensitive
		}
	}
	slices.SortFunc(d.paths, DeepestFirst)
	return d, nil
}

// Departing reports whether a path is to be given back by what has left the catalog.
func (h *Host) Departing(name string) bool {
	_, departs := h.departing.Load(name)
	return departs
}

// AllStay forgets which paths are to be given back, before that is found anew.
func (h *Host) AllStay() { h.departing.Clear() }

// DeepestFirst orders paths so that what is in a directory comes before it.
func DeepestFirst(a, b string) int {
	if n := strings.Count(b, "/") - strings.Count(a, "/"); n != 0 {
		return n
	}
	return strings.Compare(b, a)
}

// Name returns the name of the resource that left.
func (d *Departure) Name() string { return d.name }

// Validate has nothing to find.
func (d *Departure) Validate() error { return nil }

// Claims lists the paths.
func (d *Departure) Claims() []resource.Claim {
	claims := make([]resource.Claim, len(d.paths))
	for i, p := range d.paths {
		claims[i] = resource.Path(p)
	}
	return claims
}

// Needs are the directories above the paths: what leaves goes before them.
func (d *Departure) Needs() []resource.Need {
	seen := map[string]bool{}
	var needs []resource.Need
	for _, p := range d.paths {
		for _, n := range resource.ParentNeeds(p) {
			if !seen[n.Claim.Name] {
				seen[n.Claim.Name] = true
				needs = append(needs, n)
			}
		}
	}
	return needs
}

// Check tells what is to be given back. A path that another resource holds now
// is not.
func (d *Departure) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	var found resource.Finding
	var stays []string
	going := going{paths: map[string]bool{}, also: func(name string) bool {
		leaves := d.host.Departing(name)
		if leaves {
			_, held := view.Owner(resource.Path(name))
			leaves = !held
		}
		return leaves
	}}
	for _, name := range d.paths {
		if _, held := view.Owner(resource.Path(name)); held {
			continue
		}
		if d.full[name] {
			stays = append(stays, staysFull(name))
			continue
		}
		diff, kept, err := d.host.compareDeparture(ctx, name, d.noted[name], going)
		if err != nil {
			return resource.Finding{}, err
		}
		if kept != "" {
			stays = append(stays, kept)
		}
		for _, c := range diff {
			c.Field = d.field(c.Field, name)
			if d.noted[name].Leaving.Sensitive {
				c = resource.Change{Field: c.Field, Redacted: true}
			}
			found.Diff = append(found.Diff, c)
		}
	}
	found.Note = strings.Join(stays, "; ")
	return found, nil
}

// field names the path in the field where it is not the resource's own.
func (d *Departure) field(field, name string) string {
	if name == d.name {
		return field
	}
	return field + ":" + name
}

// Apply gives back the paths that the difference names.
func (d *Departure) Apply(ctx context.Context, _ resource.View, found resource.Finding) (resource.Result, error) {
	var failed []error
	for _, name := range d.paths {
		if err := ctx.Err(); err != nil {
			return resource.Result{}, errors.Join(append(failed, err)...)
		}
		if !d.touches(found.Diff, name) {
			continue
		}
		prior := d.noted[name]
		prior.trial = d.Trial
		err := d.host.restoreAs(ctx, name, prior, found.Diff.Has(d.field(FieldState, name)))
		switch {
		case errors.Is(err, unix.ENOTEMPTY):
			d.full[name] = true // others put something there
		case err != nil:
			failed = append(failed, err)
		}
		d.host.departing.Delete(name)
	}
	return resource.Result{}, errors.Join(failed...)
}

func (d *Departure) touches(diff resource.Diff, name string) bool {
	for _, field := range []string{FieldState, FieldContent, FieldTarget, FieldMode, FieldOwner, FieldGroup} {
		if diff.Has(d.field(field, name)) {
			return true
		}
	}
	return false
}
