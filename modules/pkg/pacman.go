package pkg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

const (
	pacmanConf  = "/etc/pacman.conf"
	pacmanLocal = "/var/lib/pacman/local"
	pacmanSync  = "/var/lib/pacman/sync"
	pacmanCache = "/var/cache/pacman/pkg"
	pacmanLock  = "/var/lib/pacman/db.lck"
)

// pacman is the package manager of Arch Linux. One pacman does one thing, so a
// transaction is a removal and then an installation. Its repositories have one
// version of a package; older ones are those that it has kept in its cache.
type pacman struct{ site }

func newPacman(h *host.Host) *pacman { return &pacman{newSite(h)} }

// holds is pacman's own list of what an upgrade of all leaves alone.
func (p *pacman) holds() holdList {
	return configuredHolds(pacmanConf, "options", " ", "IgnorePkg")
}

func (p *pacman) files() []string { return []string{pacmanLocal, pacmanConf} }

// Installed reads the directory of each package. Whatever pacman does to one
// changes the directory of all, but for a mark, which changes nothing that is
// asked for.
func (p *pacman) Installed(context.Context) (*database, error) {
	return p.installed(p.files(), func() (*database, error) {
		db, err := readAlpm(p.h)
		if err != nil {
			return nil, err
		}
		for _, name := range p.vital() {
			for _, r := range db.byName[name] {
				r.Vital = true
			}
		}
		db.index()
		return db, p.holds().mark(p.h, db)
	})
}

// vital are packages that no system of pacman's works without, and those that the
// operator wants to be asked about.
func (p *pacman) vital() []string {
	names := []string{"base", "bash", "coreutils", "filesystem", "glibc", "pacman", "systemd"}
	if data, err := p.h.ReadFile(pacmanConf, holdsLimit); err == nil {
		list := iniList{section: "options", keys: []string{"HoldPkg"}}
		names = append(names, list.read(string(data))...)
	}
	return names
}

// Holds reports whether a database that Installed returned is still right.
func (p *pacman) Holds(w resource.Witness) bool { return p.h.HoldsFiles(w, p.files()...) }

// Watches are pacman's lock, which goes when it is done, and the list of what is
// held. A watch on each package's directory would be some thousand.
func (p *pacman) Watches() []resource.Watch { return resource.WatchPaths(pacmanLock, pacmanConf) }

// Compare orders versions as pacman does.
func (p *pacman) Compare(a, b string) int { return compareAlpm(a, b) }

// pacmanConfigFiles are the paths, and globs of paths, that configure it.
func pacmanConfigFiles() []string {
	return []string{pacmanConf, "/etc/pacman.d/*", "/etc/pacman.conf.d/*", "/etc/pacman.d/gnupg/*", "/etc/pacman.d/hooks/*"}
}

// Configured is when the configuration of the repositories last changed.
func (p *pacman) Configured() time.Time {
	return p.newestChange([]string{pacmanConf, "/etc/pacman.d/*", "/etc/pacman.conf.d/*"})
}

// Refreshed is when the index was last fetched.
func (p *pacman) Refreshed() time.Time {
	return p.indexAge(pacmanSync+"/*.db", pacmanSync)
}

// Ready says why nothing can be changed in a tree that is not the running system.
func (p *pacman) Ready() string { return p.ready("pacman") }

// Busy reports whether somebody changes packages right now. A lock that nobody
// holds any more was left behind by one that was cut off.
func (p *pacman) Busy() bool { return p.lockHeld() }

// lockHeld reports whether a process has the lock's file open, as pacman has it
// as long as it works.
func (p *pacman) lockHeld() bool {
	lock, err := os.Stat(p.h.Path(pacmanLock))
	if err != nil {
		return false
	}
	open, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	return slices.ContainsFunc(open, func(name string) bool {
		info, err := os.Stat(name)
		return err == nil && os.SameFile(lock, info)
	})
}

const pacmanLocked = "unable to lock database"

// waitFor does something once nobody else holds the lock, and says so when it was
// left behind: it is not ours to remove, for whoever was cut off may have left a
// package half way.
func (p *pacman) waitFor(ctx context.Context, do func() (output string, err error)) error {
	return p.patiently(ctx, func() error {
		out, err := do()
		if err == nil || !strings.Contains(out, pacmanLocked) {
			return err
		}
		if _, there := os.Stat(p.h.Path(pacmanLock)); there == nil && !p.lockHeld() {
			return fmt.Errorf("%s was left behind by a pacman that was cut off: look at what it did, and remove it (%w)", pacmanLock, err)
		}
		return &lockedError{err}
	})
}

func (p *pacman) arguments(operation string, more ...string) []string {
	return append([]string{"pacman", operation, "--noconfirm", "--noprogressbar", "--color=never"}, more...)
}

// Refresh fetches the index.
func (p *pacman) Refresh(ctx context.Context) error {
	if why := p.Ready(); why != "" {
		return errors.New(why)
	}
	err := p.waitFor(ctx, func() (string, error) {
		out, err := p.h.Run(ctx, p.command(p.arguments("-Sy")...))
		return out.Text, err
	})
	if err != nil {
		return fmt.Errorf("cannot refresh package index: %w", err)
	}
	return p.markRefreshed()
}

// Offers asks pacman what its index has, and looks what it has kept.
func (p *pacman) Offers(ctx context.Context, names []string) (map[string]offer, error) {
	info := func(names ...string) ([]alpmInfo, error) {
		out, err := p.h.Run(ctx, p.quietly(append([]string{"pacman", "-Si", "--color=never", "--"}, names...)...))
		// It ends with an error when it does not know one of them.
		if ctx.Err() != nil || err != nil && out.ExitCode <= 0 {
			return nil, fmt.Errorf("cannot read package index: %w", err)
		}
		return parseAlpmInfo(out.Text), nil
	}
	found, err := info(names...)
	if err != nil {
		return nil, err
	}
	offers := map[string]offer{}
	var unknown []string
	kept := p.kept()
	for _, name := range names {
		var o offer
		for _, i := range found { // in the order of the repositories
			if i.name == name && !slices.Contains(o.Versions, i.version) {
				o.Versions = append(o.Versions, i.version)
			}
		}
		if len(o.Versions) > 0 {
			o.Candidate = o.Versions[0]
			o.Versions = o.Versions[:1] // that of a later repository cannot be had by its name
		} else {
			unknown = append(unknown, name)
		}
		for _, k := range kept {
			if k.name == name && !slices.Contains(o.Versions, k.version) {
				o.Versions = append(o.Versions, k.version)
			}
		}
		offers[name] = o
	}
	if len(unknown) == 0 {
		return offers, nil
	}
	all, err := info()
	if err != nil {
		return nil, err
	}
	for _, name := range unknown {
		o := offers[name]
		for _, i := range all {
			if slices.Contains(i.provides, name) {
				o.Providers = append(o.Providers, i.name)
			}
		}
		slices.Sort(o.Providers)
		o.Providers = slices.Compact(o.Providers)
		offers[name] = o
	}
	return offers, nil
}

// A keptFile is a version that pacman has in its cache.
type keptFile struct{ name, version, path string }

func (p *pacman) kept() []keptFile {
	files, _ := filepath.Glob(p.h.Path(pacmanCache) + "/*.pkg.tar*")
	var kept []keptFile
	for _, file := range files {
		base := filepath.Base(file)
		if name, version, ok := alpmFile(base); ok {
			kept = append(kept, keptFile{name, version, pacmanCache + "/" + base})
		}
	}
	slices.SortStableFunc(kept, func(a, b keptFile) int { return compareAlpm(b.version, a.version) })
	return kept
}

// sources parts what is to be installed into what comes by its name from the
// repositories, and what comes as a file from the cache.
func (p *pacman) sources(ctx context.Context, t transaction) (names, files []string, err error) {
	if len(t.Install) == 0 {
		return nil, nil, nil
	}
	var all []string
	for _, i := range t.Install {
		all = append(all, i.Name)
	}
	offers, err := p.Offers(ctx, all)
	if err != nil {
		return nil, nil, err
	}
	kept := p.kept()
	for _, i := range t.Install {
		at := slices.IndexFunc(kept, func(k keptFile) bool { return k.name == i.Name && k.version == i.Version })
		if i.Version == "" || offers[i.Name].Candidate == i.Version || at < 0 {
			names = append(names, i.Name)
		} else {
			files = append(files, kept[at].path)
		}
	}
	return names, files, nil
}

// Simulate asks pacman what it would do. It does not tell of conflicts before it
// works, and then refuses by itself what would remove anything.
func (p *pacman) Simulate(ctx context.Context, t transaction) (effect, error) {
	var e effect
	db, err := p.Installed(ctx)
	if err != nil {
		return e, err
	}
	plan := func(operation string, more ...string) ([]alpmInfo, error) {
		args := append(p.arguments(operation, "--print", "--print-format", alpmPlan), more...)
		c := p.command(args...)
		c.Env = []string{"LC_ALL=C.UTF-8"}
		out, err := p.h.Run(ctx, c)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil && out.ExitCode == 1 {
			return nil, &refusal{Reason: alpmReason(out.Text)}
		}
		return parseAlpmPlan(out.Text), err
	}
	gone := slices.DeleteFunc(slices.Concat(t.Remove, t.Purge), func(name string) bool { return db.find(name) == nil })
	if len(gone) > 0 {
		operation := "-R"
		if t.Orphans {
			operation = "-Rs"
		}
		removed, err := plan(operation, append([]string{"--"}, gone...)...)
		if err != nil {
			return e, err
		}
		for _, i := range removed {
			e.Removes = append(e.Removes, i.name)
		}
	}
	names, files, err := p.sources(ctx, t)
	if err != nil {
		return e, err
	}
	for operation, what := range map[string][]string{"-S": names, "-U": files} {
		if len(what) == 0 {
			continue
		}
		installed, err := plan(operation, append([]string{"--"}, what...)...)
		if err != nil {
			return e, err
		}
		for _, i := range installed {
			m := move{Name: i.name, To: i.version}
			if have := db.find(i.name); have != nil {
				m.From = have.Version
			}
			if m.From != m.To {
				e.Installs = append(e.Installs, m)
			}
		}
	}
	slices.Sort(e.Removes)
	return e, nil
}

// Repair does nothing: pacman has no half of a package that it could finish.
func (p *pacman) Repair(context.Context) error { return nil }

// Commit does a transaction, and then sets the marks, also where some of it
// failed.
func (p *pacman) Commit(ctx context.Context, t transaction) error {
	steps, err := p.steps(ctx, t)
	if err != nil {
		return err
	}
	if steps != "" {
		err = p.waitFor(ctx, func() (string, error) {
			if err := waitWhile(ctx, p.busyUntil(p)); err != nil {
				return "", err
			}
			out, err := p.script(ctx, p.quiet(), "began=$(date +%s)\n"+steps)
			if err == nil || ctx.Err() != nil {
				return out, err
			}
			f := parseAlpmFailure(out, t)
			f.Err = fmt.Errorf("package transaction %w: %s; its last output was:\n%s", err, alpmReason(out), lastLines(out, 20))
			return out, f
		})
		if ctx.Err() != nil {
			return err
		}
	}
	return errors.Join(err, p.setHolds(ctx, p, p.holds(), t))
}

// steps are the commands of a transaction. What is removed makes room for what
// is installed.
func (p *pacman) steps(ctx context.Context, t transaction) (string, error) {
	db, err := p.Installed(ctx)
	if err != nil {
		return "", err
	}
	names, files, err := p.sources(ctx, t)
	if err != nil {
		return "", err
	}
	var s strings.Builder
	add := func(operation string, what []string, more ...string) {
		if len(what) > 0 {
			s.WriteString(step(p.arguments(operation, append(append(more, "--"), what...)...)...))
		}
	}
	there := func(name string) bool { return db.find(name) == nil }
	add("-R", slices.DeleteFunc(slices.Clone(t.Remove), there))
	add("-Rn", slices.DeleteFunc(slices.Clone(t.Purge), there))
	if t.Reinstall {
		add("-S", names)
	} else {
		add("-S", names, "--needed")
	}
	add("-U", files)
	if len(t.Install) > 0 && t.NewConffiles {
		var installed []string
		for _, i := range t.Install {
			installed = append(installed, i.Name)
		}
		s.WriteString(answers("pacman -Qlq -- "+quote(installed)+" 2>/dev/null", "pacsave", "pacnew"))
	}
	add("-D", t.Auto, "--asdeps")
	return s.String(), nil
}
