package mount

import (
	"fmt"
	"strconv"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/shared"
	"trued.dev/trued/internal/resource"
)

const (
	fstab = "/etc/fstab"
	swap  = "swap"
	// partMark begins the part of the claim on fstab.
	partMark = "mount "
)

// An entry is a line of fstab.
type entry struct {
	device, target, fstype, options, dump, pass string
}

// words splits a line where those who read it do: other white space, such as a wide
// blank of Unicode, is part of a name.
func words(line string) []string {
	return strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\n\v\f\r", r) })
}

// parseEntry reads a line; ok is false for one that is no entry, such as a
// comment.
func parseEntry(line string) (e entry, ok bool) {
	fields := words(line)
	if len(fields) < 3 || strings.HasPrefix(fields[0], "#") {
		return entry{}, false
	}
	for i, f := range fields {
		fields[i] = unescape(f)
	}
	fields = append(fields, []string{"", "", "", "defaults", "0", "0"}[min(len(fields), 6):]...)
	return entry{fields[0], fields[1], fields[2], fields[3], fields[4], fields[5]}, true
}

func (e entry) String() string {
	fields := []string{e.device, e.target, e.fstype, e.options, e.dump, e.pass}
	for i, f := range fields {
		fields[i] = escape(f)
	}
	return strings.Join(fields, " ")
}

// is reports whether the entry is the one of a mount point, or of what is
// swapped to.
func (e entry) is(target string, swaps bool) bool {
	if swaps || e.fstype == swap {
		return swaps && e.fstype == swap && e.device == target
	}
	return host.CleanPath(e.target) == target
}

// escape keeps the characters that end a field, or a line, from doing so.
func escape(field string) string {
	var b strings.Builder
	for i := range len(field) {
		switch c := field[i]; {
		case strings.IndexByte(" \t\n\v\f\r\\", c) >= 0, c == '#' && i == 0, c == 0x85, c == 0xa0:
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// unescape is the reverse of escape. The kernel's lists have the same escapes.
func unescape(field string) string {
	if !strings.Contains(field, `\`) {
		return field
	}
	var b strings.Builder
	for i := 0; i < len(field); i++ {
		if field[i] == '\\' && i+4 <= len(field) {
			if n, err := strconv.ParseUint(field[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(field[i])
	}
	return b.String()
}

// find returns the numbers of the lines for a mount point.
func find(text *shared.Text, target string, swaps bool) []int {
	return text.Find(func(line string) bool {
		e, ok := parseEntry(line)
		return ok && e.is(target, swaps)
	})
}

// Place is fstab.
func (r *Resource) Place() shared.Place {
	return shared.Place{Path: fstab, Field: fieldFstab, Create: true, Absent: !r.listed()}
}

// listed reports whether an entry is to be in fstab.
func (r *Resource) listed() bool { return r.State != host.Absent && r.Device != "" }

// Edit brings the entry about in a text. What the manifest does not give stays
// as it is.
func (r *Resource) Edit(text *shared.Text, _ resource.View) error {
	at := find(text, r.Name(), r.swaps())
	switch {
	case r.State == host.Absent:
		for i := len(at) - 1; i >= 0; i-- {
			text.Delete(at[i], at[i]+1)
		}
		return nil
	case !r.listed():
		return nil
	case len(at) > 1:
		return fmt.Errorf("%d lines are for %q: keep one of them", len(at), r.Name())
	case len(at) == 0:
		text.Insert(text.Len(), r.wanted(nil).String())
		return nil
	}
	now, _ := parseEntry(text.Line(at[0]))
	if want := r.wanted(&now); want != now {
		text.Set(at[0], want.String())
	}
	return nil
}

// wanted is the entry, with what is not given taken from the one that is there.
func (r *Resource) wanted(now *entry) entry {
	e := entry{options: "defaults", dump: "0", pass: "0"}
	if now != nil {
		e = *now
	}
	e.device, e.fstype = r.Device, r.FSType
	if now == nil || host.CleanPath(now.target) != r.Name() {
		e.target = r.Name()
	}
	if r.swaps() {
		e.target = "none"
		if now != nil {
			e.target = now.target // some write swap there
		}
	}
	if r.Options != "" {
		e.options = r.Options
	}
	if r.Pass != nil {
		e.pass = strconv.Itoa(*r.Pass)
	}
	return e
}

// A noted is what was there of an entry before it was managed.
type noted struct {
	shared.Noted
	Swap bool `json:"swap,omitempty"`
	// Had are the lines that were there.
	Had []had `json:"had,omitempty"`
}

// A had is a line, and how many others were before it.
type had struct {
	At   int    `json:"at"`
	Text string `json:"text"`
}

func (r *Resource) note(prior resource.Prior, text *shared.Text, exists bool) (resource.Prior, error) {
	var n noted
	if known, err := prior.Recall(r.entryClaim(), &n); known || err != nil {
		return nil, err
	}
	n.Existed, n.Open, n.Swap = exists, text.Open(), r.swaps()
	for _, at := range find(text, r.Name(), r.swaps()) {
		n.Had = append(n.Had, had{at, text.Line(at)})
	}
	return prior.With(r.entryClaim(), n)
}

// Restore takes the entry away again, or gives back the one that was there.
func (n *noted) Restore(text *shared.Text, c resource.Claim) error {
	at := find(text, strings.TrimPrefix(c.Part, partMark), n.Swap)
	if len(at) == 1 && len(n.Had) == 1 {
		text.Set(at[0], n.Had[0].Text)
		return nil
	}
	last := false
	for i := len(at) - 1; i >= 0; i-- {
		last = last || at[i] == text.Len()-1
		text.Delete(at[i], at[i]+1)
	}
	for _, h := range n.Had {
		last = h.At >= text.Len()
		text.Insert(min(h.At, text.Len()), h.Text)
	}
	if last && n.Open {
		text.Unclose()
	}
	return nil
}
