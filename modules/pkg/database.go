package pkg

import (
	"sort"
	"strings"

	"trued.dev/trued/internal/resource"
)

// A database is what is installed on a host.
type database struct {
	// Native is the architecture that a name without one means.
	Native string
	// Interrupted is true when a transaction was cut off and must be repaired
	// before another.
	Interrupted bool
	// witness stands for the files that it was read from; nil when they were
	// changed just now.
	witness resource.Witness

	byName    map[string][]*record
	providers map[string][]*record
}

func newDatabase() *database {
	return &database{byName: map[string][]*record{}, providers: map[string][]*record{}}
}

// put adds a record, in place of an earlier one of the same package.
func (d *database) put(r *record) {
	for i, old := range d.byName[r.Name] {
		if old.Arch == r.Arch {
			d.byName[r.Name][i] = r
			return
		}
	}
	d.byName[r.Name] = append(d.byName[r.Name], r)
}

// index makes the provided names findable; it is called when all is put.
func (d *database) index() {
	for _, records := range d.byName {
		for _, r := range records {
			if r.Status != installed {
				continue
			}
			for _, p := range r.Provides {
				d.providers[p.Name] = append(d.providers[p.Name], r)
			}
		}
	}
}

// find returns the package that a name, or a name with an architecture, means;
// nil when the database knows nothing of it.
func (d *database) find(name string) *record {
	name, arch, qualified := strings.Cut(name, ":")
	var gone *record
	for _, r := range d.byName[name] {
		match := r.Arch == d.Native || r.Arch == "all" || r.Arch == ""
		if qualified {
			match = r.Arch == arch || (arch == d.Native && r.Arch == "all")
		}
		switch {
		case !match:
		case r.Status != notInstalled:
			return r
		default:
			gone = r
		}
	}
	return gone
}

// provider returns an installed package that provides a name at a version that
// ok accepts; nil when there is none.
func (d *database) provider(name string, ok func(version string) bool) *record {
	var found *record
	for _, r := range d.providers[name] {
		if r.Arch != d.Native && r.Arch != "all" {
			continue
		}
		for _, p := range r.Provides {
			if p.Name == name && ok(p.Version) && (found == nil || r.Name < found.Name) {
				found = r
			}
		}
	}
	return found
}

// broken lists the packages that a transaction stopped half way through.
func (d *database) broken() []string {
	var names []string
	for _, records := range d.byName {
		for _, r := range records {
			if r.Status.broken() {
				names = append(names, d.spell(r))
			}
		}
	}
	sort.Strings(names)
	return names
}

// spell returns the name that find finds a record by.
func (d *database) spell(r *record) string {
	if r.Arch == d.Native || r.Arch == "all" || r.Arch == "" {
		return r.Name
	}
	return r.Name + ":" + r.Arch
}
