package catalog

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"text/template"

	"trued.dev/trued/internal/document"
)

// functions are all that templates can call beside the language's own. None
// reads the host, the environment or the time. As in a pipe, what a function
// works on is its last argument.
func (t *templates) functions() template.FuncMap {
	n := t.names
	f := template.FuncMap{
		factsName: func() map[string]any { return n.facts },
		varsName:  func() map[string]any { return n.vars.data },
		eachName:  t.eachData,
		tmplStep:  func() (string, error) { return "", t.budget.step() },
		tmplEnter: func() (string, error) { return "", t.budget.enter() },
		tmplLeave: func() string { t.budget.leave(); return "" },
		tmplPrint: t.print,

		"get":      n.get,
		"secret":   n.secrets.value,
		"default":  byDefault,
		"required": required,
		"ternary":  ternary,
		"call":     func(...any) (any, error) { return nil, errors.New("call is not available") },
		"printf":   t.printf,
		"print":    func(args ...any) (string, error) { return t.printed(fmt.Sprint, args) },
		"println":  func(args ...any) (string, error) { return t.printed(fmt.Sprintln, args) },

		"join":    func(sep string, list any) (string, error) { return t.join(sep, list) },
		"split":   t.split,
		"list":    func(items ...any) ([]any, error) { return items, t.budget.spend(wordSize * len(items)) },
		"dict":    t.dict,
		"keys":    func(v any) ([]any, error) { return keys(&t.budget, v) },
		"has":     has,
		"sort":    func(v any) ([]any, error) { return sorted(&t.budget, v) },
		"toYaml":  func(v any) (string, error) { return t.encoded(document.Encode, v) },
		"toJson":  func(v any) (string, error) { return t.encoded(toJSON, v) },
		"indent":  t.indent,
		"nindent": func(by int, v any) (string, error) { return t.nindent(by, v) },

		"add": arithmetic(func(a, b int) (int, error) { return a + b, nil }),
		"sub": arithmetic(func(a, b int) (int, error) { return a - b, nil }),
		"mul": arithmetic(func(a, b int) (int, error) { return a * b, nil }),
		"div": arithmetic(func(a, b int) (int, error) {
			if b == 0 {
				return 0, errors.New("division by 0")
			}
			return a / b, nil
		}),
		"mod": arithmetic(func(a, b int) (int, error) {
			if b == 0 {
				return 0, errors.New("division by 0")
			}
			return a % b, nil
		}),
		"int": toInt,

		"contains":  t.textTest(strings.Contains),
		"hasPrefix": t.textTest(strings.HasPrefix),
		"hasSuffix": t.textTest(strings.HasSuffix),

		"replace":      t.replace,
		"regexReplace": t.regexReplace,
		"regexMatch":   t.regexMatch,
		"trimPrefix":   t.onText2(func(a, s string) string { return strings.TrimPrefix(s, a) }),
		"trimSuffix":   t.onText2(func(a, s string) string { return strings.TrimSuffix(s, a) }),
	}
	for name, do := range onText() {
		f[name] = t.onText(do)
	}
	return f
}

// onText are the functions from one text to another.
func onText() map[string]func(string) (string, error) {
	return map[string]func(string) (string, error){
		"html": func(s string) (string, error) { return template.HTMLEscapeString(s), nil },
		"js":   func(s string) (string, error) { return template.JSEscapeString(s), nil },
		"urlquery": func(s string) (string, error) {
			return url.QueryEscape(s), nil
		},
		"upper":  func(s string) (string, error) { return strings.ToUpper(s), nil },
		"lower":  func(s string) (string, error) { return strings.ToLower(s), nil },
		"trim":   func(s string) (string, error) { return strings.TrimSpace(s), nil },
		"quote":  func(s string) (string, error) { return strconv.Quote(s), nil },
		"squote": func(s string) (string, error) { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'", nil },
		"b64enc": func(s string) (string, error) { return base64.StdEncoding.EncodeToString([]byte(s)), nil },
		"b64dec": func(s string) (string, error) {
			out, err := base64.StdEncoding.DecodeString(s)
			if err != nil {
				return "", errors.New("not base64")
			}
			return string(out), nil
		},
		"sha256sum": func(s string) (string, error) {
			sum := sha256.Sum256([]byte(s))
			return hex.EncodeToString(sum[:]), nil
		},
	}
}

func (t *templates) eachData() (map[string]any, error) {
	if t.names.each == nil {
		return nil, &textError{message: "each is there only with for_each"}
	}
	return t.names.each.data(), nil
}

// made counts text that a function made.
func (t *templates) made(s string) (string, error) { return s, t.budget.spend(len(s)) }

// wordSize is what an item of a list counts.
const wordSize = 16

// encoded writes out a value of any shape.
func (t *templates) encoded(encode func(any) (string, error), v any) (string, error) {
	if err := t.budget.measure(v, 0); err != nil {
		return "", err
	}
	s, err := encode(v)
	if err != nil {
		return "", err
	}
	return t.made(s)
}

// printed puts text and numbers together.
func (t *templates) printed(form func(...any) string, args []any) (string, error) {
	for _, a := range args {
		s, err := scalarText(a)
		if err == nil {
			err = t.budget.spend(len(s))
		}
		if err != nil {
			return "", err
		}
	}
	return t.made(form(args...))
}

// print is put behind each action that prints: only text and numbers have a
// form that belongs into a file.
func (t *templates) print(v any) (any, error) {
	t.last = v
	switch v.(type) {
	case []any, map[string]any:
		if t.single {
			return "", t.budget.measure(v, 0)
		}
	}
	return scalarText(v)
}

// scalarText is text, a number or a boolean as text.
func scalarText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int:
		return strconv.Itoa(v), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case nil:
		return "", errors.New("there is no value (null): give one, or use default")
	case []any, map[string]any:
		return "", fmt.Errorf("%s cannot be printed: use join, toJson or toYaml", what(v))
	}
	return "", fmt.Errorf("%s cannot be printed", what(v))
}

var verb = pattern(`%[-+# 0]*(\*|\d*)(?:\.(\*|\d*))?`)

// printf is that of the language less its ways to make much out of nothing.
func (t *templates) printf(format string, args ...any) (string, error) {
	const widest = 1000
	for _, m := range verb().FindAllStringSubmatch(format, -1) {
		for _, width := range m[1:] {
			n, err := strconv.Atoi(width)
			if width == "*" || width != "" && (err != nil || n > widest) {
				return "", fmt.Errorf("a width of more than %d", widest)
			}
		}
	}
	return t.printed(func(args ...any) string { return fmt.Sprintf(format, args...) }, args)
}

func (t *templates) join(sep string, v any) (string, error) {
	list, ok := v.([]any)
	if !ok {
		return "", fmt.Errorf("join wants a list, not %s", what(v))
	}
	return joined(&t.budget, list, sep)
}

func joined(b *budget, list []any, sep string) (string, error) {
	parts := make([]string, len(list))
	for i, item := range list {
		s, err := scalarText(item)
		if err != nil {
			return "", err
		}
		if err := b.spend(len(s) + len(sep)); err != nil {
			return "", err
		}
		parts[i] = s
	}
	return strings.Join(parts, sep), nil
}

// indent puts spaces before each line.
func (t *templates) indent(by int, v any) (string, error) {
	s, err := scalarText(v)
	if err != nil {
		return "", err
	}
	const most = 100
	if by < 0 || by > most {
		return "", fmt.Errorf("an indent of %d is not between 0 and %d", by, most)
	}
	if err := t.budget.spend(len(s) + by*(1+strings.Count(s, "\n"))); err != nil {
		return "", err
	}
	pad := strings.Repeat(" ", by)
	return pad + strings.ReplaceAll(s, "\n", "\n"+pad), nil
}

func (t *templates) nindent(by int, v any) (string, error) {
	s, err := t.indent(by, v)
	return "\n" + s, err
}

// argument is a text that a function works on; reading it counts.
func (t *templates) argument(v any) (string, error) {
	s, err := scalarText(v)
	if err != nil {
		return "", err
	}
	return s, t.budget.spend(len(s))
}

func (t *templates) onText(do func(string) (string, error)) func(any) (string, error) {
	return func(v any) (string, error) {
		s, err := t.argument(v)
		if err != nil {
			return "", err
		}
		out, err := do(s)
		if err != nil {
			return "", err
		}
		return t.made(out)
	}
}

func (t *templates) onText2(do func(arg, s string) string) func(string, any) (string, error) {
	return func(arg string, v any) (string, error) {
		s, err := t.argument(v)
		if err != nil {
			return "", err
		}
		return t.made(do(arg, s))
	}
}

func (t *templates) textTest(do func(s, arg string) bool) func(string, any) (bool, error) {
	return func(arg string, v any) (bool, error) {
		s, err := t.argument(v)
		if err != nil {
			return false, err
		}
		return do(s, arg), nil
	}
}

func (t *templates) replace(old, fresh string, v any) (string, error) {
	s, err := scalarText(v)
	if err != nil {
		return "", err
	}
	if err := t.budget.spend(len(s) + strings.Count(s, old)*len(fresh)); err != nil {
		return "", err
	}
	return strings.ReplaceAll(s, old, fresh), nil
}

func (t *templates) regexReplace(pattern, fresh string, v any) (string, error) {
	re, s, err := t.expression(pattern, v)
	if err != nil {
		return "", err
	}
	// Each reference of the replacement may stand for all that matched.
	var out []byte
	last := 0
	for _, m := range re.FindAllStringSubmatchIndex(s, -1) {
		before := len(out)
		out = append(out, s[last:m[0]]...)
		if strings.Count(fresh, "$")*(m[1]-m[0]) > maxWork {
			return "", limited("works on more than %d MiB of text", maxWork>>20)
		}
		out = re.ExpandString(out, fresh, s, m)
		last = m[1]
		if err := t.budget.spend(len(out) - before); err != nil {
			return "", err
		}
	}
	return string(append(out, s[last:]...)), t.budget.spend(len(s) - last)
}

func (t *templates) regexMatch(pattern string, v any) (bool, error) {
	re, s, err := t.expression(pattern, v)
	return err == nil && re.MatchString(s), err
}

// expression prepares a regular expression for a text. Matching costs several
// times what reading does, and counts as that.
func (t *templates) expression(pattern string, v any) (*regexp.Regexp, string, error) {
	const cost = 10
	s, err := scalarText(v)
	if err == nil {
		err = t.budget.spend(cost * (len(s) + len(pattern)))
	}
	if err != nil {
		return nil, "", err
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, "", fmt.Errorf("pattern %q is not a regular expression", pattern)
	}
	return re, s, nil
}
