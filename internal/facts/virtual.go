package facts

import (
	"io/fs"
	"strings"
)

// virtual names what the machine runs in, with the words of systemd-detect-virt,
// or none.
func virtual(fsys fs.FS) string {
	if container := container(fsys); container != "" {
		return container
	}
	return hypervisor(fsys)
}

func container(fsys fs.FS) string {
	// The service manager notes here what it was started in.
	if name := firstLine(fsys, "run/systemd/container"); name != "" {
		return name
	}
	if data, err := fs.ReadFile(fsys, "proc/1/environ"); err == nil {
		for _, v := range strings.Split(string(data), "\x00") {
			if name, ok := strings.CutPrefix(v, "container="); ok && name != "" {
				return name
			}
		}
	}
	switch {
	case exists(fsys, "proc/vz") && !exists(fsys, "proc/bc"):
		return "openvz"
	case strings.Contains(firstLine(fsys, "proc/sys/kernel/osrelease"), "WSL"):
		return "wsl"
	case exists(fsys, "run/.containerenv"):
		return "podman"
	case exists(fsys, ".dockerenv"):
		return "docker"
	}
	return ""
}

func hypervisor(fsys fs.FS) string {
	vendors := []struct{ word, name string }{
		{"KVM", "kvm"},
		{"OpenStack", "kvm"},
		{"KubeVirt", "kvm"},
		{"Hetzner", "kvm"},
		{"Amazon EC2", "amazon"},
		{"VMware", "vmware"},
		{"VMW", "vmware"},
		{"innotek GmbH", "oracle"},
		{"VirtualBox", "oracle"},
		{"Oracle Corporation", "oracle"},
		{"Xen", "xen"},
		{"Bochs", "bochs"},
		{"Parallels", "parallels"},
		{"BHYVE", "bhyve"},
		{"Hyper-V", "microsoft"},
		{"Apple Virtualization", "apple"},
		{"Google Compute Engine", "google"},
	}
	isGuest := hasFlag(fsys, "hypervisor")
	kvmClock := strings.Contains(firstLine(fsys, "sys/devices/system/clocksource/clocksource0/available_clocksource"), "kvm-clock")
	for _, file := range []string{"product_name", "sys_vendor", "board_vendor", "bios_vendor", "product_version"} {
		text := firstLine(fsys, "sys/class/dmi/id/"+file)
		for _, v := range vendors {
			// Hardware of Amazon and Oracle carries their names as well.
			if strings.HasPrefix(text, v.word) && (isGuest || v.name != "amazon" && v.name != "oracle") {
				return v.name
			}
		}
		if strings.HasPrefix(text, "QEMU") {
			if kvmClock {
				return "kvm"
			}
			return "qemu"
		}
	}
	if text := firstLine(fsys, "sys/class/dmi/id/product_name"); text == "Virtual Machine" && isGuest {
		return "microsoft"
	}
	switch {
	case firstLine(fsys, "sys/hypervisor/type") == "xen":
		if data, err := fs.ReadFile(fsys, "proc/xen/capabilities"); err == nil && strings.Contains(string(data), "control_d") {
			return "none"
		}
		return "xen"
	case kvmClock:
		return "kvm"
	case isGuest:
		return "vm-other"
	}
	return "none"
}

// hasFlag reports whether the processor says that it has a feature.
func hasFlag(fsys fs.FS, flag string) bool {
	data, err := fs.ReadFile(fsys, "proc/cpuinfo")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if name, flags, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "flags" {
			return strings.Contains(flags+" ", " "+flag+" ") || strings.HasSuffix(strings.TrimSpace(flags), " "+flag)
		}
	}
	return false
}
