package host

import (
	"errors"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Sweep removes temporary files that a run which was cut off left beside the
// given paths of the machine, and returns how many there were.
func (h *Host) Sweep(names []string) (int, error) {
	bases := map[string][]string{}
	for _, name := range names {
		bases[path.Dir(name)] = append(bases[path.Dir(name)], path.Base(name))
	}
	swept := 0
	for dir, finals := range bases {
		n, err := h.sweepDir(dir, finals)
		swept += n
		if err != nil {
			return swept, err
		}
	}
	return swept, nil
}

func (h *Host) sweepDir(dir string, finals []string) (int, error) {
	p, err := h.resolve(path.Join(dir, finals[0]), false)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer p.close()
	return p.sweep(func(base string) bool { return temporaryOf(base, finals) })
}

// sweepOnce removes what an earlier process that was cut off left in the
// directory of a place, before this one writes there for the first time.
func (h *Host) sweepOnce(p place) error {
	var st unix.Stat_t
	if err := unix.Fstat(p.dir, &st); err != nil {
		return explain("look at", p.real, err)
	}
	// Others wait, or what they write would be taken for stale.
	once, _ := h.swept.LoadOrStore([2]uint64{st.Dev, st.Ino}, &sync.Once{})
	var err error
	once.(*sync.Once).Do(func() {
		_, err = p.sweep(func(base string) bool { return temporaryOf(base, nil) })
	})
	return err
}

func (p place) sweep(stale func(base string) bool) (int, error) {
	d, err := place{dir: p.dir, base: "."}.openDir()
	if err != nil {
		return 0, explain("read", p.real, err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return 0, explain("read", p.real, err)
	}
	swept := 0
	for _, base := range names {
		if !stale(base) {
			continue
		}
		err := place{dir: p.dir, base: base, real: p.real}.clear()
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
			continue // a directory of ours is empty until it has its name
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return swept, err
		}
		swept++
	}
	return swept, nil
}

// clear removes a temporary file, or puts back what is there in place of one that
// nobody came to judge.
func (p place) clear() error {
	i, err := p.stat()
	if err != nil {
		return err
	}
	// Where others may write, the second name could be anybody's.
	if _, trial := trialOf(p.base); trial && p.trusted() {
		return explainAt("put back", p.path(), p, p.putBack())
	}
	return p.remove(p.path(), i)
}

// temporaryOf reports whether base is the temporary name of one of finals, or
// of anything when there are none.
func temporaryOf(base string, finals []string) bool {
	if final, ok := trialOf(base); ok {
		return len(finals) == 0 || slices.Contains(finals, final)
	}
	rest, ok := strings.CutPrefix(base, TemporaryPrefix)
	if !ok {
		return false
	}
	random, end, ok := strings.Cut(rest, "-")
	if !ok || len(random) != 10 || strings.Trim(random, "abcdefghijklmnopqrstuvwxyz234567") != "" || end == "" {
		return false
	}
	if len(finals) == 0 {
		return true
	}
	for _, final := range finals {
		if end == final || len(base) == unix.NAME_MAX && strings.HasSuffix(final, end) {
			return true
		}
	}
	return false
}
