package host

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
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
	top, err := nameOf(root)
	if err != nil {
		return nil, err
	}
	mounts, err := readMounts()
	if err != nil {
		return nil, err
	}
	at, mount, err := p.mounted()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(mounts, func(m mountPoint) bool { return m.id == mount })
	if i < 0 {
		return nil, fmt.Errorf("its mount %d is not in %s", mount, mountTable)
	}
	known := []string{at}
	inside := path.Join(mounts[i].root, strings.TrimPrefix(at, mounts[i].at))
	for _, m := range mounts {
		if m.device != mounts[i].device || !isBelow(inside, m.root) {
			continue
		}
		if name := path.Join(m.at, inside[len(strings.TrimSuffix(m.root, "/")):]); !slices.Contains(known, name) {
			known = append(known, name)
		}
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
	if fd, err := unix.Openat(p.dir, p.base, openPath, 0); err == nil {
		defer unix.Close(fd)
		if mount, err = mountOf(fd); err != nil {
			return "", 0, err
		}
	} else if mount, err = mountOf(p.dir); err != nil {
		return "", 0, err
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

// mountOf returns the id of the mount that a descriptor is on.
func mountOf(fd int) (int, error) {
	info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(string(info), "\n") {
		if id, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			return strconv.Atoi(strings.TrimSpace(id))
		}
	}
	return 0, errors.New("the kernel does not say which mount it is on")
}

const mountTable = "/proc/self/mountinfo"

// A mountPoint is one line of the mount table: which directory of a device is
// seen where.
type mountPoint struct {
	id               int
	device, root, at string
}

func readMounts() ([]mountPoint, error) {
	data, err := os.ReadFile(mountTable)
	if err != nil {
		return nil, err
	}
	return parseMounts(string(data))
}

func parseMounts(table string) ([]mountPoint, error) {
	var list []mountPoint
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 6 {
			return nil, fmt.Errorf("cannot read line %q of %s", strings.TrimSpace(line), mountTable)
		}
		id, err := strconv.Atoi(fields[0])
		if err != nil {
			return nil, fmt.Errorf("cannot read line %q of %s: %w", strings.TrimSpace(line), mountTable, err)
		}
		list = append(list, mountPoint{id, fields[2], unescapeMount.Replace(fields[3]), unescapeMount.Replace(fields[4])})
	}
	return list, nil
}

// unescapeMount undoes what the kernel does to white space and backslashes.
var unescapeMount = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
