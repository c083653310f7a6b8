package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

func isEmpty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// byDefault gives the default for null and for what is empty; 0 and false are
// values.
func byDefault(fallback, v any) any {
	if isEmpty(v) {
		return fallback
	}
	return v
}

func required(message string, v any) (any, error) {
	if isEmpty(v) {
		return nil, errors.New(message)
	}
	return v, nil
}

func ternary(yes, no any, condition any) (any, error) {
	is, ok := condition.(bool)
	if !ok {
		return nil, fmt.Errorf("ternary wants true or false, not %s", what(condition))
	}
	if is {
		return yes, nil
	}
	return no, nil
}

func (t *templates) split(sep string, v any) ([]any, error) {
	return parts(&t.budget, sep, v)
}

func parts(b *budget, sep string, v any) ([]any, error) {
	s, err := scalarText(v)
	if err != nil {
		return nil, err
	}
	if err := b.spend(len(s) + wordSize*strings.Count(s, sep)); err != nil {
		return nil, err
	}
	parts := strings.Split(s, sep)
	out := make([]any, len(parts))
	for i, p := range parts {
		out[i] = p
	}
	return out, nil
}

func (t *templates) dict(args ...any) (map[string]any, error) {
	if len(args)%2 != 0 {
		return nil, errors.New("dict wants keys and values in turn")
	}
	if err := t.budget.spend(wordSize * len(args)); err != nil {
		return nil, err
	}
	m := make(map[string]any, len(args)/2)
	for i := 0; i < len(args); i += 2 {
		key, err := scalarText(args[i])
		if err != nil {
			return nil, err
		}
		m[key] = args[i+1]
	}
	return m, nil
}

func keys(b *budget, v any) ([]any, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("keys wants a map, not %s", what(v))
	}
	if err := b.spend(wordSize * len(m)); err != nil {
		return nil, err
	}
	out := make([]any, 0, len(m))
	for _, key := range sortedKeys(m) {
		out = append(out, key)
	}
	return out, nil
}

func has(item, v any) (bool, error) {
	switch v := v.(type) {
	case []any:
		return slices.ContainsFunc(v, func(each any) bool { return scalarsEqual(each, item) }), nil
	case map[string]any:
		key, _ := item.(string)
		_, ok := v[key]
		return ok, nil
	}
	return false, fmt.Errorf("has wants a list or map, not %s", what(v))
}

func scalarsEqual(a, b any) bool {
	switch a.(type) {
	case []any, map[string]any:
		return false
	}
	switch b.(type) {
	case []any, map[string]any:
		return false
	}
	return a == b
}

func sorted(b *budget, v any) ([]any, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("sort wants a list, not %s", what(v))
	}
	if err := b.measure(v, 0); err != nil {
		return nil, err
	}
	out := slices.Clone(list)
	var failed error
	slices.SortStableFunc(out, func(a, b any) int {
		if x, ok := a.(int); ok {
			if y, ok := b.(int); ok {
				return x - y
			}
		}
		x, errA := scalarText(a)
		y, errB := scalarText(b)
		failed = errors.Join(failed, errA, errB)
		return strings.Compare(x, y)
	})
	if failed != nil {
		return nil, errors.New("sort wants a list of text or numbers")
	}
	return out, nil
}

func toJSON(v any) (string, error) {
	out, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("cannot make JSON of %s", what(v))
	}
	return string(out), nil
}

func arithmetic(do func(a, b int) (int, error)) func(a, b any) (int, error) {
	return func(a, b any) (int, error) {
		x, err := toInt(a)
		if err != nil {
			return 0, err
		}
		y, err := toInt(b)
		if err != nil {
			return 0, err
		}
		return do(x, y)
	}
}

func toInt(v any) (int, error) {
	switch v := v.(type) {
	case int:
		return v, nil
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int(v), nil
		}
		return 0, errors.New("a fraction is no whole number")
	case string:
		i, err := strconv.Atoi(v)
		if err != nil {
			return 0, errors.New("the text is no whole number")
		}
		return i, nil
	}
	return 0, fmt.Errorf("%s is no whole number", what(v))
}
