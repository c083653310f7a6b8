// Package shared is files that several resources own parts of: it has each of
// them say its part of a text, and writes the text once for all.
//
// It knows lines and no kind. What is not said by anybody stays as it is to the
// byte, with owner, mode and attributes of the file.
package shared

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// Batch is the word that kinds with parts of files share batches by.
const Batch = "parts"

const sizeLimit = 16 << 20

// A Writer is what modules of such kinds have in common.
type Writer struct{ Host *host.Host }

// Batch shares transactions with the other kinds that own parts of files, on the
// same machine: one that is guarded is another.
func (w Writer) Batch() string { return Batch + w.Host.Word() }

// Holds implements resource.Examiner: of a part only what is in its file counts.
func (w Writer) Holds(_ context.Context, _ string, seen resource.Witness) bool {
	return w.Host.HoldsOnly(seen)
}

// Transact writes each file once.
func (w Writer) Transact(ctx context.Context, items []resource.Item) []resource.ItemResult {
	return Transact(ctx, w.Host, items)
}

// A Part is a resource that owns a part of a file.
type Part interface {
	resource.Resource
	// Place is the file, and how it is to be written.
	Place() Place
	// Edit brings the part about in a text. Where it is, nothing changes.
	Edit(text *Text, view resource.View) error
}

// A Place is a file and how it is written.
type Place struct {
	Path string
	// Field is the field of the difference.
	Field string
	// Create makes the file where there is none. Absent tells that the part is
	// not to be there: then no file is as good as one without it.
	Create, Absent bool
	// Validate is a command that must accept the new file.
	Validate string
	// ValidateAs is the user whom that is run as; empty for the agent's own.
	ValidateAs string
	Sensitive  bool
	// Private is true where the part is a secret that is put into the file: one
	// that everyone may open is refused.
	Private bool
	// Mode and Owner are those of a file that is made; the agent's own otherwise.
	Mode  resource.Mode
	Owner string
	// Leaves is true for what gives its part back. Made tells that the file was
	// not there before: it goes when nothing is left in it.
	Leaves, Made bool
}

// Writes is the file of a part.
func Writes(p Part) []resource.Write {
	return []resource.Write{{Path: p.Place().Path, Follow: true}}
}

// A Noted is what each part notes about its file.
type Noted struct {
	// Existed tells whether the file was there.
	Existed bool `json:"existed"`
	// Open is true when its last line had no newline.
	Open bool `json:"open,omitempty"`
	// Sensitive keeps values out of what is said when the part is given back.
	Sensitive bool `json:"sensitive,omitempty"`
}

// A found is a file as it is before a part is put into it.
type found struct {
	text   string
	exists bool
	// kept is true when not everyone may read it: what others have in it is not
	// shown, since it may be a secret.
	kept bool
}

// read returns the text of a file; none when there is no file.
func read(h *host.Host, p Place) (f found, err error) {
	var data []byte
	if p.Private {
		data, err = h.ReadPrivate(p.Path, sizeLimit)
		f.kept = true
	} else {
		data, f.kept, err = h.ReadKept(p.Path, sizeLimit)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return found{}, nil
	}
	f.text, f.exists = string(data), err == nil
	return f, err
}

// Check compares the file with what a part makes of it, and another one in which
// the part was before. note returns what the part notes of the file before, with
// what is noted already; nil for nothing new.
func Check(
	ctx context.Context, h *host.Host, p Part, view resource.View,
	note func(prior resource.Prior, text *Text, exists bool) (resource.Prior, error),
) (resource.Finding, error) {
	finding, err := check(ctx, h, p, view, note)
	mover, moves := p.(Mover)
	if err != nil || !moves {
		return finding, err
	}
	return CheckMoved(ctx, view, mover.Moved, finding)
}

func check(
	ctx context.Context, h *host.Host, p Part, view resource.View,
	note func(prior resource.Prior, text *Text, exists bool) (resource.Prior, error),
) (resource.Finding, error) {
	if err := ctx.Err(); err != nil {
		return resource.Finding{}, err
	}
	place := p.Place()
	seen := h.WitnessNamed(place.Path) // before it is read: what comes later is not held for this
	file, err := read(h, place)
	if err != nil {
		return unread(p, place, view, err)
	}
	before, exists := file.text, file.exists
	switch {
	case !exists && (place.Leaves || place.Absent):
		return resource.Finding{Witness: seen}, nil
	case !exists && !place.Create:
		return resource.Finding{Unknown: place.Path + " is missing, and `create: true` does not say to make it", Creates: true}, nil
	}
	finding := resource.Finding{Creates: !exists, Witness: seen}
	text := Parse(before)
	if note != nil {
		if finding.Prior, err = note(view.Prior, text, exists); err != nil {
			return resource.Finding{}, err
		}
	}
	if err := p.Edit(text, view); err != nil {
		return resource.Finding{}, fmt.Errorf("%s: %w", place.Path, err)
	}
	if after := text.String(); after != before || place.goes(after) {
		finding.Diff = resource.Diff{place.change(file, after)}
	} else if !exists {
		finding.Diff = nil // nothing to put into it
	}
	return finding, nil
}

// unread is what a file that cannot be read amounts to. One that is everyone's may
// be about to get another mode.
func unread(p Part, place Place, view resource.View, err error) (resource.Finding, error) {
	var open *host.PrivateError
	if errors.As(err, &open) && view.Owner != nil {
		if by, ok := view.Owner(resource.Path(place.Path)); ok && by.Name != p.Name() {
			return resource.Finding{Unknown: fmt.Sprintf("%v, which may come from %s", err, by)}, nil
		}
	}
	return resource.Finding{}, err
}

// goes reports whether a file is to be removed that has a text.
func (p Place) goes(text string) bool {
	return p.Leaves && p.Made && strings.TrimSpace(text) == ""
}

func (p Place) change(before found, after string) resource.Change {
	diff := host.DiffText
	switch {
	case p.Sensitive:
		return resource.Change{Field: p.Field, Redacted: true}
	case before.kept:
		diff = host.DiffLines
	}
	return diff(p.Field, p.Path, textOf(before.text), textOf(after))
}

func textOf(s string) host.Text {
	sum := sha256.Sum256([]byte(s))
	return host.Text{Data: []byte(s), Size: int64(len(s)), SHA256: hex.EncodeToString(sum[:])}
}

// Apply brings about one part.
func Apply(ctx context.Context, h *host.Host, p Part, view resource.View, found resource.Finding) (resource.Result, error) {
	done := Transact(ctx, h, []resource.Item{{Resource: p, View: view, Found: found}})
	return done[0].Result, done[0].Err
}

// Transact brings about the parts of all items: one write for each file and
// command that validates it. Where a file is not accepted, each part is tried
// by itself.
func Transact(ctx context.Context, h *host.Host, items []resource.Item) []resource.ItemResult {
	results := make([]resource.ItemResult, len(items))
	type key struct{ path, validate, as string }
	var order []key
	together := map[key][]int{}
	for i, item := range items {
		p, ok := item.Resource.(Part)
		if !ok {
			results[i].Err = fmt.Errorf("%q owns no part of a file", item.Resource.Name())
			continue
		}
		if own, _ := Split(item.Found.Diff); len(own) == 0 {
			results[i].Err = ctx.Err()
			continue // what is in its own place is right, or ignored
		}
		k := key{p.Place().Path, p.Place().Validate, p.Place().ValidateAs}
		if together[k] == nil {
			order = append(order, k)
		}
		together[k] = append(together[k], i)
	}
	for _, k := range order {
		of := together[k]
		err := writeParts(ctx, h, items, of, results)
		if err == nil || len(of) == 1 || ctx.Err() != nil {
			for _, i := range of {
				results[i].Err = errors.Join(results[i].Err, err)
			}
			continue
		}
		for _, i := range of {
			if results[i].Err == nil {
				results[i].Err = errors.Join(results[i].Err, writeParts(ctx, h, items, []int{i}, results))
			}
		}
	}
	for i, item := range items {
		if mover, moves := item.Resource.(Mover); moves && results[i].Err == nil && len(item.Found.Diff) > 0 {
			results[i].Err = leave(ctx, mover, item)
		}
	}
	return results
}

// leave takes a part out of the file that it was in before.
func leave(ctx context.Context, p Mover, item resource.Item) error {
	moved, err := p.Moved(item.View)
	if err != nil {
		return err
	}
	return moved.Apply(ctx, item.View, item.Found.Diff)
}

// writeParts writes one file with the parts of some items. A part that cannot
// be put into the text gets its error, and the others go on.
func writeParts(ctx context.Context, h *host.Host, items []resource.Item, of []int, results []resource.ItemResult) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	place := items[of[0]].Resource.(Part).Place()
	for _, i := range of {
		place.Private = place.Private || items[i].Resource.(Part).Place().Private
	}
	file, err := read(h, place)
	if err != nil {
		return err
	}
	before, exists := file.text, file.exists
	after := before
	for _, i := range of {
		p := items[i].Resource.(Part)
		text := Parse(after)
		if err := p.Edit(text, items[i].View); err != nil {
			results[i].Err = fmt.Errorf("%s: %w", place.Path, err)
			continue
		}
		after = text.String()
		one := p.Place()
		place.Sensitive = place.Sensitive || one.Sensitive
		place.Made = place.Made || one.Made
		place.Leaves = place.Leaves && one.Leaves
	}
	if exists && place.goes(after) {
		return h.Discard(place.Path, false, !place.Sensitive)
	}
	if after == before {
		return nil
	}
	spec := host.FileSpec{
		Content: resource.Bytes([]byte(after)), Follow: true, Backup: true,
		Sensitive: place.Sensitive, Private: place.Private, Kept: file.kept, Validate: place.Validate, ValidateAs: place.ValidateAs,
	}
	if !exists {
		spec.Mode, spec.Owner = place.Mode, place.Owner
	}
	return h.WriteFile(ctx, place.Path, spec)
}
