// Package files is files that one resource owns as a whole: it compares all of
// them, writes those that differ, and gives back those that the resource has no
// use for any more.
//
// It knows paths and no kind: what is in a file, and what becomes true by it, is
// for others to say.
package files

import (
	"context"
	"slices"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// A File is one of a resource's files.
type File struct {
	Path string
	// Part names the file in fields of a difference, as "key" does in
	// "key.content"; it is empty for the file that the resource is about.
	Part string
	// Spec is what the file should be.
	Spec host.FileSpec
	// Absent is true for a file that is not to be there.
	Absent bool
}

func (f File) field(name string) string {
	if f.Part == "" {
		return name
	}
	return f.Part + "." + name
}

func (f File) leaving() host.Leaving {
	return host.Leaving{NoBackup: !f.Spec.Backup, Sensitive: f.Spec.Sensitive, Follow: f.Spec.Follow && !f.Absent}
}

// Claims are the paths.
func Claims(all []File) []resource.Claim {
	claims := make([]resource.Claim, len(all))
	for i, f := range all {
		claims[i] = resource.Path(f.Path)
	}
	return claims
}

// Writes are the files as they will be.
func Writes(all []File) []resource.Write {
	writes := make([]resource.Write, len(all))
	for i, f := range all {
		writes[i] = resource.Write{
			Path: f.Path, Content: f.Spec.Content, Owner: f.Spec.Owner, Group: f.Spec.Group, Mode: f.Spec.Mode,
			Follow: f.Spec.Follow, Tree: f.Spec.Force, Absent: f.Absent,
		}
	}
	return writes
}

// Needs are the directories above the paths, each once.
func Needs(all []File) []resource.Need {
	var needs []resource.Need
	for _, f := range all {
		for _, n := range resource.ParentNeeds(f.Path) {
			if !slices.Contains(needs, n) {
				needs = append(needs, n)
			}
		}
	}
	return needs
}

// Check compares all files, and finds those that the resource held after the
// last run and no longer has. The finding has a witness when every file has one:
// theirs, one after the other.
func Check(ctx context.Context, h *host.Host, view resource.View, all []File) (resource.Finding, error) {
	noted, changed := view.Prior, false
	var finding resource.Finding
	witness, witnessed := resource.Witness{}, true
	for i, f := range all {
		found, err := compare(ctx, h, f)
		if err != nil {
			return resource.Finding{}, err
		}
		if i == 0 {
			finding.Creates = found.Creates
		}
		diff, err := found.Shown(view.Prior, f.Path)
		if err != nil {
			return resource.Finding{}, err
		}
		for _, c := range diff {
			c.Field = f.field(c.Field)
			finding.Diff = append(finding.Diff, c)
		}
		if witnessed {
			witness = found.AppendWitness(witness, f.Spec.Owner, f.Spec.Group)
			witnessed = witness != nil
		}
		more := false
		if noted, more, err = host.Remember(noted, f.Path, found.Prior, f.leaving()); err != nil {
			return resource.Finding{}, err
		}
		changed = changed || more
	}
	if witnessed {
		finding.Witness = witness
	}
	if changed {
		finding.Prior = noted
	}
	gone, err := left(h, view, all)
	if err != nil || gone == nil {
		return finding, err
	}
	back, err := gone.Check(ctx, view)
	for _, c := range back.Diff {
		c.Cause = resource.Prune
		finding.Diff = append(finding.Diff, c)
	}
	if len(back.Diff) > 0 {
		finding.Witness = nil
	}
	return finding, err
}

func compare(ctx context.Context, h *host.Host, f File) (host.PathFinding, error) {
	if f.Absent {
		return h.CompareAbsent(ctx, f.Path, host.TypeFile, f.Spec.Force)
	}
	return h.CompareFile(ctx, f.Path, f.Spec)
}

// left returns what gives back the files that the resource no longer has; nil
// when there are none.
func left(h *host.Host, view resource.View, all []File) (*host.Departure, error) {
	var paths []string
	for _, c := range view.Held {
		if c.Space == resource.SpacePath && c.Part == "" && !slices.ContainsFunc(all, func(f File) bool { return f.Path == c.Name }) {
			paths = append(paths, c.Name)
		}
	}
	return departure(h, view, paths)
}

// departure gives back files of the resource; it is nil for none.
func departure(h *host.Host, view resource.View, paths []string) (*host.Departure, error) {
	if len(paths) == 0 {
		return nil, nil
	}
	held := resource.Held{Prior: view.Prior}
	for _, p := range paths {
		held.Claims = append(held.Claims, resource.Path(p))
	}
	return host.NewDeparture(h, held)
}

// Apply brings about what a finding of Check says of files.
func Apply(ctx context.Context, h *host.Host, view resource.View, all []File, found resource.Finding) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, f := range all {
		var diff resource.Diff
		for _, c := range found.Diff {
			if field, ok := f.cutField(c.Field); ok {
				c.Field = field
				diff = append(diff, c)
			}
		}
		if len(diff) == 0 {
			continue
		}
		var err error
		if f.Absent {
			err = h.Discard(f.Path, f.Spec.Force, f.Spec.Backup && !f.Spec.Sensitive)
		} else {
			err = h.WriteFile(ctx, f.Path, f.Spec.Only(diff))
		}
		if err != nil {
			return err
		}
	}
	gone, err := departure(h, view, pathsOf(found.Diff))
	if err != nil || gone == nil {
		return err
	}
	_, err = gone.Apply(ctx, view, found)
	return err
}

// pathsOf lists the paths that a difference gives back: they are in its fields, as
// a Departure writes them.
func pathsOf(diff resource.Diff) []string {
	var paths []string
	for _, c := range diff {
		_, path, ok := strings.Cut(c.Field, ":")
		if ok && c.Cause == resource.Prune && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// cutField is the reverse of field, for fields that a comparison of paths has.
func (f File) cutField(name string) (string, bool) {
	field, ok := name, true
	if f.Part != "" {
		field, ok = strings.CutPrefix(name, f.Part+".")
	}
	return field, ok && slices.Contains([]string{
		host.FieldState, host.FieldContent, host.FieldMode, host.FieldOwner, host.FieldGroup,
	}, field)
}

// Content is how an author gives what is in a file: as a string, or as one of
// two kinds of file of the group's directory.
type Content struct {
	Content  *string `yaml:"content" json:"-" doc:"the content as a string"`
	Source   string  `yaml:"source" json:"-" doc:"a file of the group's directory whose content is taken as it is"`
	Template string  `yaml:"template" json:"-" doc:"a file of the group's directory that is executed as a template"`

	// Wanted is the content, however it was given; nil for none.
	Wanted *resource.Content `yaml:"-" json:"content,omitempty"`
}

// Load reads the content.
func (c *Content) Load(l resource.Loader) (err error) {
	switch {
	case c.Content != nil:
		c.Wanted = resource.Bytes([]byte(*c.Content))
	case c.Source != "":
		c.Wanted, err = l.Source(c.Source)
	case c.Template != "":
		c.Wanted, err = l.Template(c.Template)
	}
	return err
}

// Given is how many of the ways were used.
func (c *Content) Given() int {
	given := 0
	for _, set := range []bool{c.Content != nil, c.Source != "", c.Template != ""} {
		if set {
			given++
		}
	}
	return given
}

// Validate reports whether there is more than one content.
func (c *Content) Validate() error {
	if c.Given() > 1 {
		return resource.Wrong("content", "give one of content, source and template")
	}
	return nil
}

// Watches are the paths.
func Watches(all []File) []resource.Watch {
	names := make([]string, len(all))
	for i, f := range all {
		names[i] = f.Path
	}
	return resource.WatchPaths(names...)
}
