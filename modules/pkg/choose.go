package pkg

import (
	"os"
	"slices"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/release"
)

// Kinds of package managers: the family of systems whose own it is, the program
// without which there is none, and where they are configured.
type kindOfManager struct {
	family  string
	program string
	config  func() []string
	over    func(h *host.Host) manager
}

func kindsOfManagers() []kindOfManager {
	return []kindOfManager{
		{release.Debian, "apt-get", aptConfigFiles, func(h *host.Host) manager { return newApt(h) }},
		{release.RHEL, "dnf", dnfConfigFiles, func(h *host.Host) manager { return newDnf(h) }},
		{release.SUSE, "zypper", zypperConfigFiles, func(h *host.Host) manager { return newZypper(h) }},
		{release.Arch, "pacman", pacmanConfigFiles, func(h *host.Host) manager { return newPacman(h) }},
	}
}

// choose returns the package manager of a host: that of the family that its
// os-release names, else the first that is there. A second one on a host, such
// as rpm on Debian, is a tool and no manager of the system.
func choose(h *host.Host) manager {
	kinds := kindsOfManagers()
	r, _ := release.Read(os.DirFS(h.Root())) // without one the programs tell
	family := r.Family()
	for _, k := range kinds {
		if k.family == family {
			return k.over(h)
		}
	}
	for _, k := range kinds {
		if _, err := os.Stat(h.Path("/usr/bin/" + k.program)); err == nil {
			return k.over(h)
		}
	}
	return kinds[0].over(h)
}

// allConfigFiles are where any package manager is configured: the order of a
// tree does not depend on the host that it is looked at on.
func allConfigFiles() []string {
	var files []string
	for _, k := range kindsOfManagers() {
		files = append(files, k.config()...)
	}
	slices.Sort(files)
	return slices.Compact(files)
}
