package pkg

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

const aptLists = "/var/lib/apt/lists"

// apt is dpkg's database with apt above it.
type apt struct {
	site
	missed
}

func newApt(h *host.Host) *apt { return &apt{site: newSite(h)} }

// Installed returns the database, read again only when its files moved.
func (a *apt) Installed(context.Context) (*database, error) {
	return a.installed(databaseFiles(), func() (*database, error) { return readDpkg(a.h) })
}

// databaseFiles are all files that readDpkg reads. Those that an interrupted dpkg
// leaves come and go with a change of their directory.
func databaseFiles() []string { return []string{dpkgStatus, dpkgUpdates, dpkgArch, aptStates} }

// Holds reports whether a database that Installed returned is still right.
func (a *apt) Holds(w resource.Witness) bool { return a.h.HoldsFiles(w, databaseFiles()...) }

// aptConfigFiles are the paths, and globs of paths, that configure it.
func aptConfigFiles() []string {
	return []string{
		"/etc/apt/apt.conf", "/etc/apt/apt.conf.d/*",
		"/etc/apt/auth.conf", "/etc/apt/auth.conf.d/*",
		"/etc/apt/keyrings/*", "/usr/share/keyrings/*",
		"/etc/apt/preferences", "/etc/apt/preferences.d/*",
		"/etc/apt/sources.list", "/etc/apt/sources.list.d/*",
		"/etc/apt/trusted.gpg", "/etc/apt/trusted.gpg.d/*",
	}
}

// Configured is when apt's configuration last changed.
func (a *apt) Configured() time.Time { return a.newestChange(aptConfigFiles()) }

// Refreshed is when the index was last fetched.
func (a *apt) Refreshed() time.Time {
	return a.indexAge(aptLists+"/*_*", "/var/lib/apt/periodic/update-success-stamp", aptLists)
}

// Ready says why nothing can be changed in a tree that is not the running system.
func (a *apt) Ready() string { return a.ready("apt-get") }

// Compare orders versions as dpkg does.
func (a *apt) Compare(x, y string) int { return compareDpkg(x, y) }

// Busy reports whether somebody holds dpkg's lock.
func (a *apt) Busy() bool { return a.locked(dpkgLock) }

// command returns a command of the machine, or of the tree, that asks nothing.
func (a *apt) command(args ...string) host.Command {
	c := a.site.command(args...)
	c.Env = []string{"DEBIAN_FRONTEND=noninteractive"}
	return c
}

// Refresh fetches the index.
func (a *apt) Refresh(ctx context.Context) error {
	if why := a.Ready(); why != "" {
		return errors.New(why)
	}
	err := a.patiently(ctx, func() error {
		out, err := a.h.Run(ctx, a.command("apt-get", "-q", "update"))
		a.note(out.Text)
		return ifLocked(shortened(err, out.Text), out.Text, aptLocked)
	})
	if err != nil {
		return fmt.Errorf("cannot refresh package index: %w", err)
	}
	return a.markRefreshed()
}

// Offers asks apt what its index has, with its pins taken into account.
func (a *apt) Offers(ctx context.Context, names []string) (map[string]offer, error) {
	out, err := a.h.Run(ctx, a.command(append([]string{"apt-cache", "policy", "--"}, names...)...))
	if err != nil {
		return nil, fmt.Errorf("cannot read package index: %w", err)
	}
	offers := parsePolicy(out.Text)
	for name, o := range offers {
		if o.known() {
			continue
		}
		out, err := a.h.Run(ctx, a.command("apt-cache", "showpkg", "--", name))
		if err != nil {
			return nil, fmt.Errorf("cannot read package index: %w", err)
		}
		o.Providers = parseProviders(out.Text)
		offers[name] = o
	}
	return offers, nil
}

// Simulate asks apt what a transaction would do.
func (a *apt) Simulate(ctx context.Context, t transaction) (effect, error) {
	if !t.moves() {
		return effect{}, nil
	}
	args := append([]string{"apt-get", "-s", "-q"}, installArgs(t)...)
	out, err := a.h.Run(ctx, a.command(args...))
	if ctx.Err() != nil {
		return effect{}, ctx.Err()
	}
	if err != nil && out.ExitCode == 100 {
		return effect{}, &refusal{Reason: aptReason(out.Text)}
	}
	if err != nil {
		return effect{}, err
	}
	return parseSimulation(out.Text), nil
}

// installArgs are the arguments of one apt-get that moves everything. Purged
// packages are removed by it, and lose their configuration in a second step.
func installArgs(t transaction) []string {
	answer := []string{"-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"}
	if t.NewConffiles {
		answer = []string{"-o", "Dpkg::Options::=--force-confnew"}
	}
	args := append([]string{"-y", "-o", "Dpkg::Use-Pty=0"}, answer...)
	args = append(args, "-o", fmt.Sprintf("APT::Get::AutomaticRemove=%t", t.Orphans))
	flag := func(on bool, name string) {
		if on {
			args = append(args, name)
		}
	}
	flag(t.Recommends == "true", "--install-recommends")
	flag(t.Recommends == "false", "--no-install-recommends")
	flag(t.Downgrades, "--allow-downgrades")
	flag(t.MoveHeld, "--allow-change-held-packages")
	flag(t.Reinstall, "--reinstall")
	flag(t.Fix, "--fix-broken")
	args = append(args, "install", "--")
	for _, p := range t.Install {
		switch {
		case p.File != "":
			args = append(args, p.File)
		case p.Version != "":
			args = append(args, p.Name+"="+p.Version)
		default:
			args = append(args, p.Name)
		}
	}
	for _, name := range slices.Concat(t.Remove, t.Purge) {
		args = append(args, name+"-")
	}
	return args
}

// Commit does a transaction, and then sets the marks, also where some of it
// failed.
func (a *apt) Commit(ctx context.Context, t transaction) error {
	script := a.commitScript(t)
	return a.patiently(ctx, func() error { return a.script(ctx, script) })
}

// Of its locks apt waits only for that on dpkg's database.
const aptLocked = "Could not get lock"

func (a *apt) commitScript(t transaction) string {
	var s strings.Builder
	do := func(args ...string) { s.WriteString(step(args...)) }
	wait := fmt.Sprintf("DPkg::Lock::Timeout=%d", int(a.lockWait.Seconds()))
	if t.moves() {
		args := []string{"apt-get", "-q", "-o", wait}
		if len(t.Remove)+len(t.Purge) == 0 {
			args = append(args, "--no-remove") // the index may have moved since the simulation
		}
		do(append(args, installArgs(t)...)...)
	}
	if len(t.Purge) > 0 {
		// Not after a failure: it would then remove more than was simulated.
		s.WriteString("[ $failed != 0 ] || ")
		do(append([]string{"apt-get", "-q", "-y", "-o", wait, "-o", "Dpkg::Use-Pty=0",
			"-o", "APT::Get::AutomaticRemove=false", "purge", "--"}, t.Purge...)...)
	}
	mark := func(how string, names []string) {
		if len(names) > 0 {
			do(append([]string{"apt-mark", how, "--"}, names...)...)
		}
	}
	mark("unhold", t.Unhold)
	mark("hold", t.Hold)
	mark("auto", t.Auto)
	return s.String()
}

// Repair lets dpkg configure what it has unpacked.
func (a *apt) Repair(ctx context.Context) error {
	err := waitWhile(ctx, a.busyUntil(a))
	if err != nil {
		return err
	}
	return a.script(ctx, "dpkg --force-confdef --force-confold --configure -a || failed=$?\n")
}

// End kills the transaction of an earlier run. What dpkg has noted of it is made a part
// of its database, as any change of that does: apt would refuse to go on otherwise.
func (a *apt) End(ctx context.Context) error {
	if err := a.site.End(ctx); err != nil {
		return err
	}
	_, err := a.h.Run(ctx, a.command("dpkg", "--set-selections"))
	return err
}

// script runs steps apart from the agent, with no question ever asked.
func (a *apt) script(ctx context.Context, steps string) error {
	head := "export DEBIAN_FRONTEND=noninteractive APT_LISTCHANGES_FRONTEND=none UCF_FORCE_CONFFOLD=1\n"
	if strings.Contains(steps, "--force-confnew") {
		head = strings.Replace(head, "UCF_FORCE_CONFFOLD", "UCF_FORCE_CONFFNEW", 1)
	}
	if a.h.Offline() {
		// Maintainer scripts must not start services of a tree on this machine.
		head += "policy=/usr/sbin/policy-rc.d\nif ! [ -e $policy ]; then\n" +
			"printf '#!/bin/sh\\nexit 101\\n' >$policy; chmod 755 $policy; trap 'rm -f $policy' EXIT\nfi\n"
	}
	out, err := a.site.script(ctx, head, steps)
	if err == nil || ctx.Err() != nil {
		return err
	}
	f := parseFailure(out)
	f.Err = fmt.Errorf("package transaction %w: %s; its last output was:\n%s", err, aptReason(out), lastLines(out, 20))
	f.Err = ifLocked(f.Err, out, aptLocked)
	return f
}

// Watches are dpkg's database and apt's marks. Whoever changes packages holds one
// of the locks until the end.
func (a *apt) Watches() []resource.Watch {
	locks := []string{dpkgLock, "/var/lib/dpkg/lock"}
	return []resource.Watch{
		{Space: resource.WatchDatabase, Name: dpkgStatus, Locks: locks},
		{Space: resource.WatchDatabase, Name: aptStates, Locks: locks},
	}
}
