package pkg

import (
	"os/exec"
	"testing"
)

func TestVersionsCompareAsDpkgComparesThem(t *testing.T) {
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skip("needs dpkg to compare with")
	}
	versions := []string{
		"0", "1", "1.0", "1.0-0", "1.0-1", "1.0-1+b1", "1.0~rc1", "1.0~rc1-1", "1.0~~", "1.0~", "1.0+dfsg-1", "1.0.1",
		"1.2.3-4", "1.2.3-4+deb12u1", "1.2.3-4+deb12u10", "1.2.3-4~bpo12+1", "1.22.1-9+deb12u3", "1:0.1", "2:0~0",
		"10", "2", "2~rc1", "1.0a", "1.0Z", "1.0+", "1.0.", "20200120-3.1", "01.0", "1.a", "1.a1-b2", "1-2-3",
	}
	for _, a := range versions {
		for _, b := range versions {
			want := 0
			switch {
			case exec.Command("dpkg", "--compare-versions", a, "lt", b).Run() == nil:
				want = -1
			case exec.Command("dpkg", "--compare-versions", a, "gt", b).Run() == nil:
				want = 1
			}
			if got := sign(compareDpkg(a, b)); got != want {
				t.Errorf("%s against %s is %d, dpkg says %d", a, b, got, want)
			}
		}
	}
}

func TestConstraintTakesVersions(t *testing.T) {
	tests := []struct {
		constraint, version string
		want                bool
	}{
		{"", "1.0", true},
		{"1.22.1", "1.22.1-9+deb12u3", true},
		{"= 1.22.1", "1.22.1-9+deb12u3", true},
		{"=1.22.1", "1.22.1-9+deb12u3", true},
		{"= 1.22.1-9", "1.22.1-9+deb12u3", false},
		{"= 1.22.1-9+deb12u3", "1.22.1-9+deb12u3", true},
		{"= 1.22", "1.22.1-9", false},
		{"!= 1.22.1", "1.22.1-9", false},
		{"!= 1.22.1-8", "1.22.1-9", true},
		{"> 1.22.1", "1.22.1-9", false},
		{"> 1.22.1-8", "1.22.1-9", true},
		{">= 1.22, < 2", "1.22.1-9+deb12u3", true},
		{">= 1.22, < 2", "2.0-1", false},
		{"<= 1.22.1", "1.22.1-9", true},
		{"< 2", "2~rc1-1", true},
		{">= 2", "2~rc1-1", false},
		{">= 2~", "2~rc1-1", true},
		{">= 1.2.3-4", "1.2.3-4~bpo12+1", false},
		{">= 1.2.3", "1.2.3-4~bpo12+1", true},
		{"~> 1.22.1", "1.22.9-1", true},
		{"~> 1.22.1", "1.22.1-1", true},
		{"~> 1.22.1", "1.22.0-1", false},
		{"~> 1.22.1", "1.23.0-1", false},
		{"~> 1.22.1", "1.23~rc1-1", false},
		{"~> 1.22", "1.99-1", true},
		{"~> 1.22", "2.0~rc1-1", false},
		{"~> 1", "7-1", true},
		{"~> 1.22", "1.22", true},
		{"~> 1.022.3", "1.22.4-1", true},
		{"~> 1.22.1", "1.22-1", false},
		{"~> 1.22", "1:1.22-1", false},
		{"~> 2:1.2", "2:1.9-1", true},
		{"~> 2:1.2", "2:2.0-1", false},
		{">= 5", "1:2.0-1", true},
		{"< 5", "1:2.0-1", false},
		{"< 1:5", "1:2.0-1", true},
		{"= 1.0.1+dfsg", "1.0.1+dfsg-3", true},
		{"= 20200120", "20200120", true},
	}
	for _, tt := range tests {
		c, err := parseConstraint(tt.constraint)
		if err != nil {
			t.Errorf("parseConstraint(%q): %v", tt.constraint, err)
			continue
		}
		if got := c.holds(compareDpkg, tt.version); got != tt.want {
			t.Errorf("%q takes %s: %t, want %t", tt.constraint, tt.version, got, tt.want)
		}
	}
}

func TestConstraintIsRefused(t *testing.T) {
	for _, text := range []string{",", ">= 1,", ">", "=> 1", "== 1", ">= 1 < 2", "~> 1.2-3", "~> 1.2~rc1", "abc", ">= 1:", "1 || 2", ">= 1/2"} {
		if c, err := parseConstraint(text); err == nil {
			t.Errorf("%q was read as %+v", text, c)
		}
	}
}

func TestEpochThatTheConstraintForgotIsSaid(t *testing.T) {
	tests := []struct {
		constraint, version string
		want                bool
	}{
		{">= 1.22", "1:2.0-1", true},
		{">= 1:1.22", "1:2.0-1", false},
		{">= 1:1.22, < 3", "1:2.0-1", true},
		{">= 1.22", "2.0-1", false},
		{"", "1:2.0", false},
	}
	for _, tt := range tests {
		c, err := parseConstraint(tt.constraint)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.epochRemark(tt.version); (got != "") != tt.want {
			t.Errorf("%q with %s remarks %q", tt.constraint, tt.version, got)
		}
	}
}
