package unit

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// Absent returns the value that gives a unit back what it was.
func (m *module) Absent(held resource.Held) (resource.Resource, error) {
	b, noted, err := readBefore(held.Prior, held.Address.Name)
	if err != nil {
		return nil, err
	}
	d := &departed{module: m, name: held.Address.Name, held: held, before: b}
	d.manages = noted && slices.Contains(held.Claims, unitClaim(d.name))
	return d, nil
}

// departed is a unit that has left the catalog.
type departed struct {
	resource.Meta
	module *module
	name   string
	held   resource.Held
	before before
	// manages is false when the unit itself lives on under another resource, or
	// nothing was noted about it, and files alone are to be given back.
	manages bool
}

func (d *departed) Name() string             { return d.name }
func (d *departed) Validate() error          { return nil }
func (d *departed) Claims() []resource.Claim { return d.held.Claims }

// Leave stops a unit that did not run before, or whose file goes, while that
// file is still there to say how.
func (d *departed) Leave(ctx context.Context, view resource.View) error {
	m := d.module
	if !d.manages || m.host.Offline() || isTemplate(d.name) || m.itself(d.name) {
		return nil
	}
	seen, err := m.observe(ctx, d.name)
	if err != nil || !d.mustStop(seen) {
		return err
	}
	u := &Unit{Unit: d.name, State: stopped, module: m}
	return u.job(ctx, host.StopJob, seen.Name, takeNotes(nil))
}

func (d *departed) mustStop(seen observed) bool {
	return (seen.active() || seen.restarting()) && (!d.before.Active || !d.before.Exists)
}

// Check compares the unit with what it was.
func (d *departed) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	var found resource.Finding
	if err := ctx.Err(); err != nil {
		return found, err
	}
	for _, claim := range d.held.Claims {
		if claim.Space != resource.SpacePath {
			continue
		}
		differs, err := d.module.restores(ctx, claim.Name, d.held.Prior)
		if err != nil {
			return found, err
		}
		if differs {
			found.Diff = append(found.Diff, resource.Change{Field: claim.Name, Old: "present", New: "as before"})
		}
	}
	if !d.manages {
		return found, nil
	}
	seen, err := d.observe(ctx)
	if err != nil {
		return found, err
	}
	found.Diff = append(found.Diff, d.differences(seen)...)
	return found, nil
}

func (d *departed) observe(ctx context.Context) (observed, error) {
	if d.module.host.Offline() {
		return d.module.observeOffline(d.name)
	}
	return d.module.observe(ctx, d.name)
}

func (d *departed) differences(seen observed) resource.Diff {
	var diff resource.Diff
	differs := func(field, old, desired string) {
		diff = append(diff, resource.Change{Field: field, Old: old, New: desired})
	}
	if seen.masked() != d.before.Masked {
		differs(fieldMasked, fmt.Sprint(seen.masked()), fmt.Sprint(d.before.Masked))
	}
	if seen.missing() {
		return diff
	}
	on := strings.HasPrefix(seen.file, "enabled")
	switch {
	case on && !d.before.enabled():
		differs(fieldEnabled, "true", "false")
	case !on && d.before.enabled() && !seen.masked():
		differs(fieldEnabled, "false", "true")
	}
	if d.module.host.Offline() || d.module.itself(d.name) || isTemplate(d.name) {
		return diff
	}
	switch {
	case d.mustStop(seen):
		differs(fieldState, seen.word(), stopped)
	case d.before.Active && !seen.active() && !seen.starting():
		differs(fieldState, seen.word(), running)
	}
	return diff
}

// Apply gives back the files and then the rest, while the unit's files still
// say which links to remove.
func (d *departed) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	if err := ctx.Err(); err != nil {
		return resource.Result{}, err
	}
	return resource.Result{}, d.apply(ctx, found.Diff)
}

func (d *departed) apply(ctx context.Context, diff resource.Diff) error {
	m := d.module
	u := &Unit{Unit: d.name, module: m}
	own, err := m.ownName(ctx, d.name)
	if err != nil {
		return err
	}
	if diff.Has(fieldState) && d.mustStopNow(diff) {
		u.State = stopped
		if err := u.job(ctx, host.StopJob, own, takeNotes(nil)); err != nil {
			return err
		}
	}
	if diff.Has(fieldMasked) && !d.before.Masked {
		if err := m.unmask(ctx, d.name); err != nil {
			return err
		}
	}
	if diff.Has(fieldEnabled) && !d.before.enabled() {
		if err := m.enable(ctx, own, false); err != nil {
			return err
		}
	}
	restored, err := d.restoreFiles(ctx, diff)
	if err != nil {
		return err
	}
	if diff.Has(fieldEnabled) && d.before.enabled() {
		if err := m.enable(ctx, own, true); err != nil {
			return err
		}
	}
	if diff.Has(fieldMasked) && d.before.Masked {
		if err := m.mask(ctx, d.name); err != nil {
			return err
		}
	}
	if m.host.Offline() {
		return nil
	}
	if len(diff) > 0 {
		if err := m.reload(ctx); err != nil {
			return err
		}
	}
	return d.resume(ctx, u, own, diff, restored)
}

func (d *departed) mustStopNow(diff resource.Diff) bool {
	for _, c := range diff {
		if c.Field == fieldState {
			return c.New == stopped
		}
	}
	return false
}

func (d *departed) restoreFiles(ctx context.Context, diff resource.Diff) (restored bool, err error) {
	for _, claim := range d.held.Claims {
		if claim.Space != resource.SpacePath || !diff.Has(claim.Name) {
			continue
		}
		if err := d.module.restore(ctx, claim.Name, d.held.Prior); err != nil {
			return restored, err
		}
		restored = true
	}
	return restored, nil
}

// resume makes a unit that ran before run again, with the files it had.
func (d *departed) resume(ctx context.Context, u *Unit, own string, diff resource.Diff, restored bool) error {
	if !d.manages || !d.before.Active || isTemplate(d.name) || d.module.itself(d.name) {
		return nil
	}
	u.State = running
	switch {
	case diff.Has(fieldState):
		return u.setState(ctx, own, takeNotes(nil))
	case restored:
		return u.job(ctx, host.TryRestartJob, own, takeNotes(nil))
	}
	return nil
}
