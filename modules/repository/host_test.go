package repository

import (
	"errors"
	"io/fs"
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
	t.Run("what apt says of a second file", asAptSays)
}

// asAptSays: what is held to break apt is what breaks it, and nothing else.
func asAptSays(t *testing.T) {
	const first, place = "/etc/apt/sources.list", "https://packages.example.com/debian"
	before, err := os.ReadFile(first)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	h := host.New("/", host.Options{Backups: host.OpenBackups(t.TempDir())})
	broken := map[bool]int{}
	judge := func(own, at, text string) {
		put(t, "/", at, text)
		e, m := &resourcetest.Engine{}, New(h)
		r := filled(m, debian(Resource{Title: "middle", SignedBy: own}))
		e.Owner = func(c resource.Claim) (resource.Address, bool) {
			return resource.Address{Kind: "file", Name: at}, c == resource.Path(at)
		}
		if err := e.Converge(t.Context(), m, r); err != nil {
			t.Fatal(err)
		}
		found, err := e.Check(t.Context(), m, r)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "apt-get", "indextargets").CombinedOutput()
		breaks := strings.Contains(string(out), "Conflicting values set for option Signed-By")
		if (err != nil) != breaks || strings.Contains(found.Note, "apt reads none at all") != breaks {
			t.Errorf("the key %q, and %s is\n%s\nthe note is %q, and apt says %v, %s", own, at, text, found.Note, err, out)
		}
		broken[breaks]++
		if err := os.Remove(at); err != nil {
			t.Fatal(err)
		}
	}
	for _, own := range []string{"", "/x"} {
		for _, key := range []string{"", "/x", "/y"} {
			line, field := "", ""
			if key != "" {
				line, field = "[signed-by="+key+"]", "Signed-By: "+key+"\n"
			}
			for _, at := range []string{first, first + ".d/early.list", first + ".d/middle.list", first + ".d/old.list"} {
				judge(own, at, "deb "+line+" "+place+"/ bookworm extra\n")
			}
			for _, at := range []string{first + ".d/early.sources", first + ".d/old.sources"} {
				judge(own, at, "Types: deb\nURIs: "+place+"\nSuites: bookworm\nComponents: extra\n"+field)
			}
		}
	}
	for _, off := range []string{"no", "No", "FALSE", "off", "0", "without", "disable", "yes", "none", "disabled"} {
		judge("/x", first+".d/old.sources", "Enabled: "+off+"\nTypes: deb\nURIs: "+place+"\nSuites: bookworm\nComponents: extra\nSigned-By: /y\n")
	}
	if broken[true] == 0 || broken[false] == 0 {
		t.Errorf("of both there was %v", broken)
	}
	if before != nil {
		put(t, "/", first, string(before))
	}
	if err := os.Remove(first + ".d/middle.sources"); err != nil {
		t.Fatal(err)
	}
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
	if err := os.Remove("/etc/apt/sources.list.d/again.sources"); err != nil {
		t.Fatal(err)
	}
}
