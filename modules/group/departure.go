package group

import (
	"context"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// A departure gives back the group as it was, or removes one that was made.
type departure struct {
	resource.Meta

	host *host.Host
	name string
	// earlier is the group as it was before; nil when nothing was noted.
	earlier *Resource
	// comeback is true when the group itself was removed by what leaves.
	comeback bool
}

func (d *departure) read(prior resource.Prior) error {
	n, ok, err := takeNoted(prior, d.name)
	if err != nil || !ok {
		return err
	}
	d.comeback = n.Removed
	d.Sensitive = n.Sensitive
	d.earlier = &Resource{Group: d.name, State: host.Absent, host: d.host}
	if n.Existed {
		d.earlier.State, d.earlier.GID, d.earlier.Members = "", n.GID, n.Members
	}
	return nil
}

func (d *departure) Name() string { return d.name }

func (d *departure) Validate() error { return nil }

func (d *departure) Claims() []resource.Claim { return []resource.Claim{claim(d.name)} }

// Check tells what is to be given back.
func (d *departure) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	if err := ctx.Err(); err != nil || d.earlier == nil {
		return resource.Finding{}, err
	}
	if _, held := view.Owner(claim(d.name)); held {
		return resource.Finding{}, nil
	}
	have, ok, err := d.host.FindGroup(d.name)
	if err != nil || !ok && !d.comeback {
		return resource.Finding{}, err
	}
	found := resource.Finding{}
	if found.Diff, err = d.earlier.compare(have, ok); err == nil && len(found.Diff) > 0 {
		found.Pending = d.host.NoAccountTools()
	}
	if d.Sensitive {
		found.Diff = found.Diff.Redacted()
	}
	return found, err
}

// Apply gives it back.
func (d *departure) Apply(ctx context.Context, _ resource.View, found resource.Finding) (resource.Result, error) {
	if d.earlier == nil {
		return resource.Result{}, ctx.Err()
	}
	return resource.Result{}, d.earlier.apply(ctx, found.Diff, func() (bool, error) { return false, nil })
}
