package host

import (
	"errors"
	"hash/maphash"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// packaged knows which paths installed packages own, as dpkg lists them. It
// keeps hashes alone: a machine has some hundred thousand paths.
type packaged struct {
	mu     sync.Mutex
	seen   unix.Stat_t
	seed   maphash.Seed
	hashes []uint64
}

const (
	packageLists = "/var/lib/dpkg/info"
	listLimit    = 64 << 20
)

// Packaged reports whether an installed package owns a path of the machine.
func (h *Host) Packaged(name string) (bool, error) {
	h.packages.mu.Lock()
	defer h.packages.mu.Unlock()
	if err := h.packages.read(h); err != nil {
		return false, err
	}
	return h.packages.has(name) || h.packages.has(otherName(name)), nil
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

func (p *packaged) has(name string) bool {
	if len(p.hashes) == 0 {
		return false
	}
	_, ok := slices.BinarySearch(p.hashes, maphash.String(p.seed, name))
	return ok
}

func (p *packaged) read(h *Host) error {
	i, err := h.Lstat(packageLists)
	if errors.Is(err, fs.ErrNotExist) {
		p.hashes = nil
		return nil
	}
	if err != nil {
		return err
	}
	if p.hashes != nil && i.st.Mtim == p.seen.Mtim && i.st.Ino == p.seen.Ino {
		return nil
	}
	entries, err := h.ReadDir(packageLists)
	if err != nil {
		return err
	}
	p.seen, p.seed, p.hashes = i.st, maphash.MakeSeed(), []uint64{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name, ".list") {
			continue
		}
		data, err := h.ReadFile(path.Join(packageLists, e.Name), listLimit)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			p.hashes = append(p.hashes, maphash.String(p.seed, strings.TrimSuffix(line, "\n")))
		}
	}
	slices.Sort(p.hashes)
	return nil
}
