package host

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// A PathError is something that could not be done to a path, with the reason
// in words where the system's own say too little.
type PathError struct {
	Op     string
	Path   string
	Reason string
	Err    error
}

func (e *PathError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("cannot %s %q: %v", e.Op, e.Path, e.Err)
	}
	return fmt.Sprintf("cannot %s %q: %s", e.Op, e.Path, e.Reason)
}

func (e *PathError) Unwrap() error { return e.Err }

// A MissingParentError is a path whose directory is not there.
type MissingParentError struct {
	Path   string
	Parent string
}

func (e *MissingParentError) Error() string {
	return fmt.Sprintf("cannot open %q: directory %q is missing: declare it as a directory, or set `parents: true`",
		e.Path, e.Parent)
}

// Is makes a missing parent a missing file to errors.Is.
func (e *MissingParentError) Is(target error) bool {
	return errors.Is(unix.ENOENT, target)
}

// A HostileLinkError is a link on the way to a path that somebody other than
// root can have put there.
type HostileLinkError struct {
	Path string
	Link string
}

func (e *HostileLinkError) Error() string {
	return fmt.Sprintf("cannot open %q: %q is a symbolic link that others than root may have put there", e.Path, e.Link)
}

// A TypeError is something at a path that is not what should be there.
type TypeError struct {
	Path string
	Is   string
	Want string
	// Hint says what would allow it, if anything does.
	Hint string
}

func (e *TypeError) Error() string {
	msg := fmt.Sprintf("%q is a %s, not a %s", e.Path, e.Is, e.Want)
	if e.Hint != "" {
		msg += ": " + e.Hint
	}
	return msg
}

// explain returns a PathError with the reason in words.
func explain(op, name string, err error) error {
	var said *PathError
	if err == nil || errors.As(err, &said) {
		return err
	}
	return &PathError{Op: op, Path: name, Reason: reason(err), Err: err}
}

func reason(err error) string {
	switch {
	case errors.Is(err, unix.EROFS):
		return "its file system is mounted read-only"
	case errors.Is(err, unix.EBUSY):
		return "something is mounted on it, so it cannot be replaced"
	case errors.Is(err, unix.ENOSPC):
		return "no space is left on its file system"
	case errors.Is(err, unix.EDQUOT):
		return "the disk quota is used up"
	case errors.Is(err, unix.ELOOP):
		return "there are too many symbolic links on its path"
	case errors.Is(err, unix.ENAMETOOLONG):
		return "its name is too long"
	case errors.Is(err, unix.ENOTEMPTY):
		return "the directory is not empty"
	}
	return ""
}

// explainAt is explain for a change at a place: a change that root is not
// permitted is one of a file or directory that chattr protects.
func explainAt(op, name string, p place, err error) error {
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
		return explain(op, name, err)
	}
	for _, at := range []struct{ base, what string }{{p.base, "it"}, {".", "its directory"}} {
		if flag := protection(p.dir, at.base); flag != "" {
			return &PathError{Op: op, Path: name, Reason: at.what + " is " + flag, Err: err}
		}
	}
	return explain(op, name, err)
}

func protection(dir int, base string) string {
	var st unix.Statx_t
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if unix.Statx(dir, base, flags, unix.STATX_BASIC_STATS, &st) != nil {
		return ""
	}
	switch {
	case st.Attributes&unix.STATX_ATTR_IMMUTABLE != 0:
		return "immutable (chattr -i allows changes)"
	case st.Attributes&unix.STATX_ATTR_APPEND != 0:
		return "append-only (chattr -a allows changes)"
	}
	return ""
}
