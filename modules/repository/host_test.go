package repository

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

// TestOnHost holds the promises on a booted host, whose own apt reads the files.
// That packages come from a repository is a story of packaging/scenario.
func TestOnHost(t *testing.T) {
	if !hosttest.Inside(t, hosttest.Options{Name: "repository"}, "") {
		return
	}
	key := newKey(t, time.Hour, 0)
	h := host.New("/", host.Options{Backups: host.OpenBackups(t.TempDir())})
	fill := debian(Resource{Key: armored(t, armorType, binary(t, key)), Fingerprint: fingerprint(key), Pin: &Pin{Priority: 990}})
	resourcetest.Run(t, resourcetest.Case{
		Module:   func() resource.Module { return New(h) },
		Resource: func(m resource.Module) resource.Resource { return filled(m, fill) },
		Dirs:     []string{"/etc/apt"},
	})
	e, m := &resourcetest.Engine{}, New(h)
	r := filled(m, fill)
	if err := e.Load(r); err != nil {
		t.Fatal(err)
	}
	if err := e.Converge(t.Context(), m, r); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("apt-get", "update", "--print-uris").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "https://packages.example.com/debian/dists/bookworm/InRelease") {
		t.Errorf("apt reads %s, error %v", out, err)
	}
	// A preference that apt cannot read is an error to it.
	if out, err := exec.Command("apt-cache", "policy", "apt").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	t.Run("a second file with another key", secondFile)
}

// secondFile: what would keep apt from reading anything is not written.
func secondFile(t *testing.T) {
	const old = "/etc/apt/sources.list.d/old.list"
	put(t, "/", old, "deb [signed-by=/etc/apt/keyrings/old.gpg] https://packages.example.com/debian/ bookworm main\n")
	h := host.New("/", host.Options{Backups: host.OpenBackups(t.TempDir())})
	e, m := &resourcetest.Engine{}, New(h)
	r := filled(m, debian(Resource{Title: "again", SignedBy: "/etc/apt/keyrings/again.gpg"}))
	reads := func() error { return exec.Command("apt-cache", "policy", "apt").Run() }
	if err := os.Remove("/etc/apt/sources.list.d/example.sources"); err != nil {
		t.Fatal(err)
	}
	var clash *ClashError
	if err := e.Converge(t.Context(), m, r); !errors.As(err, &clash) || clash.File != old {
		t.Errorf("returned %v", err)
	}
	if err := reads(); err != nil {
		t.Errorf("apt reads nothing: %v", err)
	}
	e.Owner = func(c resource.Claim) (resource.Address, bool) {
		return resource.Address{Kind: "file", Name: old}, c == resource.Path(old)
	}
	if err := e.Converge(t.Context(), m, r); err != nil {
		t.Fatal(err)
	}
	if reads() == nil {
		t.Error("apt reads both")
	}
	if err := os.Remove(old); err != nil {
		t.Fatal(err)
	}
	if err := reads(); err != nil {
		t.Errorf("apt reads nothing: %v", err)
	}
}
