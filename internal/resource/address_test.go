package resource

import (
	"path"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAGlobStopsAtASlashUnlessItIsDouble(t *testing.T) {
	for _, c := range []struct {
		pattern string
		name    string
		want    bool
	}{
		{"file:/etc/*", "/etc/a", true},
		{"file:/etc/*", "/etc/a/b", false},
		{"file:/etc/**", "/etc/a/b", true},
		{"file:/etc/**/b", "/etc/a/b", true},
		{"file:/etc/**.conf", "/etc/a/b.conf", true},
		{"file:/etc/**/*.conf", "/etc/a/b/c.conf", true},
		{"file:/etc/**.conf", "/etc/a/b.config", false},
		{"*:/etc/a", "/etc/a", true},
		{"file:/etc/?", "/etc/ä", true},
		{"file:/etc/?", "/etc//", false},
		{"file:/etc/[ab]x", "/etc/bx", true},
		{"file:/etc/[^ab]x", "/etc/bx", false},
		{`file:/etc/\*`, "/etc/*", true},
		{`file:/etc/\*`, "/etc/a", false},
		{"file:/etc/a*b*c", "/etc/a1b2b3c", true},
	} {
		got, err := Address{Kind: "file", Name: c.name}.Match(c.pattern)
		if got != c.want || err != nil {
			t.Errorf("%q matches %q: %v, %v; want %v", c.pattern, c.name, got, err, c.want)
		}
	}
	for _, bad := range []string{"file:[", "file:[]", "file:*[a", `file:*\`} {
		if _, err := (Address{Kind: "file", Name: "x"}).Match(bad); err == nil {
			t.Errorf("%q is no error", bad)
		}
	}
}

func TestNoGlobTakesLong(t *testing.T) {
	a := Address{Kind: "file", Name: "/" + strings.Repeat("a", 2000)}
	if ok, err := a.Match("file:" + strings.Repeat("**a", 50) + "b"); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}

// FuzzMatch holds what has no `**` against path.Match.
func FuzzMatch(f *testing.F) {
	f.Add("/etc/*", "/etc/a")
	f.Add("[a-c]?", "bx")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		got, err := matchGlob(pattern, name)
		if strings.Contains(pattern, "**") || err != nil {
			return
		}
		if !utf8.ValidString(pattern + name) {
			return // path.Match finds half a character in a whole one
		}
		want, err := path.Match(pattern, name)
		if err == nil && got != want {
			t.Errorf("%q matches %q: %v, path.Match says %v", pattern, name, got, want)
		}
	})
}
