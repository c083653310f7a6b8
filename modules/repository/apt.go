package repository

import (
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/files"
	"trued.dev/trued/internal/resource"
)

// apt reads a stanza of fields for each repository (deb822).
type apt struct{ host *host.Host }

const (
	aptSources = "/etc/apt/sources.list.d"
	aptList    = "/etc/apt/sources.list"
)

func (apt) keyFile(r *Resource) string { return "/etc/apt/keyrings/" + r.Title + ".gpg" }

func (a apt) files(r *Resource) []files.File {
	own := files.File{Path: path.Join(aptSources, r.Title+".sources"), Absent: r.absent()}
	if r.absent() {
		return []files.File{own}
	}
	own.Spec.Content = resource.Bytes([]byte(a.stanza(r)))
	all := []files.File{own}
	if r.fromGit() && r.Keyring != nil {
		all = append(all, files.File{Path: a.keyFile(r), Part: "key", Spec: host.FileSpec{Content: resource.Bytes(r.Keyring.binary)}})
	}
	if r.Pin != nil {
		all = append(all, files.File{
			Path: "/etc/apt/preferences.d/" + strings.ReplaceAll(r.Title, ".", "_") + ".pref", Part: "pin",
			Spec: host.FileSpec{Content: resource.Bytes([]byte(a.pin(r)))},
		})
	}
	return all
}

func (a apt) stanza(r *Resource) string {
	var b strings.Builder
	b.WriteString("# kept by trued\n")
	field := func(name string, words ...string) {
		if len(words) > 0 && words[0] != "" {
			b.WriteString(name + ": " + strings.Join(words, " ") + "\n")
		}
	}
	types := r.Types
	if len(types) == 0 {
		types = []string{"deb"}
	}
	field("X-Repolib-Name", r.Description)
	if r.Enabled != nil {
		field("Enabled", map[bool]string{true: "yes", false: "no"}[*r.Enabled])
	}
	field("Types", types...)
	field("URIs", r.URIs...)
	field("Suites", r.Suites...)
	field("Components", r.Components...)
	field("Architectures", r.Architectures...)
	field("Signed-By", a.signedBy(r))
	for _, key := range slices.Sorted(maps.Keys(r.Options)) {
		field(key, r.Options[key])
	}
	return b.String()
}

// signedBy is the key's path; empty for any key that apt knows.
func (a apt) signedBy(r *Resource) string {
	switch {
	case r.fromGit():
		return a.keyFile(r)
	case r.SignedBy != "":
		return host.CleanPath(r.SignedBy)
	}
	return ""
}

func (apt) pin(r *Resource) string {
	packages := r.Pin.Packages
	if len(packages) == 0 {
		packages = []string{"*"}
	}
	return fmt.Sprintf("# kept by trued\nPackage: %s\nPin: %s\nPin-Priority: %s\n",
		strings.Join(packages, " "), r.pinned(), strconv.Itoa(r.Pin.Priority))
}

// pinned is what the packages of the repository are known by.
func (r *Resource) pinned() string {
	if r.Pin.On != "" {
		return r.Pin.On
	}
	return `origin "` + server(r.URIs) + `"`
}

// server is the name of the first server; empty for what is on the host itself,
// which is what apt calls it, too.
func server(uris []string) string {
	if len(uris) == 0 {
		return ""
	}
	u, err := url.Parse(uris[0])
	if err != nil {
		return ""
	}
	return u.Hostname()
}

func (apt) lacks(r *Resource) []lack {
	if len(r.Suites) == 0 {
		return []lack{{"suites", "is missing: apt wants one, or / for a repository without"}}
	}
	for _, s := range r.Suites {
		flat := strings.HasSuffix(s, "/")
		if flat && len(r.Components) > 0 {
			return []lack{{"components", fmt.Sprintf("a suite that is a path, %q, has none", s)}}
		}
		if !flat && len(r.Components) == 0 {
			return []lack{{"components", fmt.Sprintf("is missing: apt wants one for the suite %q", s)}}
		}
	}
	return nil
}

func (a apt) reads() ([]string, error) {
	lists, err := entries(a.host, aptSources, ".list")
	if err != nil {
		return nil, err
	}
	stanzas, err := entries(a.host, aptSources, ".sources")
	return slices.Concat([]string{aptSources, aptList}, lists, stanzas), err
}

// twice looks for the repository in other files of apt's, of either form. apt
// warns of a second definition, and reads nothing at all where one has another key
// than one before it: but a key after none is one that it takes.
func (a apt) twice(r *Resource) ([]second, error) {
	own, key := path.Join(aptSources, r.Title+".sources"), a.signedBy(r)
	names, err := a.reads()
	if err != nil {
		return nil, err
	}
	var found []second
	for _, name := range names[1:] { // the first is the directory
		if name == own {
			continue
		}
		text, err := readText(a.host, name)
		if err != nil {
			return nil, err
		}
		defined := definedInList
		if path.Ext(name) == ".sources" {
			defined = definedInStanzas
		}
		all := slices.DeleteFunc(defined(text), func(d definition) bool { return !r.has(d) })
		if len(all) == 0 {
			continue
		}
		found = append(found, second{file: name, breaks: (r.Enabled == nil || *r.Enabled) &&
			slices.ContainsFunc(all, func(d definition) bool {
				if name < own { // the order that apt reads them in, with its list before all
					return d.key != "" && d.key != key
				}
				return key != "" && d.key != key
			})})
	}
	return found, nil
}

// A definition is one suite at one place, with the key that it is signed by.
type definition struct{ uri, suite, key string }

func (r *Resource) has(d definition) bool {
	return slices.Contains(r.Suites, d.suite) && slices.ContainsFunc(r.URIs, func(uri string) bool {
		return strings.TrimRight(uri, "/") == strings.TrimRight(d.uri, "/")
	})
}

// definedInList reads lines such as "deb [arch=amd64] http://… bookworm main".
func definedInList(text string) []definition {
	var all []definition
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		key := ""
		if before, after, ok := strings.Cut(line, "["); ok {
			options, after, _ := strings.Cut(after, "]")
			line = before + after
			for _, o := range strings.Fields(options) {
				if name, value, _ := strings.Cut(o, "="); strings.EqualFold(name, "signed-by") {
					key = value
				}
			}
		}
		words := strings.Fields(line)
		if len(words) >= 3 && (words[0] == "deb" || words[0] == "deb-src") {
			all = append(all, definition{words[1], words[2], key})
		}
	}
	return all
}

// definedInStanzas reads fields such as "URIs: http://…", a blank line after each
// stanza.
func definedInStanzas(text string) []definition {
	var all []definition
	for stanza := range strings.SplitSeq(text, "\n\n") {
		fields := map[string]string{}
		last := ""
		for line := range strings.Lines(stanza) {
			switch {
			case strings.HasPrefix(line, "#"):
			case strings.HasPrefix(line, " "), strings.HasPrefix(line, "\t"):
				fields[last] += " " + line
			default:
				key, value, _ := strings.Cut(line, ":")
				last = strings.ToLower(key)
				fields[last] = value
			}
		}
		if isOff(fields["enabled"]) {
			continue
		}
		for _, uri := range strings.Fields(fields["uris"]) {
			for _, suite := range strings.Fields(fields["suites"]) {
				all = append(all, definition{uri, suite, strings.TrimSpace(fields["signed-by"])})
			}
		}
	}
	return all
}

// isOff reports whether apt takes a value for a no.
func isOff(value string) bool {
	return slices.Contains([]string{"no", "false", "without", "off", "disable", "0"}, strings.ToLower(strings.TrimSpace(value)))
}
