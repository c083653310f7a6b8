package pkg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

const (
	dnfConf    = "/etc/dnf/dnf.conf"
	dnfLockers = "/etc/dnf/plugins/versionlock.conf"
	dnfCache   = "/var/cache/dnf"
	// dnfRequest is what dnf's shell is told to do.
	dnfRequest = runDir + "/request"
)

// dnf is rpm's database with dnf 4 above it. All of a transaction goes through
// its shell, the one way of it to install and to remove in one go; the shell
// always ends with 0, so what it prints is what counts.
type dnf struct {
	site
	rpm rpmDatabase
}

func newDnf(h *host.Host) *dnf {
	d := &dnf{site: newSite(h)}
	d.rpm = rpmDatabase{&d.site}
	return d
}

// holds is the list of the plugin versionlock where it is there, which keeps a
// package at its version; else dnf's own list of what it looks away from.
func (d *dnf) holds() holdList {
	data, err := d.h.ReadFile(dnfLockers, holdsLimit)
	if err != nil {
		return configuredHolds(dnfConf, "main", ",", "excludepkgs", "exclude")
	}
	conf := iniValues(string(data), "main")
	switch strings.ToLower(conf["enabled"]) {
	case "0", "false", "no":
		return configuredHolds(dnfConf, "main", ",", "excludepkgs", "exclude")
	}
	if list := conf["locklist"]; strings.HasPrefix(list, "/") {
		return versionLocks(path.Clean(list))
	}
	return versionLocks("/etc/dnf/plugins/versionlock.list")
}

func (d *dnf) files() []string { return append(d.rpm.files(), d.holds().path) }

// Installed returns rpm's database with what dnf holds and protects.
func (d *dnf) Installed(ctx context.Context) (*database, error) {
	return d.installed(d.files(), func() (*database, error) {
		db, err := d.rpm.read(ctx)
		if err != nil {
			return nil, err
		}
		for _, name := range d.protected() {
			for _, r := range db.byName[name] {
				r.Vital = true
			}
		}
		db.index()
		return db, d.holds().mark(d.h, db)
	})
}

// protected are the packages that dnf itself refuses to remove.
func (d *dnf) protected() []string {
	var names []string
	for _, text := range filesIn(d.h, "/etc/dnf/protected.d", ".conf") {
		names = append(names, strings.Fields(text)...)
	}
	return names
}

// Holds reports whether a database that Installed returned is still right.
func (d *dnf) Holds(w resource.Witness) bool { return d.h.HoldsFiles(w, d.files()...) }

// Watches are rpm's database.
func (d *dnf) Watches() []resource.Watch { return d.rpm.watches() }

// Remains says what stays of a purged package.
func (d *dnf) Remains() string { return rpmRemains }

// Compare orders versions as rpm does.
func (d *dnf) Compare(a, b string) int { return compareRPM(a, b) }

// dnfConfigFiles are the paths, and globs of paths, that configure it.
func dnfConfigFiles() []string {
	return []string{
		dnfConf, "/etc/dnf/plugins/*", "/etc/dnf/vars/*", "/etc/yum/vars/*", "/etc/dnf/protected.d/*", "/etc/dnf/modules.d/*",
		"/etc/yum.conf", "/etc/yum.repos.d/*", "/etc/pki/rpm-gpg/*", "/etc/rpm/*",
	}
}

// Configured is when dnf's configuration last changed, but for the list of what
// is held, which says nothing of the index.
func (d *dnf) Configured() time.Time {
	return d.newestChange([]string{dnfConf, "/etc/dnf/vars/*", "/etc/yum.repos.d/*", "/etc/pki/rpm-gpg/*"})
}

// Refreshed is when the index was last fetched.
func (d *dnf) Refreshed() time.Time {
	return d.indexAge(dnfCache+"/*/repodata/repomd.xml", dnfCache+"/*/repodata/repomd.xml", dnfCache+"/last_makecache")
}

// Ready says why nothing can be changed in a tree that is not the running system,
// or by a dnf that is another program.
func (d *dnf) Ready() string {
	if target, err := os.Readlink(d.h.Path("/usr/bin/dnf")); err == nil && path.Base(target) == "dnf5" {
		return "dnf 5 cannot be driven yet: dnf 4 can"
	}
	return d.ready("dnf")
}

// Busy reports whether somebody changes packages right now.
func (d *dnf) Busy() bool { return d.rpm.busy() || d.alive("/var/lib/dnf/rpmdb_lock.pid") }

// dnfLocked are the words of dnf and rpm for a lock of somebody else.
var dnfLocked = []string{"already locked by ", "can't create transaction lock", "Failed to obtain the transaction lock"}

// arguments begin each command: the index is fetched when we say so alone, and
// nobody is waited for without a bound.
func (d *dnf) arguments(more ...string) []string {
	return append([]string{"dnf", "--setopt=*.metadata_expire=-1", "--setopt=exit_on_lock=True"}, more...)
}

// past are the arguments that let dnf see the versions of packages that it holds,
// and of no others.
func (d *dnf) past(db *database, names []string) []string {
	list := d.holds()
	text, err := list.text(d.h)
	if err != nil {
		return nil // dnf says what is wrong with it
	}
	held := list.read(text)
	moved := func(name string) bool {
		return slices.ContainsFunc(names, func(n string) bool {
			r := db.find(n)
			return r != nil && r.Held && r.Name == name
		})
	}
	if !slices.ContainsFunc(held, moved) {
		return nil
	}
	others := strings.Join(slices.DeleteFunc(held, moved), ",")
	args := []string{"--disableplugin=versionlock"}
	if list.path == dnfConf {
		args = []string{"--setopt=excludepkgs="} // anything else would be added to it
	}
	if others != "" {
		args = append(args, "--exclude="+others)
	}
	return args
}

// Refresh fetches the index.
func (d *dnf) Refresh(ctx context.Context) error {
	if why := d.Ready(); why != "" {
		return errors.New(why)
	}
	err := d.patiently(ctx, func() error {
		out, err := d.h.Run(ctx, d.command(d.arguments("-q", "makecache", "--refresh")...))
		return ifLocked(err, out.Text, dnfLocked...)
	})
	if err != nil {
		return fmt.Errorf("cannot refresh package index: %w", err)
	}
	return d.markRefreshed()
}

// query asks dnf about its index, what is held back apart.
func (d *dnf) query(ctx context.Context, db *database, names []string, format string, what ...string) (string, error) {
	args := d.arguments("-q", "-C")
	args = append(args, d.past(db, names)...)
	args = append(args, "repoquery", "--available", "--qf", format)
	var text string
	err := d.patiently(ctx, func() error {
		out, err := d.h.Run(ctx, d.quietly(append(args, what...)...))
		text = out.Text
		return ifLocked(err, errorText(err), dnfLocked...)
	})
	if err != nil {
		return "", fmt.Errorf("cannot read package index: %w", err)
	}
	return text, nil
}

// find returns all that the index has under some names.
func (d *dnf) find(ctx context.Context, db *database, names []string) (available, error) {
	text, err := d.query(ctx, db, names, "%{name}|%{epoch}|%{version}|%{release}|%{arch}|%{reponame}", bareNames(names)...)
	if err != nil {
		return nil, err
	}
	return parseRepoquery(text)
}

// Origins asks dnf which repositories have each version, by the names that they
// have in its configuration.
func (d *dnf) Origins(ctx context.Context, names []string) (map[string]map[string][]string, error) {
	db, err := d.Installed(ctx)
	if err != nil {
		return nil, err
	}
	found, err := d.find(ctx, db, names)
	return found.origins(names, db.Native), err
}

// Offers asks dnf what its index has.
func (d *dnf) Offers(ctx context.Context, names []string) (map[string]offer, error) {
	db, err := d.Installed(ctx)
	if err != nil {
		return nil, err
	}
	found, err := d.find(ctx, db, names)
	if err != nil {
		return nil, err
	}
	offers := found.offers(names, db.Native, d.priorities(), compareRPM)
	for name, o := range offers {
		if o.known() {
			continue
		}
		text, err := d.query(ctx, db, names, "%{name}", "--whatprovides", name)
		if err != nil {
			return nil, err
		}
		o.Providers = slices.Compact(slices.Sorted(slices.Values(strings.Fields(text))))
		offers[name] = o
	}
	return offers, nil
}

// priorities are those of the repositories, by their ids.
func (d *dnf) priorities() map[string]int {
	return repositoryPriorities(d.h, "/etc/yum.repos.d", func(id string, _ map[string]string) string { return id })
}

// request is a transaction in the words of dnf's shell.
func request(t transaction) string {
	var b strings.Builder
	line := func(verb string, specs []string) {
		if len(specs) > 0 {
			b.WriteString(verb + " " + strings.Join(specs, " ") + "\n")
		}
	}
	var install, remove []string
	for _, p := range t.Install {
		install = append(install, rpmSpec(p))
	}
	for _, name := range slices.Concat(t.Remove, t.Purge) {
		remove = append(remove, rpmSpec(target{Name: name}))
	}
	line("install", install)
	line("remove", remove)
	return b.String() + "run\n"
}

func (d *dnf) shell(ctx context.Context, t transaction, answer string) ([]string, error) {
	args := d.arguments(answer, fmt.Sprintf("--setopt=clean_requirements_on_remove=%t", t.Orphans))
	switch t.Recommends {
	case "true":
		args = append(args, "--setopt=install_weak_deps=True")
	case "false":
		args = append(args, "--setopt=install_weak_deps=False")
	}
	if t.MoveHeld {
		db, err := d.Installed(ctx)
		if err != nil {
			return nil, err
		}
		args = append(args, d.past(db, t.names())...)
	}
	return append(args, "shell", dnfRequest), nil
}

// Simulate asks dnf what a transaction would do.
func (d *dnf) Simulate(ctx context.Context, t transaction) (effect, error) {
	if len(t.names()) == 0 {
		return effect{}, nil
	}
	db, err := d.Installed(ctx)
	if err != nil {
		return effect{}, err
	}
	args, err := d.shell(ctx, t, "--assumeno")
	if err != nil {
		return effect{}, err
	}
	desk, err := d.run.desk()
	if err != nil {
		return effect{}, err
	}
	defer desk.Close()
	if err := desk.WriteFile(path.Base(dnfRequest), []byte(request(t)), 0o600); err != nil {
		return effect{}, fmt.Errorf("cannot write package transaction: %w", err)
	}
	var text string
	err = d.patiently(ctx, func() error {
		c := d.command(args...)
		c.Env = []string{"LC_ALL=C.UTF-8", "COLUMNS=1000"}
		out, err := d.h.Run(ctx, c)
		text = out.Text
		return ifLocked(err, text, dnfLocked...)
	})
	if ctx.Err() != nil {
		return effect{}, ctx.Err()
	}
	if err != nil {
		return effect{}, err
	}
	return parseDnfPlan(text, db)
}

// Repair does nothing: rpm leaves no package half installed.
func (d *dnf) Repair(context.Context) error { return nil }

// Commit does a transaction, and then sets the marks, also where some of it
// failed.
func (d *dnf) Commit(ctx context.Context, t transaction) error {
	args, err := d.shell(ctx, t, "-y")
	if err != nil {
		return err
	}
	if len(t.names()) > 0 {
		steps := "began=$(date +%s)\ncat >" + dnfRequest + " <<'END'\n" + request(t) + "END\n" + step(args...) +
			rpmAnswers(t.specs(), t.NewConffiles)
		err = d.patiently(ctx, func() error { return d.commit(ctx, steps) })
		if ctx.Err() != nil {
			return err
		}
	}
	return errors.Join(err, d.setHolds(ctx, d, d.holds(), t))
}

func (d *dnf) commit(ctx context.Context, steps string) error {
	if err := waitWhile(ctx, d.busyUntil(d)); err != nil {
		return err
	}
	out, err := d.script(ctx, d.quiet(), steps)
	if ctx.Err() != nil {
		return err
	}
	f := parseDnfFailure(out)
	if err == nil && f == nil {
		return nil
	}
	if f == nil {
		f = &failure{}
	}
	if err == nil {
		err = errors.New("failed")
	}
	f.Err = fmt.Errorf("package transaction %w: %s; its last output was:\n%s", err, dnfReason(out), lastLines(out, 20))
	f.Err = ifLocked(f.Err, out, dnfLocked...)
	return f
}
