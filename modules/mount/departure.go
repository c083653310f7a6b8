package mount

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/shared"
	"trued.dev/trued/internal/resource"
)

// A departure gives back the entry of fstab, and what was mounted.
type departure struct {
	*shared.Departure
	machine *machine
	name    string
	before  live
}

func (d *departure) Needs() []resource.Need {
	return append(d.Departure.Needs(), (&Resource{Target: d.name}).Needs()...)
}

// swaps reports whether it was swapped to.
func (d *departure) swaps() bool {
	return len(d.name) > 0 && d.name[0] != '/' || d.before.FSType == swap
}

func (d *departure) lookAt() (live, error) {
	if d.swaps() {
		return d.machine.swapped(d.name)
	}
	now, err := d.machine.at(d.name)
	if err == nil && !now.Mounted && !d.before.Mounted {
		if s, err := d.machine.swapped(d.name); err == nil && s.Mounted {
			return s, nil // a file that was swapped to
		}
	}
	return now, err
}

// Check compares fstab and what is mounted with what they were.
func (d *departure) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	found, err := d.Departure.Check(ctx, view)
	if err != nil || view.Offline {
		return found, err
	}
	if _, held := view.Owner(liveClaim(d.name)); held {
		return found, nil
	}
	now, err := d.lookAt()
	if err != nil {
		return resource.Finding{}, err
	}
	differs := func(field, old, before string) {
		found.Diff = append(found.Diff, resource.Change{Field: field, Old: old, New: before})
	}
	switch {
	case now.Mounted && !d.before.Mounted:
		differs(fieldState, stateMounted, stateUnmounted)
	case !now.Mounted && d.before.Mounted:
		differs(fieldState, stateUnmounted, stateMounted)
	case now.Mounted && now.FSType != swap:
		same, err := d.asBefore(view, now)
		if err != nil {
			return resource.Finding{}, err
		}
		if !same {
			differs(fieldDevice, now.Source, d.before.Source)
		}
	case !now.Mounted && len(d.made()) > 0:
		differs(fieldDirectory, "present", "as before")
	}
	return found, nil
}

// asBefore reports whether what is mounted is what was mounted before, or what the
// entry that comes back says: since a boot the kernel may call the same device by
// another name.
func (d *departure) asBefore(view resource.View, now live) (bool, error) {
	listed, err := d.machine.readFstab()
	if err != nil {
		return false, err
	}
	text := shared.Parse(string(listed))
	if err := d.Edit(text, view); err != nil {
		return false, err
	}
	at := find(text, d.name, false)
	if len(at) != 1 {
		return now.Source == d.before.Source, nil
	}
	e, _ := parseEntry(text.Line(at[0]))
	earlier := &Resource{Target: d.name, Device: e.device, FSType: e.fstype, Options: e.options, machine: d.machine}
	return earlier.shows(now) && earlier.sameType(now) || now.Source == d.before.Source && !earlier.bind(), nil
}

const fieldDirectory = "directory"

// made lists the directories that were made to mount on, and that are empty but
// for each other, the innermost first.
func (d *departure) made() []string {
	var made []string
	for _, name := range slices.Backward(d.before.Made) {
		entries, err := d.machine.host.ReadDir(name)
		if err != nil || len(entries) > 1 || len(entries) == 1 && !slices.Contains(made, name+"/"+entries[0].Name) {
			break
		}
		made = append(made, name)
	}
	return made
}

// Apply unmounts, gives back fstab, and mounts again what was mounted before.
func (d *departure) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	if err := ctx.Err(); err != nil {
		return resource.Result{}, err
	}
	m := d.machine
	if found.Diff.Has(fieldState) && !d.before.Mounted || found.Diff.Has(fieldDevice) {
		now, err := d.lookAt()
		if err != nil {
			return resource.Result{}, err
		}
		if err := m.unmount(ctx, d.name, now.FSType == swap); err != nil {
			return resource.Result{}, err
		}
	}
	if found.Diff.Has(fieldFstab) {
		part := found
		part.Diff = resource.Diff{}
		for _, c := range found.Diff {
			if c.Field == fieldFstab {
				part.Diff = append(part.Diff, c)
			}
		}
		if _, err := d.Departure.Apply(ctx, view, part); err != nil {
			return resource.Result{}, err
		}
		if err := m.reload(ctx); err != nil {
			return resource.Result{}, err
		}
	}
	if found.Diff.Has(fieldState) && d.before.Mounted || found.Diff.Has(fieldDevice) {
		args := []string{"mount", "--", d.name}
		if d.swaps() {
			args = []string{"swapon", "--", d.name}
		}
		if _, err := m.host.Run(ctx, host.Command{Args: args}); err != nil {
			return resource.Result{}, fmt.Errorf("cannot mount on %q again what was there: %w", d.name, err)
		}
	}
	return resource.Result{}, d.removeMade(view)
}

func (d *departure) removeMade(view resource.View) error {
	if d.before.Mounted || view.Offline {
		return nil
	}
	for _, name := range d.made() {
		if _, held := view.Owner(resource.Path(name)); held {
			return nil
		}
		err := d.machine.host.Discard(name, false, false)
		if errors.Is(err, unix.ENOTEMPTY) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
