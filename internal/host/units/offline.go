package units

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"trued.dev/trued/internal/host"
)

// maskOffline puts the mask in the place of the unit file.
func (m *Manager) maskOffline(name string) error {
	at := path.Join(ownDir, name)
	target, isLink := m.link(at)
	if isLink && target == devNull {
		return nil
	}
	if _, err := m.host.Lstat(at); err == nil && !isLink {
		return fmt.Errorf("cannot mask unit %q: its file %s is in the place of the mask", name, at)
	}
	return m.putLink(at, devNull)
}

func (m *Manager) unmaskOffline(name string) error {
	at := path.Join(ownDir, name)
	if target, isLink := m.link(at); !isLink || target != devNull {
		return nil
	}
	return m.host.Remove(at)
}

// enableOffline makes or removes the links that the [Install] sections of the
// unit, and of those that it names under Also=, ask for.
func (m *Manager) enableOffline(name string, on bool) error {
	own, err := m.observeOffline(name)
	if err != nil {
		return err
	}
	if own.Load == "loaded" {
		name = own.Name
	}
	return m.eachInstall(name, map[string]bool{}, func(name string, in install) error {
		if on {
			return m.makeLinks(name, in)
		}
		return m.removeLinks(name)
	})
}

func (m *Manager) eachInstall(name string, done map[string]bool, do func(string, install) error) error {
	if done[name] {
		return nil
	}
	done[name] = true
	in, err := m.installOf(name)
	if err != nil {
		return err
	}
	if err := do(name, in); err != nil {
		return err
	}
	for _, also := range in.also {
		also, err := specifiers(also, name)
		if err != nil {
			return err
		}
		if err := m.eachInstall(also, done, do); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) makeLinks(name string, in install) error {
	file, err := m.findFile(name)
	if err != nil || file == "" {
		return err
	}
	if target, isLink := m.link(file); isLink {
		if target == devNull {
			return fmt.Errorf("cannot enable unit %q: it is masked", name)
		}
		if m.linkedFile(target) {
			file = target
		}
	}
	links, err := wantedLinks(name, file, in)
	if err != nil {
		return err
	}
	for _, at := range links {
		if err := m.putLink(at, file); err != nil {
			return err
		}
	}
	return nil
}

// wantedLinks lists the links that enable a unit.
func wantedLinks(name, file string, in install) ([]string, error) {
	instance := name
	if isTemplate(name) && in.defaultInstance != "" {
		stem, suffix := cutSuffix(name)
		instance = stem + in.defaultInstance + suffix
	}
	var links []string
	for _, alias := range in.alias {
		alias, err := specifiers(alias, name)
		if err != nil {
			return nil, err
		}
		if at := path.Join(ownDir, alias); at != file && alias != name && aliasFits(alias, path.Base(file)) {
			links = append(links, at)
		}
	}
	for i, list := range [][]string{in.wantedBy, in.requiredBy, in.upheldBy} {
		for _, by := range list {
			by, err := specifiers(by, instance)
			if err != nil {
				return nil, err
			}
			if isTemplate(name) && in.defaultInstance == "" && !isTemplate(by) {
				return nil, fmt.Errorf("cannot enable unit %q: a template without DefaultInstance= is enabled by naming an instance", name)
			}
			links = append(links, path.Join(ownDir, by+linkDirs[i], instance))
		}
	}
	return links, nil
}

// aliasFits reports whether systemd takes a name for an alias of a unit file:
// one of the same type, and a template or an instance of one only for templates.
func aliasFits(alias, file string) bool {
	_, a := cutSuffix(alias)
	_, f := cutSuffix(file)
	_, _, aliasAt := splitInstance(alias)
	_, instance, fileAt := splitInstance(file)
	return a == f && aliasAt == fileAt && (!isTemplate(alias) || instance == "")
}

// specifiers resolves the specifiers that depend on the unit's name alone.
func specifiers(text, name string) (string, error) {
	stem, _ := cutSuffix(name)
	_, instance, _ := splitInstance(name)
	prefix, _, _ := strings.Cut(stem, "@")
	last := prefix[strings.LastIndexByte(prefix, '-')+1:]
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			b.WriteByte(text[i])
			continue
		}
		i++
		letter := byte(0)
		if i < len(text) {
			letter = text[i]
		}
		switch letter {
		case '%':
			b.WriteByte('%')
		case 'n':
			b.WriteString(name)
		case 'N':
			b.WriteString(stem)
		case 'p':
			b.WriteString(prefix)
		case 'P':
			b.WriteString(Unescape(prefix))
		case 'i':
			b.WriteString(instance)
		case 'I':
			b.WriteString(Unescape(instance))
		case 'j':
			b.WriteString(last)
		case 'J':
			b.WriteString(Unescape(last))
		default:
			return "", fmt.Errorf("cannot enable unit %q: %q in its [Install] section is known only on the booted system", name, text)
		}
	}
	return b.String(), nil
}

func (m *Manager) removeLinks(name string) error {
	links, err := m.links(name, true)
	if err != nil {
		return err
	}
	var dirs []string
	for _, at := range links {
		if err := m.host.Remove(at); err != nil {
			return err
		}
		if dir := path.Dir(at); dir != ownDir && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		entries, err := m.host.ReadDir(dir)
		if err != nil || len(entries) > 0 {
			continue
		}
		if err := m.host.Remove(dir); err != nil {
			return err
		}
	}
	return nil
}

// putLink makes a link, in place of an earlier one, and its directory.
func (m *Manager) putLink(at, target string) error {
	if now, isLink := m.link(at); isLink && now == target {
		return nil
	}
	return m.host.Symlink(target, at, host.Ownership{}, true, false)
}
