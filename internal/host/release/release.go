// Package release reads os-release, the file that says which operating system a
// tree holds.
package release

import (
	"errors"
	"io/fs"
	"strings"
)

// Families of operating systems that share a package manager.
const (
	Debian = "debian"
	RHEL   = "rhel"
	SUSE   = "suse"
	Arch   = "arch"
)

// A Release is what os-release says, by its keys.
type Release map[string]string

// Read returns what a tree's os-release says; nothing when there is none.
func Read(tree fs.FS) (Release, error) {
	var failed error
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		data, err := fs.ReadFile(tree, name)
		if err == nil {
			return parse(string(data)), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			failed = err
		}
	}
	return nil, failed
}

func parse(text string) Release {
	r := Release{}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && !strings.HasPrefix(key, "#") {
			r[key] = unquote(value)
		}
	}
	return r
}

// unquote takes the shell's quotes off a value.
func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		s = s[1 : len(s)-1]
	}
	return strings.NewReplacer(`\"`, `"`, `\$`, `$`, `\\`, `\`, "\\`", "`").Replace(s)
}

// Family is the family that the system belongs to, by its own name or by one
// that it says it is like; its own name when that is none of them.
func (r Release) Family() string {
	for _, name := range append([]string{r["ID"]}, strings.Fields(r["ID_LIKE"])...) {
		switch name {
		case "debian", "ubuntu":
			return Debian
		case "rhel", "fedora", "centos":
			return RHEL
		case "suse", "opensuse", "sles":
			return SUSE
		case "arch", "archlinux":
			return Arch
		}
		if strings.HasPrefix(name, "opensuse") {
			return SUSE
		}
	}
	return r["ID"]
}
