package pkg

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// told reads what a real program printed.
func told(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// having is a database of name and version pairs.
func having(pairs ...string) *database {
	db := newDatabase()
	db.Native = "x86_64"
	for i := 0; i < len(pairs); i += 2 {
		db.put(&record{Name: pairs[i], Version: pairs[i+1], Arch: "all", Status: installed})
	}
	db.index()
	return db
}

func TestPlansOfRealManagersAreRead(t *testing.T) {
	db := having("tiny", "1.0-1", "user-app", "1-1", "rec", "1-1", "sugg", "1-1")
	dnf := func(text string) (effect, error) { return parseDnfPlan(text, db) }
	zypper := func(text string) (effect, error) { return parseZypperPlan(text, db) }
	upgrade := move{Name: "tiny", From: "1.0-1", To: "2.0-1"}
	tests := []struct {
		file string
		read func(string) (effect, error)
		want effect
	}{
		{"dnf/mixed.txt", dnf, effect{Installs: []move{{Name: "rival", To: "1-1"}, upgrade}, Removes: []string{"rec", "sugg", "user-app"}}},
		{"dnf/dependents.txt", dnf, effect{Removes: []string{"tiny", "user-app"}}},
		{"dnf/replacing.txt", dnf, effect{Installs: []move{{Name: "obsoleter", To: "1-1"}}, Removes: []string{"tiny", "user-app"}}},
		{"dnf/wide.txt", dnf, effect{Installs: []move{{
			Name: "a-very-long-name-of-a-package-that-does-not-fit-into-any-column", To: "20261128.1234567.git0123456789abcdef-1",
		}}}},
		{"dnf/nothing.txt", dnf, effect{}},
		{"zypper/plan.xml", zypper, effect{Installs: []move{upgrade, {Name: "rival", To: "1-1"}}, Removes: []string{"user-app"}}},
		{"zypper/dependents.xml", zypper, effect{Removes: []string{"tiny", "user-app"}}},
		{"zypper/replacing.xml", zypper, effect{Installs: []move{{Name: "obsoleter", To: "1-1"}}, Removes: []string{"tiny", "user-app"}}},
	}
	for _, tt := range tests {
		got, err := tt.read(told(t, tt.file))
		if err != nil {
			t.Errorf("%s: %v", tt.file, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.file, diff)
		}
	}
	if got := parseAlpmPlan(told(t, "pacman/plan.txt")); len(got) != 1 || got[0].name != "onlyp" || got[0].version != "1-1" {
		t.Errorf("pacman/plan.txt: %+v", got)
	}
}

// A plan that is not understood is no plan: a removal must not be overlooked.
func TestPlanThatIsCutOffOrUnknownIsRefused(t *testing.T) {
	db := having("tiny", "1.0-1")
	mixed, xml := told(t, "dnf/mixed.txt"), told(t, "zypper/plan.xml")
	head, tail, _ := strings.Cut(mixed, "Removing:")
	for name, text := range map[string]string{
		"nothing at all":           "",
		"an end that is missing":   head,
		"a beginning that is":      tail,
		"a heading that is new":    strings.Replace(mixed, "Removing:", "Vaporising:", 1),
		"a row without a version":  strings.Replace(mixed, "noarch            1-1                @lab              2", "", 1),
		"packages that are left":   strings.Replace(mixed, "Removing unused dependencies:", "Skipping packages with conflicts:", 1),
		"a problem beside a table": " Problem: no\n" + mixed,
	} {
		if e, err := parseDnfPlan(text, db); err == nil {
			t.Errorf("dnf, %s: read as %+v", name, e)
		}
	}
	for name, text := range map[string]string{
		"nothing at all":        "",
		"an end that is cut":    xml[:len(xml)-20],
		"a beginning that is":   xml[len(xml)/3:],
		"no summary":            told(t, "zypper/refused.xml"),
		"a package of no name":  strings.Replace(xml, `name="user-app"`, "", 1),
		"something that no xml": "zypper: command not found\n",
	} {
		if e, err := parseZypperPlan(text, db); err == nil {
			t.Errorf("zypper, %s: read as %+v", name, e)
		}
	}
}

func TestRefusalsNameTheReason(t *testing.T) {
	reasons := map[string]func(string) string{"dnf": dnfReason, "zypper": zypperReason, "pacman": alpmReason}
	for file, want := range map[string]string{
		"dnf/refused.txt":    "rival-1-1.noarch conflicts with user-app",
		"dnf/unknown.txt":    "Unable to find a match: nosuch",
		"dnf/protected.txt":  "removing the following protected packages: lab-base",
		"dnf/failed.txt":     "Error in PREIN scriptlet in rpm package failpre",
		"zypper/refused.xml": "that would remove user-app-1-1.noarch",
		"zypper/unknown.xml": "No provider of 'nosuch' found.",
		"zypper/failed.txt":  "Installation of failpre-1-1.noarch failed",
		"pacman/lacking.txt": "unable to satisfy dependency 'nowhere' required by lacking",
		"pacman/needed.txt":  "removing tiny breaks dependency 'tiny' required by user-app",
		"pacman/rivals.txt":  "rival and user-app are in conflict",
		"pacman/taken.txt":   "taken: /etc/hosts.d exists in filesystem",
		"pacman/locked.txt":  "unable to lock database",
	} {
		manager, _, _ := strings.Cut(file, "/")
		if got := reasons[manager](told(t, file)); !strings.Contains(got, want) {
			t.Errorf("%s: reason is %q, want one with %q", file, got, want)
		}
	}
	for _, file := range []string{"dnf/refused.txt", "dnf/unknown.txt", "dnf/protected.txt"} {
		if e, err := parseDnfPlan(told(t, file), having()); err == nil {
			t.Errorf("%s: read as %+v", file, e)
		}
	}
}

func TestFailuresOfRealManagersNameTheCulprits(t *testing.T) {
	asked := transaction{Install: []target{{Name: "rival"}, {Name: "provB"}, {Name: "onlyp"}, {Name: "taken"}}}
	alpm := func(text string) *failure { return parseAlpmFailure(text, asked) }
	tests := []struct {
		file  string
		read  func(string) *failure
		want  string
		fetch bool
	}{
		{"dnf/failed.txt", parseDnfFailure, "failpre", false},
		{"dnf/fetch.txt", parseDnfFailure, "provA", true},
		{"zypper/failed.txt", parseZypperFailure, "failpre", false},
		{"zypper/fetch.txt", parseZypperFailure, "provA", true},
		{"pacman/rivals.txt", alpm, "rival", false},
		{"pacman/lacking.txt", alpm, "lacking", false},
		{"pacman/fetch.txt", alpm, "provB", true},
		{"pacman/corrupt.txt", alpm, "provB", true},
		{"pacman/taken.txt", alpm, "taken", false},
	}
	for _, tt := range tests {
		f := tt.read(told(t, tt.file))
		if f == nil {
			t.Errorf("%s: no failure", tt.file)
			continue
		}
		if got := strings.Join(f.Culprits, " "); got != tt.want || f.Fetch != tt.fetch {
			t.Errorf("%s: culprits are %q, fetch %t", tt.file, got, f.Fetch)
		}
	}
	if f := parseDnfFailure("Installed:\n  a-1-1.noarch\n\nComplete!\n"); f != nil {
		t.Errorf("a success is a failure of %v", f.Culprits)
	}
}

func TestIndexesOfRealManagersAreRead(t *testing.T) {
	found, err := parseRepoquery(told(t, "dnf/repoquery.txt"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]offer{"tiny": {Candidate: "2.0-1", Versions: []string{"2.0-1", "1.0-1"}}, "nosuch": {}}
	if diff := cmp.Diff(want, found.offers([]string{"tiny", "nosuch"}, "x86_64", nil, compareRPM)); diff != "" {
		t.Errorf("dnf (-want +got):\n%s", diff)
	}
	if found, err = parseZypperSearch(told(t, "zypper/search.xml")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, found.offers([]string{"tiny", "nosuch"}, "x86_64", nil, compareRPM)); diff != "" {
		t.Errorf("zypper (-want +got):\n%s", diff)
	}
	info := parseAlpmInfo(told(t, "pacman/info.txt"))
	if len(info) != 2 || info[0].name != "tiny" || info[0].version != "1.0-1" || len(info[0].provides) != 0 ||
		info[1].name != "onlyp" || !slices.Equal(info[1].provides, []string{"lone"}) {
		t.Errorf("pacman: %+v", info)
	}
	if _, err := parseRepoquery("tiny|0|1.0\n"); err == nil {
		t.Error("an answer with fields missing was read")
	}
}

func TestArchitecturesAndPrioritiesChooseWhatIsOffered(t *testing.T) {
	a := available{
		{"glibc", "2.40-1", "x86_64", "base"}, {"glibc", "2.40-2", "i686", "base"}, {"glibc", "2.41-1", "x86_64", "extra"},
		{"data", "1-1", "all", "base"}, {"data", "1-1", "all", "mirror"}, {"data", "3-1", "aarch64", "base"},
	}
	got := a.offers([]string{"glibc", "glibc:i686", "data"}, "x86_64", map[string]int{"base": 10}, compareRPM)
	want := map[string]offer{
		"glibc":      {Candidate: "2.40-1", Versions: []string{"2.40-1"}}, // the other repository has a lower rank
		"glibc:i686": {Candidate: "2.40-2", Versions: []string{"2.40-2"}},
		"data":       {Candidate: "1-1", Versions: []string{"1-1"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestDatabaseOfRPMIsRead(t *testing.T) {
	db := newDatabase()
	db.Native = "x86_64"
	text := told(t, "dnf/installed.txt") +
		"N\tgpg-pubkey\t0\t1\t2\t(none)\n" +
		"N\tkernel\t0\t6.1\t9\tx86_64\nN\tkernel\t0\t6.1\t10\tx86_64\nN\tkernel\t0\t5.9\t1\tx86_64\n" +
		"N\tbash\t0\t5.2\t1\tx86_64\nN\tlib\t2\t1\t1\ti686\nP\tlib(x86-32)\t2:1-1\nP\tlib-api\t0:3\n"
	if err := readRPM(db, text); err != nil {
		t.Fatal(err)
	}
	db.index()
	for name, want := range map[string]string{
		"tiny": "1.0-1 vital=false", "kernel": "6.1-10 vital=false", "bash": "5.2-1 vital=true", "lib:i686": "2:1-1 vital=false",
		"lib": "", "gpg-pubkey": "",
	} {
		got := ""
		if r := db.find(name); r != nil {
			got = fmt.Sprintf("%s vital=%t", r.Version, r.Vital)
		}
		if got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := db.byName["lib"][0].Provides; len(got) != 1 || got[0] != (provided{"lib-api", "3"}) {
		t.Errorf("provided are %v", got)
	}
	for _, text := range []string{"P\ta\tb\n", "N\ta\t0\t1\n", "warning: no\n", "N\t\t0\t1\t1\tnoarch\n"} {
		if err := readRPM(newDatabase(), text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func TestDescriptionOfAlpmIsRead(t *testing.T) {
	r, err := readDesc(told(t, "pacman/desc.txt"))
	if err != nil || r.Name != "tiny" || r.Version != "1.0-1" || r.Arch != "all" || !r.Auto {
		t.Errorf("%+v, error %v", r, err)
	}
	if _, err := readDesc("%NAME%\n\n%VERSION%\n1\n"); err == nil {
		t.Error("one without a name was read")
	}
	for base, want := range map[string]string{
		"tiny-1.0-1-any.pkg.tar.zst": "tiny 1.0-1", "a-b-c-2:1-3-x86_64.pkg.tar.xz": "a-b-c 2:1-3",
		"tiny-1.0-1-any.pkg.tar.zst.sig": "tiny 1.0-1", "x-1.pkg.tar.gz": "", "x-1-1-any.tar.gz": "",
	} {
		name, version, _ := alpmFile(base)
		if got := strings.TrimSpace(name + " " + version); got != want {
			t.Errorf("%s is %q, want %q", base, got, want)
		}
	}
}

func FuzzPlanIsReadOrRefused(f *testing.F) {
	for _, name := range []string{"dnf/mixed.txt", "dnf/replacing.txt", "dnf/wide.txt", "dnf/refused.txt", "zypper/plan.xml", "zypper/refused.xml"} {
		f.Add(told(f, name))
	}
	f.Fuzz(func(t *testing.T, text string) {
		db := having("tiny", "1.0-1")
		for name, read := range map[string]func(string, *database) (effect, error){"dnf": parseDnfPlan, "zypper": parseZypperPlan} {
			e, err := read(text, db)
			if err != nil {
				continue
			}
			for _, m := range e.Installs {
				if m.Name == "" {
					t.Errorf("%s: a package without a name is installed", name)
				}
			}
			if slices.Contains(e.Removes, "") {
				t.Errorf("%s: a package without a name is removed", name)
			}
		}
		_, _, _ = dnfReason(text), zypperReason(text), alpmReason(text)
		_, _, _ = parseDnfFailure(text), parseZypperFailure(text), parseAlpmFailure(text, transaction{})
	})
}

func FuzzIndexIsReadOrRefused(f *testing.F) {
	for _, name := range []string{"dnf/repoquery.txt", "dnf/installed.txt", "zypper/search.xml", "pacman/info.txt", "pacman/desc.txt"} {
		f.Add(told(f, name))
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, read := range []func(string) (available, error){parseRepoquery, parseZypperSearch} {
			found, err := read(text)
			if err != nil {
				continue
			}
			for _, s := range found {
				if s.name == "" || s.version == "" {
					t.Errorf("offered is %+v", s)
				}
			}
		}
		for _, i := range parseAlpmInfo(text) {
			if i.name == "" || i.version == "" {
				t.Errorf("offered is %+v", i)
			}
		}
		if r, err := readDesc(text); err == nil && (r.Name == "" || r.Version == "") {
			t.Errorf("installed is %+v", r)
		}
		db := newDatabase()
		if readRPM(db, text) == nil {
			db.index()
		}
	})
}
