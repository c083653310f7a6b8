package host

import (
	"errors"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/resource"
)

// CompareDirectory compares a directory, itself alone, with an ownership.
// Something else at the path is an error unless force is set.
func (h *Host) CompareDirectory(name string, want Ownership, force, parents bool) (PathFinding, error) {
	found, i, err := h.find(name, parents)
	if err != nil {
		return found, err
	}
	if found.Prior.Existed && i.Type() == TypeDirectory {
		found.Diff, err = h.CompareOwnership(i, want)
		return found, err
	}
	if found.Prior.Existed && !force {
		return found, &TypeError{Path: name, Is: i.Type(), Want: TypeDirectory, Hint: "`force: true` replaces it"}
	}
	found.Diff = h.NewDirectory(want).Diff
	if found.Prior.Existed {
		found.Diff[0].Old = i.Type()
	}
	return found, nil
}

// NewDirectory is what comparing finds where there is nothing.
func (h *Host) NewDirectory(want Ownership) PathFinding {
	diff := resource.Diff{
		{Field: FieldState, Old: Absent, New: TypeDirectory},
		{Field: FieldMode, New: want.Mode.Or(0o755).String()},
	}
	return PathFinding{Creates: true, Diff: append(diff, given(want)...)}
}

// NewLink is what comparing finds where there is nothing.
func (h *Host) NewLink(target string, want Ownership) PathFinding {
	diff := resource.Diff{
		{Field: FieldState, Old: Absent, New: TypeLink},
		{Field: FieldTarget, New: target},
	}
	return PathFinding{Creates: true, Diff: append(diff, given(want)...)}
}

// NewFile is what comparing finds where there is nothing.
func (h *Host) NewFile(name string, spec FileSpec) (PathFinding, error) {
	return h.compareNew(name, spec)
}

// CompareLink compares a symbolic link with a target. Something else at the
// path is an error unless force is set.
func (h *Host) CompareLink(name, target string, want Ownership, force, parents bool) (PathFinding, error) {
	found, i, err := h.find(name, parents)
	if err != nil {
		return found, err
	}
	if found.Prior.Existed && i.Type() == TypeLink {
		if i.Target != target {
			found.Diff = append(found.Diff, resource.Change{Field: FieldTarget, Old: i.Target, New: target})
		}
		diff, err := h.CompareOwnership(i, want)
		found.Diff = append(found.Diff, diff...)
		return found, err
	}
	if found.Prior.Existed && !force {
		return found, &TypeError{Path: name, Is: i.Type(), Want: "symbolic link", Hint: "`force: true` replaces it"}
	}
	found.Diff = h.NewLink(target, want).Diff
	if found.Prior.Existed {
		found.Diff[0].Old = i.Type()
	}
	return found, nil
}

// find looks at a path that may not be there yet.
func (h *Host) find(name string, parents bool) (PathFinding, Info, error) {
	var found PathFinding
	p, err := h.resolve(name, false)
	var missing *MissingParentError
	switch {
	case errors.As(err, &missing):
		found.Creates = true
		if parents {
			found.Prior.Made = h.missingParents(name, missing)
		} else {
			found.NoParent = missing.Parent
		}
		return found, Info{}, nil
	case err != nil:
		return found, Info{}, err
	}
	defer p.close()
	began := time.Now()
	i, err := p.stat()
	switch {
	case errors.Is(err, unix.ENOENT):
		found.Creates = true
		return found, Info{}, nil
	case err != nil:
		return found, i, explain("look at", name, err)
	}
	found.seen = see(i, began)
	found.Prior = priorOf(i)
	if i.Type() == TypeFile { // to be replaced, if anything
		found.Prior, err = h.NotePath(name)
	}
	return found, i, err
}

func given(want Ownership) resource.Diff {
	var diff resource.Diff
	if want.Owner != "" {
		diff = append(diff, resource.Change{Field: FieldOwner, New: want.Owner})
	}
	if want.Group != "" {
		diff = append(diff, resource.Change{Field: FieldGroup, New: want.Group})
	}
	return diff
}

// Only returns the ownership less what the difference does not state. What is
// to be made is made whole.
func (o Ownership) Only(d resource.Diff) Ownership {
	if d.Has(FieldState) {
		return o
	}
	if !d.Has(FieldMode) {
		o.Mode = resource.Mode{}
	}
	if !d.Has(FieldOwner) {
		o.Owner = ""
	}
	if !d.Has(FieldGroup) {
		o.Group = ""
	}
	return o
}

// MakeDirectory brings about what CompareDirectory found. What stands in the
// way was found to be replaceable; a file's content is kept when backup is set.
func (h *Host) MakeDirectory(name string, want Ownership, diff resource.Diff, parents, backup bool) error {
	if !diff.Has(FieldState) {
		return h.SetOwnership(name, want.Only(diff), false)
	}
	if parents {
		if err := h.MakeParents(name); err != nil {
			return err
		}
	}
	if i, err := h.Lstat(name); err == nil {
		if i.Type() == TypeDirectory {
			return h.SetOwnership(name, want, false) // made by somebody since
		}
		if err := h.Discard(name, false, backup); err != nil {
			return err
		}
	}
	return h.Mkdir(name, want)
}

// MakeLink brings about what CompareLink found.
func (h *Host) MakeLink(name, target string, want Ownership, diff resource.Diff, parents, backup bool) error {
	if !diff.Has(FieldState) && !diff.Has(FieldTarget) {
		return h.SetOwnership(name, want.Only(diff), false)
	}
	if i, err := h.Lstat(name); err == nil && i.Type() == TypeFile && backup {
		if err := h.KeepBackup(name); err != nil {
			return err
		}
	}
	return h.Symlink(target, name, want, parents, diff.Has(FieldState))
}

// TypeOf returns the type of a file of a tree in the source.
func TypeOf(mode fs.FileMode) string {
	switch mode.Type() {
	case fs.ModeDir:
		return TypeDirectory
	case fs.ModeSymlink:
		return TypeLink
	default:
		return TypeFile
	}
}
