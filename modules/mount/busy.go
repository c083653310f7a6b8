package mount

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const mostHolders = 5

// holders names who keeps a file system from being unmounted: what is mounted
// below it, and the processes that have something of it.
func (m *machine) holders(target string) string {
	var who []string
	if mounts, err := m.mounts(); err == nil {
		for _, info := range mounts {
			if strings.HasPrefix(info.Mountpoint, target+"/") {
				who = append(who, fmt.Sprintf("%s is mounted below it", info.Mountpoint))
			}
		}
	}
	processes, err := os.ReadDir(m.proc)
	if err != nil {
		return strings.Join(who, ", ")
	}
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		if how := m.holds(p.Name(), target); how != "" {
			name, _ := os.ReadFile(filepath.Join(m.proc, p.Name(), "comm"))
			who = append(who, fmt.Sprintf("%s (process %d) %s", strings.TrimSpace(string(name)), pid, how))
		}
		if len(who) == mostHolders {
			return strings.Join(who, ", ") + " …"
		}
	}
	return strings.Join(who, ", ")
}

// holds says what a process has of a file system; "" for nothing.
func (m *machine) holds(pid, target string) string {
	below := func(name string) bool { return name == target || strings.HasPrefix(name, target+"/") }
	for _, link := range []struct{ name, how string }{{"cwd", "works in"}, {"root", "has its root in"}, {"exe", "runs"}} {
		if name, err := os.Readlink(filepath.Join(m.proc, pid, link.name)); err == nil && below(name) {
			return link.how + " " + name
		}
	}
	files, _ := os.ReadDir(filepath.Join(m.proc, pid, "fd"))
	for _, f := range files {
		if name, err := os.Readlink(filepath.Join(m.proc, pid, "fd", f.Name())); err == nil && below(name) {
			return "has " + name + " open"
		}
	}
	maps, _ := os.ReadFile(filepath.Join(m.proc, pid, "maps")) //nolint:gosec // the kernel's own list
	for line := range strings.Lines(string(maps)) {
		if _, name, ok := strings.Cut(line, " /"); ok && below("/"+strings.TrimSpace(name)) {
			return "has /" + strings.TrimSpace(name) + " in its memory"
		}
	}
	return ""
}
