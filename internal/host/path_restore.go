package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/resource"
)

// CompareRestore tells what RestorePath would change.
func (h *Host) CompareRestore(ctx context.Context, name string, prior PathPrior) (resource.Diff, error) {
	diff, _, err := h.CompareDeparture(ctx, name, prior, map[string]bool{})
	return diff, err
}

// CompareDeparture is CompareRestore for one of several paths that leave
// together. It notes in leaves what is removed, so that a directory which holds
// nothing else counts as empty, and says why something stays.
func (h *Host) CompareDeparture(
	ctx context.Context, name string, prior PathPrior, leaves map[string]bool,
) (diff resource.Diff, stays string, err error) {
	return h.compareDeparture(ctx, name, prior, going{paths: leaves})
}

// going is what a directory may hold and still be removed in its turn.
type going struct {
	paths map[string]bool
	also  func(name string) bool
}

func (g going) has(name string) bool {
	return g.paths[name] || g.also != nil && g.also(name)
}

func staysFull(name string) string {
	return fmt.Sprintf("%s holds what is not managed and stays", name)
}

func (h *Host) compareDeparture(
	ctx context.Context, name string, prior PathPrior, going going,
) (diff resource.Diff, stays string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	now, err := h.note(name, prior.Leaving.Follow)
	if err != nil {
		return nil, "", err
	}
	if prior.absent() {
		diff, stays, err = h.compareRemoval(name, prior, now, going)
		if len(diff) > 0 {
			going.paths[name] = true
		}
		return diff, stays, err
	}
	return h.compareReturn(name, prior, now)
}

// absent reports whether giving back what was there means removing the path.
func (p PathPrior) absent() bool { return !p.Existed || p.Leaving.Discard }

func (h *Host) compareRemoval(
	name string, prior, now PathPrior, going going,
) (diff resource.Diff, stays string, err error) {
	if !now.Existed {
		return nil, "", nil
	}
	if !prior.Leaving.Discard {
		owned, err := h.Packaged(name)
		if err != nil {
			return nil, "", err
		}
		if owned {
			return nil, fmt.Sprintf("%s belongs to a package and stays", name), nil
		}
	}
	if now.Type == TypeDirectory && !prior.Leaving.Force {
		if prior.Existed && prior.Type == TypeDirectory {
			return nil, "", nil
		}
		foreign, err := h.holdsOther(name, going)
		if err != nil {
			return nil, "", err
		}
		if foreign {
			return nil, staysFull(name), nil
		}
	}
	return resource.Diff{{Field: FieldState, Old: now.Type, New: Absent}}, "", nil
}

// holdsOther reports whether a directory holds more than what is going.
func (h *Host) holdsOther(name string, going going) (bool, error) {
	entries, err := h.ReadDir(name)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if !going.has(path.Join(name, e.Name)) {
			return true, nil
		}
	}
	return false, nil
}

// compareReturn compares a path with what was there.
func (h *Host) compareReturn(name string, prior, now PathPrior) (diff resource.Diff, stays string, err error) {
	kept := prior.Type != TypeFile || h.backups != nil && prior.SHA256 != "" && h.backups.Has(prior.SHA256)
	lost := fmt.Sprintf("no copy of what %s was is kept, so it stays", name)
	switch {
	case !now.Existed && !kept:
		return nil, "", nil // there is nothing to make it from
	case !now.Existed:
		return resource.Diff{{Field: FieldState, Old: Absent, New: prior.Type}}, "", nil
	case now.Type == prior.Type:
		diff := h.compareEarlier(prior, now)
		if diff.Has(FieldContent) && !kept {
			return nil, lost, nil
		}
		return diff, "", nil
	case !kept:
		return nil, lost, nil
	}
	if now.Type == TypeDirectory {
		if foreign, err := h.holdsOther(name, going{}); err != nil || foreign {
			return nil, staysFull(name), err
		}
	}
	return resource.Diff{{Field: FieldState, Old: now.Type, New: prior.Type}}, "", nil
}

func (h *Host) compareEarlier(prior, now PathPrior) resource.Diff {
	var diff resource.Diff
	if prior.SHA256 != "" && prior.SHA256 != now.SHA256 {
		diff = append(diff, resource.Change{Field: FieldContent,
			Old: Text{Size: now.size, SHA256: now.SHA256}.describe(),
			New: fmt.Sprintf("the earlier content, sha256 %.16s", prior.SHA256)})
	}
	if prior.Target != now.Target {
		diff = append(diff, resource.Change{Field: FieldTarget, Old: now.Target, New: prior.Target})
	}
	if prior.Mode != now.Mode && prior.Type != TypeLink {
		diff = append(diff, resource.Change{Field: FieldMode, Old: now.Mode.String(), New: prior.Mode.String()})
	}
	if prior.UID != now.UID {
		diff = append(diff, resource.Change{Field: FieldOwner, Old: h.UserName(now.UID), New: h.UserName(prior.UID)})
	}
	if prior.GID != now.GID {
		diff = append(diff, resource.Change{Field: FieldGroup, Old: h.GroupName(now.GID), New: h.GroupName(prior.GID)})
	}
	return diff
}

// RestorePath gives back what was at a path before it was managed. A file that
// is removed is kept in the backup store.
func (h *Host) RestorePath(ctx context.Context, name string, prior PathPrior) error {
	diff, err := h.CompareRestore(ctx, name, prior)
	if err != nil {
		return err
	}
	if len(diff) > 0 {
		if err := h.restore(ctx, name, prior, diff); err != nil {
			return err
		}
	}
	return h.removeMade(prior.Made)
}

// restoreAs is RestorePath for a path that was found to change. A directory
// that is to go is tried, whatever is in it by now.
func (h *Host) restoreAs(ctx context.Context, name string, prior PathPrior, state bool) error {
	if !state || !prior.absent() {
		return h.RestorePath(ctx, name, prior)
	}
	if err := h.discard(name, prior.Leaving); err != nil {
		return err
	}
	return h.removeMade(prior.Made)
}

func (h *Host) restore(ctx context.Context, name string, prior PathPrior, diff resource.Diff) error {
	own := Ownership{Mode: prior.Mode, Owner: fmt.Sprint(prior.UID), Group: fmt.Sprint(prior.GID)}
	if prior.absent() {
		return h.discard(name, prior.Leaving)
	}
	if diff.Has(FieldState) && (prior.Type == TypeDirectory || diff[0].Old == TypeDirectory) {
		leaving := prior.Leaving
		leaving.Force = false
		if err := h.discard(name, leaving); err != nil {
			return err
		}
	}
	switch {
	case prior.Type == TypeLink:
		return h.Symlink(prior.Target, name, own, false, false)
	case prior.Type == TypeDirectory && diff.Has(FieldState):
		return h.Mkdir(name, own)
	case prior.Type == TypeDirectory:
		return h.SetOwnership(name, own, prior.Leaving.Follow)
	case prior.Type != TypeFile:
		return fmt.Errorf("cannot give back %q: it was a %s", name, prior.Type)
	}
	spec := FileSpec{
		Mode: own.Mode, Owner: own.Owner, Group: own.Group,
		Follow: prior.Leaving.Follow, Backup: !prior.Leaving.NoBackup, Force: diff.Has(FieldState),
		Sensitive: prior.Leaving.Sensitive, Trial: prior.trial,
	}
	if diff.Has(FieldState) || diff.Has(FieldContent) {
		content, err := h.earlier(name, prior.SHA256)
		if err != nil {
			return err
		}
		spec.Content = content
	}
	return h.WriteFile(ctx, name, spec)
}

// earlier returns content from the backup store.
func (h *Host) earlier(name, sum string) (*resource.Content, error) {
	if h.backups == nil {
		return nil, fmt.Errorf("cannot give back the earlier content of %q: there is no backup store", name)
	}
	open := func() (io.ReadCloser, error) { return h.backups.Open(sum) }
	r, err := open()
	if err != nil {
		return nil, fmt.Errorf("cannot give back the earlier content of %q: %w", name, err)
	}
	defer r.Close()
	size, err := io.Copy(io.Discard, r)
	if err != nil {
		return nil, fmt.Errorf("cannot give back the earlier content of %q: %w", name, err)
	}
	return resource.Lazy(size, sum, false, open), nil
}

// Discard removes what is at a path. A file's content goes to the backup store
// first when backup is set; a directory that is not empty stays, and is an
// error, unless force is set.
func (h *Host) Discard(name string, force, backup bool) error {
	err := h.discard(name, Leaving{Force: force, NoBackup: !backup})
	if err == nil {
		h.departing.Delete(name) // what comes there later is another's
	}
	return err
}

func (h *Host) discard(name string, how Leaving) error {
	return h.removing(name, how.Follow, func(p place, i Info) error {
		if i.Type() == TypeFile && !how.NoBackup && !how.Sensitive {
			if err := h.keepBackup(p, name, how.Sensitive); err != nil {
				return err
			}
		}
		if how.Force {
			return removeAll(p, name)
		}
		return p.remove(name, i)
	})
}

// KeepBackup puts the content of a regular file into the backup store.
func (h *Host) KeepBackup(name string) error {
	p, err := h.resolve(name, false)
	if err != nil {
		return err
	}
	defer p.close()
	return h.keepBackup(p, name, false)
}

func (h *Host) keepBackup(p place, name string, sensitive bool) error {
	if h.backups == nil {
		return nil
	}
	f, i, err := p.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return h.keepFile(f, i, name, sensitive)
}

func (h *Host) keepFile(f *os.File, i Info, name string, sensitive bool) error {
	what, err := i.replaced(f, name, sensitive)
	if err == nil {
		_, err = h.backups.Keep(f, what)
	}
	if err != nil {
		return fmt.Errorf("cannot replace %q: %w", name, err)
	}
	return nil
}

// removeMade removes directories that were made for a path and are empty now.
func (h *Host) removeMade(made []string) error {
	for i := len(made) - 1; i >= 0; i-- {
		err := h.Remove(made[i])
		if errors.Is(err, unix.ENOTEMPTY) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// CompareAbsent tells what is at a path that should hold nothing. Something of
// another type than want is an error unless force is set.
func (h *Host) CompareAbsent(ctx context.Context, name, want string, force bool) (PathFinding, error) {
	if err := ctx.Err(); err != nil {
		return PathFinding{}, err
	}
	now, err := h.NotePath(name)
	found := PathFinding{Prior: now}
	if err != nil || !now.Existed {
		found.Prior.Made = nil // nothing is made
		found.seen = sight{form: sawNothing, ok: err == nil}
		return found, err
	}
	// A file and a link are both one name: either may be removed for the other.
	if (now.Type == TypeDirectory) != (want == TypeDirectory) && !force {
		return found, &TypeError{Path: name, Is: now.Type, Want: want,
			Hint: "`force: true` removes it all the same"}
	}
	found.Diff = resource.Diff{{Field: FieldState, Old: now.Type, New: Absent}}
	return found, nil
}
