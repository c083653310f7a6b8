package pkg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"

	version "github.com/knqyf263/go-rpm-version"

	"trued.dev/trued/internal/resource"
)

// An rpmDatabase is what dnf and zypper have below them.
type rpmDatabase struct{ *site }

// Where rpm keeps its database: of these directories one is mostly a link to the
// other, and of the files each kind of database has its own. The -shm beside
// SQLite's is no part: whoever reads writes it.
var (
	rpmDirectories = []string{"/usr/lib/sysimage/rpm", "/var/lib/rpm"}
	rpmFiles       = []string{"rpmdb.sqlite", "rpmdb.sqlite-wal", "Packages.db", "Packages"}
)

const rpmLock = ".rpm.lock"

func (d rpmDatabase) files() []string {
	var files []string
	for _, dir := range rpmDirectories {
		for _, name := range rpmFiles {
			files = append(files, dir+"/"+name)
		}
	}
	return files
}

// rpmQuery has a line that begins with N for each package, and one with P for
// each name that it provides.
const rpmQuery = `N\t%{NAME}\t%{EPOCHNUM}\t%{VERSION}\t%{RELEASE}\t%{ARCH}\n[P\t%{PROVIDENAME}\t%{PROVIDEVERSION}\n]`

// read asks rpm for all that is installed. It is the one reading that needs a
// process: rpm has three kinds of database, and a library for none of them is
// kept up.
func (d rpmDatabase) read(ctx context.Context) (*database, error) {
	there := slices.ContainsFunc(d.files(), func(name string) bool {
		_, err := os.Stat(d.h.Path(name))
		return err == nil
	})
	if !there {
		return nil, fmt.Errorf("cannot read package database: %w", fs.ErrNotExist)
	}
	if d.h.Offline() && os.Geteuid() != 0 {
		return nil, errRootAlone
	}
	out, err := d.h.Run(ctx, d.quietly("rpm", "-qa", "--qf", rpmQuery))
	if err != nil {
		return nil, fmt.Errorf("cannot read package database: %w", err)
	}
	db := newDatabase()
	db.Native = rpmArch(runtime.GOARCH)
	if err := readRPM(db, out.Text); err != nil {
		return nil, fmt.Errorf("cannot read package database: %w", err)
	}
	return db, nil
}

// errRootAlone is the answer of a tree that only root can look into.
var errRootAlone = errors.New("the packages of a tree are read by root alone")

// rpmArch is rpm's name of an architecture of Go.
func rpmArch(goarch string) string {
	switch goarch {
	case "amd64":
		return "x86_64"
	case "386":
		return "i686"
	case "arm64":
		return "aarch64"
	case "arm":
		return "armv7hl"
	default:
		return goarch
	}
}

// rpmRemains is what stays of a package that was to be purged.
const rpmRemains = "rpm cannot purge: configuration that was changed stays as .rpmsave"

// readRPM reads what rpmQuery prints.
func readRPM(db *database, text string) error {
	var r *record
	number := 0
	put := func() {
		if r != nil && r.Name != "gpg-pubkey" { // a key, which rpm keeps as a package
			putNewest(db, r)
		}
	}
	for line := range strings.Lines(text) {
		number++
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		switch {
		case fields[0] == "N" && len(fields) == 6 && fields[1] != "" && fields[3] != "":
			put()
			r = &record{Name: fields[1], Version: evr(fields[2], fields[3], fields[4]), Arch: anyArch(fields[5]), Status: installed}
			r.Vital = slices.Contains(rpmVital, r.Name)
		case fields[0] == "P" && len(fields) == 3 && r != nil:
			if name := fields[1]; name != r.Name && packageName().MatchString(name) {
				r.Provides = append(r.Provides, provided{Name: name, Version: strings.TrimPrefix(fields[2], "0:")})
			}
		default:
			return fmt.Errorf("line %d of what rpm told is %.80q", number, line)
		}
	}
	put()
	return nil
}

// rpmVital are packages that no system of rpm's works without.
var rpmVital = []string{"bash", "coreutils", "filesystem", "glibc", "rpm", "systemd"}

// putNewest adds a record. Of several versions of one package, such as kernels,
// the newest stands for all.
func putNewest(db *database, r *record) {
	for _, old := range db.byName[r.Name] {
		if old.Arch == r.Arch && compareRPM(old.Version, r.Version) > 0 {
			return
		}
	}
	db.put(r)
}

// anyArch is how this package calls what fits each architecture.
func anyArch(arch string) string {
	switch arch {
	case "noarch", "any", "(none)":
		return "all"
	}
	return arch
}

// evr puts a version together; an epoch of 0 is none.
func evr(epoch, version, release string) string {
	s := version
	if release != "" {
		s += "-" + release
	}
	if epoch != "" && epoch != "0" && epoch != "(none)" {
		s = epoch + ":" + s
	}
	return s
}

// compareRPM orders versions as rpm does.
func compareRPM(a, b string) int { return version.NewVersion(a).Compare(version.NewVersion(b)) }

// rpmSpec names a package, and perhaps a version of it, to dnf.
func rpmSpec(t target) string {
	name, arch, _ := strings.Cut(t.Name, ":")
	if t.Version != "" {
		name += "-" + t.Version
	}
	if arch != "" {
		name += "." + arch
	}
	return name
}

// specs are the names of what is installed, as rpm takes them.
func (t transaction) specs() []string {
	var specs []string
	for _, p := range t.Install {
		specs = append(specs, rpmSpec(target{Name: p.Name}))
	}
	return specs
}

// nameOfNEVRA is the name in a package's full one, such as nginx-1:1.2-3.x86_64.
func nameOfNEVRA(s string) string {
	s = strings.TrimSuffix(s, ".rpm")
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		s = s[i+1:]
	}
	for range 2 {
		if i := strings.LastIndexByte(s, '-'); i > 0 {
			s = s[:i]
		}
	}
	return s
}

// watches are the files of the database. rpm has its lock as long as it works.
func (d rpmDatabase) watches() []resource.Watch {
	var locks []string
	for _, dir := range rpmDirectories {
		locks = append(locks, dir+"/"+rpmLock)
	}
	var watches []resource.Watch
	for _, name := range d.files() {
		watches = append(watches, resource.Watch{Space: resource.WatchDatabase, Name: name, Locks: locks})
	}
	return watches
}

// busy reports whether somebody changes packages with rpm.
func (d rpmDatabase) busy() bool {
	return slices.ContainsFunc(rpmDirectories, func(dir string) bool { return d.locked(dir + "/" + rpmLock) })
}

// alive reports whether a file holds the number of a process that runs.
func (s *site) alive(pidFile string) bool {
	data, err := s.h.ReadFile(pidFile, 64)
	if err != nil {
		return false
	}
	pid := strings.TrimSpace(string(data))
	if pid == "" || strings.Trim(pid, "0123456789") != "" {
		return false
	}
	_, err = os.Stat("/proc/" + pid)
	return err == nil
}

// rpmAnswers is a part of a script that comes after the transaction: it gives
// changed configuration files the answer that is wanted, where rpm has given the
// other. rpm itself lets each package decide. What is not kept is left beside
// the file, as rpm leaves it.
func rpmAnswers(names []string, replace bool) string {
	if len(names) == 0 {
		return ""
	}
	loser, winner := "rpmnew", "rpmsave"
	if replace {
		loser, winner = "rpmsave", "rpmnew"
	}
	return answers("rpm -qc "+quote(names)+" 2>/dev/null", loser, winner)
}

// answers is rpmAnswers for any command that lists files: a winner that was left
// beside a file since $began takes its place, and the file becomes the loser.
func answers(list, loser, winner string) string {
	return list + ` | while IFS= read -r f; do
	new=$(stat -c %Z "$f.` + winner + `" 2>/dev/null) || continue
	[ "$new" -ge "$began" ] || continue
	cp -p "$f" "$f.` + loser + `" && mv -f "$f.` + winner + `" "$f" || echo "cannot settle $f"
done
`
}
