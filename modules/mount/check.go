package mount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/shared"
	"trued.dev/trued/internal/resource"
)

// The fields of a difference.
const (
	fieldFstab   = "fstab"
	fieldState   = "state"
	fieldDevice  = "device"
	fieldOptions = "options"
)

// Check compares fstab, and what the kernel has mounted. In a tree fstab is all:
// what is in it is mounted when the tree is booted.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	finding, err := shared.Check(ctx, r.machine.host, r, view, r.note)
	if err != nil {
		return resource.Finding{}, err
	}
	finding.Creates = len(finding.Diff) > 0 && finding.Creates
	if finding.Note = r.Remark(); finding.Note != "" {
		finding.Witness = nil
	}
	if view.Offline {
		return finding, nil
	}
	listed := finding.Witness
	finding.Witness = nil
	now, err := r.lookAt()
	if err != nil {
		return resource.Finding{}, err
	}
	if err := r.noteLive(&finding, view, now); err != nil {
		return resource.Finding{}, err
	}
	if err := r.compare(&finding, view, now); err != nil {
		return finding, err
	}
	if listed != nil && finding.InOrder() && finding.Note == "" {
		finding.Witness = r.witness(listed, now)
	}
	return finding, nil
}

// noteLive remembers what was mounted before.
func (r *Resource) noteLive(finding *resource.Finding, view resource.View, now live) error {
	prior := view.Prior
	if finding.Prior != nil {
		prior = finding.Prior
	}
	var before live
	if known, err := prior.Recall(liveClaim(r.Name()), &before); known || err != nil {
		return err
	}
	if r.Parents && !r.swaps() {
		now.Made = r.machine.missingOf(r.Name())
	}
	added, err := prior.With(liveClaim(r.Name()), now)
	if added != nil {
		finding.Prior = added
	}
	return err
}

func (r *Resource) compare(finding *resource.Finding, view resource.View, now live) error {
	differs := func(field, old, desired string) {
		finding.Diff = append(finding.Diff, resource.Change{Field: field, Old: old, New: desired})
	}
	switch {
	case r.State == statePresent:
	case !r.mounts() && now.Mounted:
		differs(fieldState, stateMounted, stateUnmounted)
	case !r.mounts():
	case !now.Mounted:
		later, err := r.mountable(view)
		if err != nil {
			return err
		}
		if finding.Unknown = later; later == "" {
			differs(fieldState, stateUnmounted, stateMounted)
		}
	case r.swaps():
		if other := r.otherPriority(now); other != "" {
			finding.Note = other
		}
	case !r.shows(now):
		differs(fieldDevice, now.Source, r.Device)
	case !r.sameType(now):
		return fmt.Errorf("%s on %q is of type %s, and the manifest says %s", r.Device, r.Name(), now.FSType, r.FSType)
	default:
		if is, should := r.offFlags(now); len(is) > 0 {
			differs(fieldOptions, strings.Join(is, ","), strings.Join(should, ","))
		}
	}
	return nil
}

// mountable says what must be made before something can be mounted, or that it
// cannot be mounted here.
func (r *Resource) mountable(view resource.View) (later string, err error) {
	if r.swaps() {
		return "", nil
	}
	entries, err := r.machine.host.ReadDir(r.Name())
	owner, managed := view.Owner(resource.Path(r.Name()))
	switch {
	case errors.Is(err, fs.ErrNotExist) && managed:
		return fmt.Sprintf("%s is made", owner), nil
	case errors.Is(err, fs.ErrNotExist) && r.Parents:
		return "", nil
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("there is no directory %q to mount on: declare it, or write parents: true", r.Name())
	case err != nil:
		return "", err
	case len(entries) > 0 && !r.Force:
		return "", fmt.Errorf("%q is not empty: %q and what else is in it would be hidden. Move it away, or write force: true", r.Name(), entries[0].Name)
	}
	return "", nil
}

// missingOf lists the directories of a path that are not there, the first one on
// top.
func (m *machine) missingOf(name string) []string {
	var made []string
	for ; name != "/" && m.missing(name); name = parentOf(name) {
		made = append([]string{name}, made...)
	}
	return made
}

func parentOf(name string) string { return host.CleanPath(name[:strings.LastIndexByte(name, '/')+1]) }
