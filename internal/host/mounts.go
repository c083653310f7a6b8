package host

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// mountOf returns the id of the mount that a name in a directory is on, or the
// directory itself without one. A link is not followed.
func mountOf(dir int, name string) (int, error) {
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	var st unix.Statx_t
	err := unix.Statx(dir, name, flags, unix.STATX_MNT_ID, &st)
	switch {
	case err == nil && st.Mask&unix.STATX_MNT_ID != 0:
		return int(st.Mnt_id), nil
	case err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM):
		return 0, err
	}
	// Linux before 5.8 says so elsewhere.
	fd := dir
	if name != "" {
		if fd, err = unix.Openat(dir, name, openPath, 0); err != nil {
			return 0, err
		}
		defer unix.Close(fd)
	}
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

// mounts is the mount table as it was read last. The kernel tells when something
// is mounted or unmounted; that a directory above a mount got another name it does
// not tell, so the table is not relied on for long either.
type mounts struct {
	mu   sync.Mutex
	file *os.File
	read time.Time
	byID map[int]mountPoint
	at   map[string]bool
	// onDevice are the mounts of each device.
	onDevice map[string][]mountPoint
}

// mountsLast is how long a table is relied on.
const mountsLast = time.Second

// names returns every name of what the kernel knows by a name and is on a mount.
func (t *mounts) names(at string, id int) ([]string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.current() {
		if err := t.load(); err != nil {
			return nil, err
		}
	}
	mount, ok := t.byID[id]
	if !ok || !isBelow(at, mount.at) {
		if err := t.load(); err != nil {
			return nil, err
		}
		if mount, ok = t.byID[id]; !ok || !isBelow(at, mount.at) {
			return nil, fmt.Errorf("%q is on mount %d, which %s does not have there", at, id, mountTable)
		}
	}
	return t.seen(at, mount), nil
}

// seen returns every name of what is known by one on a mount.
func (t *mounts) seen(at string, mount mountPoint) []string {
	known := []string{at}
	inside := path.Join(mount.root, strings.TrimPrefix(at, mount.at))
	for _, m := range t.onDevice[mount.device] {
		if !isBelow(inside, m.root) {
			continue
		}
		if name := path.Join(m.at, inside[len(strings.TrimSuffix(m.root, "/")):]); !slices.Contains(known, name) {
			known = append(known, name)
		}
	}
	return known
}

// holds reports whether something was mounted at a name when the table was read.
func (t *mounts) holds(at string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.at[at]
}

// current reports whether the table is still so.
func (t *mounts) current() bool {
	if t.file == nil || time.Since(t.read) > mountsLast {
		return false
	}
	fds := []unix.PollFd{{Fd: int32(t.file.Fd()), Events: unix.POLLPRI}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 0
}

// load reads the table. What changes from now on, the next poll tells.
func (t *mounts) load() error {
	if t.file == nil {
		// By os.Open the runtime would poll it as well, and have what it tells once.
		fd, err := unix.Open(mountTable, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return explain("open", mountTable, err)
		}
		t.file = os.NewFile(uintptr(fd), mountTable)
	}
	t.read = time.Now()
	data, err := io.ReadAll(io.NewSectionReader(t.file, 0, maxMounts))
	if err != nil {
		return err
	}
	list, err := parseMounts(string(data))
	if err != nil {
		return err
	}
	t.index(list)
	return nil
}

func (t *mounts) index(list []mountPoint) {
	t.byID, t.at, t.onDevice = make(map[int]mountPoint, len(list)), make(map[string]bool, len(list)), map[string][]mountPoint{}
	for _, m := range list {
		t.at[m.at] = true
		t.byID[m.id] = m
		t.onDevice[m.device] = append(t.onDevice[m.device], m)
	}
}

// maxMounts is more than any table has, in bytes.
const maxMounts = 1 << 30

func parseMounts(table string) ([]mountPoint, error) {
	var list []mountPoint
	for line := range strings.Lines(table) {
		// A wide blank of Unicode is part of a name, and not written otherwise.
		fields := strings.Split(strings.TrimSuffix(line, "\n"), " ")
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
