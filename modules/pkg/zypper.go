package pkg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

const (
	zyppConf  = "/etc/zypp/zypp.conf"
	zyppAuto  = "/var/lib/zypp/AutoInstalled"
	zyppCache = "/var/cache/zypp/raw"
)

// zypper is rpm's database with zypper above it.
type zypper struct {
	site
	rpm rpmDatabase
}

func newZypper(h *host.Host) *zypper {
	z := &zypper{site: newSite(h)}
	z.rpm = rpmDatabase{&z.site}
	return z
}

func (z *zypper) files() []string { return append(z.rpm.files(), zypperLocks().path, zyppAuto) }

// Installed returns rpm's database with what zypper holds and what came as a
// dependency.
func (z *zypper) Installed(ctx context.Context) (*database, error) {
	return z.installed(z.files(), func() (*database, error) {
		db, err := z.rpm.read(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range db.byName["zypper"] {
			r.Vital = true
		}
		auto, err := z.h.ReadFile(zyppAuto, holdsLimit)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot read package marks: %w", err)
		}
		for line := range strings.Lines(string(auto)) {
			for _, r := range db.byName[strings.TrimSpace(line)] {
				r.Auto = true
			}
		}
		db.index()
		return db, zypperLocks().mark(z.h, db)
	})
}

// Holds reports whether a database that Installed returned is still right.
func (z *zypper) Holds(w resource.Witness) bool { return z.h.HoldsFiles(w, z.files()...) }

// Watches are rpm's database.
func (z *zypper) Watches() []resource.Watch { return z.rpm.watches() }

// Remains says what stays of a purged package.
func (z *zypper) Remains() string { return rpmRemains }

// Compare orders versions as rpm does.
func (z *zypper) Compare(a, b string) int { return compareRPM(a, b) }

// zypperConfigFiles are the paths, and globs of paths, that configure it.
func zypperConfigFiles() []string {
	return []string{
		zyppConf, "/etc/zypp/zypper.conf", "/etc/zypp/zypp.conf.d/*", "/etc/zypp/repos.d/*", "/etc/zypp/services.d/*",
		"/etc/zypp/credentials.d/*", "/etc/zypp/vars.d/*", "/etc/zypp/vendors.d/*", "/etc/pki/rpm-gpg/*", "/etc/rpm/*",
	}
}

// Configured is when the configuration of the repositories last changed.
func (z *zypper) Configured() time.Time {
	return z.newestChange([]string{zyppConf, "/etc/pki/rpm-gpg/*", "/etc/zypp/repos.d/*", "/etc/zypp/services.d/*", "/etc/zypp/credentials.d/*", "/etc/zypp/vars.d/*"})
}

// Refreshed is when the index was last fetched.
func (z *zypper) Refreshed() time.Time {
	return z.indexAge(zyppCache+"/*/repodata/repomd.xml", zyppCache+"/*", zyppCache+"/*/cookie")
}

// Ready says why nothing can be changed in a tree that is not the running system.
func (z *zypper) Ready() string { return z.ready("zypper") }

// Busy reports whether somebody changes packages right now.
func (z *zypper) Busy() bool {
	return z.rpm.busy() || z.alive("/run/zypp.pid") || z.alive("/var/run/zypp.pid")
}

// zypperLocked are the words of zypper and rpm for a lock of somebody else.
var zypperLocked = []string{"System management is locked", "can't create transaction lock"}

// What zypper ends with when it has done what it was asked for, and has more to
// say: something wants a restart, a repository was left out, a script after an
// installation failed.
var zypperDone = []int{0, 100, 101, 102, 103, 106, 107}

const zypperUnknown = 104

func (z *zypper) arguments(more ...string) []string {
	return append([]string{"zypper", "--non-interactive", "--no-refresh"}, more...)
}

// Refresh fetches the index.
func (z *zypper) Refresh(ctx context.Context) error {
	if why := z.Ready(); why != "" {
		return errors.New(why)
	}
	err := z.patiently(ctx, func() error {
		if err := z.trust(ctx); err != nil {
			return err
		}
		out, err := z.h.Run(ctx, z.command("zypper", "--non-interactive", "--quiet", "refresh"))
		if slices.Contains(zypperDone, out.ExitCode) && ctx.Err() == nil {
			err = nil
		}
		return ifLocked(err, out.Text, zypperLocked...)
	})
	if err != nil {
		return fmt.Errorf("cannot refresh package index: %w", err)
	}
	return z.markRefreshed()
}

// ask runs a zypper that changes nothing and answers in XML.
func (z *zypper) ask(ctx context.Context, env []string, more ...string) (text string, code int, err error) {
	args := z.arguments("--xmlout")
	err = z.patiently(ctx, func() error {
		c := z.quietly(append(args, more...)...)
		c.Env = append(c.Env, env...)
		out, err := z.h.Run(ctx, c)
		text, code = out.Text, out.ExitCode
		return ifLocked(err, text, zypperLocked...)
	})
	if ctx.Err() != nil {
		return "", 0, ctx.Err()
	}
	var started *host.CommandError
	if errors.As(err, &started) && code > 0 && !errors.As(err, new(*lockedError)) {
		err = nil // the code tells
	}
	return text, code, err
}

// search asks zypper about its index.
func (z *zypper) search(ctx context.Context, more ...string) (available, error) {
	text, code, err := z.ask(ctx, nil, append([]string{"search", "-s", "--match-exact", "-t", "package"}, more...)...)
	if err == nil && code != zypperUnknown && !slices.Contains(zypperDone, code) {
		err = errors.New(zypperReason(text))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read package index: %w", err)
	}
	return parseZypperSearch(text)
}

// Origins asks zypper which repositories have each version, by the names that they
// have in its configuration.
func (z *zypper) Origins(ctx context.Context, names []string) (map[string]map[string][]string, error) {
	db, err := z.Installed(ctx)
	if err != nil {
		return nil, err
	}
	found, err := z.search(ctx, append([]string{"--"}, bareNames(names)...)...)
	return found.origins(names, db.Native), err
}

// Offers asks zypper what its index has.
func (z *zypper) Offers(ctx context.Context, names []string) (map[string]offer, error) {
	db, err := z.Installed(ctx)
	if err != nil {
		return nil, err
	}
	found, err := z.search(ctx, append([]string{"--"}, bareNames(names)...)...)
	if err != nil {
		return nil, err
	}
	offers := found.offers(names, db.Native, z.priorities(), compareRPM)
	for name, o := range offers {
		if o.known() {
			continue
		}
		providers, err := z.search(ctx, "--provides", "--", name)
		if err != nil {
			return nil, err
		}
		for _, s := range providers {
			o.Providers = append(o.Providers, s.name)
		}
		slices.Sort(o.Providers)
		o.Providers = slices.Compact(o.Providers)
		offers[name] = o
	}
	return offers, nil
}

// priorities are those of the repositories, by the names that zypper tells.
func (z *zypper) priorities() map[string]int {
	return repositoryPriorities(z.h, "/etc/zypp/repos.d", func(id string, conf map[string]string) string {
		if conf["name"] != "" {
			return conf["name"]
		}
		return id
	})
}

// past is the environment in which zypper does not see the locks of the packages
// that are to move. The locks themselves stay as they are.
func (z *zypper) past(db *database, names []string) ([]string, error) {
	list := zypperLocks()
	text, err := list.text(z.h)
	if err != nil {
		return nil, err
	}
	var moved []string
	for _, name := range names {
		if r := db.find(name); r != nil && r.Held {
			moved = append(moved, r.Name)
		}
	}
	if len(moved) == 0 {
		return nil, nil
	}
	conf, err := z.h.ReadFile(zyppConf, holdsLimit)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read zypper's configuration: %w", err)
	}
	desk, err := z.run.desk()
	if err != nil {
		return nil, err
	}
	defer desk.Close()
	const locks, other = runDir + "/locks", runDir + "/zypp.conf"
	for name, content := range map[string]string{"locks": list.edit(text, nil, moved), "zypp.conf": withLocks(string(conf), locks)} {
		if err := desk.WriteFile(name, []byte(content), 0o600); err != nil {
			return nil, fmt.Errorf("cannot tell zypper of held packages: %w", err)
		}
	}
	return []string{"ZYPP_CONF=" + other}, nil
}

// withLocks is zypp.conf with another list of locks.
func withLocks(conf, locks string) string {
	var b strings.Builder
	setting := "locksfile.path = " + locks + "\n"
	there := false
	for line := range strings.Lines(conf) {
		if key, _, _ := strings.Cut(line, "="); strings.TrimSpace(key) == "locksfile.path" {
			continue
		}
		b.WriteString(line)
		if strings.TrimSpace(line) == "[main]" && !there {
			b.WriteString(setting)
			there = true
		}
	}
	if !there {
		return "[main]\n" + setting + b.String()
	}
	return b.String()
}

// verb are the arguments of a transaction. A removal alone takes along what needs
// the package, for us to see; beside an installation zypper refuses it.
func (z *zypper) verb(t transaction, more ...string) []string {
	gone := slices.Concat(t.Remove, t.Purge)
	if len(t.Install) == 0 || t.Orphans {
		args := append([]string{"remove"}, more...)
		if t.Orphans {
			args = append(args, "--clean-deps")
		}
		return append(append(args, "--"), zypperSpecs(gone)...)
	}
	args := append([]string{"install", "--auto-agree-with-licenses"}, more...)
	switch t.Recommends {
	case "true":
		args = append(args, "--recommends")
	case "false":
		args = append(args, "--no-recommends")
	}
	if t.Downgrades {
		args = append(args, "--oldpackage")
	}
	args = append(args, "--")
	for _, p := range t.Install {
		spec := zypperSpec(p.Name)
		if p.Version != "" {
			spec += "=" + p.Version
		}
		args = append(args, spec)
	}
	for _, spec := range zypperSpecs(gone) {
		args = append(args, "!"+spec)
	}
	return args
}

// zypperSpec names a package to zypper.
func zypperSpec(name string) string {
	name, arch, qualified := strings.Cut(name, ":")
	if qualified {
		name += "." + arch
	}
	return name
}

func zypperSpecs(names []string) []string {
	specs := make([]string, len(names))
	for i, name := range names {
		specs[i] = zypperSpec(name)
	}
	return specs
}

// Simulate asks zypper what a transaction would do.
func (z *zypper) Simulate(ctx context.Context, t transaction) (effect, error) {
	if len(t.names()) == 0 || t.Orphans && len(t.Remove)+len(t.Purge) == 0 {
		return effect{}, nil
	}
	db, err := z.Installed(ctx)
	if err != nil {
		return effect{}, err
	}
	env, err := z.past(db, t.names())
	if err != nil {
		return effect{}, err
	}
	text, code, err := z.ask(ctx, env, z.verb(t, "--dry-run")...)
	if err != nil {
		return effect{}, err
	}
	e, err := parseZypperPlan(text, db)
	switch {
	case code == zypperUnknown && len(t.Install) == 0 && err == nil: // what is not there need not be removed
	case !slices.Contains(zypperDone, code):
		return effect{}, &refusal{Reason: zypperReason(text)}
	case err != nil:
		return effect{}, err
	}
	return e, nil
}

// Repair does nothing: rpm leaves no package half installed.
func (z *zypper) Repair(context.Context) error { return nil }

// Commit does a transaction, and then sets the marks, also where some of it
// failed.
func (z *zypper) Commit(ctx context.Context, t transaction) error {
	var err error
	if len(t.names()) > 0 {
		err = z.move(ctx, t)
		if ctx.Err() != nil {
			return err
		}
	}
	return errors.Join(err, z.setAuto(ctx, t.Auto), z.setHolds(ctx, z, zypperLocks(), t))
}

func (z *zypper) move(ctx context.Context, t transaction) error {
	db, err := z.Installed(ctx)
	if err != nil {
		return err
	}
	env, err := z.past(db, t.names())
	if err != nil {
		return err
	}
	head := z.quiet()
	for _, variable := range env {
		head += "export " + variable + "\n"
	}
	var done strings.Builder
	for _, code := range zypperDone[1:] {
		fmt.Fprintf(&done, "%d|", code)
	}
	steps := "began=$(date +%s)\n" + step(z.arguments(z.verb(t)...)...) +
		"case $failed in " + strings.TrimSuffix(done.String(), "|") + ") failed=0 ;; esac\n" +
		rpmAnswers(t.specs(), t.NewConffiles)
	return z.patiently(ctx, func() error {
		if err := waitWhile(ctx, z.busyUntil(z)); err != nil {
			return err
		}
		out, err := z.script(ctx, head, steps)
		if err == nil || ctx.Err() != nil {
			return err
		}
		f := parseZypperFailure(out)
		f.Err = fmt.Errorf("package transaction %w: %s; its last output was:\n%s", err, zypperReason(out), lastLines(out, 20))
		f.Err = ifLocked(f.Err, out, zypperLocked...)
		return f
	})
}

// setAuto says that packages are there as dependencies. zypper has no command for
// it, and reads the list anew each time.
func (z *zypper) setAuto(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	data, err := z.h.ReadFile(zyppAuto, holdsLimit)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot read package marks: %w", err)
	}
	text := string(data)
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	for _, name := range bareNames(names) {
		text += name + "\n"
	}
	return z.h.WriteFile(ctx, zyppAuto, host.FileSpec{Content: resource.Bytes([]byte(text)), Parents: true})
}
