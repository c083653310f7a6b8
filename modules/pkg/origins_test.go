package pkg

import (
	"errors"
	"reflect"
	"slices"
	"strings"
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
	const main = "http://deb.debian.org/debian bookworm/main"
	want := map[string]map[string][]string{
		"nginx": {"1.22.1-9+deb12u3": {main, "http://security.debian.org bookworm-security/main"}, "1.22.1-9": {main}},
		"own":   {"1": {"file:/srv/repository ./"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestWhatComesAlongComesFromWhereItMay(t *testing.T) {
	w, f := fakeWorld(t)
	for _, name := range strings.Fields("a b c d library foreign") {
		f.index[name] = []string{"1"}
	}
	f.origins = map[string]string{"a": "ours", "b": "ours", "c": "ours", "d": "ours", "library": "ours", "foreign": "theirs"}
	f.depends["a"], f.depends["b"], f.depends["c"] = []string{"library"}, []string{"foreign"}, []string{"unheard"}
	f.index["unheard"] = []string{"1"}
	ours := func(name string, origins []string) error {
		if !slices.Equal(origins, []string{"ours"}) {
			return errors.New(name + " is not ours")
		}
		return nil
	}
	out := w.run(t.Context(), []Resource{
		{Package: "a", admit: ours}, {Package: "b", admit: ours}, {Package: "c", admit: ours}, {Package: "d", admit: ours},
	})
	for name, want := range map[string]string{"a": "", "b": "foreign is not ours", "c": "unheard is not ours", "d": ""} {
		if err := out[name].err; (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	for name, there := range map[string]bool{"a": true, "library": true, "d": true, "b": false, "foreign": false, "c": false, "unheard": false} {
		if (f.have[name].Status == installed) != there {
			t.Errorf("%s is %s", name, f.have[name].Status)
		}
	}
	// Nobody asks where what leaves once came from.
	out = w.run(t.Context(), []Resource{{Package: "a", State: stateAbsent, admit: ours}})
	if err := out["a"].err; err != nil {
		t.Error(err)
	}
}

func TestOriginsOfRepositoriesAreByVersion(t *testing.T) {
	got := available{
		{"a", "2", "all", "one"}, {"a", "1", "x86_64", "one"}, {"a", "1", "x86_64", "two"}, {"a", "1", "i686", "three"}, {"b", "1", "all", "two"},
	}.origins([]string{"a", "a:i686", "c"}, "x86_64")
	want := map[string]map[string][]string{
		"a": {"2": {"one"}, "1": {"one", "two"}}, "a:i686": {"2": {"one"}, "1": {"three"}}, "c": {},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}
