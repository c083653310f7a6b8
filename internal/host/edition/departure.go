package edition

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// A departure takes an edition back: what was put there goes, what was there
// before comes back, and what others put there stays with the directory.
type departure struct {
	resource.Meta

	host    *host.Host
	name    string
	made    []host.TreeEntry // those within others first
	noted   resource.Prior
	prior   host.PathPrior
	managed bool
}

// Absent returns the value that takes an edition back.
func Absent(h *host.Host, held resource.Held) (resource.Resource, error) {
	d := &departure{host: h, name: held.Address.Name, noted: held.Prior}
	var err error
	if d.prior, d.managed, err = host.NotedPath(held.Prior, d.name); err != nil {
		return nil, err
	}
	d.Sensitive = d.prior.Leaving.Sensitive
	if _, d.made, err = known(h, held.Prior, d.name); err != nil {
		return nil, err
	}
	slices.SortFunc(d.made, func(a, b host.TreeEntry) int { return host.DeepestFirst(a.Path, b.Path) })
	return d, nil
}

// Name returns the directory.
func (d *departure) Name() string { return d.name }

// Validate has nothing to find.
func (d *departure) Validate() error { return nil }

// Claims is the directory.
func (d *departure) Claims() []resource.Claim { return []resource.Claim{resource.Path(d.name)} }

// Needs are the directories above.
func (d *departure) Needs() []resource.Need { return resource.ParentNeeds(d.name) }

// all reports whether the directory goes with all that is in it.
func (d *departure) all() bool {
	return d.prior.Leaving.Force && (!d.prior.Existed || d.prior.Leaving.Discard)
}

// Check tells what is to go. A directory that another resource holds now is its.
func (d *departure) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	if err := ctx.Err(); err != nil {
		return resource.Finding{}, err
	}
	var found resource.Finding
	if _, held := view.Owner(resource.Path(d.name)); held || !d.managed {
		return found, nil
	}
	now, err := d.host.Lstat(d.name)
	if errors.Is(err, fs.ErrNotExist) {
		return found, nil
	}
	if err != nil || now.Type() != host.TypeDirectory {
		return found, err // somebody put something else there
	}
	leaves, err := d.leaving(view)
	if err != nil {
		return found, err
	}
	diff, stays, err := d.host.CompareDeparture(ctx, d.name, d.prior, leaves)
	if err != nil {
		return found, err
	}
	delete(leaves, d.name)
	if len(leaves) > 0 && !diff.Has(host.FieldState) {
		found.Diff = append(found.Diff, resource.Change{
			Field: host.FieldContent, Old: fmt.Sprintf("%d paths of the tree", len(leaves)), New: host.Absent,
		})
	}
	found.Diff = append(found.Diff, diff...)
	found.Note = stays
	if err := d.returning(ctx, &found); err != nil {
		return found, err
	}
	if d.Sensitive {
		found.Diff = found.Diff.Redacted()
	}
	return found, nil
}

// returning tells which files come back that were there before.
func (d *departure) returning(ctx context.Context, found *resource.Finding) error {
	for at, prior := range d.before() {
		diff, err := d.host.CompareRestore(ctx, at, prior)
		if err != nil {
			return err
		}
		for _, c := range diff {
			c.Field += ":" + at
			found.Diff = append(found.Diff, c)
		}
	}
	return nil
}

// before returns what was there before by the names of the tree, and is to come
// back.
func (d *departure) before() map[string]host.PathPrior {
	paths := map[string]host.PathPrior{}
	if d.prior.Leaving.Discard || d.all() {
		return paths
	}
	for claim := range d.noted {
		if claim.Space != resource.SpacePath || !strings.HasPrefix(claim.Name, d.name+"/") {
			continue
		}
		if prior, ok, err := host.NotedPath(d.noted, claim.Name); ok && err == nil {
			paths[claim.Name] = prior
		}
	}
	return paths
}

// leaving returns the paths of the tree that are there and nobody else's.
func (d *departure) leaving(view resource.View) (map[string]bool, error) {
	leaves, before := map[string]bool{}, d.before()
	for _, e := range d.made {
		at := path.Join(d.name, e.Path)
		if _, held := view.Owner(resource.Path(at)); held {
			continue
		}
		if _, returns := before[at]; returns {
			continue
		}
		i, err := d.host.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if i.Type() != e.Type {
			continue
		}
		if e.Type == host.TypeDirectory {
			holds, err := d.holdsOther(at, leaves)
			if err != nil {
				return nil, err
			}
			if holds {
				continue
			}
		}
		leaves[at] = true
	}
	return leaves, nil
}

func (d *departure) holdsOther(at string, leaves map[string]bool) (bool, error) {
	entries, err := d.host.ReadDir(at)
	for _, e := range entries {
		if !leaves[path.Join(at, e.Name)] {
			return true, err
		}
	}
	return false, err
}

// Apply takes back what the difference states.
func (d *departure) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	if err := ctx.Err(); err != nil || len(found.Diff) == 0 {
		return resource.Result{}, err
	}
	if d.all() && found.Diff.Has(host.FieldState) {
		return resource.Result{}, d.host.RestorePath(ctx, d.name, d.prior)
	}
	leaves, err := d.leaving(view)
	if err != nil {
		return resource.Result{}, err
	}
	var failed []error
	for _, e := range d.made {
		if at := path.Join(d.name, e.Path); leaves[at] {
			failed = append(failed, d.host.Discard(at, false, false))
		}
	}
	before := d.before()
	for _, at := range slices.Sorted(maps.Keys(before)) { // directories first
		failed = append(failed, d.host.RestorePath(ctx, at, before[at]))
	}
	if err := errors.Join(failed...); err != nil {
		return resource.Result{}, err
	}
	return resource.Result{}, d.host.RestorePath(ctx, d.name, d.prior)
}
