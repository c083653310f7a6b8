package resource

import (
	"fmt"
	"path"
	"strings"
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
	return matchGlob(pattern, a.String())
}

func matchGlob(pattern, name string) (bool, error) {
	head, tail, deep := strings.Cut(pattern, "**")
	if !deep {
		return path.Match(pattern, name)
	}
	// `**` takes any text: try the rest of the pattern at each place.
	for i := 0; i <= len(name); i++ {
		ok, err := path.Match(head, name[:i])
		if err != nil {
			return false, fmt.Errorf("pattern %q: %w", pattern, err)
		}
		if !ok {
			continue
		}
		for j := i; j <= len(name); j++ {
			if ok, err := matchGlob(tail, name[j:]); ok || err != nil {
				return ok, err
			}
		}
	}
	return false, nil
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
