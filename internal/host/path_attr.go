package host

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/resource"
)

// mend changes mode and owner of the very inode that was looked at before. A
// file that has got a second name since could be anybody's.
func (h *Host) mend(name string, p place, seen Info, mode resource.Mode, uid, gid int) error {
	fd, now, err := p.grasp(name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !now.SameFile(seen) || now.Type() != seen.Type() || now.Type() == TypeFile && now.Links() != 1 {
		return &PathError{Op: "change", Path: name, Reason: "it was replaced while it was being changed"}
	}
	mode = mode.Or(now.Mode().Bits())
	if err := chown(fd, uid, gid); err != nil {
		return explainAt("change the owner of", name, p, err)
	}
	// A change of owner strips setuid and setgid bits, so the mode comes last.
	if err := unix.Fstat(fd, &now.st); err != nil {
		return explain("look at", name, err)
	}
	if now.Type() == TypeLink || now.Mode() == mode {
		return nil
	}
	if err := chmod(fd, mode); err != nil {
		return explainAt("change the mode of", name, p, err)
	}
	return nil
}

// chmod changes the mode of an O_PATH descriptor.
func chmod(fd int, mode resource.Mode) error {
	err := unix.Fchmodat(fd, "", mode.Bits(), unix.AT_EMPTY_PATH)
	if err != nil {
		// Before Linux 6.6, and where it is filtered, it takes the name that /proc gives the descriptor.
		err = errors.Unwrap(os.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode.FileMode()))
	}
	return err
}

// copyXattrs makes the extended attributes of a new file those of the one that
// it replaces: the SELinux label, access control lists, capabilities, what
// users have set. Those that sign the content are the kernel's to make.
func copyXattrs(from, to int) error {
	want, err := listXattrs(from)
	if err != nil {
		return err
	}
	have, err := listXattrs(to)
	if err != nil {
		return err
	}
	for name := range have {
		if _, ok := want[name]; !ok && name == "system.posix_acl_access" {
			// The directory's default list gave it to the new file alone.
			if err := unix.Fremovexattr(to, name); err != nil {
				return err
			}
		}
	}
	for name, value := range want {
		if bytes.Equal(have[name], value) {
			continue
		}
		err := unix.Fsetxattr(to, name, value, 0)
		if errors.Is(err, unix.EPERM) && os.Geteuid() != 0 && !strings.HasPrefix(name, "user.") {
			continue // an ordinary user keeps what it may
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Xattrs are the extended attributes of a file that mean the same on whatever it is
// written to: its access control list, its capabilities and what users have set.
type Xattrs map[string][]byte

// mostXattrs bounds what is noted of them.
const mostXattrs = 16 << 10

func isPortable(name string, secret bool) bool {
	return name == "system.posix_acl_access" || name == "security.capability" || !secret && strings.HasPrefix(name, "user.")
}

// xattrsOf returns those of a file; of a secret nothing that a user has written, and
// none of them where they are too many.
func xattrsOf(fd int, secret bool) (Xattrs, error) {
	all, err := listXattrs(fd)
	if err != nil {
		return nil, err
	}
	found, size := Xattrs{}, 0
	for name, value := range all {
		if isPortable(name, secret) {
			found[name] = value
			size += len(name) + len(value)
		}
	}
	if size > mostXattrs {
		return nil, nil
	}
	return found, nil
}

// give makes a file have these, and no other that would have been noted.
func (x Xattrs) give(fd int, secret bool) error {
	have, err := listXattrs(fd)
	if err != nil {
		return err
	}
	for name := range have {
		if _, ok := x[name]; !ok && isPortable(name, secret) {
			if err := unix.Fremovexattr(fd, name); err != nil {
				return err
			}
		}
	}
	for name, value := range x {
		err := unix.Fsetxattr(fd, name, value, 0)
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) && os.Geteuid() != 0 {
			continue // what it is written to has none of these
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func listXattrs(fd int) (map[string][]byte, error) {
	list, err := sized(func(buf []byte) (int, error) { return unix.Flistxattr(fd, buf) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil || len(list) == 0 {
		return nil, err
	}
	attrs := map[string][]byte{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		if name == "security.ima" || name == "security.evm" {
			continue
		}
		value, err := sized(func(buf []byte) (int, error) { return unix.Fgetxattr(fd, name, buf) })
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
			continue
		}
		if err != nil {
			return nil, err
		}
		attrs[name] = value
	}
	return attrs, nil
}

// sized asks for a value whose length is not known beforehand.
func sized(get func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := get(buf)
		if err == nil {
			return buf[:n], nil
		}
		if !errors.Is(err, unix.ERANGE) || size > 1<<20 {
			return nil, err
		}
	}
}
