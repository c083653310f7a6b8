package pkg

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

func TestManagerIsThatOfTheFamily(t *testing.T) {
	tests := []struct {
		release  string
		programs []string
		want     string
	}{
		{"ID=debian", []string{"apt-get", "rpm", "dnf", "zypper", "pacman"}, "*pkg.apt"},
		{"ID=ubuntu\nID_LIKE=debian", []string{"dnf"}, "*pkg.apt"},
		{"ID=almalinux\nID_LIKE=\"rhel centos fedora\"", []string{"dnf", "apt-get"}, "*pkg.dnf"},
		{"ID=sles", []string{"zypper", "dnf"}, "*pkg.zypper"},
		{"ID=opensuse-tumbleweed", nil, "*pkg.zypper"},
		{"ID=manjaro\nID_LIKE=arch", []string{"pacman"}, "*pkg.pacman"},
		{"ID=mageia", []string{"zypper", "dnf"}, "*pkg.dnf"},
		{"ID=mageia", []string{"pacman"}, "*pkg.pacman"},
		{"ID=mageia", nil, "*pkg.apt"},
		{"", []string{"zypper"}, "*pkg.zypper"},
	}
	for _, tt := range tests {
		root := t.TempDir()
		if tt.release != "" {
			write(t, root+"/etc/os-release", tt.release+"\n", 0o644)
		}
		for _, program := range tt.programs {
			write(t, root+"/usr/bin/"+program, "", 0o755)
		}
		if got := fmt.Sprintf("%T", choose(host.New(root, host.Options{}))); got != tt.want {
			t.Errorf("%q with %v chooses %s, want %s", tt.release, tt.programs, got, tt.want)
		}
	}
}

func TestManagerThatCannotBeDrivenIsPending(t *testing.T) {
	root := t.TempDir()
	write(t, root+"/etc/os-release", "ID=fedora\n", 0o644)
	write(t, root+"/usr/bin/dnf5", "", 0o755)
	if err := os.Symlink("dnf5", filepath.Join(root, "/usr/bin/dnf")); err != nil {
		t.Fatal(err)
	}
	m := New(host.New(root, host.Options{}))
	r := m.New().(*Resource)
	r.Package = "nginx"
	found, err := r.Check(t.Context(), resource.View{Offline: true})
	if err != nil || found.Pending == "" {
		t.Errorf("without a database: %+v, error %v", found, err)
	}
	if why := choose(host.New(root, host.Options{})).Ready(); why != "dnf 5 cannot be driven yet: dnf 4 can" {
		t.Errorf("dnf 5 is ready, or not for %q", why)
	}
}
