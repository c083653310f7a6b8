package release

import (
	"testing"
	"testing/fstest"
)

func TestFamilyIsThatOfTheDistributionItComesFrom(t *testing.T) {
	for _, c := range []struct{ id, like, want string }{
		{"debian", "", "debian"},
		{"ubuntu", "debian", "debian"},
		{"raspbian", "debian", "debian"},
		{"almalinux", "rhel centos fedora", "rhel"},
		{"fedora", "", "rhel"},
		{"opensuse-tumbleweed", "", "suse"},
		{"opensuse-leap", "suse opensuse", "suse"},
		{"sles", "suse", "suse"},
		{"arch", "", "arch"},
		{"manjaro", "arch", "arch"},
		{"alpine", "", "alpine"},
	} {
		if got := (Release{"ID": c.id, "ID_LIKE": c.like}).Family(); got != c.want {
			t.Errorf("the family of %q, like %q, is %q, want %q", c.id, c.like, got, c.want)
		}
	}
}

func TestReleaseIsReadFromEitherPlace(t *testing.T) {
	text := []byte("# a comment\nNAME=\"A \\\"B\\\"\"\nID='debian'\nbroken\n")
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		r, err := Read(fstest.MapFS{name: {Data: text}})
		if err != nil || r["ID"] != "debian" || r["NAME"] != `A "B"` || len(r) != 2 {
			t.Errorf("%s: %v, error %v", name, r, err)
		}
	}
	if r, err := Read(fstest.MapFS{}); err != nil || r.Family() != "" {
		t.Errorf("without one: %v, error %v", r, err)
	}
}
