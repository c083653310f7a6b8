package host

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// A UserEntry is a line of the machine's passwd file.
type UserEntry struct {
	Name    string
	UID     int
	GID     int
	Comment string
	Home    string
	Shell   string
}

// A GroupEntry is a line of the machine's group file.
type GroupEntry struct {
	Name    string
	GID     int
	Members []string
}

// A ShadowEntry is what the machine's shadow file says of a user.
type ShadowEntry struct {
	Name string
	// Hash is the password's, as crypt(3) makes it, or a word that no password has.
	Hash string
	// Expires is the day on which the account expires, counted from 1970; empty
	// for never.
	Expires string
}

// Users returns the machine's own users, in the order of its passwd file.
// Directory services are not asked.
func (h *Host) Users() ([]UserEntry, error) {
	var list []UserEntry
	err := h.accountLines("/etc/passwd", 7, func(f []string) {
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if err1 == nil && err2 == nil {
			list = append(list, UserEntry{f[0], int(uid), int(gid), f[4], f[5], f[6]})
		}
	})
	return list, err
}

// Groups returns the machine's own groups, in the order of its group file.
func (h *Host) Groups() ([]GroupEntry, error) {
	var list []GroupEntry
	err := h.accountLines("/etc/group", 4, func(f []string) {
		gid, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil {
			return
		}
		g := GroupEntry{Name: f[0], GID: int(gid)}
		for m := range strings.SplitSeq(f[3], ",") {
			if m = strings.TrimSpace(m); m != "" {
				g.Members = append(g.Members, m)
			}
		}
		list = append(list, g)
	})
	return list, err
}

// FindUser returns the machine's own user of a name.
func (h *Host) FindUser(name string) (UserEntry, bool, error) {
	users, err := h.Users()
	for _, u := range users {
		if u.Name == name {
			return u, true, err
		}
	}
	return UserEntry{}, false, err
}

// FindGroup returns the machine's own group of a name.
func (h *Host) FindGroup(name string) (GroupEntry, bool, error) {
	groups, err := h.Groups()
	for _, g := range groups {
		if g.Name == name {
			return g, true, err
		}
	}
	return GroupEntry{}, false, err
}

// Shadow returns what the shadow file says of a user. Only root may ask.
func (h *Host) Shadow(name string) (entry ShadowEntry, ok bool, err error) {
	err = h.accountLines("/etc/shadow", 8, func(f []string) {
		if f[0] == name && !ok {
			entry, ok = ShadowEntry{Name: name, Hash: f[1], Expires: f[7]}, true
		}
	})
	return entry, ok, err
}

// accountLines calls each for every line of an account file that has at least
// some number of fields. A file that is not there has no lines.
func (h *Host) accountLines(file string, fields int, each func([]string)) error {
	data, err := h.ReadFile(file, accountsLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimRight(line, "\r\n"), ":")
		if len(f) >= fields && f[0] != "" && !strings.HasPrefix(f[0], "#") {
			each(f)
		}
	}
	return nil
}

// CheckAccountName returns what is wrong with the name of a user or group, or
// "". It is narrower than what the system's tools can be talked into.
func CheckAccountName(name string) string {
	if name == "" {
		return "is missing"
	}
	if len(name) > 32 {
		return fmt.Sprintf("%q is longer than 32 characters", name)
	}
	for i, c := range name {
		switch {
		case c >= 'a' && c <= 'z', c == '_', c >= 'A' && c <= 'Z':
		case i > 0 && (c >= '0' && c <= '9' || c == '-' || c == '.'):
		case i > 0 && c == '$' && i == len(name)-1:
		default:
			return fmt.Sprintf("%q is not the name of an account: it takes letters, digits, '_' and '-', and begins with a letter or '_'", name)
		}
	}
	return ""
}

// UserFiles are the files that say who the users are.
func UserFiles() []string { return []string{"/etc/passwd", "/etc/shadow"} }

// GroupFiles are the files that say who is in which group.
func GroupFiles() []string { return []string{"/etc/group", "/etc/gshadow"} }
