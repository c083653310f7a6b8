package shared

import (
	"slices"
	"strings"
)

// A Text is a file as lines, each with the end that it has: what is not
// changed stays as it is to the byte.
type Text struct {
	lines []string
}

// Parse takes a text apart.
func Parse(s string) *Text {
	return &Text{lines: slices.Collect(strings.Lines(s))}
}

// String returns the text.
func (t *Text) String() string { return strings.Join(t.lines, "") }

// Len returns how many lines there are.
func (t *Text) Len() int { return len(t.lines) }

// Line returns a line without its end.
func (t *Text) Line(i int) string { return bare(t.lines[i]) }

func bare(line string) string {
	line, ended := strings.CutSuffix(line, "\n")
	if ended {
		line = strings.TrimSuffix(line, "\r")
	}
	return line
}

// Find returns the numbers of the lines that match.
func (t *Text) Find(match func(line string) bool) []int {
	var found []int
	for i := range t.lines {
		if match(t.Line(i)) {
			found = append(found, i)
		}
	}
	return found
}

// Index returns the number of the first line that is the given one, or -1.
func (t *Text) Index(line string) int {
	return slices.IndexFunc(t.lines, func(l string) bool { return bare(l) == line })
}

// Set replaces a line, whose end stays as it is.
func (t *Text) Set(i int, line string) {
	t.lines[i] = line + t.lines[i][len(t.Line(i)):]
}

// Insert puts lines before the line of a number, or at the end. A last line
// that has no newline gets one when something comes after it.
func (t *Text) Insert(at int, lines ...string) {
	end := t.newline()
	if at > 0 && !strings.HasSuffix(t.lines[at-1], "\n") {
		t.lines[at-1] += end
	}
	made := make([]string, len(lines))
	for i, line := range lines {
		made[i] = line + end
	}
	t.lines = slices.Insert(t.lines, at, made...)
}

// Delete removes the lines from i up to, and without, j.
func (t *Text) Delete(i, j int) { t.lines = slices.Delete(t.lines, i, j) }

// Open reports whether the last line has no newline.
func (t *Text) Open() bool {
	return len(t.lines) > 0 && !strings.HasSuffix(t.lines[len(t.lines)-1], "\n")
}

// Unclose takes the newline off the last line, which had none before.
func (t *Text) Unclose() {
	if n := len(t.lines); n > 0 {
		t.lines[n-1] = bare(t.lines[n-1])
	}
}

// newline is how the first line ends.
func (t *Text) newline() string {
	if len(t.lines) > 0 && strings.HasSuffix(t.lines[0], "\r\n") {
		return "\r\n"
	}
	return "\n"
}
