package locale

import (
	"context"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/shared"
	"trued.dev/trued/internal/resource"
)

// listFile names the locales that are made, one on a line with its character set;
// the others of the system stand in comments.
const (
	listFile = "/etc/locale.gen"
	partMark = "locale "
)

func (r *Resource) listClaim() resource.Claim {
	return resource.Claim{Space: resource.SpacePath, Name: listFile, Part: partMark + r.line()}
}

// line is the locale as the list has it.
func (r *Resource) line() string {
	base, _, _ := strings.Cut(r.Title, "@")
	_, set, given := strings.Cut(base, ".")
	if r.Charset != "" {
		set = r.Charset
	} else if !given {
		set = "ISO-8859-1"
		if strings.HasSuffix(r.Title, "@euro") {
			set = "ISO-8859-15"
		}
	}
	return r.Title + " " + set
}

// Place is the list.
func (r *Resource) Place() shared.Place {
	return shared.Place{Path: listFile, Field: fieldListed, Create: true, Sensitive: r.Sensitive}
}

// Edit brings the line about: that of the comment, where there is one.
func (r *Resource) Edit(text *shared.Text, _ resource.View) error {
	if len(text.Find(is(r.line()))) > 0 {
		return nil
	}
	if comments := text.Find(isComment(r.line())); len(comments) > 0 {
		text.Set(comments[0], r.line())
		return nil
	}
	text.Insert(text.Len(), r.line())
	return nil
}

func is(line string) func(string) bool {
	return func(l string) bool { return strings.Join(strings.Fields(l), " ") == line }
}

func isComment(line string) func(string) bool {
	return func(l string) bool {
		l, comment := strings.CutPrefix(strings.TrimSpace(l), "#")
		return comment && is(line)(l)
	}
}

// A noted is what was there of the line before.
type noted struct {
	shared.Noted
	// Had is true when the locale was made already.
	Had bool `json:"had,omitempty"`
	// Comment is the line that it took the place of.
	Comment *string `json:"comment,omitempty"`
}

func (r *Resource) note(prior resource.Prior, text *shared.Text, exists bool) (resource.Prior, error) {
	var n noted
	known, err := prior.Recall(r.listClaim(), &n)
	if err != nil {
		return nil, err
	}
	if !known {
		n.Existed, n.Open = exists, text.Open()
		n.Had = len(text.Find(is(r.line()))) > 0
		if comments := text.Find(isComment(r.line())); len(comments) > 0 {
			comment := text.Line(comments[0])
			n.Comment = &comment
		}
	}
	n.Sensitive = r.Sensitive
	return prior.With(r.listClaim(), n)
}

// Restore makes the line a comment again, or takes it away.
func (n *noted) Restore(text *shared.Text, c resource.Claim) error {
	lines := text.Find(is(strings.TrimPrefix(c.Part, partMark)))
	if n.Had || len(lines) == 0 {
		return nil
	}
	if n.Comment != nil {
		text.Set(lines[0], *n.Comment)
		return nil
	}
	last := lines[0] == text.Len()-1
	text.Delete(lines[0], lines[0]+1)
	if last && n.Open {
		text.Unclose()
	}
	return nil
}

// A departure gives back the default, the list, and what is made of it.
type departure struct {
	*host.Departure
	list    *shared.Departure
	archive *archive
	name    string
	before  before
	known   bool
	// stays is true when it is there still, by the doing of others.
	stays bool
}

func (d *departure) Claims() []resource.Claim { return d.list.Claims() }

func (d *departure) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	found, err := d.Departure.Check(ctx, view)
	if err != nil {
		return resource.Finding{}, err
	}
	list, err := d.list.Check(ctx, view)
	if err != nil {
		return resource.Finding{}, err
	}
	found.Diff = append(found.Diff, list.Diff...)
	if _, held := view.Owner(claim(d.name)); held || !d.known || d.before.Known || d.archive.tool() == nil {
		return found, nil
	}
	there, err := d.archive.has(d.name)
	switch {
	case err != nil || !there:
	case d.stays:
		found.Note = "the locale stays: others have it made as well"
	default:
		found.Diff = append(found.Diff, resource.Change{Field: fieldKnown, Old: "true", New: "false"})
	}
	return found, err
}

func (d *departure) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	result, err := d.Departure.Apply(ctx, view, found)
	if err == nil && found.Diff.Has(fieldListed) {
		_, err = d.list.Apply(ctx, view, found)
	}
	if err != nil || !found.Diff.Has(fieldKnown) {
		return result, err
	}
	if err := d.archive.make(ctx, false); err != nil {
		return result, err
	}
	d.stays, err = d.archive.has(d.name)
	return result, err
}
