package units

import (
	"context"
	"slices"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// Due leaves out what a start or a reload since the last cause has settled. A
// run that was cut off after it did not come to strike that off, and another may
// have been made by a person, or by the boot.
func (u *Unit) Due(ctx context.Context, view resource.View, debts []resource.Debt) ([]resource.Debt, error) {
	m := u.manager
	if m.host.Offline() || !u.shouldRun() || isTemplate(u.Name) || m.itself(u.Name) {
		return debts, nil
	}
	now := m.host.Moment()
	d, err := m.host.Systemd().Unit(ctx, u.Name)
	if err != nil {
		return nil, err
	}
	loaded, err := m.host.Systemd().UnitsLoaded(ctx)
	if err != nil {
		return nil, err
	}
	began, err := u.startOf(ctx, d, now)
	if err != nil {
		return nil, err
	}
	due := slices.DeleteFunc(slices.Clone(debts), func(debt resource.Debt) bool {
		return settles(d, began, loaded, now.Boot, debt)
	})
	if len(due) == 0 {
		// It is looked at once more at the end of the run, as if it was this one
		// that started it.
		m.host.Systemd().Pin(ctx, u.Name)
		u.started = &start{name: u.Name, at: time.Now(), queued: true, restarts: d.Restarts}
	}
	return due, nil
}

// settles reports whether what is known of a unit shows that it was started, or
// reloaded, after the cause of a debt was in place. began is from startOf, and loaded
// is when systemd last read the unit files, in this boot.
func settles(d host.UnitDetail, began, loaded uint64, boot string, debt resource.Debt) bool {
	// A start is worth what systemd knew of the unit by then: the cause may be a
	// file of the unit, or a package that brings one.
	current := loaded != 0 && loaded < began && !d.NeedReload
	at := resource.Moment{Boot: boot, Micros: began}
	switch {
	case began == 0:
		return false
	case debt.Own:
		// The moment at which the files were in place is not known when the run
		// was cut off. But systemd has read them as they are now, and did so
		// after the change was begun.
		return current && debt.Begun.Before(resource.Moment{Boot: boot, Micros: loaded})
	case current && debt.Placed.Before(at):
		return true
	case current && !debt.Placed.Known() && debt.Begun.Known() && debt.Begun.Boot != boot:
		// The run was cut off with the host. What is there of the cause was there
		// at boot; what is not is brought about anew, and owed anew.
		return true
	case debt.Reaction == resource.Reload && d.Active == "active" && d.Reloaded > began:
		return debt.Placed.Before(resource.Moment{Boot: boot, Micros: d.Reloaded})
	}
	return false
}

// startOf returns a moment before the unit's present processes were started, or
// before those of a unit that has done its work, or the present moment for one
// that is about to be started. 0 is for a unit that was not started, or in a way
// that leaves doubt.
//
// systemd tests the conditions right before it starts a unit, and notes that the
// unit has left the inactive state right after it made the first process. One
// that it starts again by itself after a failure keeps the earlier moment.
func (u *Unit) startOf(ctx context.Context, d host.UnitDetail, now resource.Moment) (uint64, error) {
	o := observed{UnitStatus: host.UnitStatus{Active: d.Active, Sub: d.Sub}}
	begun := d.Tried != 0 && d.Began >= d.Tried && len(d.Unmet) == 0 && len(d.Asserts) == 0
	switch {
	case begun && (o.active() || d.Active == "inactive" && d.Oneshot && d.Started && d.Result == "success"):
		return d.Tried, nil
	case d.Active != "inactive":
		return 0, nil
	}
	// Such as while the system is starting: one start will do.
	status, err := u.manager.host.Systemd().Units(ctx, []string{u.Name})
	if err != nil || status[0].JobType != "start" {
		return 0, err
	}
	return now.Micros, nil
}
