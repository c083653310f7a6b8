package hosttest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Raise it when what goes into a base changes.
	recipe       = "1"
	basePackages = "systemd,systemd-sysv,dbus,ca-certificates,apt,iproute2,openssh-client,git,procps,curl"
	// An older base is rebuilt, so that its package index fits the mirror.
	baseAge = 14 * 24 * time.Hour
)

// What would make a boot slow, or start apt behind a test's back.
var maskedUnits = []string{
	"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer",
	"systemd-firstboot.service", "systemd-networkd-wait-online.service", "getty.target", "console-getty.service",
}

// A store is the lab's directory on this machine, shared by all test processes:
//
//	base/SUITE-RECIPE      a Debian system
//	layer/KEY              what installing some packages added to one
//	disk/NAME              one host's changes, gone with it
//	lock/…
type store struct {
	dir string
	// inUse keeps the bases and layers that this process uses from being replaced.
	inUse *os.File
}

func openStore() (*store, error) {
	dir := os.Getenv("TRUED_LAB_DIR")
	if dir == "" {
		dir = "/var/tmp/trued-lab"
	}
	s := &store{dir: dir}
	for _, sub := range []string{"base", "layer", "disk", "lock"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	var err error
	if s.inUse, err = s.lock("in-use", unix.LOCK_SH); err != nil {
		return nil, err
	}
	return s, s.clear()
}

func (s *store) close() { s.inUse.Close() }

// lock takes a lock that ends when the file is closed, or its process dies.
func (s *store) lock(name string, how int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(s.dir, "lock", name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, how); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// layers returns the directories that a host's disk starts from, the upmost
// first, and builds those that are not there yet.
func (s *store) layers(suite string, packages []string) ([]string, error) {
	base, err := s.base(suite)
	if err != nil || len(packages) == 0 {
		return []string{base}, err
	}
	packages = slices.Sorted(slices.Values(packages))
	stamp, err := os.ReadFile(base + ".built")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(string(stamp) + strings.Join(packages, " ")))
	key := filepath.Base(base) + "-" + hex.EncodeToString(sum[:6])
	layer := filepath.Join(s.dir, "layer", key)
	lock, err := s.lock("layer-"+key, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if _, err := os.Stat(layer); err == nil {
		return []string{layer, base}, nil
	}
	if err := s.buildLayer(layer, base, packages); err != nil {
		return nil, fmt.Errorf("cannot install %s for %s hosts: %w", strings.Join(packages, ", "), suite, err)
	}
	return []string{layer, base}, nil
}

// buildLayer boots a host, installs the packages and keeps what that changed.
func (s *store) buildLayer(layer, base string, packages []string) error {
	l := &Lab{store: s}
	h, err := l.bootOn([]string{base}, Options{Name: "layer", Net: true})
	if err != nil {
		return err
	}
	defer l.net.close()
	install := "apt-get -qq update && apt-get -qq -y install --no-install-recommends " + strings.Join(packages, " ") +
		" && apt-get clean"
	out, err := h.output(nil, "env", "DEBIAN_FRONTEND=noninteractive", "sh", "-ec", install)
	if err == nil {
		err = h.shutDown()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%w\n%s", err, lastLines(out, 20)), l.throwAway(h))
	}
	for _, own := range []string{"etc/hostname", "etc/hosts", "etc/machine-id", "etc/resolv.conf", "var/log/journal", "var/lib/systemd/random-seed"} {
		if err := os.RemoveAll(filepath.Join(h.disk.upper(), own)); err != nil {
			return err
		}
	}
	return errors.Join(os.Rename(h.disk.upper(), layer), l.throwAway(h))
}

// base returns the directory of a suite's base system, which it builds when
// there is none, or an old one that nobody uses.
func (s *store) base(suite string) (string, error) {
	m, err := mirror()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(recipe + basePackages + m.String() + strings.Join(maskedUnits, " ")))
	base := filepath.Join(s.dir, "base", suite+"-"+hex.EncodeToString(sum[:4]))
	lock, err := s.lock("base-"+suite, unix.LOCK_EX)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	switch built, err := os.Stat(base + ".built"); {
	case err == nil && time.Since(built.ModTime()) < baseAge:
		return base, nil
	case err == nil:
		if !s.alone() {
			return base, nil
		}
		defer func() { _ = flock(s.inUse, unix.LOCK_SH) }()
		old, _ := filepath.Glob(filepath.Join(s.dir, "layer", filepath.Base(base)+"-*"))
		for _, dir := range append(old, base+".built", base) {
			if err := os.RemoveAll(dir); err != nil {
				return "", err
			}
		}
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	if err := s.buildBase(base, suite, m.String()); err != nil {
		return "", fmt.Errorf("cannot build a base of Debian %s: %w", suite, err)
	}
	return base, nil
}

// alone reports whether nobody else uses the store, and keeps it so.
func (s *store) alone() bool {
	if flock(s.inUse, unix.LOCK_EX|unix.LOCK_NB) == nil {
		return true
	}
	_ = flock(s.inUse, unix.LOCK_SH) // the failed attempt gave it up
	return false
}

func (s *store) buildBase(base, suite, mirror string) error {
	tmp := base + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	out, err := exec.Command("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--include="+basePackages,
		"--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",
		"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-include=/usr/share/doc/*/copyright",
		`--aptopt=Acquire::Languages "none"`,
		suite, tmp, "deb "+mirror+" "+suite+" main", "deb "+mirror+" "+suite+"-updates main",
		"deb "+mirror+"-security "+suite+"-security main").CombinedOutput()
	if err != nil {
		return fmt.Errorf("mmdebstrap: %w\n%s", err, lastLines(string(out), 20))
	}
	for _, own := range []string{"etc/machine-id", "etc/hostname", "var/lib/dbus/machine-id"} {
		if err := os.RemoveAll(filepath.Join(tmp, own)); err != nil {
			return err
		}
	}
	// Else ldconfig, sysusers and the like run at every first boot.
	for _, stamp := range []string{"etc/.updated", "var/.updated"} {
		if err := os.WriteFile(filepath.Join(tmp, stamp), nil, 0o600); err != nil {
			return err
		}
	}
	for _, unit := range maskedUnits {
		if err := os.Symlink("/dev/null", filepath.Join(tmp, "etc/systemd/system", unit)); err != nil {
			return err
		}
	}
	if err := os.Rename(tmp, base); err != nil {
		return err
	}
	return os.WriteFile(base+".built", []byte(time.Now().UTC().Format(time.RFC3339Nano)+"\n"), 0o600)
}

// A disk is what one host changes.
type disk struct {
	dir  string
	lock *os.File
}

func (d *disk) upper() string { return filepath.Join(d.dir, "upper") }
func (d *disk) work() string  { return filepath.Join(d.dir, "work") }
func (d *disk) root() string  { return filepath.Join(d.dir, "root") }

// id is unique on this machine as long as the disk is there.
func (d *disk) id() string { return filepath.Base(d.dir) }

func (s *store) newDisk() (*disk, error) {
	// No clear may come between making the directory and locking it.
	all, err := s.lock("disks", unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer all.Close()
	dir, err := os.MkdirTemp(filepath.Join(s.dir, "disk"), "h")
	if err != nil {
		return nil, err
	}
	d := &disk{dir: dir}
	for _, sub := range []string{dir, d.upper(), d.work(), d.root()} {
		err = errors.Join(err, os.MkdirAll(sub, 0o755), os.Chmod(sub, 0o755))
	}
	if err != nil {
		return nil, err
	}
	d.lock, err = s.lock(d.id(), unix.LOCK_EX)
	return d, err
}

func (d *disk) remove() error {
	for _, dir := range []string{"propagate", "unix-export"} { // systemd-nspawn leaves them
		_ = os.Remove(filepath.Join("/run/systemd/nspawn", dir, cgroupName+"-"+d.id()))
	}
	err := os.RemoveAll(d.dir)
	if err != nil { // an immutable file, perhaps
		_ = exec.Command("chattr", "-Rf", "-ia", d.upper()).Run()
		err = os.RemoveAll(d.dir)
	}
	if d.lock != nil {
		err = errors.Join(err, os.Remove(d.lock.Name()))
		d.lock.Close()
	}
	return err
}

// clear removes the disks and cgroups of hosts whose process died.
func (s *store) clear() error {
	all, err := s.lock("disks", unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer all.Close()
	disks, err := os.ReadDir(filepath.Join(s.dir, "disk"))
	if err != nil {
		return err
	}
	for _, e := range disks {
		lock, err := s.lock(e.Name(), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue
		}
		if err != nil {
			return err
		}
		d := &disk{dir: filepath.Join(s.dir, "disk", e.Name()), lock: lock}
		if err := errors.Join(killCgroup(d.id()), d.remove()); err != nil {
			return err
		}
	}
	return nil
}

func machineID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
