package host

import (
	"errors"
	"path"

	"golang.org/x/sys/unix"
)

// A Survey is a machine whose paths are looked at many at a time: what is found
// of a directory counts for all that is in it. It is for one goroutine, and for as
// long as it takes to look; what is written later is looked at again by Guard.
type Survey struct {
	*Host
	dirs map[string]surveyed
}

// surveyed is a directory with all its names.
type surveyed struct {
	known []string
	// at is the kernel's name; empty while the directory is not there.
	at  string
	err error
}

// Survey returns the machine for a moment.
func (h *Host) Survey() *Survey { return &Survey{Host: h, dirs: map[string]surveyed{}} }

// KnownAs is that of the Host.
func (s *Survey) KnownAs(name string, follow bool) ([]string, error) {
	if follow || name == "/" || checkPath(name) != nil {
		return s.Host.KnownAs(name, follow)
	}
	dir, base := path.Split(name)
	d, looked := s.dirs[dir]
	if !looked {
		d = s.look(path.Clean(dir))
		s.dirs[dir] = d
	}
	if d.err != nil || d.at != "" && s.mounts.holds(path.Join(d.at, base)) {
		return s.Host.KnownAs(name, follow)
	}
	known := make([]string, len(d.known))
	for i, at := range d.known {
		known[i] = path.Join(at, base)
	}
	return known, nil
}

// look finds the names of a directory. What is wrong with it is told of each path
// that is in it.
func (s *Survey) look(dir string) (d surveyed) {
	p, err := s.resolve(path.Join(dir, "-"), false)
	if errors.Is(err, unix.ENOENT) {
		d.known, d.err = s.Host.KnownAs(dir, true)
		return d
	}
	if err != nil {
		return surveyed{err: err}
	}
	defer p.close()
	p.base = "."
	if d.at, _, d.err = p.mounted(); d.err == nil {
		d.known, d.err = s.knownAs(p)
	}
	return d
}
