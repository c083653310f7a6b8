package facts

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"trued.dev/trued/internal/host"
)

func files(pairs ...string) fstest.MapFS {
	tree := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		tree[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1]), Mode: 0o644}
	}
	return tree
}

func noNetwork() (Network, error) { return Network{}, errors.New("there is no default route") }

func collectFrom(tree fstest.MapFS) Facts {
	c := &collector{machine: tree, tree: tree, network: noNetwork}
	return c.collect()
}

func TestFactsComeFromTheFilesThatHoldThem(t *testing.T) {
	got := collectFrom(files(
		"etc/os-release", "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n",
		"etc/machine-id", "0123456789abcdef\n",
		"etc/hosts", "127.0.0.1 localhost\n127.0.1.1 web-1.example.org web-1\n",
		"proc/sys/kernel/hostname", "web-1\n",
		"proc/sys/kernel/osrelease", "6.1.0-18-amd64\n",
		"proc/meminfo", "MemTotal:        4028416 kB\nMemFree: 1 kB\n",
		"sys/devices/system/cpu/online", "0-1,4\n",
		"run/systemd/system/x", "",
		"run/systemd/container", "systemd-nspawn\n",
		"var/lib/dpkg/arch", "amd64\ni386\n",
		"etc/trued/facts.d/10-site.yaml", "site: {name: ber, rack: 7}\nrole: web\n",
		"etc/trued/facts.d/20-more.yaml", "site: {rack: 8}\n",
	))
	want := Facts{
		Host:    Host{Name: "web-1", FQDN: "web-1.example.org", ID: "0123456789abcdef"},
		OS:      OS{Family: "debian", ID: "debian", Version: "12", Codename: "bookworm"},
		Kernel:  Kernel{Version: "6.1.0-18-amd64"},
		Arch:    "amd64",
		CPU:     CPU{Count: 3},
		Memory:  Memory{Total: 4028416 << 10},
		Virtual: "systemd-nspawn",
		Init:    "systemd",
		Local:   map[string]any{"site": map[string]any{"name": "ber", "rack": 8}, "role": "web"},
		Unknown: map[string]string{"network.address": "there is no default route"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
}

func TestWhatCannotBeKnownIsUnknownAndNotEmpty(t *testing.T) {
	got := collectFrom(files("etc/trued/facts.d/a.yaml", "a: [\n", "etc/machine-id", "uninitialized\n"))
	for _, path := range []string{"host.name", "host.fqdn", "host.id", "os.family", "memory.total", "network.address", "local"} {
		if got.Unknown[path] == "" {
			t.Errorf("%s is taken for known", path)
		}
	}
	if _, there := got.Data()["local"]; there {
		t.Error("data holds a fact that is unknown")
	}
}

func TestVirtualisationHasTheNamesOfSystemd(t *testing.T) {
	guest := "flags\t\t: fpu hypervisor\n"
	for _, c := range []struct {
		want  string
		files fstest.MapFS
	}{
		{"none", files("sys/class/dmi/id/sys_vendor", "Dell Inc.\n")},
		{"kvm", files("sys/class/dmi/id/sys_vendor", "QEMU\n", "proc/cpuinfo", guest,
			"sys/devices/system/clocksource/clocksource0/available_clocksource", "kvm-clock tsc\n")},
		{"qemu", files("sys/class/dmi/id/sys_vendor", "QEMU\n", "proc/cpuinfo", guest)},
		{"vmware", files("sys/class/dmi/id/product_name", "VMware Virtual Platform\n")},
		{"oracle", files("sys/class/dmi/id/sys_vendor", "innotek GmbH\n", "proc/cpuinfo", guest)},
		{"none", files("sys/class/dmi/id/sys_vendor", "Oracle Corporation\n")},
		{"microsoft", files("sys/class/dmi/id/product_name", "Virtual Machine\n", "proc/cpuinfo", guest)},
		{"lxc", files("proc/1/environ", "PATH=/bin\x00container=lxc\x00")},
		{"docker", files(".dockerenv", "")},
		{"vm-other", files("proc/cpuinfo", guest)},
	} {
		if got := virtual(c.files); got != c.want {
			t.Errorf("virtual = %q, want %q for %v", got, c.want, c.files)
		}
	}
}

func TestFactsSurviveJSON(t *testing.T) {
	want := Facts{
		Host:    Host{Name: "a"},
		Memory:  Memory{Total: 1 << 53},
		Network: Network{Interfaces: map[string]Interface{"eth0": {MAC: "00:11", Addresses: []string{"192.0.2.1"}}}},
		Local:   map[string]any{"n": 1, "f": 1.5, "l": []any{1, "x", nil, true}, "m": map[string]any{"k": 2}},
		Unknown: map[string]string{"os.id": "why"},
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Facts
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
}

func TestEveryFactIsUnknownInNothing(t *testing.T) {
	f := Nothing("no host")
	for _, path := range Paths() {
		if f.Unknown[path] == "" {
			t.Errorf("%s is known", path)
		}
	}
	if len(Paths()) < 15 {
		t.Errorf("only %d facts: %v", len(Paths()), Paths())
	}
}

func TestATreeHasItsOwnSystem(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"usr/lib/os-release": "ID=debian\nVERSION_ID=13\nVERSION_CODENAME=trixie\n",
		"etc/hostname":       "image\n",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// An absolute link of the tree must not lead to the machine's own file.
	if err := os.Symlink("/etc/os-release", filepath.Join(root, "etc/os-release")); err != nil {
		t.Fatal(err)
	}
	f, err := Collect(context.Background(), host.New(root, host.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	if f.OS.Codename != "trixie" || f.Host.Name != "image" {
		t.Errorf("os %+v, host %+v", f.OS, f.Host)
	}
	if f.Unknown["host.id"] == "" {
		t.Error("the tree has no machine id")
	}
}

func TestTheRunningSystemCanBeRead(t *testing.T) {
	f, err := Collect(context.Background(), host.New("/", host.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	if f.Host.Name == "" || f.Memory.Total == 0 || f.CPU.Count == 0 || f.Arch == "" || f.Kernel.Version == "" || f.Init == "" {
		t.Errorf("facts %+v", f)
	}
}
