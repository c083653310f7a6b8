package timer

import (
	"context"
	"errors"
	"strings"

	"trued.dev/trued/internal/host/units"
	"trued.dev/trued/internal/resource"
)

// Absent returns the value that gives both units back what they were.
func (m *module) Absent(held resource.Held) (resource.Resource, error) {
	d := &departed{held: held}
	service, timer := held, held
	service.Claims, timer.Claims = nil, nil
	for _, c := range held.Claims {
		if strings.HasSuffix(c.Name, serviceSuffix) {
			service.Claims = append(service.Claims, c)
		} else {
			timer.Claims = append(timer.Claims, c)
		}
	}
	var err, err2 error
	d.timer, err = m.Depart(d.Name()+timerSuffix, timer)
	d.service, err2 = m.Depart(d.Name()+serviceSuffix, service)
	return d, errors.Join(err, err2)
}

// departed is a timer that has left the catalog.
type departed struct {
	resource.Meta
	held           resource.Held
	timer, service *units.Departed
}

var _ resource.Leaver = (*departed)(nil)

func (d *departed) Name() string             { return d.held.Address.Name }
func (d *departed) Validate() error          { return nil }
func (d *departed) Claims() []resource.Claim { return d.held.Claims }

// Leave stops the timer, and then a run that is under way.
func (d *departed) Leave(ctx context.Context, view resource.View) error {
	if err := d.timer.Leave(ctx, view); err != nil {
		return err
	}
	return d.service.Leave(ctx, view)
}

// Stay starts the timer again. A run that was cut off is for its next time.
func (d *departed) Stay(ctx context.Context, view resource.View) error {
	return d.timer.Stay(ctx, view)
}

func (d *departed) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	timer, err := d.timer.Check(ctx, view)
	if err != nil {
		return resource.Finding{}, err
	}
	service, err := d.service.Check(ctx, view)
	if err != nil {
		return resource.Finding{}, err
	}
	return resource.Finding{Diff: append(named(ofTimer, timer.Diff), named(ofService, service.Diff)...)}, nil
}

func (d *departed) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	for _, half := range []struct {
		mark string
		unit *units.Departed
	}{{ofTimer, d.timer}, {ofService, d.service}} {
		part := only(half.mark, found.Diff)
		if _, err := half.unit.Apply(ctx, view, resource.Finding{Diff: part}); err != nil {
			return resource.Result{}, err
		}
	}
	return resource.Result{}, nil
}
