package pkg

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"

	"trued.dev/trued/internal/host"
)

// A solvable is one version of a package in one repository.
type solvable struct {
	name, version, arch, repository string
}

// available is all that an index has under some names.
type available []solvable

// offers makes offers of it. Of several repositories those with the lowest number
// come before the others, whatever versions they have.
func (a available) offers(
	names []string, native string, priorities map[string]int, compare func(a, b string) int,
) map[string]offer {
	offers := map[string]offer{}
	for _, name := range names {
		bare, arch, qualified := strings.Cut(name, ":")
		priority := func(s solvable) int { return cmp.Or(priorities[s.repository], defaultPriority) }
		var fit available
		for _, s := range a {
			matches := s.arch == "all" || s.arch == native && !qualified || qualified && s.arch == arch
			if s.name == bare && matches {
				fit = append(fit, s)
			}
		}
		slices.SortStableFunc(fit, func(x, y solvable) int {
			return cmp.Or(priority(x)-priority(y), compare(y.version, x.version))
		})
		var o offer
		for _, s := range fit {
			if priority(s) == priority(fit[0]) && !slices.Contains(o.Versions, s.version) {
				o.Versions = append(o.Versions, s.version)
			}
		}
		if len(o.Versions) > 0 {
			o.Candidate = o.Versions[0]
		}
		offers[name] = o
	}
	return offers
}

// origins are the repositories that have each version.
func (a available) origins(names []string, native string) map[string]map[string][]string {
	origins := map[string]map[string][]string{}
	for _, name := range names {
		bare, arch, qualified := strings.Cut(name, ":")
		versions := map[string][]string{}
		for _, s := range a {
			matches := s.arch == "all" || s.arch == native && !qualified || qualified && s.arch == arch
			if s.name == bare && matches && !slices.Contains(versions[s.version], s.repository) {
				versions[s.version] = append(versions[s.version], s.repository)
			}
		}
		origins[name] = versions
	}
	return origins
}

const defaultPriority = 99

// repositoryPriorities reads the priorities of rpm repositories. name picks what
// a repository is called by.
func repositoryPriorities(h *host.Host, dir string, name func(id string, conf map[string]string) string) map[string]int {
	priorities := map[string]int{}
	for _, data := range filesIn(h, dir, ".repo") {
		for _, id := range iniSections(data) {
			conf := iniValues(data, id)
			if n, err := strconv.Atoi(conf["priority"]); err == nil {
				priorities[name(id, conf)] = n
			}
		}
	}
	return priorities
}

// filesIn returns what the files of a directory hold whose names end in a suffix.
// Where one cannot be read, the manager itself says what is wrong with it.
func filesIn(h *host.Host, dir, suffix string) []string {
	entries, _ := h.ReadDir(dir)
	var all []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name, suffix) {
			continue
		}
		if data, err := h.ReadFile(path.Join(dir, e.Name), holdsLimit); err == nil {
			all = append(all, string(data))
		}
	}
	return all
}

func iniSections(text string) []string {
	var sections []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if id, ok := strings.CutPrefix(line, "["); ok {
			id, _, _ = strings.Cut(id, "]")
			sections = append(sections, id)
		}
	}
	return sections
}

// iniValues are the keys of one section.
func iniValues(text, section string) map[string]string {
	values := map[string]string{}
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "["):
			inside = line == "["+section+"]"
		case inside && line != "" && line[0] != '#' && line[0] != ';':
			key, value, _ := strings.Cut(line, "=")
			values[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return values
}
