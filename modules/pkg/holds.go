package pkg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

const holdsLimit = 16 << 20

// A holdList is the file in which a package manager keeps the names of what it
// may not move on its own. It is a text that operators write, too: what is not
// ours stays as it is.
type holdList struct {
	path string
	// read returns the names in a text.
	read func(text string) []string
	// edit returns the text with packages added and names taken out.
	edit func(text string, hold []*record, unhold []string) string
}

// text returns the file, empty when there is none.
func (l holdList) text(h *host.Host) (string, error) {
	data, err := h.ReadFile(l.path, holdsLimit)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("cannot read held packages: %w", err)
	}
	return string(data), nil
}

// mark says in a database what is held.
func (l holdList) mark(h *host.Host, db *database) error {
	text, err := l.text(h)
	if err != nil {
		return err
	}
	for _, name := range l.read(text) {
		for _, r := range db.byName[name] {
			r.Held = true
		}
	}
	return nil
}

// set holds packages and lets others go.
func (l holdList) set(ctx context.Context, h *host.Host, db *database, hold, unhold []string) error {
	if len(hold)+len(unhold) == 0 {
		return nil
	}
	before, err := l.text(h)
	if err != nil {
		return err
	}
	var records []*record
	for _, name := range hold {
		if r := db.find(name); r != nil {
			records = append(records, r)
		}
	}
	after := l.edit(before, records, bareNames(unhold))
	if after == before {
		return nil
	}
	return h.WriteFile(ctx, l.path, host.FileSpec{
		Content: resource.Bytes([]byte(after)), Follow: true, Parents: true, Backup: true,
	})
}

// bareNames are names without an architecture.
func bareNames(names []string) []string {
	bare := make([]string, len(names))
	for i, name := range names {
		bare[i], _, _ = strings.Cut(name, ":")
	}
	return bare
}

func namesOf(records []*record) []string {
	names := make([]string, len(records))
	for i, r := range records {
		names[i] = r.Name
	}
	return names
}

// versionLocks is the list of dnf's plugin versionlock: one line for each
// version that a package may have, such as nginx-0:1.22.1-9.*.
func versionLocks(path string) holdList {
	return holdList{path: path, read: readVersionLocks, edit: editVersionLocks}
}

func readVersionLocks(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		if name := lockedName(line); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// lockedName is the package that a line of a versionlock list names; empty for a
// comment, and for a version that is to be kept away.
func lockedName(line string) string {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' || line[0] == '!' {
		return ""
	}
	for range 2 { // the release and the version, each of which has no dash
		i := strings.LastIndexByte(line, '-')
		if i <= 0 {
			break
		}
		line = line[:i]
	}
	return line
}

func editVersionLocks(text string, hold []*record, unhold []string) string {
	var b strings.Builder
	gone := append(namesOf(hold), unhold...)
	for line := range strings.Lines(text) {
		if !slices.Contains(gone, lockedName(line)) {
			b.WriteString(line)
		}
	}
	if s := b.String(); s != "" && !strings.HasSuffix(s, "\n") {
		b.WriteByte('\n')
	}
	for _, r := range hold {
		evr := r.Version
		if !strings.Contains(evr, ":") {
			evr = "0:" + evr
		}
		fmt.Fprintf(&b, "%s-%s.*\n", r.Name, evr)
	}
	return b.String()
}

// configuredHolds is a list of names under a key of a section of the manager's
// own configuration.
func configuredHolds(path, section, separator string, keys ...string) holdList {
	f := iniList{section: section, separator: separator, keys: keys}
	return holdList{path: path, read: f.read, edit: f.edit}
}

// An iniList is the words under some keys, which mean the same, of one section.
type iniList struct {
	section   string
	separator string
	keys      []string // the first is the one that is written
}

// An iniLine is a line of such a file as far as it matters.
type iniLine struct {
	text  string
	head  bool // the section begins here
	words []string
	ours  bool // the line is of one of the keys
}

func (f iniList) parse(text string) []iniLine {
	var lines []iniLine
	inside, continued := false, false
	for line := range strings.Lines(text) {
		l := iniLine{text: line}
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(trimmed, "["):
			inside = trimmed == "["+f.section+"]"
			l.head, continued = inside, false
		case !inside, trimmed == "", trimmed[0] == '#', trimmed[0] == ';':
		case continued && (line[0] == ' ' || line[0] == '\t') && !strings.Contains(trimmed, "="):
			l.ours, l.words = true, wordsOf(trimmed)
		default:
			key, value, _ := strings.Cut(trimmed, "=")
			continued = slices.Contains(f.keys, strings.TrimSpace(key))
			if continued {
				l.ours, l.words = true, wordsOf(value)
			}
		}
		lines = append(lines, l)
	}
	return lines
}

func wordsOf(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
}

func (f iniList) read(text string) []string {
	var names []string
	for _, l := range f.parse(text) {
		names = append(names, l.words...)
	}
	return names
}

// edit writes the list anew where its first line was, or at the head of the
// section; an unchanged list stays as it is written.
func (f iniList) edit(text string, hold []*record, unhold []string) string {
	before := f.read(text)
	after := slices.DeleteFunc(slices.Clone(before), func(name string) bool { return slices.Contains(unhold, name) })
	for _, name := range namesOf(hold) {
		if !slices.Contains(after, name) {
			after = append(after, name)
		}
	}
	if slices.Equal(before, after) {
		return text
	}
	list := f.keys[0] + " = " + strings.Join(after, f.separator) + "\n"
	lines := f.parse(text)
	at := slices.IndexFunc(lines, func(l iniLine) bool { return l.ours })
	behind := at < 0
	if behind {
		at = slices.IndexFunc(lines, func(l iniLine) bool { return l.head })
	}
	if at < 0 {
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		return text + "[" + f.section + "]\n" + list
	}
	var b strings.Builder
	for i, l := range lines {
		if !l.ours {
			b.WriteString(l.text)
			if i == at && !strings.HasSuffix(l.text, "\n") {
				b.WriteByte('\n')
			}
		}
		if i == at && len(after) > 0 {
			b.WriteString(list)
		}
	}
	return b.String()
}

// zypperLocks is libzypp's list: paragraphs of which those that name a package
// and nothing else hold it.
func zypperLocks() holdList {
	return holdList{path: "/etc/zypp/locks", read: readZypperLocks, edit: editZypperLocks}
}

func readZypperLocks(text string) []string {
	var names []string
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		if name := zypperLock(paragraph); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// zypperLock is the package that a paragraph holds whatever its version; empty
// for any other lock.
func zypperLock(paragraph string) string {
	name := ""
	for line := range strings.Lines(paragraph) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "solvable_name":
			if name != "" || !packageName().MatchString(value) {
				return ""
			}
			name = value
		case "type":
			if value != "package" {
				return ""
			}
		case "match_type":
			if value != "glob" && value != "exact" {
				return ""
			}
		case "", "case_sensitive":
		default:
			if !strings.HasPrefix(key, "#") {
				return ""
			}
		}
	}
	return name
}

func editZypperLocks(text string, hold []*record, unhold []string) string {
	var kept []string
	held := map[string]bool{}
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		name := zypperLock(paragraph)
		if strings.TrimSpace(paragraph) == "" || name != "" && slices.Contains(unhold, name) {
			continue
		}
		held[name] = true
		kept = append(kept, strings.Trim(paragraph, "\n"))
	}
	changed := false
	for _, name := range namesOf(hold) {
		if !held[name] {
			kept = append(kept, "type: package\nmatch_type: glob\ncase_sensitive: on\nsolvable_name: "+name)
			changed = true
		}
	}
	if !changed && len(kept) == len(readParagraphs(text)) {
		return text
	}
	if len(kept) == 0 {
		return ""
	}
	return "\n" + strings.Join(kept, "\n\n") + "\n\n"
}

func readParagraphs(text string) []string {
	return slices.DeleteFunc(strings.Split(text, "\n\n"), func(p string) bool { return strings.TrimSpace(p) == "" })
}
