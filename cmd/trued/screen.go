package main

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode"

	"trued.dev/trued/internal/report"
)

// What a repository, a command or a user of the host wrote must not steer the
// terminal of whoever reads it. So all that is printed for people passes one of
// the functions below.

// A painted string is fit for a terminal: its escape sequences are our own.
type painted string

// printable returns s on one line and without anything that a terminal obeys,
// or that shows text in another order than it has.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if report.Steers(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// printableLines is printable for text of several lines.
func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = printable(l)
	}
	return strings.Join(lines, "\n")
}

// harmless returns what is to be formatted with its text made printable.
func harmless(args []any) []any {
	out := make([]any, len(args))
	for i, arg := range args {
		switch v := arg.(type) {
		case painted:
			out[i] = v
		case error:
			out[i] = printableLines(v.Error())
		case fmt.Stringer:
			out[i] = printableLines(v.String())
		default:
			out[i] = arg
			if text := reflect.ValueOf(arg); text.Kind() == reflect.String {
				out[i] = printableLines(text.String())
			}
		}
	}
	return out
}

// say writes a line to those who watch a command.
func (a *app) say(format string, args ...any) {
	fmt.Fprintf(a.err, format+"\n", harmless(args)...)
}

// escaping writes JSON, and escapes what JSON leaves as it is and a terminal
// obeys.
type escaping struct{ w io.Writer }

func (e escaping) Write(p []byte) (int, error) {
	if _, err := e.w.Write(report.EscapeJSON(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}
