package host

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Guard is asked before a path of the machine is written.
type Guard interface {
	// Permit reports whether a path may be written. known are all names of the
	// very place that is held open for it: where links led, and where else what is
	// there is mounted.
	Permit(name string, known []string) error
}

// Guarded returns the same machine, on which nothing is written that the guard
// does not permit. The word tells it from the machine of others.
func (h *Host) Guarded(g Guard, word string) *Host {
	return &Host{machine: h.machine, guard: g, word: word}
}

// Word is what Guarded was given; empty for a machine without a guard.
func (h *Host) Word() string { return h.word }

// resolveToWrite is resolve for a path that is about to be written.
func (h *Host) resolveToWrite(name string, follow bool) (place, error) {
	p, err := h.resolve(name, follow)
	if err == nil {
		if err = h.permit(name, p); err != nil {
			p.close()
			return place{}, err
		}
	}
	return p, err
}

// permit asks the guard about a place that is held open: what is linked or mounted
// above it from now on changes nothing.
func (h *Host) permit(name string, p place) error {
	if h.guard == nil {
		return nil
	}
	known, err := h.knownAs(p)
	if err != nil {
		return explain("look at", name, err)
	}
	return h.guard.Permit(name, known)
}

// KnownAs returns every name by which the machine knows a path: where links on
// the way lead, and where else what is there is mounted. Of a path whose directory
// is not there yet it is said of what is, and of one that cannot be opened since
// others may have put a link there, nothing.
func (h *Host) KnownAs(name string, follow bool) ([]string, error) {
	p, err := h.resolve(name, follow)
	rest := ""
	for dir := name; errors.Is(err, unix.ENOENT) && dir != "/"; {
		rest = path.Join(path.Base(dir), rest)
		dir = path.Dir(dir)
		p, err = h.resolve(dir, true)
	}
	var hostile *HostileLinkError
	if errors.As(err, &hostile) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, nil // whoever would write it fails by that
	}
	if err != nil {
		return nil, err
	}
	defer p.close()
	known, err := h.knownAs(p)
	if err != nil {
		return nil, explain("look at", name, err)
	}
	for i := range known {
		known[i] = path.Join(known[i], rest)
	}
	return known, nil
}

// OwnerName returns the first name of the user that a name or number stands for.
func (h *Host) OwnerName(name string) string {
	if name == "" {
		return ""
	}
	id, err := h.UserID(name)
	if err != nil {
		return name
	}
	return h.UserName(id)
}

// OwningGroupName is OwnerName for groups.
func (h *Host) OwningGroupName(name string) string {
	if name == "" {
		return ""
	}
	id, err := h.GroupID(name)
	if err != nil {
		return name
	}
	return h.GroupName(id)
}

// knownAs returns the names of a place, the one by which the kernel knows it
// first.
func (h *Host) knownAs(p place) ([]string, error) {
	root, err := h.rootFD()
	if err != nil {
		return nil, err
	}
	top := "/"
	if h.Offline() {
		if top, err = nameOf(root); err != nil {
			return nil, err
		}
	}
	at, id, err := p.mounted()
	if err != nil {
		return nil, err
	}
	known, err := h.mounts.names(at, id)
	if err != nil {
		return nil, err
	}
	return belowRoot(known, top)
}

// belowRoot turns names of this process into names of the machine. What is
// mounted from without an offline tree has none there.
func belowRoot(names []string, top string) ([]string, error) {
	var list []string
	for _, name := range names {
		if isBelow(name, top) {
			list = append(list, path.Join("/", strings.TrimPrefix(name, strings.TrimSuffix(top, "/"))))
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%q is not below the root any more", names[0])
	}
	return list, nil
}

func isBelow(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// mounted returns the kernel's name of the place, and the mount that what is there
// is on: its own where something is mounted on it.
func (p place) mounted() (at string, mount int, err error) {
	if mount, err = mountOf(p.dir, p.base); err != nil {
		if mount, err = mountOf(p.dir, ""); err != nil {
			return "", 0, err
		}
	}
	dir, err := nameOf(p.dir)
	return path.Join(dir, p.base), mount, err
}

// nameOf returns the kernel's name of a directory that is held open.
func nameOf(fd int) (string, error) {
	name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(name, "/") || strings.HasSuffix(name, " (deleted)") {
		return "", fmt.Errorf("%q is a directory without a name", name)
	}
	return name, nil
}
