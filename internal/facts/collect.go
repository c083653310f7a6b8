package facts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"trued.dev/trued/internal/document"
	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/release"
)

// localDir holds the operator's own facts.
const localDir = "etc/trued/facts.d"

// Collect finds out what the host is. What cannot be known yet, such as an
// address while the network comes up, or a local fact in a file that cannot be
// read, is unknown, with the reason. Of a tree that is not the running system
// os, host.name, host.id, arch, init and local are the tree's; the rest is the
// machine's.
func Collect(ctx context.Context, h *host.Host) (Facts, error) {
	c := &collector{machine: os.DirFS("/"), tree: os.DirFS("/"), offline: h.Offline(), network: systemNetwork}
	if h.Offline() {
		root, err := os.OpenRoot(h.Root())
		if err != nil {
			return Facts{}, fmt.Errorf("cannot open root %q: %w", h.Root(), err)
		}
		defer root.Close()
		c.tree = root.FS()
	}
	f := c.collect()
	return f, ctx.Err()
}

// A collector reads facts from the files of the machine and of the tree, which
// are the same but for an offline tree.
type collector struct {
	machine, tree fs.FS
	offline       bool
	network       func() (Network, error)
	unknown       map[string]string
}

func (c *collector) collect() Facts {
	c.unknown = map[string]string{}
	f := Facts{
		OS:      c.os(),
		Kernel:  Kernel{Version: firstLine(c.machine, "proc/sys/kernel/osrelease")},
		Arch:    c.arch(),
		CPU:     CPU{Count: c.cpus()},
		Memory:  Memory{Total: c.memory()},
		Virtual: virtual(c.machine),
		Init:    c.init(),
		Local:   c.local(),
	}
	f.Host = c.host()
	var err error
	if f.Network, err = c.network(); err != nil {
		c.unknown["network.address"] = err.Error()
	}
	if len(c.unknown) > 0 {
		f.Unknown = c.unknown
	}
	return f
}

func firstLine(fsys fs.FS, name string) string {
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSpace(line)
}

func (c *collector) host() Host {
	var h Host
	if c.offline {
		h.Name = firstLine(c.tree, "etc/hostname")
	} else {
		h.Name = firstLine(c.machine, "proc/sys/kernel/hostname")
	}
	if h.Name == "" || h.Name == "(none)" {
		h.Name = ""
		c.unknown["host.name"] = "the host has no name"
		c.unknown["host.fqdn"] = "the host has no name"
	} else {
		h.FQDN = c.fqdn(h.Name)
	}
	h.ID = firstLine(c.tree, "etc/machine-id")
	if h.ID == "" || h.ID == "uninitialized" {
		h.ID = ""
		c.unknown["host.id"] = "/etc/machine-id is not set up yet"
	}
	return h
}

// fqdn finds the full name in the files that hold it. It asks no server, since
// the answer would hang on the network.
func (c *collector) fqdn(name string) string {
	if strings.Contains(name, ".") {
		return name
	}
	if data, err := fs.ReadFile(c.tree, "etc/hosts"); err == nil {
		for line := range strings.Lines(string(data)) {
			line, _, _ = strings.Cut(line, "#")
			names := strings.Fields(line)
			if len(names) < 2 || !slices.Contains(names[1:], name) {
				continue
			}
			for _, n := range names[1:] {
				if strings.HasPrefix(n, name+".") {
					return n
				}
			}
		}
	}
	if data, err := fs.ReadFile(c.tree, "etc/resolv.conf"); err == nil {
		for line := range strings.Lines(string(data)) {
			words := strings.Fields(line)
			if len(words) >= 2 && (words[0] == "domain" || words[0] == "search") && words[1] != "." {
				return name + "." + strings.TrimSuffix(words[1], ".")
			}
		}
	}
	return name
}

func (c *collector) os() OS {
	r, _ := release.Read(c.tree) // without one, none of it is known
	if r["ID"] == "" {
		for _, name := range []string{"family", "id", "version", "codename"} {
			c.unknown["os."+name] = "there is no /etc/os-release"
		}
		return OS{}
	}
	return OS{
		Family:   r.Family(),
		ID:       r["ID"],
		Version:  r["VERSION_ID"],
		Codename: r["VERSION_CODENAME"],
	}
}

// arch is Debian's name of the architecture that programs are made for, which
// may be another than the kernel's.
func (c *collector) arch() string {
	if native := firstLine(c.tree, "var/lib/dpkg/arch"); native != "" {
		return native
	}
	switch runtime.GOARCH {
	case "386":
		return "i386"
	case "arm":
		return "armhf"
	case "ppc64le":
		return "ppc64el"
	case "mips64le":
		return "mips64el"
	}
	return runtime.GOARCH
}

// cpus counts the processors that are online, whatever this process may use.
func (c *collector) cpus() int {
	count := 0
	for _, part := range strings.Split(firstLine(c.machine, "sys/devices/system/cpu/online"), ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, errA := strconv.Atoi(from)
		b, errB := strconv.Atoi(to)
		if errA != nil || errB != nil || b < a {
			return runtime.NumCPU()
		}
		count += b - a + 1
	}
	return count
}

func (c *collector) memory() int {
	data, err := fs.ReadFile(c.machine, "proc/meminfo")
	if err == nil {
		for line := range strings.Lines(string(data)) {
			words := strings.Fields(line)
			if len(words) >= 2 && words[0] == "MemTotal:" {
				if kib, err := strconv.Atoi(words[1]); err == nil {
					return kib << 10
				}
			}
		}
	}
	c.unknown["memory.total"] = "/proc/meminfo cannot be read"
	return 0
}

func (c *collector) init() string {
	if c.offline {
		target, err := fs.ReadLink(c.tree, "sbin/init")
		if err != nil {
			target, _ = fs.ReadLink(c.tree, "usr/sbin/init")
		}
		if target == "" {
			target = "init"
		}
		return path.Base(target)
	}
	if exists(c.machine, "run/systemd/system") {
		return "systemd"
	}
	if exists(c.machine, "run/openrc") {
		return "openrc"
	}
	if name := firstLine(c.machine, "proc/1/comm"); name != "" {
		return name
	}
	return "unknown"
}

func exists(fsys fs.FS, name string) bool {
	_, err := fs.Stat(fsys, name)
	return err == nil
}

// local merges the operator's files, in name order.
func (c *collector) local() map[string]any {
	all := map[string]any{}
	entries, err := fs.ReadDir(c.tree, localDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.unknown["local"] = fmt.Sprintf("cannot read /%s: %v", localDir, err)
		return nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || !strings.HasSuffix(e.Name(), ".yaml") {
			continue
		}
		name := path.Join(localDir, e.Name())
		if err := mergeFile(all, c.tree, name); err != nil {
			c.unknown["local"] = "/" + name + ":" + err.Error()
			return nil
		}
	}
	return all
}

func mergeFile(into map[string]any, fsys fs.FS, name string) error {
	info, err := fs.Stat(fsys, name)
	if err != nil || !info.Mode().IsRegular() || info.Size() > document.MaxSize {
		return errors.New(" not a readable file of a sensible size")
	}
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		return fmt.Errorf(" %w", err)
	}
	docs, problems := document.Parse(data)
	if len(problems) > 0 {
		return problems[0]
	}
	for _, doc := range docs {
		facts, ok := doc.Any().(map[string]any)
		switch {
		case ok:
			merge(into, facts)
		case doc.Kind != document.Scalar || doc.Type != document.Null:
			return doc.Problem("%s where a map is wanted", doc.What())
		}
	}
	return nil
}

func merge(into, from map[string]any) {
	for key, value := range from {
		below, isMap := value.(map[string]any)
		have, had := into[key].(map[string]any)
		if isMap && had {
			merge(have, below)
			continue
		}
		into[key] = value
	}
}

// systemNetwork lists the interfaces, and asks the kernel which address it
// would send from. Connecting a datagram socket sends nothing.
func systemNetwork() (Network, error) {
	n := Network{Interfaces: map[string]Interface{}}
	list, err := net.Interfaces()
	if err != nil {
		return n, fmt.Errorf("cannot list network interfaces: %w", err)
	}
	for _, i := range list {
		if i.Flags&net.FlagLoopback != 0 {
			continue
		}
		one := Interface{MAC: i.HardwareAddr.String(), Addresses: []string{}}
		addresses, _ := i.Addrs() // without them it has none
		for _, a := range addresses {
			if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLinkLocalUnicast() {
				one.Addresses = append(one.Addresses, ip.IP.String())
			}
		}
		slices.Sort(one.Addresses)
		// What is neither hardware nor has an address, such as one end of a
		// container's cable, comes and goes and says nothing of the host.
		if len(one.Addresses) > 0 || exists(os.DirFS("/sys/class/net"), i.Name+"/device") {
			n.Interfaces[i.Name] = one
		}
	}
	// Addresses that are set aside for documentation are on nobody's network.
	for _, to := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		conn, err := net.Dial("udp", to)
		if err != nil {
			continue
		}
		from, ok := conn.LocalAddr().(*net.UDPAddr)
		_ = conn.Close()
		if ok && !from.IP.IsLoopback() && !from.IP.IsUnspecified() {
			n.Address = from.IP.String()
			return n, nil
		}
	}
	return n, errors.New("there is no default route")
}
