package key

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// A noted is what was there of a key, or with all keys of a user, before it was
// managed.
type noted struct {
	// Line is the line that the key had; "" for none.
	Line string `json:"line,omitempty"`
	// Text is the whole file, for what is exclusive.
	Text string `json:"text,omitempty"`
	// Open is true when the last line had no newline.
	Open bool `json:"open,omitempty"`
	// File and Directory tell whether they were there, and how.
	File      *like `json:"file,omitempty"`
	Directory *like `json:"directory,omitempty"`
	Absent    bool  `json:"absent,omitempty"`
	Sensitive bool  `json:"sensitive,omitempty"`
}

// A like is the mode and owner that something had.
type like struct {
	Mode resource.Mode `json:"mode"`
	UID  int           `json:"uid"`
}

func likeOf(exists bool, i host.Info) *like {
	if !exists {
		return nil
	}
	return &like{i.Mode(), i.UID()}
}

func takeNoted(prior resource.Prior, c resource.Claim) (n noted, ok bool, err error) {
	ok, err = prior.Recall(c, &n)
	return n, ok, err
}

// note returns the prior with what is new to it, or nil.
func (r *Resource) note(view resource.View, f *file) (resource.Prior, error) {
	prior := view.Prior
	var added resource.Prior
	for _, c := range r.Claims() {
		n, known, err := takeNoted(prior, c)
		if err != nil {
			return nil, err
		}
		if known && n.Sensitive == r.Sensitive && n.Absent == r.absent() {
			continue
		}
		if !known {
			if n, err = r.firstNote(prior, f, c.Part); err != nil {
				return nil, err
			}
		}
		n.Sensitive, n.Absent = r.Sensitive, r.absent()
		with, err := prior.With(c, n)
		if err != nil {
			return nil, err
		}
		if with != nil {
			prior, added = with, with
		}
	}
	return added, nil
}

// firstNote is what there is of a key, or with "" of all keys, before it is managed.
// What the resource put there under other claims was not there before.
func (r *Resource) firstNote(prior resource.Prior, f *file, blob string) (noted, error) {
	n := noted{File: likeOf(f.exists, f.info), Directory: likeOf(f.dirExists, f.dirInfo), Open: f.open}
	before := f.clone()
	others, err := notedOf(prior, r.user())
	if err != nil {
		return n, err
	}
	if first, ok := earliest(others); ok {
		n.File, n.Directory, n.Open = first.File, first.Directory, first.Open
	}
	for other, was := range others {
		before.giveBack(other, was)
	}
	if r.others != nil {
		was, _, err := takeNoted(prior, keyClaim(r.user(), ""))
		if err != nil {
			return n, err
		}
		n.File, n.Directory, n.Open = was.File, was.Directory, was.Open
		before.lines = nil
		before.take(was.Text)
	}
	if blob == "" {
		n.Text = before.text()
	} else {
		n.Line, _ = before.has(blob)
	}
	return n, nil
}

// earliest returns which of some notes was taken first, as far as it shows: before
// there was a file.
func earliest(all map[string]noted) (n noted, ok bool) {
	for _, blob := range slices.Sorted(maps.Keys(all)) {
		if !ok || all[blob].File == nil {
			n, ok = all[blob], true
		}
		if n.File == nil {
			break
		}
	}
	return n, ok
}

// notedOf returns all that was noted of single keys of a user.
func notedOf(prior resource.Prior, user string) (map[string]noted, error) {
	all := map[string]noted{}
	for c := range prior {
		if c.Space != Space || c.Name != user || c.Part == "" {
			continue
		}
		n, _, err := takeNoted(prior, c)
		if err != nil {
			return nil, err
		}
		all[c.Part] = n
	}
	return all, nil
}

// giveBack makes a key what was noted of it, unless somebody took it away.
func (f *file) giveBack(blob string, n noted) {
	switch _, here := f.has(blob); {
	case n.Line == "":
		f.remove(blob)
	case here || n.Absent:
		f.set(Line{Blob: blob, Text: n.Line})
	}
}

// A departure takes keys away again, and gives back those that were there.
type departure struct {
	resource.Meta

	host *host.Host
	held resource.Held
	user string
	// noted by key; "" for all of the user's.
	noted map[string]noted
}

func newDeparture(h *host.Host, held resource.Held) (*departure, error) {
	d := &departure{host: h, held: held, noted: map[string]noted{}}
	for _, c := range held.Claims {
		if c.Space != Space {
			continue
		}
		n, ok, err := takeNoted(held.Prior, c)
		if err != nil {
			return nil, err
		}
		d.user = c.Name
		if ok {
			d.noted[c.Part] = n
			d.Sensitive = d.Sensitive || n.Sensitive
		}
	}
	return d, nil
}

func (d *departure) Name() string { return d.held.Address.Name }

func (d *departure) Validate() error { return nil }

func (d *departure) Claims() []resource.Claim { return d.held.Claims }

// Needs is the user, who goes after the keys.
func (d *departure) Needs() []resource.Need { return host.AccountNeeds(d.user, "") }

// edit returns the file as it is without what leaves.
func (d *departure) edit(f *file, view resource.View) *file {
	after := f.clone()
	for blob, n := range d.noted {
		if blob == "" {
			after.lines = nil
			after.take(n.Text)
			for _, line := range f.lines {
				if one := blobOf(line); d.managedOne(one, view) {
					after.set(Line{Blob: one, Text: line}) // it is another resource's by now
				}
			}
			return after
		}
		if !d.managedOne(blob, view) {
			after.giveBack(blob, n)
		}
	}
	if n, _ := d.earlier(); len(after.lines) < len(f.lines) {
		after.open = n.Open
	}
	return after
}

// earlier returns what was noted first: whether there was a file.
func (d *departure) earlier() (n noted, ok bool) { return earliest(d.noted) }

// Check tells what is to be given back.
func (d *departure) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	var found resource.Finding
	n, ok := d.earlier()
	if err := ctx.Err(); err != nil || !ok {
		return found, err
	}
	if _, there, err := d.host.FindUser(d.user); err != nil || !there {
		return found, err
	}
	f, err := open(d.host, d.user)
	if err != nil || !f.exists && !f.dirExists {
		return found, err
	}
	if _, managed := view.Owner(resource.Path(f.path)); managed {
		return found, nil
	}
	after := d.edit(f, view)
	if f.exists && (after.text() != f.text() || d.empties(after, n)) {
		found.Diff = append(found.Diff, host.DiffText(fieldKeys, f.path, textOf(f.text()), textOf(after.text())))
	}
	if !d.managed(after, view) {
		found.Diff = append(found.Diff, d.compareLike(f, n)...)
	}
	if d.Sensitive {
		found.Diff = found.Diff.Redacted()
	}
	return found, nil
}

// empties reports whether the file goes: it was made, and holds nothing more.
func (d *departure) empties(after *file, n noted) bool {
	return n.File == nil && strings.TrimSpace(after.text()) == "" && !n.Absent
}

// managed reports whether somebody manages a key that stays in the file.
func (d *departure) managed(after *file, view resource.View) bool {
	if _, all := view.Owner(keyClaim(d.user, "")); all {
		return true
	}
	return slices.ContainsFunc(after.lines, func(text string) bool { return d.managedOne(blobOf(text), view) })
}

// managedOne reports whether somebody manages a key.
func (d *departure) managedOne(blob string, view resource.View) bool {
	_, managed := view.Owner(keyClaim(d.user, blob))
	return blob != "" && managed
}

// compareLike tells which modes and owners go back to what they were, once
// nobody manages a key of the user.
func (d *departure) compareLike(f *file, n noted) resource.Diff {
	var diff resource.Diff
	add := func(fieldM, fieldOwns string, was *like, exists bool, now host.Info) {
		if was == nil || !exists {
			return
		}
		if now.Mode() != was.Mode {
			diff = append(diff, resource.Change{Field: fieldM, Old: now.Mode().String(), New: was.Mode.String()})
		}
		if now.UID() != was.UID {
			diff = append(diff, resource.Change{
				Field: fieldOwns, Old: d.host.UserName(now.UID()), New: d.host.UserName(was.UID),
			})
		}
	}
	add(fieldDirMode, fieldDirOwner, n.Directory, f.dirExists, f.dirInfo)
	add(fieldMode, fieldOwner, n.File, f.exists, f.info)
	return diff
}

// Apply gives it back.
func (d *departure) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	n, ok := d.earlier()
	if err := ctx.Err(); err != nil || !ok || len(found.Diff) == 0 {
		return resource.Result{}, err
	}
	f, err := open(d.host, d.user)
	if err != nil {
		return resource.Result{}, err
	}
	after := d.edit(f, view)
	if found.Diff.Has(fieldKeys) && d.empties(after, n) {
		if err := d.host.Remove(f.path); err != nil {
			return resource.Result{}, err
		}
		return resource.Result{}, d.removeDirectory(f, n)
	}
	if found.Diff.Has(fieldKeys) {
		spec := host.FileSpec{Content: resource.Bytes([]byte(after.text())), Sensitive: d.Sensitive}
		if err := d.host.WriteFile(ctx, f.path, spec); err != nil {
			return resource.Result{}, err
		}
	}
	for _, back := range []struct {
		path        string
		mode, owner string
		was         *like
	}{
		{f.path, fieldMode, fieldOwner, n.File},
		{path.Dir(f.path), fieldDirMode, fieldDirOwner, n.Directory},
	} {
		var how host.Ownership
		if found.Diff.Has(back.mode) {
			how.Mode = back.was.Mode
		}
		if found.Diff.Has(back.owner) {
			how.Owner = fmt.Sprint(back.was.UID)
		}
		if how == (host.Ownership{}) {
			continue
		}
		if err := d.host.SetOwnership(back.path, how, false); err != nil {
			return resource.Result{}, err
		}
	}
	return resource.Result{}, nil
}

// removeDirectory removes the directory that was made, if nothing else is in it.
func (d *departure) removeDirectory(f *file, n noted) error {
	if n.Directory != nil {
		return nil
	}
	dir := path.Dir(f.path)
	entries, err := d.host.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		return err
	}
	return d.host.Remove(dir)
}
