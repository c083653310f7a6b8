package host

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/resource"
)

// packaged knows which paths installed packages own, by what the package managers
// of the machine keep: of those there may be several.
type packaged struct {
	mu     sync.Mutex
	dpkg   listed
	pacman listed
	rpm    asked
}

// Packaged reports whether an installed package owns a path of the machine.
func (h *Host) Packaged(name string) (bool, error) {
	p := &h.packages
	p.mu.Lock()
	defer p.mu.Unlock()
	names := []string{name, otherName(name)}
	for _, list := range []struct {
		*listed
		dir  string
		each func(h *Host, entry string, add func(path string)) error
	}{{&p.dpkg, "/var/lib/dpkg/info", ofDpkg}, {&p.pacman, "/var/lib/pacman/local", ofPacman}} {
		if err := list.read(h, list.dir, list.each); err != nil {
			return false, err
		}
		if slices.ContainsFunc(names, list.has) {
			return true, nil
		}
	}
	return p.rpm.has(h, names)
}

// otherName is what a path was called before /usr took in the directories
// beside it: packages still use either.
func otherName(name string) string {
	top, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(name, "/usr"), "/"), "/")
	if top != "bin" && top != "sbin" && !strings.HasPrefix(top, "lib") {
		return name
	}
	if below, ok := strings.CutPrefix(name, "/usr"); ok {
		return below
	}
	return "/usr" + name
}

// listed is what a package manager has in files, one or more for each package. It
// keeps hashes alone: a machine has some hundred thousand paths.
type listed struct {
	seen   unix.Stat_t
	seed   maphash.Seed
	hashes []uint64
}

const listLimit = 64 << 20

func (l *listed) has(name string) bool {
	if len(l.hashes) == 0 {
		return false
	}
	_, ok := slices.BinarySearch(l.hashes, maphash.String(l.seed, name))
	return ok
}

// read reads all files of a directory anew when something came or left there.
func (l *listed) read(h *Host, dir string, each func(h *Host, entry string, add func(path string)) error) error {
	i, err := h.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		l.hashes = nil
		return nil
	}
	if err != nil {
		return err
	}
	if l.hashes != nil && i.st.Mtim == l.seen.Mtim && i.st.Ino == l.seen.Ino {
		return nil
	}
	entries, err := h.ReadDir(dir)
	if err != nil {
		return err
	}
	seed, hashes := maphash.MakeSeed(), []uint64{}
	for _, e := range entries {
		err := each(h, path.Join(dir, e.Name), func(path string) { hashes = append(hashes, maphash.String(seed, path)) })
		if err != nil {
			return err
		}
	}
	slices.Sort(hashes)
	l.seen, l.seed, l.hashes = i.st, seed, hashes
	return nil
}

// ofDpkg reads NAME.list, which has a path on each line.
func ofDpkg(h *Host, entry string, add func(path string)) error {
	if !strings.HasSuffix(entry, ".list") {
		return nil
	}
	data, err := h.ReadFile(entry, listLimit)
	for line := range strings.Lines(string(data)) {
		add(strings.TrimSuffix(line, "\n"))
	}
	return err
}

// ofPacman reads NAME-VERSION/files, which has paths without the first slash below
// %FILES%; a directory ends with another.
func ofPacman(h *Host, entry string, add func(path string)) error {
	data, err := h.ReadFile(path.Join(entry, "files"), listLimit)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil // the version of the database, or a package without files
	}
	within := false
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "%"):
			within = line == "%FILES%"
		case within && line != "":
			add("/" + strings.TrimSuffix(line, "/"))
		}
	}
	return err
}

// asked is what rpm said. Its database has no form that could be read without it,
// so it is asked for each path, once while the database is as it was.
type asked struct {
	seen  string
	owned map[string]bool
}

const (
	rpmPatience = 10 * time.Second
	rpmOwns     = "owned"
)

// rpmDatabases are the files that rpm's databases of all kinds are in.
func rpmDatabases() []string {
	var all []string
	for _, dir := range []string{"/usr/lib/sysimage/rpm", "/var/lib/rpm"} {
		for _, name := range []string{"rpmdb.sqlite", "rpmdb.sqlite-wal", "Packages.db", "Packages"} {
			all = append(all, path.Join(dir, name))
		}
	}
	return all
}

func (a *asked) has(h *Host, names []string) (bool, error) {
	var seen resource.Witness
	there := false
	for _, file := range rpmDatabases() {
		i, err := h.Lstat(file)
		if err == nil {
			there = true
			seen = appendSight(append(seen, file...), sawAll, &i.st)
		}
	}
	if !there {
		return false, nil
	}
	if string(seen) != a.seen {
		a.seen, a.owned = string(seen), map[string]bool{}
	}
	if owned, known := a.owned[names[0]]; known {
		return owned, nil
	}
	owned, err := askRPM(h, names)
	if err == nil {
		a.owned[names[0]] = owned
	}
	return owned, err
}

// askRPM has rpm look for the packages that own one of some paths.
func askRPM(h *Host, names []string) (bool, error) {
	call := h.Program("rpm")
	if call == nil {
		return false, fmt.Errorf("cannot tell whether a package owns %q: rpm, whose database there is, cannot be run", names[0])
	}
	ctx, cancel := context.WithTimeout(context.Background(), rpmPatience)
	defer cancel()
	out, err := h.Run(ctx, Command{Args: slices.Concat(call, []string{"-q", "--qf", rpmOwns + "\\n", "-f", "--"}, names)})
	for line := range strings.Lines(out.Text) {
		if strings.TrimSpace(line) == rpmOwns {
			return true, nil
		}
	}
	// Its exit code is how many paths nobody owns.
	if err != nil && (ctx.Err() != nil || out.ExitCode < 1 || out.ExitCode > len(names)) {
		return false, fmt.Errorf("cannot tell whether a package owns %q: %w", names[0], err)
	}
	return false, nil
}
