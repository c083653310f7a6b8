package pkg

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPolicyIsRead(t *testing.T) {
	got := parsePolicy(`nginx:
  Installed: (none)
  Candidate: 1.22.1-9+deb12u3
  Version table:
     1.22.1-9+deb12u3 500
        500 http://deb.debian.org/debian bookworm/main amd64 Packages
        500 http://deb.debian.org/debian-security bookworm-security/main amd64 Packages
     1.18.0-6.1 100
        100 http://deb.debian.org/debian bullseye/main amd64 Packages
libc6:i386:
  Installed: 2.36-9
  Candidate: 2.36-9
  Version table:
 *** 2.36-9 500
        500 http://deb.debian.org/debian bookworm/main i386 Packages
        100 /var/lib/dpkg/status
by-hand:
  Installed: 3.0
  Candidate: 3.0
  Version table:
 *** 3.0 100
        100 /var/lib/dpkg/status
pinned-away:
  Installed: (none)
  Candidate: (none)
  Package pin: (not found)
  Version table:
     1.0 -1
        500 http://deb.debian.org/debian bookworm/main amd64 Packages
awk:
  Installed: (none)
  Candidate: (none)
  Version table:
N: Unable to locate package no-such
`)
	want := map[string]offer{
		"nginx":       {Candidate: "1.22.1-9+deb12u3", Versions: []string{"1.22.1-9+deb12u3", "1.18.0-6.1"}},
		"libc6:i386":  {Candidate: "2.36-9", Versions: []string{"2.36-9"}},
		"by-hand":     {},
		"pinned-away": {Versions: []string{"1.0"}},
		"awk":         {},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestProvidersAreRead(t *testing.T) {
	got := parseProviders("Package: awk\nVersions: \n\nReverse Depends: \n  base-files,awk\nDependencies: \nProvides: \n" +
		"Reverse Provides: \noriginal-awk 2022-09-12-1 (= )\nmawk 1.3.4 (= )\nmawk 1.3.3 (= )\n")
	if diff := cmp.Diff([]string{"mawk", "original-awk"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestSimulationIsRead(t *testing.T) {
	got := parseSimulation(`Reading package lists...
The following packages will be REMOVED:
  exim4*
Purg exim4 [4.96-15] [bsd-mailx:amd64 ]
Remv old:i386 [1.0]
Inst libssl3 [3.0.9-1] (3.0.11-1~deb12u2 Debian:12.4/stable, Debian-Security:12/stable-security [amd64])
Inst nginx (1.22.1-9 Debian:12.4/stable [amd64]) []
Conf nginx (1.22.1-9 Debian:12.4/stable [amd64])
`)
	want := effect{
		Installs: []move{{"libssl3", "3.0.9-1", "3.0.11-1~deb12u2"}, {"nginx", "", "1.22.1-9"}},
		Removes:  []string{"exim4", "old:i386"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFailureNamesTheCulprits(t *testing.T) {
	got := parseFailure(`Setting up failing (1) ...
dpkg: error processing package failing (--configure):
 installed failing package post-installation script subprocess returned error exit status 3
dpkg: error processing archive /var/cache/apt/archives/stuck_1%3a2_all.deb (--unpack):
dpkg: error processing archive /tmp/apt-dpkg-install-YkIfzs/5-other_1_all.deb (--unpack):
E: Failed to fetch http://deb.debian.org/pool/g/gone_1_amd64.deb  404  Not Found
`)
	if diff := cmp.Diff([]string{"failing", "gone", "other", "stuck"}, got.Culprits); diff != "" {
		t.Error(diff)
	}
	if !got.Fetch {
		t.Error("a download that failed is not noticed")
	}
}
