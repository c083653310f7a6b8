package units

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// fieldDropIn is the difference of one drop-in.
func fieldDropIn(name string) string { return "drop_ins:" + name }

// A part is one of the files that a unit is made up of.
type part struct {
	field string
	path  string
	spec  host.FileSpec
}

// parts lists the files that the manifest gives, the unit's own first.
func (u *Unit) parts() []part {
	var parts []part
	add := func(field, name string, content resource.Content) {
		// systemd complains about a unit file that can be executed.
		content.Executable = false
		spec := host.FileSpec{Content: &content, Backup: true, Parents: true}
		parts = append(parts, part{field, name, spec})
	}
	if u.File != nil {
		add(FieldContent, u.FilePath(), *u.File)
	}
	for _, key := range u.dropInKeys() {
		add(fieldDropIn(dropInName(key)), u.dropInPath(key), *resource.Bytes([]byte(u.DropIns[key])))
	}
	return parts
}

func (u *Unit) text() (string, error) {
	if u.File.Size > maxText {
		return "", fmt.Errorf("%d bytes are too much for a unit file", u.File.Size)
	}
	r, err := u.File.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxText))
	return string(text), err
}

// files compares the unit's files, and those that have left the manifest.
func (c *check) files(ctx context.Context) error {
	for _, p := range c.unit.parts() {
		if err := c.file(ctx, p); err != nil {
			return err
		}
	}
	if err := c.leftover(ctx); err != nil {
		return err
	}
	if len(c.found.Diff) > 0 && c.unit.shouldRun() {
		c.found.Owes = []resource.Reaction{resource.Restart}
	}
	return nil
}

func (c *check) file(ctx context.Context, p part) error {
	m := c.unit.manager
	if masked, err := c.behindMask(p); masked || err != nil {
		return err
	}
	found, err := m.host.CompareFile(ctx, p.path, p.spec)
	if err != nil {
		return err
	}
	c.sights = append(c.sights, sight{p.path, found})
	if err := c.notes.add(resource.Path(p.path), found.Prior); err != nil {
		return err
	}
	if p.field == FieldContent && found.Creates {
		c.makesFile, c.found.Creates = true, true
	}
	diff, err := found.Shown(c.view.Prior, p.path)
	if err != nil {
		return err
	}
	for _, change := range diff {
		if change.Field == host.FieldContent {
			change.Field = p.field
			c.found.Diff = append(c.found.Diff, change)
		}
	}
	return nil
}

// behindMask handles a mask that takes the place of the unit file, and that is
// about to be taken off.
func (c *check) behindMask(p part) (bool, error) {
	target, isLink := c.unit.manager.link(p.path)
	switch {
	case p.field != FieldContent || !isLink:
		return false, nil
	case target != devNull:
		return false, fmt.Errorf("cannot write the file of unit %q: %s is a link to %s: remove the link, "+
			"or manage the unit that it leads to", c.unit.Name, p.path, target)
	}
	if c.unit.Masked == nil {
		return true, fmt.Errorf("unit %q is masked: write masked: false to take the mask off", c.unit.Name)
	}
	prior, err := c.unit.manager.host.NotePath(p.path)
	if err != nil {
		return true, err
	}
	c.makesFile = true
	c.differs(FieldContent, "", fmt.Sprintf("%d bytes", p.spec.Content.Size))
	return true, c.notes.add(resource.Path(p.path), prior)
}

// leftover finds files that the unit held after the last run and no longer
// has, such as a drop-in that was taken out of the manifest.
func (c *check) leftover(ctx context.Context) error {
	u := c.unit
	if u.Kept {
		return nil
	}
	for _, claim := range u.left(c.view) {
		differs, err := u.manager.restores(ctx, claim.Name, c.view.Prior)
		if err != nil {
			return err
		}
		if !differs {
			continue
		}
		c.found.Diff = append(c.found.Diff, resource.Change{
			Field: u.fieldOf(claim.Name), Old: "present", New: "as before", Cause: resource.Prune,
		})
	}
	return nil
}

// left lists the paths that the unit held, no longer claims, and nobody else
// took over.
func (u *Unit) left(view resource.View) []resource.Claim {
	own := u.Claims()
	var left []resource.Claim
	for _, claim := range view.Held {
		if claim.Space != resource.SpacePath || slices.Contains(own, claim) {
			continue
		}
		if _, owned := view.Owner(claim); !owned {
			left = append(left, claim)
		}
	}
	return left
}

func (u *Unit) fieldOf(name string) string {
	if name == u.FilePath() {
		return FieldContent
	}
	return fieldDropIn(path.Base(name))
}

// restores reports whether giving a path back changes anything. Of a path that
// nothing was noted about, nothing is known and nothing is touched.
func (m *Manager) restores(ctx context.Context, name string, noted resource.Prior) (bool, error) {
	prior, ok, err := host.NotedPath(noted, name)
	if err != nil || !ok {
		return false, err
	}
	diff, err := m.host.CompareRestore(ctx, name, prior)
	return len(diff) > 0, err
}

// writeFiles writes what differs and gives back what has left. It reports
// whether systemd must read the files again.
func (u *Unit) writeFiles(ctx context.Context, view resource.View, diff resource.Diff, n *notes) (bool, error) {
	wrote := false
	for _, p := range u.parts() {
		if !diff.Has(p.field) {
			continue
		}
		if err := u.manager.host.WriteFile(ctx, p.path, p.spec); err != nil {
			return wrote, err
		}
		wrote = true
	}
	for _, change := range diff {
		name, gone := u.goneFile(change)
		if !gone {
			continue
		}
		if err := u.manager.restore(ctx, name, view.Prior); err != nil {
			return wrote, err
		}
		wrote = true
		n.drop(resource.Path(name))
	}
	return wrote, nil
}

// goneFile returns the path of a file that has left the manifest.
func (u *Unit) goneFile(change resource.Change) (name string, gone bool) {
	if change.Cause != resource.Prune {
		return "", false
	}
	if change.Field == FieldContent {
		return u.FilePath(), true
	}
	key, gone := strings.CutPrefix(change.Field, fieldDropIn(""))
	return u.dropInPath(key), gone
}

func (m *Manager) restore(ctx context.Context, name string, noted resource.Prior) error {
	prior, ok, err := host.NotedPath(noted, name)
	if err != nil || !ok {
		return err
	}
	return m.host.RestorePath(ctx, name, prior)
}

const devNull = "/dev/null"

// link returns what a link at a path points to.
func (m *Manager) link(name string) (target string, isLink bool) {
	info, err := m.host.Lstat(name)
	if err != nil || info.Type() != host.TypeLink {
		return "", false
	}
	return info.Target, true
}

// linkedFile reports whether a link's target is a unit file outside of the
// search path.
func (m *Manager) linkedFile(target string) bool {
	if !strings.HasPrefix(target, "/") || target == devNull || slices.Contains(searchPath, path.Dir(target)) {
		return false
	}
	_, err := m.host.Lstat(target)
	return err == nil
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
