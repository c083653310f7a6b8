package catalog

import (
	"errors"
	"fmt"
	"strings"

	"trued.dev/trued/internal/document"
)

// member is a.b, a[b]: what is not there is an error, not nothing.
func (x *expressions) member(args ...any) (any, error) {
	switch of := args[0].(type) {
	case map[string]any:
		key, ok := args[1].(string)
		if !ok {
			key = fmt.Sprint(args[1])
		}
		if value, ok := of[key]; ok {
			return value, nil
		}
		return nil, &textError{
			message:    fmt.Sprintf("there is no %q in the map", key),
			suggestion: document.Nearest(key, sortedKeys(of)),
		}
	case []any:
		i, ok := args[1].(int)
		if !ok {
			return nil, fmt.Errorf("a list has no %v", args[1])
		}
		if i < 0 {
			i += len(of)
		}
		if i < 0 || i >= len(of) {
			return nil, fmt.Errorf("there is no item %v in a list of %d", args[1], len(of))
		}
		return of[i], nil
	}
	return nil, fmt.Errorf("%s has no %v", what(args[0]), args[1])
}

func (x *expressions) plus(args ...any) (any, error) {
	switch a := args[0].(type) {
	case string:
		if b, ok := args[1].(string); ok {
			return a + b, x.budget.spend(len(a) + len(b))
		}
	case int:
		switch b := args[1].(type) {
		case int:
			return a + b, nil
		case float64:
			return float64(a) + b, nil
		}
	case float64:
		switch b := args[1].(type) {
		case int:
			return a + float64(b), nil
		case float64:
			return a + b, nil
		}
	}
	return nil, fmt.Errorf("cannot add %s and %s", what(args[0]), what(args[1]))
}

func (x *expressions) get(args ...any) (any, error) {
	name, ok := args[0].(string)
	if !ok {
		return nil, errors.New("get wants a path in quotes, such as \"vars.x\"")
	}
	if value, _ := x.names.at(strings.Split(name, ".")); x.names.secrets.sealed && holdsSecret(value) {
		return nil, &textError{message: lookedAt(name), safe: true}
	}
	return x.names.get(name, args[1])
}

func (x *expressions) join(args ...any) (any, error) {
	list, ok := args[0].([]any)
	if !ok {
		return nil, fmt.Errorf("join wants a list, not %s", what(args[0]))
	}
	sep := ""
	if len(args) > 1 {
		sep, _ = args[1].(string)
	}
	return joined(&x.budget, list, sep)
}

func (x *expressions) concat(args ...any) (any, error) {
	out := []any{}
	for _, a := range args {
		list, ok := a.([]any)
		if !ok {
			return nil, fmt.Errorf("concat wants lists, not %s", what(a))
		}
		if err := x.budget.spend(wordSize * len(list)); err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}

func (x *expressions) onText(do func(string) string) func(...any) (any, error) {
	return func(args ...any) (any, error) {
		s, err := scalarText(args[0])
		if err == nil {
			err = x.budget.spend(len(s))
		}
		if err != nil {
			return nil, err
		}
		return do(s), nil
	}
}

func (x *expressions) split(args ...any) (any, error) {
	sep, ok := args[1].(string)
	if !ok {
		return nil, fmt.Errorf("split wants text to split at, not %s", what(args[1]))
	}
	return parts(&x.budget, sep, args[0])
}

// values are those of a map, in the order of its keys.
func (x *expressions) values(args ...any) (any, error) {
	m, ok := args[0].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("values wants a map, not %s", what(args[0]))
	}
	out := make([]any, 0, len(m))
	for _, key := range sortedKeys(m) {
		out = append(out, m[key])
	}
	return out, x.budget.spend(wordSize * len(m))
}

func (x *expressions) text(args ...any) (any, error) { return scalarText(args[0]) }
