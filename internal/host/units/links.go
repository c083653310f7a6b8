package units

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"trued.dev/trued/internal/host"
)

// observeOffline reads the state of a unit from the files of a tree.
func (m *Manager) observeOffline(name string) (observed, error) {
	o := observed{UnitStatus: host.UnitStatus{Name: name, Load: "not-found"}}
	file, err := m.findFile(name)
	if err != nil || file == "" {
		return o, err
	}
	if target, isLink := m.link(file); isLink {
		if target == devNull {
			o.Load, o.file = "masked", "masked"
			return o, nil
		}
		if own := path.Base(target); own != name && own != path.Base(file) {
			o, err := m.observeOffline(ownInstance(name, own))
			return o, err
		}
	}
	o.Load = "loaded"
	o.file, err = m.fileState(name, file)
	return o, err
}

// ownInstance turns the own name of an alias' template into that of the
// instance that was asked for.
func ownInstance(asked, own string) string {
	if _, instance, ok := splitInstance(asked); ok && isTemplate(own) {
		stem, suffix := cutSuffix(own)
		return stem + instance + suffix
	}
	return own
}

// findFile returns the path of the unit's file, or its template's; "" when it
// has none.
func (m *Manager) findFile(name string) (string, error) {
	for _, n := range fileNames(name) {
		for _, dir := range searchPath {
			at := path.Join(dir, n)
			_, err := m.host.Lstat(at)
			if err == nil {
				return at, nil
			}
			if !missing(err) {
				return "", err
			}
		}
	}
	return "", nil
}

// fileState returns systemd's word for a unit that has a file.
func (m *Manager) fileState(name, file string) (string, error) {
	links, err := m.links(name, false)
	if err != nil {
		return "", err
	}
	in, err := m.installOf(name)
	switch {
	case err != nil:
		return "", err
	case len(links) > 0:
		return "enabled", nil
	case in.empty():
		return "static", nil
	case len(in.alias)+len(in.wantedBy)+len(in.requiredBy)+len(in.upheldBy) == 0:
		return "indirect", nil
	}
	if instances, err := m.links(name, true); err != nil || len(instances) > 0 {
		return "indirect", err
	}
	if target, isLink := m.link(file); isLink && m.linkedFile(target) {
		return "linked", nil
	}
	return "disabled", nil
}

func (m *Manager) enabledByLinks(name string) (enablement, error) {
	links, err := m.links(name, false)
	if len(links) > 0 {
		return enabled, err
	}
	return disabled, err
}

// installOf reads what a unit's file and its drop-ins say about enabling it.
func (m *Manager) installOf(name string) (install, error) {
	var in install
	file, err := m.findFile(name)
	if err != nil || file == "" {
		return in, err
	}
	files := []string{file}
	for _, n := range dropInDirs(name) {
		for _, dir := range searchPath {
			more, err := m.confFiles(path.Join(dir, n))
			if err != nil {
				return in, err
			}
			files = append(files, more...)
		}
	}
	for _, f := range files {
		text, err := m.host.ReadFile(f, maxText)
		if missing(err) {
			continue
		}
		if err != nil {
			return in, err
		}
		in.add(tolerant(string(text)))
	}
	return in, nil
}

// tolerant reads a foreign file as systemd does, which ignores what it does not
// understand.
func tolerant(text string) []line {
	for {
		lines, err := parse(text)
		if err == nil {
			return lines
		}
		var number int
		if _, scanErr := fmt.Sscanf(err.Error(), "line %d:", &number); scanErr != nil || number < 1 {
			return nil
		}
		rows := strings.Split(text, "\n")
		rows[number-1] = ""
		text = strings.Join(rows, "\n")
	}
}

func (m *Manager) confFiles(dir string) ([]string, error) {
	entries, err := m.host.ReadDir(dir)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name, ".conf") {
			files = append(files, path.Join(dir, e.Name))
		}
	}
	return files, nil
}

var linkDirs = []string{".wants", ".requires", ".upholds"}

// links lists the links that enable a unit. For a template they are those of
// its default instance or, with every, of all instances.
func (m *Manager) links(name string, every bool) ([]string, error) {
	entries, err := m.host.ReadDir(ownDir)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names, err := m.linkNames(name)
	if err != nil {
		return nil, err
	}
	var links []string
	for _, e := range entries {
		switch {
		case e.Info.Type() == host.TypeLink && !slices.Contains(names, e.Name) &&
			slices.Contains(names, path.Base(e.Info.Target)):
			links = append(links, path.Join(ownDir, e.Name)) // an alias
		case e.Info.Type() == host.TypeDirectory && slices.Contains(linkDirs, path.Ext(e.Name)):
			inside, err := m.host.ReadDir(path.Join(ownDir, e.Name))
			if err != nil {
				return nil, err
			}
			for _, l := range inside {
				template, _, _ := splitInstance(l.Name)
				if slices.Contains(names, l.Name) || every && isTemplate(name) && template == name {
					links = append(links, path.Join(ownDir, e.Name, l.Name))
				}
			}
		}
	}
	return links, nil
}

func (m *Manager) linkNames(name string) ([]string, error) {
	names := []string{name}
	if !isTemplate(name) {
		return names, nil
	}
	in, err := m.installOf(name)
	if in.defaultInstance != "" {
		stem, suffix := cutSuffix(name)
		names = append(names, stem+in.defaultInstance+suffix)
	}
	return names, err
}
