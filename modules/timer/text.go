package timer

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// calendars are the expressions, of which each has a line.
func (r *Resource) calendars() []string {
	var all []string
	for line := range strings.Lines(r.OnCalendar) {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, line)
		}
	}
	return all
}

func (r *Resource) description() string {
	if r.Description != "" {
		return r.Description
	}
	return r.Title
}

func (r *Resource) timerText() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Kept by trued: timer:%s\n[Unit]\nDescription=%s\n\n[Timer]\n", r.Title, literal(r.description()))
	for _, c := range r.calendars() {
		fmt.Fprintf(&b, "OnCalendar=%s\n", c)
	}
	if r.RandomDelay > 0 {
		fmt.Fprintf(&b, "RandomizedDelaySec=%ss\n", strconv.FormatFloat(r.RandomDelay.Seconds(), 'f', -1, 64))
	}
	if r.Persistent {
		b.WriteString("Persistent=true\n")
	}
	b.WriteString("\n[Install]\nWantedBy=timers.target\n")
	return b.String()
}

func (r *Resource) serviceText() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Kept by trued: timer:%s\n[Unit]\nDescription=%s\n\n[Service]\nType=oneshot\n", r.Title, literal(r.description()))
	if r.User != "" {
		fmt.Fprintf(&b, "User=%s\n", r.User)
	}
	if r.Dir != "" {
		fmt.Fprintf(&b, "WorkingDirectory=%s\n", literal(r.Dir))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Env)) {
		fmt.Fprintf(&b, "Environment=%s\n", quote(name+"="+r.Env[name]))
	}
	argv := r.Argv
	if r.Line != "" {
		argv = []string{"/bin/sh", "-c", r.Line}
	}
	words := make([]string, len(argv))
	for i, arg := range argv {
		words[i] = quote(arg)
		if i > 0 { // variables are not looked for in the program's path
			words[i] = strings.ReplaceAll(words[i], "$", "$$")
		}
	}
	fmt.Fprintf(&b, "ExecStart=%s\n", strings.Join(words, " "))
	return b.String()
}

// literal keeps systemd from taking a text for specifiers.
func literal(text string) string { return strings.ReplaceAll(text, "%", "%%") }

const plainLetters = variableLetters + "./:,+-="

// quote makes one word of a text for systemd, with nothing special in it but the
// dollar sign.
func quote(text string) string {
	if text != "" && strings.Trim(text, plainLetters) == "" {
		return text
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return literal(b.String())
}
