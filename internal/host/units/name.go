package units

import (
	"fmt"
	"strconv"
	"strings"
)

var suffixes = []string{
	".service", ".socket", ".timer", ".path", ".mount", ".automount", ".swap",
	".target", ".slice", ".scope", ".device",
}

const (
	nameLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\"
	maxName     = 255
)

// NameProblem says what is wrong with a unit's name, and the right spelling
// where there is one; "" for a good name.
func NameProblem(name string) string {
	if strings.HasPrefix(name, "/") {
		return fmt.Sprintf("%q is a path: the unit that mounts it is %q", name, Escape(strings.Trim(name, "/"))+".mount")
	}
	stem, suffix := cutSuffix(name)
	switch {
	case suffix == "":
		return fmt.Sprintf("%q does not say what kind of unit it is: write %q", name, escapeStem(name)+".service")
	case stem == "" || strings.HasPrefix(stem, "@"):
		return fmt.Sprintf("%q has no name before %q", name, suffix)
	case len(name) > maxName:
		return fmt.Sprintf("%.40q… is longer than %d characters", name, maxName)
	case escapeStem(stem) != stem:
		return fmt.Sprintf("%q holds characters that a unit's name cannot have: write %q", name, escapeStem(stem)+suffix)
	}
	return ""
}

// cutSuffix splits "a.service" into "a" and ".service"; the suffix is "" when
// it is none of systemd's.
func cutSuffix(name string) (stem, suffix string) {
	for _, s := range suffixes {
		if stem, ok := strings.CutSuffix(name, s); ok {
			return stem, s
		}
	}
	return name, ""
}

// splitInstance splits "x@i.service" into the template "x@.service" and the
// instance "i". ok is false for a name without an @.
func splitInstance(name string) (template, instance string, ok bool) {
	stem, suffix := cutSuffix(name)
	prefix, instance, ok := strings.Cut(stem, "@")
	if !ok {
		return "", "", false
	}
	return prefix + "@" + suffix, instance, true
}

// isTemplate reports whether the name is that of a template, "x@.service",
// which is no unit but makes many.
func isTemplate(name string) bool {
	_, instance, ok := splitInstance(name)
	return ok && instance == ""
}

// Escape makes a part of a unit's name out of any text, as systemd-escape does.
func Escape(text string) string {
	var b strings.Builder
	for i := range len(text) {
		switch c := text[i]; {
		case c == '/':
			b.WriteByte('-')
		case c == '.' && i == 0, c == '-', c == '\\', strings.IndexByte(nameLetters, c) < 0:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Unescape is the reverse of Escape.
func Unescape(part string) string {
	var b strings.Builder
	for i := 0; i < len(part); i++ {
		c := part[i]
		if c == '-' {
			c = '/'
		} else if strings.HasPrefix(part[i:], `\x`) && i+4 <= len(part) {
			if n, err := strconv.ParseUint(part[i+2:i+4], 16, 8); err == nil {
				c = byte(n)
				i += 3
			}
		}
		b.WriteByte(c)
	}
	return b.String()
}

// escapeStem escapes only what cannot stand in a name, so that a good one comes
// back as it is. What follows the first @ is the instance.
func escapeStem(stem string) string {
	var b strings.Builder
	at := false
	for i := range len(stem) {
		c := stem[i]
		switch {
		case c == '@' && !at:
			at = true
			b.WriteByte(c)
		case c == '/':
			b.WriteByte('-')
		case strings.IndexByte(nameLetters, c) < 0 && c != '@':
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// searchPath lists the directories of unit files that a package or a manifest
// may put something into, the most important first.
var searchPath = []string{
	"/etc/systemd/system",
	"/run/systemd/system",
	"/usr/local/lib/systemd/system",
	"/usr/lib/systemd/system",
	"/lib/systemd/system",
}

// ownDir is where unit files and drop-ins are written, and enablement is.
const ownDir = "/etc/systemd/system"

// fileNames lists the names of files that make up a unit: its own, and its
// template's when it is an instance.
func fileNames(name string) []string {
	names := []string{name}
	if template, instance, ok := splitInstance(name); ok && instance != "" {
		names = append(names, template)
	}
	return names
}

// dropInDirs lists the names of directories whose *.conf files are part of a
// unit: of its own name, its template's, each prefix that ends in a dash, and
// its type's.
func dropInDirs(name string) []string {
	stem, suffix := cutSuffix(name)
	var dirs []string
	for _, n := range fileNames(name) {
		dirs = append(dirs, n+".d")
	}
	prefix, _, _ := strings.Cut(stem, "@")
	for i := len(prefix) - 2; i > 0; i-- {
		if prefix[i] == '-' {
			dirs = append(dirs, prefix[:i+1]+suffix+".d")
		}
	}
	return append(dirs, strings.TrimPrefix(suffix, ".")+".d")
}
