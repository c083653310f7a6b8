package repository

import (
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/files"
	"trued.dev/trued/internal/resource"
)

// rpm is dnf or zypper, which read a section of keys for each repository.
type rpm struct {
	host      *host.Host
	directory string
	// refresh has zypper look for a newer index by itself, as the others do.
	refresh bool
}

func (rpm) keyFile(r *Resource) string { return "/etc/pki/rpm-gpg/RPM-GPG-KEY-" + r.Title }

func (m rpm) own(r *Resource) string { return path.Join(m.directory, r.Title+".repo") }

func (m rpm) files(r *Resource) []files.File {
	own := files.File{Path: m.own(r), Absent: r.absent()}
	if r.absent() {
		return []files.File{own}
	}
	own.Spec.Content = resource.Bytes([]byte(m.section(r)))
	all := []files.File{own}
	if r.fromGit() && r.Keyring != nil {
		all = append(all, files.File{Path: m.keyFile(r), Part: "key", Spec: host.FileSpec{Content: resource.Bytes(r.Keyring.armored())}})
	}
	return all
}

func (m rpm) section(r *Resource) string {
	var b strings.Builder
	key := func(name, value string) { b.WriteString(name + "=" + value + "\n") }
	b.WriteString("# kept by trued\n[" + r.Title + "]\n")
	name := r.Description
	if name == "" {
		name = r.Title
	}
	key("name", name)
	key("baseurl", strings.Join(r.URIs, "\n\t"))
	enabled := "1"
	if r.Enabled != nil && !*r.Enabled {
		enabled = "0"
	}
	key("enabled", enabled)
	if m.refresh {
		if _, given := r.Options["autorefresh"]; !given {
			key("autorefresh", "1")
		}
	}
	if r.fromGit() || r.SignedBy != "" {
		file := host.CleanPath(r.SignedBy)
		if r.fromGit() {
			file = m.keyFile(r)
		}
		if _, given := r.Options["gpgcheck"]; !given {
			key("gpgcheck", "1")
		}
		key("gpgkey", "file://"+file)
	}
	for _, option := range slices.Sorted(maps.Keys(r.Options)) {
		key(option, r.Options[option])
	}
	return b.String()
}

func (rpm) lacks(r *Resource) []lack {
	var all []lack
	for field, given := range map[string]bool{
		"types": len(r.Types) > 0, "suites": len(r.Suites) > 0, "components": len(r.Components) > 0,
		"architectures": len(r.Architectures) > 0,
	} {
		if given {
			all = append(all, lack{field, "is apt's alone: a repository of rpms is all that is at its URI"})
		}
	}
	if r.Pin != nil {
		all = append(all, lack{"pin", "is apt's alone: give `options: {priority: …}`"})
	}
	slices.SortFunc(all, func(a, b lack) int { return strings.Compare(a.field, b.field) })
	return all
}

func (m rpm) reads() ([]string, error) {
	names, err := entries(m.host, m.directory, ".repo")
	return append([]string{m.directory}, names...), err
}

// twice looks for another file with a section of that name.
func (m rpm) twice(r *Resource) ([]second, error) {
	names, err := m.reads()
	if err != nil {
		return nil, err
	}
	var found []second
	for _, name := range names[1:] { // the first is the directory
		if name == m.own(r) {
			continue
		}
		text, err := readText(m.host, name)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(text) {
			if strings.TrimSpace(line) == "["+r.Title+"]" {
				found = append(found, second{file: name})
				break
			}
		}
	}
	return found, nil
}

// readText reads a file of a package manager's; nothing where there is none.
func readText(h *host.Host, name string) (string, error) {
	data, err := h.ReadFile(name, sizeLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(data), err
}
