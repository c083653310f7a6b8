package units

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// Depart returns what gives a unit back what it was, with the files among the
// claims of held.
func (m *Manager) Depart(name string, held resource.Held) (*Departed, error) {
	b, noted, err := readBefore(held.Prior, name)
	if err != nil {
		return nil, err
	}
	d := &Departed{manager: m, name: name, held: held, before: b}
	d.manages = noted && slices.Contains(held.Claims, Claim(d.name))
	return d, nil
}

// A Departed is a unit that has left the catalog.
type Departed struct {
	manager *Manager
	name    string
	held    resource.Held
	before  before
	// manages is false when the unit itself lives on under another resource, or
	// nothing was noted about it, and files alone are to be given back.
	manages bool
	// left is the unit's own name, where Leave stopped it.
	left string
}

// Claims are those that are given up.
func (d *Departed) Claims() []resource.Claim { return d.held.Claims }

// Leave stops a unit that did not run before, or whose file goes, while that
// file is still there to say how.
func (d *Departed) Leave(ctx context.Context, view resource.View) error {
	m := d.manager
	if !d.manages || m.host.Offline() || isTemplate(d.name) || m.itself(d.name) {
		return nil
	}
	seen, err := m.observe(ctx, d.name)
	if err != nil || !d.mustStop(seen) {
		return err
	}
	u := &Unit{Name: d.name, State: Stopped, manager: m}
	if err := u.job(ctx, host.StopJob, seen.Name, takeNotes(nil)); err != nil {
		return err
	}
	d.left = seen.Name
	return nil
}

// Stay starts what Leave stopped.
func (d *Departed) Stay(ctx context.Context, view resource.View) error {
	if d.left == "" {
		return nil
	}
	u := &Unit{Name: d.name, State: Running, manager: d.manager}
	if err := u.setState(ctx, d.left, takeNotes(nil)); err != nil {
		return err
	}
	d.left = ""
	return nil
}

func (d *Departed) mustStop(seen observed) bool {
	return (seen.active() || seen.restarting()) && (!d.before.Active || !d.before.Exists)
}

// Check compares the unit with what it was.
func (d *Departed) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	var found resource.Finding
	if err := ctx.Err(); err != nil {
		return found, err
	}
	for _, claim := range d.held.Claims {
		if claim.Space != resource.SpacePath {
			continue
		}
		differs, err := d.manager.restores(ctx, claim.Name, d.held.Prior)
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

func (d *Departed) observe(ctx context.Context) (observed, error) {
	if d.manager.host.Offline() {
		return d.manager.observeOffline(d.name)
	}
	return d.manager.observe(ctx, d.name)
}

func (d *Departed) differences(seen observed) resource.Diff {
	var diff resource.Diff
	differs := func(field, old, desired string) {
		diff = append(diff, resource.Change{Field: field, Old: old, New: desired})
	}
	if seen.masked() != d.before.Masked {
		differs(FieldMasked, fmt.Sprint(seen.masked()), fmt.Sprint(d.before.Masked))
	}
	if seen.missing() {
		return diff
	}
	on := strings.HasPrefix(seen.file, "enabled")
	switch {
	case on && !d.before.enabled():
		differs(FieldEnabled, "true", "false")
	case !on && d.before.enabled() && !seen.masked():
		differs(FieldEnabled, "false", "true")
	}
	if d.manager.host.Offline() || d.manager.itself(d.name) || isTemplate(d.name) {
		return diff
	}
	switch {
	case d.mustStop(seen):
		differs(FieldState, seen.word(), Stopped)
	case d.before.Active && !seen.active() && !seen.starting():
		differs(FieldState, seen.word(), Running)
	}
	return diff
}

// Apply gives back the files and then the rest, while the unit's files still
// say which links to remove.
func (d *Departed) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	if err := ctx.Err(); err != nil {
		return resource.Result{}, err
	}
	return resource.Result{}, d.apply(ctx, found.Diff)
}

func (d *Departed) apply(ctx context.Context, diff resource.Diff) error {
	m := d.manager
	u := &Unit{Name: d.name, manager: m}
	own, err := m.ownName(ctx, d.name)
	if err != nil {
		return err
	}
	if diff.Has(FieldState) && d.mustStopNow(diff) {
		u.State = Stopped
		if err := u.job(ctx, host.StopJob, own, takeNotes(nil)); err != nil {
			return err
		}
	}
	if diff.Has(FieldMasked) && !d.before.Masked {
		if err := m.unmask(ctx, d.name); err != nil {
			return err
		}
	}
	if diff.Has(FieldEnabled) && !d.before.enabled() {
		if err := m.enable(ctx, own, false); err != nil {
			return err
		}
	}
	restored, err := d.restoreFiles(ctx, diff)
	if err != nil {
		return err
	}
	if diff.Has(FieldEnabled) && d.before.enabled() {
		if err := m.enable(ctx, own, true); err != nil {
			return err
		}
	}
	if diff.Has(FieldMasked) && d.before.Masked {
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
	if err := d.resume(ctx, u, own, diff, restored); err != nil || d.before.Exists || len(diff) == 0 {
		return err
	}
	return m.forget(ctx, d.name)
}

// React has a unit that runs on as it did before the catalog had it take in what it
// has reacted to, which goes back as well.
func (d *Departed) React(ctx context.Context, _ resource.View, owed []resource.Reaction) (resource.Result, error) {
	if !d.manages || !d.before.Active {
		return resource.Result{}, nil
	}
	_, err := d.unit().React(ctx, resource.View{}, owed)
	return resource.Result{}, err
}

// Due leaves out what has come about already.
func (d *Departed) Due(ctx context.Context, view resource.View, debts []resource.Debt) ([]resource.Debt, error) {
	if !d.manages || !d.before.Active {
		return nil, nil
	}
	return d.unit().Due(ctx, view, debts)
}

func (d *Departed) unit() *Unit { return &Unit{Name: d.name, manager: d.manager} }

// forget keeps a unit that ended badly when it was stopped, and that is no more,
// from being told as one that failed.
func (m *Manager) forget(ctx context.Context, name string) error {
	if isTemplate(name) {
		return nil
	}
	status, err := m.host.Systemd().Units(ctx, []string{name})
	if err != nil || status[0].Active != "failed" {
		return err
	}
	return m.host.Systemd().ResetFailed(ctx, name)
}

func (d *Departed) mustStopNow(diff resource.Diff) bool {
	for _, c := range diff {
		if c.Field == FieldState {
			return c.New == Stopped
		}
	}
	return false
}

func (d *Departed) restoreFiles(ctx context.Context, diff resource.Diff) (restored bool, err error) {
	for _, claim := range d.held.Claims {
		if claim.Space != resource.SpacePath || !diff.Has(claim.Name) {
			continue
		}
		if err := d.manager.restore(ctx, claim.Name, d.held.Prior); err != nil {
			return restored, err
		}
		restored = true
	}
	return restored, nil
}

// resume makes a unit that ran before run again, with the files it had.
func (d *Departed) resume(ctx context.Context, u *Unit, own string, diff resource.Diff, restored bool) error {
	if !d.manages || !d.before.Active || isTemplate(d.name) || d.manager.itself(d.name) {
		return nil
	}
	u.State = Running
	switch {
	case diff.Has(FieldState):
		return u.setState(ctx, own, takeNotes(nil))
	case restored:
		return u.job(ctx, host.TryRestartJob, own, takeNotes(nil))
	}
	return nil
}
