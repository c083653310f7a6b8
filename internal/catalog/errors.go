package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"trued.dev/trued/internal/document"
	"trued.dev/trued/internal/resource"
)

// An Error is one thing that is wrong in a source, and where.
type Error struct {
	Origin  resource.Origin `json:"origin"`
	Message string          `json:"message"`
	// Suggestion is the word that was probably meant, or empty.
	Suggestion string `json:"suggestion,omitempty"`
}

func (e Error) Error() string {
	s := e.Message
	if at := e.Origin.String(); at != "" {
		s = at + ": " + s
	}
	if e.Suggestion != "" {
		s += fmt.Sprintf(": did you mean %q?", e.Suggestion)
	}
	return s
}

// Errors is everything that is wrong with a source, in order of place, each
// once.
type Errors struct {
	List []Error
}

// shown is how many errors a message lists.
const shown = 100

// kept is how many errors are kept at all.
const kept = 2000

// Error lists the errors, one on a line.
func (e *Errors) Error() string {
	var b strings.Builder
	for i, item := range e.List {
		if i == shown {
			fmt.Fprintf(&b, "\n… and %d more", len(e.List)-shown)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(item.Error())
	}
	return b.String()
}

// Unwrap gives each error to errors.As.
func (e *Errors) Unwrap() []error {
	list := make([]error, len(e.List))
	for i, item := range e.List {
		list[i] = item
	}
	return list
}

// faults gathers errors during a load.
type faults struct {
	list []Error
	seen map[Error]bool
}

func (f *faults) add(e Error) {
	if f.seen == nil {
		f.seen = map[Error]bool{}
	}
	e.Message = oneLine(e.Message)
	if f.seen[e] || len(f.list) >= kept {
		return
	}
	f.seen[e] = true
	f.list = append(f.list, e)
}

// oneLine escapes what would break a line: what a name in a repository holds
// must not look like another error.
func oneLine(s string) string {
	if !strings.ContainsFunc(s, unicode.IsControl) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsControl(r) {
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func (f *faults) at(o resource.Origin, format string, args ...any) {
	f.add(Error{Origin: o, Message: fmt.Sprintf(format, args...)})
}

// problems adds what a document says is wrong with it.
func (f *faults) problems(o resource.Origin, list []document.Problem) {
	for _, p := range list {
		o.Line, o.Column = p.Line, p.Column
		f.add(Error{Origin: o, Message: p.Message, Suggestion: p.Suggestion})
	}
}

func (f *faults) any() bool { return len(f.list) > 0 }

// err returns the errors sorted, or nil.
func (f *faults) err() error {
	if len(f.list) == 0 {
		return nil
	}
	list := slices.Clone(f.list)
	slices.SortStableFunc(list, func(a, b Error) int {
		return cmp.Or(
			cmp.Compare(a.Origin.File, b.Origin.File),
			cmp.Compare(a.Origin.Line, b.Origin.Line),
			cmp.Compare(a.Origin.Column, b.Origin.Column),
			cmp.Compare(a.Message, b.Message),
		)
	})
	return &Errors{List: list}
}
