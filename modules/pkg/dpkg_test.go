package pkg

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

func golden(t testing.TB) *database {
	t.Helper()
	db, err := readDpkg(host.New("testdata/dpkg", host.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestStatesOfPackagesAreToldApart(t *testing.T) {
	db := golden(t)
	tests := []struct{ name, want string }{
		{"dpkg", "installed 1.21.22 vital"},
		{"libc6", "installed 2.36-9+deb12u10 auto"},
		{"libc6:amd64", "installed 2.36-9+deb12u10 auto"},
		{"libc6:i386", "installed 2.36-9+deb12u10"},
		{"libc6:arm64", "nothing"},
		{"mawk", "installed 1.3.4.20200120-3.1 held"},
		{"removed", "config-files 1.0"},
		{"unpacked", "unpacked 1.0"},
		{"halfconf", "half-configured 2:1.0~rc1-3 auto"},
		{"halfconf:amd64", "half-configured 2:1.0~rc1-3 auto"},
		{"halfinst", "half-installed 1.0"},
		{"reinst", "half-installed 1.0"},
		{"waiting", "triggers-awaited 1.0"},
		{"man-db", "triggers-pending 2.11.2-2"},
		{"heard-of", "not-installed "},
		{"only-foreign", "nothing"},
		{"only-foreign:i386", "installed 1"},
		{"changed", "half-configured 1.1"},
		{"no-such", "nothing"},
	}
	for _, tt := range tests {
		got := "nothing"
		if r := db.find(tt.name); r != nil {
			got = fmt.Sprintf("%s %s", r.Status, r.Version)
			for word, on := range map[string]bool{" held": r.Held, " auto": r.Auto, " vital": r.Vital} {
				if on {
					got += word
				}
			}
		}
		if got != tt.want {
			t.Errorf("%s is %q, want %q", tt.name, got, tt.want)
		}
	}
	if !db.Interrupted {
		t.Error("an interrupted dpkg is not noticed")
	}
	if got := strings.Join(db.broken(), " "); got != "changed halfconf halfinst man-db reinst unpacked waiting" {
		t.Errorf("broken are %s", got)
	}
}

func TestProvidersAreFoundByVersion(t *testing.T) {
	db := golden(t)
	tests := []struct {
		name, constraint string
		want             string
	}{
		{"awk", "", "mawk"},
		{"awk", ">= 1", ""},
		{"scripting", ">= 2:1.5", "mawk"},
		{"scripting", "> 2:1.5", ""},
		{"any-arch", "", "mawk"},
		{"gone-service", "", ""},
		{"no-such", "", ""},
	}
	for _, tt := range tests {
		c, err := parseConstraint(tt.constraint)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		ok := func(v string) bool { return len(c) == 0 || v != "" && c.holds(compareDpkg, v) }
		if r := db.provider(tt.name, ok); r != nil {
			got = r.Name
		}
		if got != tt.want {
			t.Errorf("%s %s is provided by %q, want %q", tt.name, tt.constraint, got, tt.want)
		}
	}
}

func TestDatabaseThatCannotBeReadIsAnError(t *testing.T) {
	tests := map[string]string{
		"Package: a\nVersion: 1\n":                          "no status",
		"Status: install ok installed\n":                    "no package",
		"Package: a\nStatus: installed\n":                   "three words",
		"Package: a\nStatus: install ok installed\nVersion": "not a field",
	}
	for text, want := range tests {
		if err := readStatus(newDatabase(), []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, want one with %q", text, err, want)
		}
	}
}

// settled returns the database once the last change of it is old enough for a
// further one to leave a trace.
func settled(t *testing.T, a *apt) *database {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		db, err := a.Installed(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if db.witness != nil {
			return db
		}
		if time.Now().After(deadline) {
			t.Fatal("the database never was a witness")
		}
	}
}

func TestLatestHasNoWitness(t *testing.T) {
	root := t.TempDir()
	write(t, root+dpkgStatus, "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n", 0o644)
	a := newApt(host.New(root, host.Options{}))
	m := newModule(a)
	settled(t, a)
	for state, want := range map[string]bool{statePresent: true, stateLatest: false} {
		r := m.New().(*Resource)
		r.Package, r.State = "a", state
		found, err := r.Check(t.Context(), resource.View{Offline: true})
		if err != nil || len(found.Diff) != 0 {
			t.Fatalf("%s: %+v, error %v", state, found, err)
		}
		if got := found.Witness != nil; got != want {
			t.Errorf("%s: has a witness: %v", state, got)
		}
	}
}

func TestDatabaseIsReadAgainWhenItMoved(t *testing.T) {
	root := t.TempDir()
	status := "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n"
	write(t, root+dpkgStatus, status, 0o644)
	a := newApt(host.New(root, host.Options{}))
	first := settled(t, a)
	if again, _ := a.Installed(t.Context()); again != first {
		t.Error("it was read again although nothing moved")
	}
	write(t, root+dpkgStatus+".new", strings.Replace(status, ": 1", ": 2", 1), 0o644)
	if err := os.Rename(root+dpkgStatus+".new", root+dpkgStatus); err != nil {
		t.Fatal(err)
	}
	if a.Holds(first.witness) {
		t.Error("the witness of the old database holds")
	}
	second := settled(t, a)
	if !a.Holds(second.witness) {
		t.Error("the witness of the new database does not hold")
	}
	if got := second.find("a").Version; got != "2" {
		t.Errorf("after an upgrade the version is %s", got)
	}
}

func FuzzStatusIsReadOrRefused(f *testing.F) {
	data, err := os.ReadFile("testdata/dpkg" + dpkgStatus)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("Package: a\n\n\nStatus: install ok installed"))
	f.Add([]byte("P\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		db := newDatabase()
		if readStatus(db, data) != nil {
			return
		}
		db.index()
		for name, records := range db.byName {
			for _, r := range records {
				if r.Name != name || name == "" || r.Status == "" {
					t.Errorf("%q has record %+v", name, r)
				}
			}
		}
	})
}

// What the design asks: fifty packages that are there cost less than one
// dpkg-query. Compare the two.
func BenchmarkFiftyPresent(b *testing.B) {
	if _, err := os.Stat(dpkgStatus); err != nil {
		b.Skip("needs a Debian host")
	}
	h := host.New("/", host.Options{})
	db, err := readDpkg(h)
	if err != nil {
		b.Fatal(err)
	}
	var names []string
	for name, records := range db.byName {
		if records[0].Status == installed && db.find(name) != nil && len(names) < 50 {
			names = append(names, name)
		}
	}
	b.Run("check", func(b *testing.B) {
		for b.Loop() {
			m := newModule(newApt(h))
			for _, name := range names {
				r := m.New().(*Resource)
				r.Package = name
				found, err := r.Check(b.Context(), viewOf(name))
				if err != nil || !found.InOrder() {
					b.Fatalf("%s: %+v, %v", name, found, err)
				}
			}
		}
	})
	b.Run("dpkg-query", func(b *testing.B) {
		for b.Loop() {
			if err := exec.Command("dpkg-query", "-W").Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func viewOf(name string) resource.View {
	return resource.View{Prior: note{Installed: true}.prior(name)}
}
