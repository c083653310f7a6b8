package ini

import (
	"fmt"
	"strconv"
	"strings"

	"trued.dev/trued/internal/host/shared"
)

// A place is where a key is, or would go.
type place struct {
	// line is the key's; -1 where it is not there.
	line  int
	value string
	// section reports whether the section is there, and end the line that a new
	// key of it goes before.
	section bool
	end     int
}

// A TwiceError is a key that is in its section more than once.
type TwiceError struct {
	Key   string
	Lines []string
}

func (e *TwiceError) Error() string {
	return fmt.Sprintf("the key %q is in its section more than once, in lines %s: which of them is meant cannot be told",
		e.Key, strings.Join(e.Lines, ", "))
}

// find looks for a key in all parts of a section.
func find(text *shared.Text, section, key string) (place, error) {
	at := place{line: -1, section: section == ""}
	var lines []string
	current := ""
	for i := range text.Len() {
		line := strings.TrimSpace(text.Line(i))
		if name, ok := header(line); ok {
			current = name
			if name == section {
				at.section, at.end = true, i+1
			}
			continue
		}
		if current != section {
			continue
		}
		name, value, ok := cutKey(line)
		if !ok {
			continue // a remark at the end may be about the next section
		}
		at.end = i + 1
		if name != key {
			continue
		}
		at.line, at.value = i, value
		lines = append(lines, strconv.Itoa(i+1))
	}
	if len(lines) > 1 {
		return at, &TwiceError{Key: key, Lines: lines}
	}
	return at, nil
}

// header returns the name of the section that a line begins.
func header(line string) (string, bool) {
	if !strings.HasPrefix(line, "[") {
		return "", false
	}
	end := strings.LastIndexByte(line, ']')
	if end < 0 {
		return "", false
	}
	return strings.TrimSpace(line[1:end]), true
}

// cutKey splits a line that is neither empty nor a remark. A key alone has no
// value.
func cutKey(line string) (key, value string, ok bool) {
	if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
		return "", "", false
	}
	key, value, _ = strings.Cut(line, "=")
	return strings.TrimSpace(key), strings.TrimSpace(value), true
}

// withValue replaces the value of a line, and nothing before it.
func withValue(line, value string) string {
	equals := strings.IndexByte(line, '=')
	if equals < 0 {
		return strings.TrimRight(line, " \t") + " = " + value
	}
	after := line[equals+1:]
	space := after[:len(after)-len(strings.TrimLeft(after, " \t"))]
	if strings.TrimSpace(after) == "" && space == "" && strings.HasSuffix(line[:equals], " ") {
		space = " "
	}
	return line[:equals+1] + space + value
}

// add puts a line at the end of the section, which is made where it is missing.
func (at place) add(text *shared.Text, section, line string) {
	if at.section {
		text.Insert(at.end, line)
		return
	}
	made := []string{"[" + section + "]", line}
	if n := text.Len(); n > 0 && strings.TrimSpace(text.Line(n-1)) != "" {
		made = append([]string{""}, made...)
	}
	text.Insert(text.Len(), made...)
}

// dropSection removes a section that has nothing in it, with the empty line
// before it.
func dropSection(text *shared.Text, section string) {
	for i := range text.Len() {
		name, ok := header(strings.TrimSpace(text.Line(i)))
		if !ok || name != section || section == "" {
			continue
		}
		next := i + 1
		if next < text.Len() {
			if _, another := header(strings.TrimSpace(text.Line(next))); !another {
				return
			}
		}
		from := i
		if i > 0 && strings.TrimSpace(text.Line(i-1)) == "" {
			from--
		}
		text.Delete(from, next)
		return
	}
}
