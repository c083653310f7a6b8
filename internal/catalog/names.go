package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"trued.dev/trued/internal/document"
)

// The names that templates and expressions see.
const (
	factsName = "facts"
	varsName  = "vars"
	eachName  = "each"
)

// names is the data of templates and expressions, against which every path in
// them is checked.
type names struct {
	facts   map[string]any
	unknown map[string]string // why, by path without "facts."
	vars    *vars
	each    *each // nil outside for_each
	secrets *secrets
	// concealed takes back what reveal did.
	concealed []func()
}

// each is one turn of for_each.
type each struct {
	key   any
	value any
}

func (e *each) data() map[string]any {
	return map[string]any{"key": e.key, "value": e.value}
}

// A ref is a path that a template or an expression names, and where in its
// text: line and column count from 1.
type ref struct {
	path         []string
	line, column int
	// optional paths, those of get, need not be there.
	optional bool
}

func (r ref) String() string { return strings.Join(r.path, ".") }

// A textError is something wrong within the text of a template or expression.
type textError struct {
	line, column int // from 1; 0 when not known
	message      string
	suggestion   string
	// safe is true when it says nothing of a value.
	safe bool
}

func (e *textError) Error() string {
	if e.suggestion != "" {
		return fmt.Sprintf("%s: did you mean %q?", e.message, e.suggestion)
	}
	return e.message
}

// textErrors are several.
type textErrors []*textError

func (e textErrors) Error() string {
	list := make([]error, len(e))
	for i := range e {
		list[i] = e[i]
	}
	return errors.Join(list...).Error()
}

// An openError means that a value hangs on a fact that is not known yet.
type openError struct {
	path   string
	reason string
}

func (e *openError) Error() string { return fmt.Sprintf("%s is not known: %s", e.path, e.reason) }

// check holds all refs against what there is. It returns a textErrors, else an
// *openError, else nil.
func (n *names) check(refs []ref) error {
	var wrong textErrors
	var open error
	for _, r := range refs {
		if err := n.open(r.path); err != nil {
			open = err
			continue
		}
		if r.optional {
			if problem := n.root(r.path[0]); problem != nil {
				wrong = append(wrong, problem.at(r))
			}
			continue
		}
		if problem := n.find(r.path); problem != nil {
			wrong = append(wrong, problem.at(r))
		}
	}
	if wrong != nil {
		return wrong
	}
	return open
}

func (e *textError) at(r ref) *textError {
	e.line, e.column = r.line, r.column
	return e
}

// open reports a fact at, above or below the path that is not known.
func (n *names) open(path []string) error {
	if path[0] != factsName || len(n.unknown) == 0 {
		return nil
	}
	name := strings.Join(path[1:], ".")
	for _, u := range sortedKeys(n.unknown) {
		if name == "" || name == u || strings.HasPrefix(name, u+".") || strings.HasPrefix(u, name+".") {
			return &openError{path: factsName + "." + u, reason: n.unknown[u]}
		}
	}
	return nil
}

func (n *names) root(name string) *textError {
	switch name {
	case factsName, varsName:
		return nil
	case eachName:
		if n.each == nil {
			return &textError{message: "each is there only with for_each"}
		}
		return nil
	}
	return &textError{
		message:    fmt.Sprintf("unknown name %q", name),
		suggestion: document.Nearest(name, []string{factsName, varsName, eachName}),
	}
}

// find says what is wrong with a path, or nil.
func (n *names) find(path []string) *textError {
	if problem := n.root(path[0]); problem != nil {
		return problem
	}
	_, missing, at := n.walk(path)
	if at < 0 {
		return nil
	}
	name, parent := strings.Join(path[:at+1], "."), strings.Join(path[:at], ".")
	m, ok := missing.(map[string]any)
	if !ok {
		return &textError{message: fmt.Sprintf("%s is %s, so there is no %s", parent, what(missing), name)}
	}
	known := sortedKeys(m)
	if path[0] == factsName {
		known = append(known, n.unknownBelow(path[1:at])...)
	}
	problem := &textError{message: fmt.Sprintf("unknown name %q", name)}
	if near := document.Nearest(path[at], known); near != "" {
		problem.suggestion = parent + "." + near
	} else if path[0] != eachName {
		problem.message += fmt.Sprintf(" (what may be missing is read with get %q DEFAULT)", name)
	}
	return problem
}

// unknownBelow lists the keys of facts that are there but not known.
func (n *names) unknownBelow(path []string) []string {
	var keys []string
	for u := range n.unknown {
		parts := strings.Split(u, ".")
		if len(parts) > len(path) && slices.Equal(parts[:len(path)], path) {
			keys = append(keys, parts[len(path)])
		}
	}
	return keys
}

// walk follows a path. at is -1 when it led to value; else path[at] is not in
// missing, the value before it.
func (n *names) walk(path []string) (value, missing any, at int) {
	var current any
	switch path[0] {
	case factsName:
		current = n.facts
	case varsName:
		current = n.vars.data
	case eachName:
		current = n.each.data()
	}
	for i, key := range path[1:] {
		m, ok := current.(map[string]any)
		if !ok {
			return nil, current, i + 1
		}
		next, ok := m[key]
		if !ok {
			return nil, current, i + 1
		}
		current = next
	}
	return current, nil, -1
}

// get is the function of that name: the value of a path, or the default when
// there is none.
func (n *names) get(name string, byDefault any) (any, error) {
	path := strings.Split(name, ".")
	if problem := n.root(path[0]); problem != nil {
		return nil, problem
	}
	if err := n.open(path); err != nil {
		return nil, err
	}
	if err := n.reveal(path); err != nil {
		return nil, err
	}
	value, _, at := n.walk(path)
	if at >= 0 {
		return byDefault, nil
	}
	return value, nil
}

// what says what a value is, for messages.
func what(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return "text"
	case bool:
		return fmt.Sprint(v)
	case int, float64:
		return fmt.Sprintf("the number %v", v)
	case *sealed:
		return "a secret"
	case []any:
		return "a list"
	case map[string]any:
		return "a map"
	}
	return fmt.Sprintf("a %T", v)
}
