package user

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// The fields of a difference.
const (
	fieldState    = "state"
	fieldUID      = "uid"
	fieldGroup    = "group"
	fieldGroups   = "groups"
	fieldComment  = "comment"
	fieldHome     = "home"
	fieldHomeDir  = "create_home"
	fieldShell    = "shell"
	fieldPassword = "password"
	fieldLock     = "lock"
	fieldExpires  = "expires"
)

// A seen is an account as it is on the host.
type seen struct {
	exists bool
	user   host.UserEntry
	group  string // name of the primary group
	groups []string
	// hash is the field of the shadow file, and whether there is one that this
	// process may read.
	hash    string
	expires string
	shadow  bool
	// ownGroup is true when there is a group of the user's name.
	ownGroup bool
}

func look(h *host.Host, name string) (seen, error) {
	var s seen
	var err error
	if s.user, s.exists, err = h.FindUser(name); err != nil {
		return s, err
	}
	groups, err := h.Groups()
	if err != nil {
		return s, err
	}
	s.group = strconv.Itoa(s.user.GID)
	for _, g := range groups {
		s.ownGroup = s.ownGroup || g.Name == name
		if s.exists && g.GID == s.user.GID && isNumber(s.group) {
			s.group = g.Name
		}
		if slices.Contains(g.Members, name) {
			s.groups = append(s.groups, g.Name)
		}
	}
	entry, ok, err := h.Shadow(name)
	if errors.Is(err, fs.ErrPermission) {
		return s, nil
	}
	s.hash, s.expires, s.shadow = entry.Hash, entry.Expires, ok
	return s, err
}

// locked splits the field of the shadow file into the hash and what usermod
// puts before it to lock it.
func locked(field string) (hash string, yes bool) {
	return strings.CutPrefix(field, "!")
}

// none is the field of an account that has no password, and lets nobody in.
const none = "!"

// opens reports whether a hash lets somebody in, once it is not locked.
func opens(hash string) bool { return len(hash) > 2 }

// compare returns how an account differs. leave tells which other groups are
// left alone, made whether the user was made by this resource.
func (r *Resource) compare(s seen, made bool, leave func(group string) bool) (resource.Diff, error) {
	if r.absent() {
		if !s.exists {
			return nil, nil
		}
		return resource.Diff{{Field: fieldState, Old: "present", New: host.Absent}}, nil
	}
	var diff resource.Diff
	add := func(field, old, want string) {
		if !s.exists {
			old = ""
		}
		if old != want {
			diff = append(diff, resource.Change{Field: field, Old: old, New: want})
		}
	}
	if !s.exists {
		add(fieldState, "", "present")
		diff[0].Old = host.Absent
	}
	if r.UID != nil && (!s.exists || s.user.UID != *r.UID) {
		if err := r.taken(); err != nil {
			return nil, err
		}
		add(fieldUID, strconv.Itoa(s.user.UID), strconv.Itoa(*r.UID))
	}
	if r.Group != "" && r.Group != strconv.Itoa(s.user.GID) {
		add(fieldGroup, s.group, r.Group)
	}
	if r.Groups != nil {
		r.target = r.wantedGroups(s, leave)
		add(fieldGroups, describe(s.groups), describe(r.target))
	}
	if r.Comment != nil {
		add(fieldComment, s.user.Comment, *r.Comment)
	}
	for _, f := range []struct{ field, old, want string }{
		{fieldHome, s.user.Home, r.Home}, {fieldShell, s.user.Shell, r.Shell},
	} {
		if f.want != "" {
			add(f.field, f.old, host.CleanPath(f.want))
		}
	}
	if err := r.movable(s); err != nil {
		return nil, err
	}
	missing, err := r.homeMissing(s, made)
	if err != nil {
		return nil, err
	}
	if missing != "" {
		diff = append(diff, resource.Change{Field: fieldHomeDir, New: missing})
	}
	return append(diff, r.compareShadow(s)...), nil
}

func (r *Resource) wantedGroups(s seen, leave func(string) bool) []string {
	want := slices.Clone(r.Groups)
	for _, g := range s.groups {
		if !slices.Contains(want, g) && leave(g) {
			want = append(want, g)
		}
	}
	return want
}

// homeMissing returns the home directory that is to be made, if one is.
func (r *Resource) homeMissing(s seen, made bool) (string, error) {
	home := r.home(s)
	if !r.makesHome(made) || r.MoveHome && s.exists && home != s.user.Home {
		return "", nil
	}
	_, err := r.host.Lstat(home)
	if errors.Is(err, fs.ErrNotExist) {
		return home, nil
	}
	return "", err
}

// movable returns an error where the home directory would be moved to a place that
// is taken: usermod would write down the new one all the same, and move nothing.
func (r *Resource) movable(s seen) error {
	home := r.home(s)
	if !r.MoveHome || !s.exists || home == host.CleanPath(s.user.Home) {
		return nil
	}
	now, err := r.host.Lstat(home)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("cannot move the home directory of user %q from %s: there is a %s at %s", r.User, s.user.Home, now.Type(), home)
}

// home is the home directory that the user has or will have.
func (r *Resource) home(s seen) string {
	switch {
	case r.Home != "":
		return host.CleanPath(r.Home)
	case s.exists:
		return host.CleanPath(s.user.Home)
	default:
		return defaultHome(r.User)
	}
}

func (r *Resource) compareShadow(s seen) resource.Diff {
	var diff resource.Diff
	hash, isLocked := locked(s.hash)
	if r.Password != "" && (!s.exists || hash != strings.TrimPrefix(r.Password, none)) {
		diff = append(diff, resource.Change{Field: fieldPassword, Redacted: true})
	}
	if r.Lock != nil {
		// What opens nothing need not be unlocked; a new account has no password.
		switch {
		case *r.Lock && !isLocked && s.exists:
			diff = append(diff, resource.Change{Field: fieldLock, Old: "false", New: "true"})
		case !*r.Lock && isLocked && opens(hash):
			diff = append(diff, resource.Change{Field: fieldLock, Old: "true", New: "false"})
		case *r.Lock && !s.exists && r.Password != "":
			diff = append(diff, resource.Change{Field: fieldLock, New: "true"})
		}
	}
	if r.Expires != "" && s.expires != day(r.Expires) {
		diff = append(diff, resource.Change{Field: fieldExpires, Old: date(s.expires), New: r.Expires})
	}
	return diff
}
