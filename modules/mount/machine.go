package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/host"
)

// A machine is where file systems are mounted: the host, and the kernel's lists.
type machine struct {
	host *host.Host
	proc string
}

// A live is what the kernel says is at a mount point.
type live struct {
	Mounted bool   `json:"mounted"`
	Source  string `json:"source,omitempty"`
	FSType  string `json:"fstype,omitempty"`
	// Made are directories that were made to mount on, the first one on top.
	Made []string `json:"made,omitempty"`

	info     *mountinfo.Info
	priority string // of swap
}

// at returns what is mounted on a directory, on top of all else there.
func (m *machine) at(target string) (live, error) {
	mounts, err := m.mounts()
	if err != nil {
		return live{}, err
	}
	for _, info := range slices.Backward(mounts) {
		if info.Mountpoint == target {
			return live{Mounted: true, Source: info.Source, FSType: info.FSType, info: info}, nil
		}
	}
	return live{}, nil
}

func (m *machine) mounts() ([]*mountinfo.Info, error) {
	f, err := os.Open(filepath.Join(m.proc, "self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("cannot read what is mounted: %w", err)
	}
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot read what is mounted: %w", err)
	}
	return mounts, nil
}

// swapped reports whether a device or file is swapped to.
func (m *machine) swapped(device string) (live, error) {
	list, err := os.ReadFile(filepath.Join(m.proc, "swaps"))
	if err != nil {
		return live{}, fmt.Errorf("cannot read what is swapped to: %w", err)
	}
	where := m.real(devicePath(device))
	for line := range strings.Lines(string(list)) {
		fields := words(line)
		if len(fields) == 0 {
			continue
		}
		name := unescape(fields[0])
		if strings.HasPrefix(name, "/") && (name == where || m.real(name) == where) {
			return live{Mounted: true, Source: name, FSType: swap, priority: fields[len(fields)-1]}, nil
		}
	}
	return live{}, nil
}

// real follows the links of a path, as far as it is there.
func (m *machine) real(name string) string {
	resolved, err := filepath.EvalSymlinks(m.host.Path(name))
	if err != nil {
		return name
	}
	return resolved
}

var tags = map[string]string{
	"UUID": "by-uuid", "LABEL": "by-label", "PARTUUID": "by-partuuid", "PARTLABEL": "by-partlabel", "ID": "by-id",
}

// tagOf returns the directory of links to devices that a tag such as UUID=… is
// looked up in; "" for what is none.
func tagOf(device string) string {
	tag, value, ok := strings.Cut(device, "=")
	if !ok || value == "" {
		return ""
	}
	return tags[tag]
}

// devicePath returns where a device is, given by path or tag; "" for what is no
// path, such as tmpfs.
func devicePath(device string) string {
	if strings.HasPrefix(device, "/") && !strings.HasPrefix(device, "//") { // that is a share
		return device
	}
	dir := tagOf(device)
	if dir == "" {
		return ""
	}
	_, value, _ := strings.Cut(device, "=")
	var b strings.Builder
	for i := range len(value) { // as udev writes it
		c := value[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c >= 0x80, strings.IndexByte("#+-.:=@_", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return path.Join("/dev/disk", dir, b.String())
}

// shows reports whether what is mounted is what the manifest names.
func (r *Resource) shows(now live) bool {
	name := devicePath(r.Device)
	if now.FSType == autofs {
		return true // what is to be mounted is, when somebody looks
	}
	if name == "" {
		return strings.TrimRight(now.Source, "/") == strings.TrimRight(r.Device, "/")
	}
	if now.Source == r.Device && !r.bind() {
		return true
	}
	var st unix.Stat_t
	if err := unix.Stat(r.machine.host.Path(name), &st); err != nil {
		return false
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		number := unix.Mkdev(uint32(now.info.Major), uint32(now.info.Minor)) //nolint:gosec // the kernel's own numbers
		return st.Rdev == number || r.machine.real(now.Source) == r.machine.real(name)
	case unix.S_IFREG:
		if r.bind() {
			return sameFile(&st, r.Name())
		}
		backing, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(now.Source), "loop/backing_file"))
		return err == nil && strings.TrimSpace(string(backing)) == r.machine.real(name)
	}
	return sameFile(&st, r.Name())
}

func sameFile(st *unix.Stat_t, name string) bool {
	var other unix.Stat_t
	return unix.Stat(name, &other) == nil && other.Dev == st.Dev && other.Ino == st.Ino
}

// autofs is what systemd puts where something is mounted at its first use.
const autofs = "autofs"

// sameType reports whether what the kernel calls a type of file system is the one
// of the manifest.
func (r *Resource) sameType(now live) bool {
	switch is := now.FSType; {
	case r.FSType == "auto" || r.bind() || is == r.FSType || is == autofs:
		return true
	case r.FSType == "nfs":
		return is == "nfs4"
	case is == "fuseblk":
		return r.FSType == "ntfs" || r.FSType == "ntfs-3g" || r.FSType == "exfat"
	case strings.HasPrefix(is, "fuse."):
		return "fuse."+strings.TrimPrefix(r.FSType, "fuse.") == is || r.FSType == "fuse"
	}
	return false
}

// flags are the options that the kernel tells of each mount, with what undoes
// them.
var flags = []struct{ set, unset string }{
	{"ro", "rw"}, {"nosuid", "suid"}, {"nodev", "dev"}, {"noexec", "exec"},
}

// offFlags says which flags of a mount are not as its options want it: what they
// are, and what they should be.
func (r *Resource) offFlags(now live) (is, should []string) {
	if r.Options == "" || now.info == nil || now.FSType == autofs {
		return nil, nil
	}
	on := strings.Split(now.info.Options, ",")
	for _, f := range flags {
		want := false
		for _, o := range r.options() {
			switch o {
			case f.set:
				want = true
			case f.unset, "defaults":
				want = false
			case "user", "users":
				want = want || f.set != "ro"
			case "owner", "group":
				want = want || f.set == "nosuid" || f.set == "nodev"
			}
		}
		if got := slices.Contains(on, f.set); got != want {
			word := map[bool]string{true: f.set, false: f.unset}
			is, should = append(is, word[got]), append(should, word[want])
		}
	}
	for _, o := range r.options() {
		if (o == "noatime" || o == "nodiratime") && !slices.Contains(on, o) {
			is, should = append(is, "atime"), append(should, o)
		}
	}
	return is, should
}

// otherPriority tells of swap whose priority is not the one of its options. To
// change it the swap would have to be emptied, into memory that may not be there.
func (r *Resource) otherPriority(now live) string {
	for _, o := range r.options() {
		if pri, ok := strings.CutPrefix(o, "pri="); ok && pri != now.priority {
			return fmt.Sprintf("swapped to with priority %s: %s comes with the next boot, or after swapoff", now.priority, o)
		}
	}
	return ""
}

// lookAt returns the kernel's state of the resource.
func (r *Resource) lookAt() (live, error) {
	if r.swaps() {
		return r.machine.swapped(r.Target)
	}
	return r.machine.at(r.Name())
}

// missing reports whether there is nothing at a path of the host.
func (m *machine) missing(name string) bool {
	_, err := os.Stat(m.host.Path(name))
	return errors.Is(err, fs.ErrNotExist)
}
