package units

import (
	"context"
	"path"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// Apply makes the changes of the difference: mask off, files, enablement, what
// systemd has read, state, mask on.
func (u *Unit) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	if err := ctx.Err(); err != nil {
		return resource.Result{}, err
	}
	n := takeNotes(priorOf(view, found))
	res, err := u.apply(ctx, view, found.Diff, n)
	res.Prior = n.changed()
	return res, err
}

// priorOf returns what is noted by the time of Apply.
func priorOf(view resource.View, found resource.Finding) resource.Prior {
	if found.Prior != nil {
		return found.Prior
	}
	return view.Prior
}

func (u *Unit) apply(ctx context.Context, view resource.View, diff resource.Diff, n *notes) (resource.Result, error) {
	m := u.manager
	own, err := m.ownName(ctx, u.Name)
	if err != nil {
		return resource.Result{}, err
	}
	unmask := diff.Has(FieldMasked) && !is(u.Masked)
	if unmask {
		if err := m.unmask(ctx, u.Name); err != nil {
			return resource.Result{}, err
		}
	}
	wrote, err := u.writeFiles(ctx, view, diff, n)
	if err != nil {
		return resource.Result{}, err
	}
	if diff.Has(FieldEnabled) {
		if err := m.enable(ctx, own, is(u.Enabled)); err != nil {
			return resource.Result{}, err
		}
	}
	if m.host.Offline() {
		return u.applyOffline(diff)
	}
	if diff.Has(FieldEnabled) {
		m.reloadLater()
	}
	if unmask || wrote || diff.Has(FieldLoaded) {
		if err := m.reload(ctx); err != nil {
			return resource.Result{}, err
		}
	}
	settled := false
	if diff.Has(FieldState) {
		if err := u.setState(ctx, own, n); err != nil {
			return resource.Result{}, err
		}
		settled = u.State == Running
	}
	if diff.Has(FieldMasked) && is(u.Masked) {
		if err := m.mask(ctx, u.Name); err != nil {
			return resource.Result{}, err
		}
		if err := m.reload(ctx); err != nil {
			return resource.Result{}, err
		}
	}
	return resource.Result{Settled: settled}, nil
}

// applyOffline finishes in a tree that is not booted.
func (u *Unit) applyOffline(diff resource.Diff) (resource.Result, error) {
	if diff.Has(FieldMasked) && is(u.Masked) {
		if err := u.manager.maskOffline(u.Name); err != nil {
			return resource.Result{}, err
		}
	}
	var res resource.Result
	if u.State != "" {
		res.Pending = pendingBoot
	}
	return res, nil
}

func (u *Unit) setState(ctx context.Context, name string, n *notes) error {
	s := u.manager.host.Systemd()
	if u.State == Stopped {
		return u.job(ctx, host.StopJob, name, n)
	}
	if err := u.manager.reread(ctx, name); err != nil {
		return err
	}
	status, err := s.Units(ctx, []string{name})
	if err != nil {
		return err
	}
	if status[0].Active == "failed" {
		// Earlier failures must not count against the limit of starts.
		if err := s.ResetFailed(ctx, name); err != nil {
			return err
		}
	}
	return u.job(ctx, host.StartJob, name, n)
}

// reloadLater asks for systemd to read its files again before the run ends. The
// links that enable a unit count at the next boot: many share one reload.
func (m *Manager) reloadLater() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unread = true
}

// reload makes systemd read its files again now.
func (m *Manager) reload(ctx context.Context) error {
	if err := m.host.Systemd().Reload(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unread = false
	return nil
}

// Reread makes systemd read its files again where those of the unit are not as it
// read them.
func (u *Unit) Reread(ctx context.Context) error {
	if u.manager.host.Offline() {
		return nil
	}
	return u.manager.reread(ctx, u.Name)
}

func (m *Manager) reread(ctx context.Context, name string) error {
	needs, err := m.host.Systemd().NeedsReload(ctx, name)
	if err != nil || !needs {
		return err
	}
	return m.reload(ctx)
}

// reloadDue does what reloadLater asked for, once.
func (m *Manager) reloadDue(ctx context.Context) error {
	m.mu.Lock()
	due := m.unread
	m.mu.Unlock()
	if !due {
		return nil
	}
	return m.reload(ctx)
}

func (m *Manager) mask(ctx context.Context, name string) error {
	if m.host.Offline() {
		return m.maskOffline(name)
	}
	return m.host.Systemd().MaskUnit(ctx, name)
}

func (m *Manager) unmask(ctx context.Context, name string) error {
	if m.host.Offline() {
		return m.unmaskOffline(name)
	}
	return m.host.Systemd().UnmaskUnit(ctx, name)
}

// ownName returns the unit's own name, which jobs and links are made for: an
// alias may go with the first link that is removed.
func (m *Manager) ownName(ctx context.Context, name string) (string, error) {
	if m.host.Offline() || isTemplate(name) {
		return name, nil
	}
	status, err := m.host.Systemd().Units(ctx, []string{name})
	if err != nil || status[0].Load != "loaded" {
		return name, err
	}
	return status[0].Name, nil
}

// enable makes or removes the links of a unit, told by its own name.
func (m *Manager) enable(ctx context.Context, name string, on bool) error {
	if m.host.Offline() {
		return m.enableOffline(name, on)
	}
	s := m.host.Systemd()
	if on {
		return s.EnableUnit(ctx, name)
	}
	// Disabling would take away a link that makes a file elsewhere known, too.
	linked, isLink := m.link(path.Join(ownDir, name))
	if err := s.DisableUnit(ctx, name); err != nil {
		return err
	}
	if _, still := m.link(path.Join(ownDir, name)); isLink && !still && m.linkedFile(linked) {
		return s.LinkUnit(ctx, linked)
	}
	return nil
}
