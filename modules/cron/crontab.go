package cron

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/release"
	"trued.dev/trued/internal/host/shared"
	"trued.dev/trued/internal/resource"
)

// An entry of a user's own crontab is two lines of a file that the user has a say
// in, too: a comment that tells whose it is, and the schedule.

const (
	partMark    = "cron "
	fieldEntry  = "crontab"
	commentMark = "# Kept by trued: cron:"
)

// spool is the directory that crontabs are in.
func spool(h *host.Host) string {
	r, _ := release.Read(os.DirFS(h.Root())) // what cannot be read says nothing
	switch r.Family() {
	case release.SUSE:
		return "/var/spool/cron/tabs"
	case release.RHEL, release.Arch:
		return "/var/spool/cron"
	}
	return "/var/spool/cron/crontabs"
}

func (r *Resource) crontab() string { return path.Join(spool(r.host), r.User) }

func (r *Resource) entryClaim() resource.Claim {
	return resource.Claim{Space: resource.SpacePath, Name: r.crontab(), Part: partMark + r.Title}
}

// cronPackages bring the directory of crontabs.
func cronPackages() []string { return []string{"cron", "cronie"} }

// Place is the crontab. cron takes none that is another's, or that others than
// its user may read.
func (r *Resource) Place() shared.Place {
	return shared.Place{
		Path: r.crontab(), Field: fieldEntry, Create: true, Absent: r.State == host.Absent, Sensitive: r.Sensitive,
		Mode: r.attributes().Mode, Owner: r.attributes().Owner,
	}
}

func (r *Resource) attributes() host.FileSpec {
	s := host.FileSpec{Mode: resource.NewMode(0o600)}
	if owner() != "" {
		s.Owner = r.User
	}
	return s
}

func (r *Resource) comment() string { return commentMark + r.Title }

// found returns where the entry is in a text, from its first line to behind its
// last; the comment is false where it was written by somebody else. from is -1
// where there is none.
func (r *Resource) found(text *shared.Text) (from, to int, comment bool) {
	if at := text.Find(func(line string) bool { return line == r.comment() }); len(at) > 0 {
		to := at[0] + 1
		if to < text.Len() && entryLine(text.Line(to)) {
			to++
		}
		return at[0], to, true
	}
	if r.Line == "" {
		return -1, -1, false
	}
	if at := text.Find(func(line string) bool { return line == r.entry() }); len(at) > 0 {
		return at[0], at[0] + 1, false
	}
	return -1, -1, false
}

// entryLine reports whether a line is one that cron runs something by.
func entryLine(line string) bool {
	line = strings.TrimSpace(line)
	return line != "" && !strings.HasPrefix(line, "#")
}

// Edit brings the entry about. Where its line is there already, it gets the
// comment alone.
func (r *Resource) Edit(text *shared.Text, _ resource.View) error {
	from, to, comment := r.found(text)
	switch {
	case r.State == host.Absent:
		if from >= 0 && comment {
			text.Delete(from, to)
		}
	case from < 0:
		text.Insert(text.Len(), r.comment(), r.entry())
	case !comment:
		text.Insert(from, r.comment())
	case to-from != 2 || text.Line(from+1) != r.entry():
		text.Delete(from, to)
		text.Insert(from, r.comment(), r.entry())
	}
	return nil
}

// A noted is what was there of an entry before.
type noted struct {
	shared.Noted
	// Had is the line that had no comment, or another schedule.
	Had *string `json:"had,omitempty"`
	// At is how many lines were before it.
	At int `json:"at,omitempty"`
	// Marked is true when the comment was there, too.
	Marked bool `json:"marked,omitempty"`
}

func (r *Resource) note(prior resource.Prior, text *shared.Text, exists bool) (resource.Prior, error) {
	var n noted
	known, err := prior.Recall(r.entryClaim(), &n)
	if err != nil {
		return nil, err
	}
	if !known {
		n.Existed, n.Open = exists, text.Open()
		from, to, comment := r.found(text)
		n.Marked, n.At = comment, max(from, 0)
		if from >= 0 && !r.Sensitive && (!comment || to-from == 2) {
			line := text.Line(to - 1)
			n.Had = &line
		}
	}
	n.Sensitive = r.Sensitive
	return prior.With(r.entryClaim(), n)
}

// Restore takes the entry away, or makes it what it was.
func (n *noted) Restore(text *shared.Text, c resource.Claim) error {
	r := Resource{Title: strings.TrimPrefix(c.Part, partMark)}
	from, to, _ := r.found(text)
	last := false
	switch {
	case from >= 0:
		last = to == text.Len()
		text.Delete(from, to)
	case n.Had != nil && text.Index(*n.Had) >= 0:
		return nil // it is there, without the comment
	default:
		from = min(n.At, text.Len())
	}
	var had []string
	if n.Marked {
		had = append(had, r.comment())
	}
	if n.Had != nil {
		had = append(had, *n.Had)
	}
	if len(had) > 0 {
		text.Insert(from, had...)
	}
	if last && n.Open {
		text.Unclose()
	}
	return nil
}

// ofCrontab begins a witness of a crontab, as no other of this kind does.
const ofCrontab byte = 0xff

// checkCrontab compares the user's crontab, and whose it is.
func (r *Resource) checkCrontab(ctx context.Context, view resource.View) (resource.Finding, error) {
	dir := path.Dir(r.crontab())
	if _, err := r.host.Lstat(dir); errors.Is(err, fs.ErrNotExist) && r.State != host.Absent {
		for _, name := range cronPackages() {
			if by, ok := view.Owner(resource.Claim{Space: resource.SpacePackage, Name: name}); ok {
				return resource.Finding{Unknown: fmt.Sprintf("%s brings %s", by, dir)}, nil
			}
		}
		return resource.Finding{}, fmt.Errorf("there is no %s: declare the package that brings cron", dir)
	}
	finding, err := shared.Check(ctx, r.host, r, view, r.note)
	if finding.Witness != nil {
		finding.Witness = append(resource.Witness{ofCrontab}, finding.Witness...)
	}
	if err != nil || r.State == host.Absent {
		return finding, err
	}
	if _, err := r.host.Lstat(r.crontab()); errors.Is(err, fs.ErrNotExist) {
		return finding, nil
	}
	found, err := r.host.CompareFile(ctx, r.crontab(), r.attributes())
	if err != nil {
		return resource.Finding{}, err
	}
	finding.Diff = append(finding.Diff, found.Diff...)
	if !r.installed() {
		finding.Note, finding.Witness = "no cron is installed that would run it", nil
	}
	return finding, nil
}

// applyCrontab writes the entry, and makes the crontab one that cron takes. cron
// looks for changes of the directory.
func (r *Resource) applyCrontab(ctx context.Context, view resource.View, diff resource.Diff) error {
	var entry, attributes resource.Diff
	for _, c := range diff {
		if c.Field == fieldEntry {
			entry = append(entry, c)
		} else {
			attributes = append(attributes, c)
		}
	}
	if len(attributes) > 0 {
		if err := r.host.WriteFile(ctx, r.crontab(), r.attributes().Only(attributes)); err != nil {
			return err
		}
	}
	if len(entry) > 0 {
		if _, err := shared.Apply(ctx, r.host, r, view, resource.Finding{Diff: entry}); err != nil {
			return err
		}
	}
	now := time.Now()
	if err := os.Chtimes(r.host.Path(path.Dir(r.crontab())), now, now); err != nil {
		return fmt.Errorf("cannot tell cron of the crontab of %q: %w", r.User, err)
	}
	return nil
}
