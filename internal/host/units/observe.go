package units

import (
	"context"
	"os"
	"path"
	"slices"
	"strings"

	"trued.dev/trued/internal/host"
)

// observed is what systemd says about a unit.
type observed struct {
	host.UnitStatus
	// file is systemd's word for the unit's file: enabled, static, masked …;
	// that of the unit itself where the name is an alias. "" without a file.
	file string
}

func (o observed) missing() bool {
	return o.file == "" && (o.Load == "not-found" || o.Load == "template")
}

func (o observed) masked() bool {
	return strings.HasPrefix(o.file, "masked") || o.file == "" && o.Load == "masked"
}

func (o observed) active() bool {
	switch o.Active {
	case "active", "reloading", "refreshing", "activating":
		return !o.restarting()
	}
	return false
}

// restarting is true for a unit that died and that systemd will start again.
func (o observed) restarting() bool {
	return o.Active == "activating" && strings.HasPrefix(o.Sub, "auto-restart")
}

// starting is true when a start has been asked for and not yet come about.
func (o observed) starting() bool {
	return o.Active == "activating" && !o.restarting() ||
		o.Job != 0 && strings.Contains(o.JobType, "start")
}

func (o observed) stopping() bool {
	return o.Active == "deactivating" || o.Job != 0 && o.JobType == "stop"
}

// word is the state as a person would say it.
func (o observed) word() string {
	switch {
	case o.restarting():
		return "restarting after a failure"
	case o.Active == "active":
		return Running
	case o.Active == "inactive" || o.Active == "":
		return Stopped
	default:
		return o.Active
	}
}

// observe reads the unit's state: at the first Check from what is read for all
// units at once, later afresh.
func (u *Unit) observe(ctx context.Context) (observed, error) {
	if !u.batched {
		u.batched = true
		if o, ok := u.manager.batch(ctx)[u.Name]; ok {
			return o, nil
		}
	}
	return u.manager.observe(ctx, u.Name)
}

func (m *Manager) observe(ctx context.Context, name string) (observed, error) {
	o := observed{UnitStatus: host.UnitStatus{Name: name, Load: "template"}}
	if !isTemplate(name) {
		status, err := m.host.Systemd().Units(ctx, []string{name})
		if err != nil {
			return observed{}, err
		}
		o.UnitStatus = status[0]
	}
	file, err := m.host.Systemd().UnitFileStates(ctx, []string{name})
	if err != nil {
		return observed{}, err
	}
	o.file = file[0]
	return m.unalias(ctx, name, o)
}

// unalias replaces the word "alias" by the state of the file that it stands for.
func (m *Manager) unalias(ctx context.Context, name string, o observed) (observed, error) {
	if o.file != "alias" || o.Name == name {
		return o, nil
	}
	file, err := m.host.Systemd().UnitFileStates(ctx, []string{o.Name})
	if err != nil {
		return observed{}, err
	}
	o.file = file[0]
	return o, nil
}

// batch reads the state of all units of the run in two calls, once. Units that
// it cannot tell about are left out, and asked for one by one.
func (m *Manager) batch(ctx context.Context) map[string]observed {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.first != nil {
		return m.first
	}
	m.first = map[string]observed{}
	var names []string
	for _, u := range m.units {
		if _, double := m.first[u.Name]; !double && NameProblem(u.Name) == "" && !isTemplate(u.Name) {
			m.first[u.Name] = observed{}
			names = append(names, u.Name)
		}
	}
	m.first = map[string]observed{}
	if len(names) > 1 {
		m.first = m.glances(ctx, names)
	}
	return m.first
}

// glances reads what systemd says of units in two calls. Those that it cannot
// tell about are left out: aliases, and what has no file of its name.
func (m *Manager) glances(ctx context.Context, names []string) map[string]observed {
	names = slices.DeleteFunc(slices.Clone(names), isTemplate)
	all := make(map[string]observed, len(names))
	status, err := m.host.Systemd().Units(ctx, names)
	if err != nil {
		return all
	}
	files, err := m.host.Systemd().ListUnitFiles(ctx, names)
	if err != nil {
		return all
	}
	for i, name := range names {
		file, known := files[name]
		if known && file != "alias" {
			all[name] = observed{status[i], file}
		}
	}
	return all
}

// itself reports whether a unit is the one that this process runs in, or
// another of the agent's own: they are never stopped or restarted from within
// a run.
func (m *Manager) itself(name string) bool {
	if name == "trued.service" || name == "trued-boot.service" {
		return true
	}
	cgroup, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return false
	}
	for row := range strings.Lines(string(cgroup)) {
		_, dir, _ := strings.Cut(strings.TrimSpace(row), "::")
		if path.Base(dir) == name && strings.HasSuffix(name, ".service") {
			return true
		}
	}
	return false
}
