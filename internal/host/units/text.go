package units

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A line is one assignment of a unit file.
type line struct {
	number  int
	section string
	key     string
	value   string
}

// space is what systemd takes for white space.
const space = " \t\r\n"

// parse reads the text of a unit file or drop-in as systemd does: sections,
// assignments, comments, and lines that a backslash continues.
func parse(text string) ([]line, error) {
	var lines []line
	section := ""
	rows := strings.Split(strings.TrimPrefix(text, "\ufeff"), "\n")
	for i := 0; i < len(rows); i++ {
		number := i + 1
		if comment(rows[i]) {
			continue
		}
		var row string
		row, i = continued(rows, i)
		if row = strings.Trim(row, space); row == "" {
			continue
		}
		if row[0] == '[' {
			if !strings.HasSuffix(row, "]") {
				return nil, fmt.Errorf("line %d: section %q has no closing bracket", number, row)
			}
			section = row[1 : len(row)-1]
			continue
		}
		key, value, ok := strings.Cut(row, "=")
		switch {
		case !ok:
			return nil, fmt.Errorf("line %d: %q is not an assignment: write key=value", number, cut(row))
		case section == "":
			return nil, fmt.Errorf("line %d: %q stands before the first section, such as [Unit]", number, cut(row))
		}
		lines = append(lines, line{number, section, strings.Trim(key, space), strings.Trim(value, space)})
	}
	return lines, nil
}

// comment reports whether a row is one. A backslash at its end continues nothing.
func comment(row string) bool {
	row = strings.TrimLeft(row, space)
	return row != "" && (row[0] == '#' || row[0] == ';')
}

// continued joins a row with those that follow it while it ends in a backslash
// that no other one escapes, comments between them left out, and returns the last
// one's index. Nothing may stand behind the backslash.
func continued(rows []string, i int) (joined string, last int) {
	joined = strings.TrimSuffix(rows[i], "\r")
	for escapes(joined) && i+1 < len(rows) {
		i++
		if !comment(rows[i]) {
			joined = joined[:len(joined)-1] + " " + strings.TrimSuffix(rows[i], "\r")
		}
	}
	return joined, i
}

// escapes reports whether the last character of a row is a backslash that counts.
func escapes(row string) bool {
	return (len(row)-len(strings.TrimRight(row, `\`)))%2 == 1
}

func cut(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

var typeSections = map[string]string{
	".service": "Service", ".socket": "Socket", ".timer": "Timer", ".path": "Path",
	".mount": "Mount", ".automount": "Automount", ".swap": "Swap", ".slice": "Slice",
	".scope": "Scope",
}

// textProblem says what is wrong with the text of a unit's file or drop-in:
// what systemd would ignore with a mere warning.
func textProblem(name, text string) string {
	if strings.ContainsRune(text, 0) {
		return "the text holds a NUL character"
	}
	lines, err := parse(text)
	if err != nil {
		return err.Error()
	}
	_, suffix := cutSuffix(name)
	known := []string{"Unit", "Install"}
	if s := typeSections[suffix]; s != "" {
		known = append(known, s)
	}
	for _, l := range lines {
		if !slices.Contains(known, l.section) && !strings.HasPrefix(l.section, "X-") {
			return fmt.Sprintf("line %d: a %s has no section [%s]: there is [%s]",
				l.number, strings.TrimPrefix(suffix, "."), l.section, strings.Join(known, "], ["))
		}
	}
	return ""
}

// An install is what the [Install] sections of a unit's files ask for.
type install struct {
	alias           []string
	wantedBy        []string
	requiredBy      []string
	upheldBy        []string
	also            []string
	defaultInstance string
}

func (in *install) empty() bool {
	return len(in.alias)+len(in.wantedBy)+len(in.requiredBy)+len(in.upheldBy)+len(in.also) == 0
}

// add takes the assignments of one more file. An empty one clears a list.
func (in *install) add(lines []line) {
	lists := map[string]*[]string{
		"Alias": &in.alias, "WantedBy": &in.wantedBy, "RequiredBy": &in.requiredBy,
		"UpheldBy": &in.upheldBy, "Also": &in.also,
	}
	for _, l := range lines {
		if l.section != "Install" {
			continue
		}
		if l.key == "DefaultInstance" {
			in.defaultInstance = l.value
			continue
		}
		list := lists[l.key]
		switch {
		case list == nil:
		case l.value == "":
			*list = nil
		default:
			*list = append(*list, words(l.value)...)
		}
	}
}

// words splits at white space; quotes around a word go.
func words(value string) []string {
	fields := strings.Fields(value)
	for i, f := range fields {
		fields[i] = strings.Trim(f, `"'`)
	}
	return fields
}

// A Setting is one assignment of a unit file or drop-in.
type Setting struct{ Section, Key, Value string }

// Settings returns what the text of a unit file sets, in order. It is not whole
// when there is a line that is no assignment, which systemd passes over, or a
// character that ends a line for systemd and for nobody else.
func Settings(text string) (settings []Setting, whole bool) {
	lines, err := parse(text)
	if plain := strings.ReplaceAll(text, "\r\n", "\n"); err == nil && strings.ContainsAny(plain, "\r\x00") {
		err = errors.New("a line ends in the middle")
	}
	if err != nil {
		lines = tolerant(text)
	}
	for _, l := range lines {
		settings = append(settings, Setting{l.section, l.key, l.value})
	}
	return settings, err == nil
}
