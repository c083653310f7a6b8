package resource

import (
	"cmp"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"
)

// An Address names a resource within a catalog: "file:/etc/motd".
type Address struct {
	Kind string
	Name string
}

// ParseAddress reads "kind:name".
func ParseAddress(s string) (Address, error) {
	kind, name, ok := strings.Cut(s, ":")
	if !ok || kind == "" || name == "" {
		return Address{}, fmt.Errorf("%q is not an address: write kind:name, such as file:/etc/motd", s)
	}
	return Address{Kind: kind, Name: name}, nil
}

// AddressOf returns the address of a resource of the module m.
func AddressOf(m Module, r Resource) Address {
	return Address{Kind: m.Kind(), Name: r.Name()}
}

func (a Address) String() string { return a.Kind + ":" + a.Name }

// MarshalText makes an address a JSON string and a key of a JSON object.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText is the reverse of MarshalText.
func (a *Address) UnmarshalText(text []byte) error {
	parsed, err := ParseAddress(string(text))
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}

// Match reports whether the address is pattern, or matches it as a glob in
// which `*` stops at a slash and `**` does not.
func (a Address) Match(pattern string) (bool, error) {
	if a.String() == pattern {
		return true, nil
	}
	if !strings.ContainsAny(pattern, "*?[") {
		return false, nil
	}
	ok, err := matchGlob(pattern, a.String())
	if err != nil {
		return false, fmt.Errorf("pattern %q: %w", pattern, err)
	}
	return ok, nil
}

// matchGlob walks through the pattern once, with all places of name that what
// came before can have led to: so no pattern takes long.
func matchGlob(pattern, name string) (bool, error) {
	at := make([]bool, len(name)+1)
	at[0] = true
	for pattern != "" {
		if rest, ok := strings.CutPrefix(pattern, "**"); ok {
			pattern = rest
			for i := 1; i < len(at); i++ {
				at[i] = at[i] || at[i-1]
			}
			continue
		}
		if pattern[0] == '*' {
			pattern = pattern[1:]
			for i := 1; i < len(at); i++ {
				at[i] = at[i] || at[i-1] && name[i-1] != '/'
			}
			continue
		}
		one, rest, err := cutOne(pattern)
		if err != nil {
			return false, err
		}
		next := make([]bool, len(at))
		for i, here := range at[:len(name)] {
			if !here {
				continue
			}
			_, size := utf8.DecodeRuneInString(name[i:])
			ok := one == name[i:i+size]
			if strings.ContainsAny(one[:1], `?[\`) {
				ok, _ = path.Match(one, name[i:i+size]) // cutOne has seen that it is well formed
			}
			next[i+size] = ok
		}
		at, pattern = next, rest
	}
	return at[len(name)], nil
}

// cutOne cuts what stands for one character off a pattern.
func cutOne(pattern string) (one, rest string, err error) {
	end := 0
	switch pattern[0] {
	case '\\':
		if len(pattern) > 1 {
			_, size := utf8.DecodeRuneInString(pattern[1:])
			end = 1 + size
		}
	case '[':
		for i := 2; i < len(pattern) && end == 0; i++ {
			switch {
			case pattern[i] == '\\':
				i++
			case pattern[i] == ']' && (i > 2 || pattern[1] != '^'):
				end = i + 1
			}
		}
	default:
		_, end = utf8.DecodeRuneInString(pattern)
	}
	if end == 0 {
		return "", "", path.ErrBadPattern
	}
	_, err = path.Match(pattern[:end], "x")
	return pattern[:end], pattern[end:], err
}

// An Origin is where a resource was written.
type Origin struct {
	Source string `json:"source,omitempty"`
	Group  string `json:"group,omitempty"`
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

// String returns "file:line:column", the form that editors jump to.
func (o Origin) String() string {
	if o.Line == 0 {
		return o.File
	}
	return fmt.Sprintf("%s:%d:%d", o.File, o.Line, o.Column)
}

// A FieldError is something wrong with one attribute of a resource. The loader
// adds the place.
type FieldError struct {
	// Field is the attribute's key in the manifest.
	Field string
	// Problem says what is wrong and, where there is one, the right spelling.
	Problem string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

// Wrong returns a FieldError.
func Wrong(field, format string, args ...any) error {
	return &FieldError{Field: field, Problem: fmt.Sprintf(format, args...)}
}

// Compare orders addresses by kind and then by name.
func (a Address) Compare(b Address) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}
