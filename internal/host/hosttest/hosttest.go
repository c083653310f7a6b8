// Package hosttest boots throw-away Debian hosts for tests: systemd as PID 1
// with a D-Bus and a journal of its own, in a container of systemd-nspawn on an
// overlay that is thrown away.
//
// It needs root and the tools that Boot names. Nothing of it is in the program:
// only tests import it.
//
// A host lives as long as its test. When the test's process dies, however it
// dies, its hosts die with it; what they leave on disk and in the cgroup tree
// is cleared by the next test that boots one.
package hosttest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Options say what host to boot.
type Options struct {
	// Name is the host name, "host" by default. The hosts of one Lab that have
	// Net find each other by it.
	Name string
	// Suite is the Debian release: "bookworm" (default) or "trixie".
	Suite string
	// Net gives the host an address in the network of its Lab, from where it
	// reaches the Debian mirror and nothing else outside. Without it the host
	// has a loopback interface alone.
	Net bool
	// Packages are there from the start. They are installed once per machine,
	// into a layer that later hosts with the same list share.
	Packages []string
	// Binds lists what is mounted read-only from the machine, as SRC:DST.
	Binds []string
}

// A Lab is hosts that belong together and the network between them.
type Lab struct {
	store *store

	mu    sync.Mutex
	net   *network
	hosts []*Host
}

// Boot boots one host in a Lab of its own.
func Boot(t testing.TB, o Options) *Host {
	t.Helper()
	return New(t).Boot(t, o)
}

// New returns a Lab without hosts. The test is skipped when the machine cannot
// boot any, and fails when it runs in continuous integration (CI=true). Tests that
// are to be short boot none.
func New(t testing.TB) *Lab {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a host")
	}
	if missing := missing(); missing != "" {
		if os.Getenv("CI") == "true" {
			t.Fatalf("cannot boot a host: %s", missing)
		}
		t.Skipf("needs a booted host: %s", missing)
	}
	s, err := openStore()
	if err != nil {
		t.Fatalf("cannot open the lab's directory: %v", err)
	}
	l := &Lab{store: s}
	t.Cleanup(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.net != nil {
			l.net.close()
		}
		s.close()
	})
	return l
}

// missing says in one line what keeps this machine from booting hosts.
func missing() string {
	if os.Geteuid() != 0 {
		return "not root"
	}
	packageOf := map[string]string{
		"systemd-nspawn": "systemd-container", "mmdebstrap": "mmdebstrap",
		"ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux",
	}
	var absent []string
	for tool, pkg := range packageOf {
		if _, err := exec.LookPath(tool); err != nil {
			absent = append(absent, fmt.Sprintf("%s (package %s)", tool, pkg))
		}
	}
	slices.Sort(absent)
	if len(absent) > 0 {
		return "not installed: " + strings.Join(absent, ", ")
	}
	if _, err := cgroupRoots(); err != nil {
		return err.Error()
	}
	return ""
}

var hostName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

// Boot boots a host and waits until all of its boot jobs are done. It goes
// down when t ends.
func (l *Lab) Boot(t testing.TB, o Options) *Host {
	t.Helper()
	h, err := l.boot(o)
	if err != nil {
		t.Fatalf("cannot boot host: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("host %s when the test failed:\n%s", h.name, h.lastWords())
		}
		if err := l.throwAway(h); err != nil {
			t.Errorf("cannot clear host %s away: %v", h.name, err)
		}
	})
	return h
}

func (l *Lab) boot(o Options) (*Host, error) {
	if o.Name == "" {
		o.Name = "host"
	}
	if o.Suite == "" {
		o.Suite = "bookworm"
	}
	if !hostName.MatchString(o.Name) {
		return nil, fmt.Errorf("%q is not a host name of a-z, 0-9 and -", o.Name)
	}
	lower, err := l.store.layers(o.Suite, o.Packages)
	if err != nil {
		return nil, err
	}
	return l.bootOn(lower, o)
}

// bootOn boots a host whose disk starts as the given directories, the upmost
// first.
func (l *Lab) bootOn(lower []string, o Options) (*Host, error) {
	disk, err := l.store.newDisk()
	if err != nil {
		return nil, err
	}
	h := &Host{name: o.Name, lab: l, disk: disk, lower: lower, binds: o.Binds}
	if err := l.connect(h, o.Net); err != nil {
		return nil, errors.Join(err, disk.remove())
	}
	if err = h.furnish(); err == nil {
		err = h.powerOn()
	}
	if err != nil {
		return nil, fmt.Errorf("host %s: %w\n%s", o.Name, err, joinErr(h.console(), l.throwAway(h)))
	}
	l.tellNames()
	return h, nil
}

func joinErr(s string, err error) string {
	if err != nil {
		return s + "\n" + err.Error()
	}
	return s
}

// connect gives a host its network namespace.
func (l *Lab) connect(h *Host, wired bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, other := range l.hosts {
		if other.name == h.name {
			return fmt.Errorf("the lab has a host %q already", h.name)
		}
	}
	if wired && l.net == nil {
		n, err := newNetwork()
		if err != nil {
			return fmt.Errorf("cannot make the lab's network: %w", err)
		}
		l.net = n
	}
	var err error
	if h.port, err = l.net.plug(wired); err != nil {
		return fmt.Errorf("cannot connect host %s: %w", h.name, err)
	}
	l.hosts = append(l.hosts, h)
	return nil
}

// tellNames writes into every running host's /etc/hosts the names of all.
func (l *Lab) tellNames() {
	l.mu.Lock()
	hosts := append([]*Host(nil), l.hosts...)
	l.mu.Unlock()
	for _, h := range hosts {
		// One that is going down just now needs no names.
		_, _ = h.output(strings.NewReader(l.names(h)), "sh", "-c", "cat >/etc/hosts")
	}
}

// names is the /etc/hosts of a host.
func (l *Lab) names(h *Host) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	if h.port.ip == "" {
		fmt.Fprintf(&b, "127.0.1.1\t%s\n", h.name)
		return b.String()
	}
	fmt.Fprintf(&b, "%s\tgateway %s\n", gatewayIP, l.net.mirror.Hostname())
	for _, other := range l.hosts {
		if other.port.ip != "" {
			fmt.Fprintf(&b, "%s\t%s\n", other.port.ip, other.name)
		}
	}
	return b.String()
}

func (l *Lab) throwAway(h *Host) error {
	err := h.powerOff()
	l.mu.Lock()
	for i, other := range l.hosts {
		if other == h {
			l.hosts = append(l.hosts[:i], l.hosts[i+1:]...)
			break
		}
	}
	h.port.close()
	l.mu.Unlock()
	if err != nil {
		return err
	}
	return h.disk.remove()
}

// furnish writes what makes a disk this host's.
func (h *Host) furnish() error {
	etc := filepath.Join(h.disk.upper(), "etc")
	if err := os.MkdirAll(etc, 0o755); err != nil {
		return err
	}
	for name, content := range map[string]string{
		"hostname": h.name + "\n", "machine-id": machineID() + "\n",
		"hosts": h.lab.names(h), "resolv.conf": "",
	} {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}
