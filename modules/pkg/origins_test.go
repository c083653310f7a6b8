package pkg

import (
	"reflect"
	"testing"
)

func TestOriginsAreTheRepositoriesOfAllVersions(t *testing.T) {
	got := parseOrigins(`nginx:
  Installed: 1.22.1-9
  Candidate: 1.22.1-9+deb12u3
  Version table:
     1.22.1-9+deb12u3 500
        500 http://deb.debian.org/debian bookworm/main amd64 Packages
        500 http://security.debian.org bookworm-security/main amd64 Packages
 *** 1.22.1-9 100
        500 http://deb.debian.org/debian bookworm/main amd64 Packages
        100 /var/lib/dpkg/status
own:
  Installed: (none)
  Candidate: 1
  Version table:
     1 500
        500 file:/srv/repository ./ Packages
`)
	want := map[string][]string{
		"nginx": {"http://deb.debian.org/debian bookworm/main", "http://security.debian.org bookworm-security/main"},
		"own":   {"file:/srv/repository ./"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}
