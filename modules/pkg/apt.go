package pkg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

const (
	searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	aptLists   = "/var/lib/apt/lists"
	// Somebody else's hold of apt's locks is waited for, this long.
	defaultLockWait = 5 * time.Minute
)

// apt is dpkg's database with apt above it.
type apt struct {
	h        *host.Host
	run      runner
	lockWait time.Duration
	missed

	mu    sync.Mutex
	stamp dpkgStamp
	db    *database
}

func newApt(h *host.Host) *apt {
	return &apt{h: h, run: runner{h: h}, lockWait: defaultLockWait}
}

// Installed returns the database, read again only when its files moved.
func (a *apt) Installed(context.Context) (*database, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	stamp := readStamp(a.h)
	same := a.db != nil && a.stamp == stamp
	if same && a.db.witness != nil {
		return a.db, nil
	}
	// What was read right after a change is read once more, when a second change
	// would have left a trace.
	witness := a.h.WitnessFiles(databaseFiles()...)
	if same && witness == nil {
		return a.db, nil
	}
	db, err := readDpkg(a.h)
	if err != nil {
		return nil, err
	}
	db.witness = witness
	a.stamp, a.db = stamp, db
	return db, nil
}

// databaseFiles are all files that readDpkg reads. Those that an interrupted dpkg
// leaves come and go with a change of their directory.
func databaseFiles() []string { return []string{dpkgStatus, dpkgUpdates, dpkgArch, aptStates} }

// Holds reports whether a database that Installed returned is still right.
func (a *apt) Holds(w resource.Witness) bool { return a.h.HoldsFiles(w, databaseFiles()...) }

// ConfigFiles lists where apt and dpkg are configured.
func (a *apt) ConfigFiles() []string {
	return []string{
		"/etc/apt/apt.conf", "/etc/apt/apt.conf.d/*",
		"/etc/apt/auth.conf", "/etc/apt/auth.conf.d/*",
		"/etc/apt/keyrings/*", "/usr/share/keyrings/*",
		"/etc/apt/preferences", "/etc/apt/preferences.d/*",
		"/etc/apt/sources.list", "/etc/apt/sources.list.d/*",
		"/etc/apt/trusted.gpg", "/etc/apt/trusted.gpg.d/*",
	}
}

// Configured is the newest change of a configuration file, or of a directory of
// them, from which one may have gone.
func (a *apt) Configured() time.Time {
	var newest time.Time
	look := func(name string) {
		info, err := os.Stat(name)
		if err != nil {
			return
		}
		if t := changeOf(info); t.After(newest) {
			newest = t
		}
	}
	for _, pattern := range a.ConfigFiles() {
		names, _ := filepath.Glob(a.h.Path(pattern))
		for _, name := range names {
			look(name)
		}
		look(filepath.Dir(a.h.Path(pattern)))
	}
	return newest
}

// Refreshed is when the index was last fetched, by us as far as we know, else by
// what apt leaves behind.
func (a *apt) Refreshed() time.Time {
	lists, _ := filepath.Glob(a.h.Path(aptLists) + "/*_*")
	if len(lists) == 0 {
		return time.Time{}
	}
	var newest time.Time
	for _, name := range []string{runDir + "/refreshed", "/var/lib/apt/periodic/update-success-stamp", aptLists} {
		if info, err := os.Stat(a.h.Path(name)); err == nil && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	return newest
}

// Ready says why nothing can be changed in a tree that is not the running system.
func (a *apt) Ready() string {
	if !a.h.Offline() {
		return ""
	}
	if os.Geteuid() != 0 {
		return "packages are installed into a tree by root alone"
	}
	if _, err := os.Stat(a.h.Path("/usr/bin/apt-get")); err != nil {
		return "the tree has no apt-get to install packages with"
	}
	return ""
}

// Compare orders versions as dpkg does.
func (a *apt) Compare(x, y string) int { return compareDpkg(x, y) }

// Busy reports whether somebody holds dpkg's lock.
func (a *apt) Busy() bool {
	f, err := os.Open(a.h.Path(dpkgLock))
	if err != nil {
		return false
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	err = unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock)
	return err == nil && lock.Type != unix.F_UNLCK
}

// Attach waits for the transaction of an earlier run.
func (a *apt) Attach(ctx context.Context) error { return a.run.attach(ctx) }

// command returns a command of the machine, or of the tree.
func (a *apt) command(args ...string) host.Command {
	if a.h.Offline() {
		args = append([]string{"chroot", a.h.Root()}, args...)
	}
	return host.Command{Args: args, Env: []string{"DEBIAN_FRONTEND=noninteractive"}}
}

// Refresh fetches the index.
func (a *apt) Refresh(ctx context.Context) error {
	if why := a.Ready(); why != "" {
		return errors.New(why)
	}
	err := a.patiently(ctx, func() error {
		out, err := a.h.Run(ctx, a.command("apt-get", "-q", "update"))
		a.note(out.Text)
		return ifLocked(shortened(err, out.Text), out.Text)
	})
	if err != nil {
		return fmt.Errorf("cannot refresh package index: %w", err)
	}
	return a.markRefreshed()
}

func (a *apt) markRefreshed() error {
	desk, err := a.run.desk()
	if err != nil {
		return err
	}
	defer desk.Close()
	err = desk.WriteFile("refreshed", nil, 0o600)
	if err == nil {
		now := time.Now()
		err = desk.Chtimes("refreshed", now, now)
	}
	if err != nil {
		return fmt.Errorf("cannot note that the package index was refreshed: %w", err)
	}
	return nil
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
		if p.Version != "" {
			args = append(args, p.Name+"="+p.Version)
		} else {
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

// patiently does something again while it fails for a lock of somebody else. Of
// its locks apt waits only for that on dpkg's database.
func (a *apt) patiently(ctx context.Context, do func() error) error {
	deadline := time.Now().Add(a.lockWait)
	for {
		err := do()
		var locked *lockedError
		if !errors.As(err, &locked) || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// A lockedError is a lock that somebody else holds.
type lockedError struct{ err error }

func (e *lockedError) Error() string { return e.err.Error() }
func (e *lockedError) Unwrap() error { return e.err }

// ifLocked marks an error whose output says that a lock is held.
func ifLocked(err error, output string) error {
	if err != nil && strings.Contains(output, "Could not get lock") {
		return &lockedError{err}
	}
	return err
}

func (a *apt) commitScript(t transaction) string {
	var s strings.Builder
	step := func(args ...string) { s.WriteString(quote(args) + " || failed=$?\n") }
	wait := fmt.Sprintf("DPkg::Lock::Timeout=%d", int(a.lockWait.Seconds()))
	if t.moves() {
		args := []string{"apt-get", "-q", "-o", wait}
		if len(t.Remove)+len(t.Purge) == 0 {
			args = append(args, "--no-remove") // the index may have moved since the simulation
		}
		step(append(args, installArgs(t)...)...)
	}
	if len(t.Purge) > 0 {
		// Not after a failure: it would then remove more than was simulated.
		s.WriteString("[ $failed != 0 ] || ")
		step(append([]string{"apt-get", "-q", "-y", "-o", wait, "-o", "Dpkg::Use-Pty=0",
			"-o", "APT::Get::AutomaticRemove=false", "purge", "--"}, t.Purge...)...)
	}
	mark := func(how string, names []string) {
		if len(names) > 0 {
			step(append([]string{"apt-mark", how, "--"}, names...)...)
		}
	}
	mark("unhold", t.Unhold)
	mark("hold", t.Hold)
	mark("auto", t.Auto)
	return s.String()
}

// Repair lets dpkg configure what it has unpacked.
func (a *apt) Repair(ctx context.Context) error {
	err := waitWhile(ctx, a.busyUntil(time.Now().Add(a.lockWait)))
	if err != nil {
		return err
	}
	return a.script(ctx, "dpkg --force-confdef --force-confold --configure -a || failed=$?\n")
}

func (a *apt) busyUntil(deadline time.Time) func() (bool, error) {
	return func() (bool, error) {
		if !a.Busy() {
			return false, nil
		}
		if time.Now().After(deadline) {
			return false, errors.New("another package manager has been at work for too long")
		}
		return true, nil
	}
}

// script runs steps apart from the agent, with no question ever asked.
func (a *apt) script(ctx context.Context, steps string) error {
	head := "export " + searchPath + " HOME=/root LANG=C.UTF-8\n" +
		"export DEBIAN_FRONTEND=noninteractive APT_LISTCHANGES_FRONTEND=none UCF_FORCE_CONFFOLD=1\n" +
		"exec </dev/null\nfailed=0\n"
	if strings.Contains(steps, "--force-confnew") {
		head = strings.Replace(head, "UCF_FORCE_CONFFOLD", "UCF_FORCE_CONFFNEW", 1)
	}
	if a.h.Offline() {
		// Maintainer scripts must not start services of a tree on this machine.
		head += "policy=/usr/sbin/policy-rc.d\nif ! [ -e $policy ]; then\n" +
			"printf '#!/bin/sh\\nexit 101\\n' >$policy; chmod 755 $policy; trap 'rm -f $policy' EXIT\nfi\n"
	}
	out, err := a.run.run(ctx, head+steps+"( exit $failed )")
	if err == nil || ctx.Err() != nil {
		return err
	}
	f := parseFailure(out)
	f.Err = fmt.Errorf("package transaction %w: %s; its last output was:\n%s", err, aptReason(out), lastLines(out, 20))
	f.Err = ifLocked(f.Err, out)
	return f
}

func quote(args []string) string {
	quoted := make([]string, len(args))
	for i, arg := range args {
		quoted[i] = arg
		if strings.Trim(arg, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-._:=/") != "" {
			quoted[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

func inodeOf(info os.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}

func changeOf(info os.FileInfo) time.Time {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(st.Ctim.Unix())
	}
	return info.ModTime()
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
