package user

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"strconv"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// A noted is what the account was before it was managed, and what the resource
// wanted for the time when it is gone.
type noted struct {
	Existed bool `json:"existed"`
	// Fields holds the earlier values of what is managed. A password's is the
	// word of its hash in the backup store.
	Fields map[string]string `json:"fields,omitempty"`
	// Append is true when only the groups that were added are taken back.
	Append bool `json:"append,omitempty"`
	// HadHome and HadGroup tell what of the new user was there before it.
	HadHome  bool `json:"had_home,omitempty"`
	HadGroup bool `json:"had_group,omitempty"`

	RemoveHome bool `json:"remove_home,omitempty"`
	// Removed is true when the resource removed the user itself.
	Removed   bool `json:"removed,omitempty"`
	Sensitive bool `json:"sensitive,omitempty"`
}

func takeNoted(prior resource.Prior, name string) (n noted, ok bool, err error) {
	ok, err = prior.Recall(claim(name), &n)
	return n, ok, err
}

// note returns the prior with what is new to it, or nil.
func (r *Resource) note(prior resource.Prior, n noted, known bool, s seen) (resource.Prior, error) {
	if !known {
		n.Existed, n.HadGroup = s.exists, s.ownGroup
		_, err := r.host.Lstat(r.home(s))
		n.HadHome = err == nil
	}
	n.Append, n.RemoveHome, n.Removed, n.Sensitive = r.Append, r.RemoveHome, r.absent(), r.Sensitive
	if s.exists && n.Existed {
		fields := maps.Clone(n.Fields)
		for field, value := range r.earlier(s) {
			if _, has := fields[field]; has {
				continue
			}
			if fields == nil {
				fields = map[string]string{}
			}
			fields[field] = value
		}
		n.Fields = fields
	}
	return prior.With(claim(r.User), n)
}

// earlier returns the values of an account that this resource manages.
func (r *Resource) earlier(s seen) map[string]string {
	values := map[string]string{}
	put := func(field string, managed bool, value string) {
		if managed || r.absent() {
			values[field] = value
		}
	}
	put(fieldUID, r.UID != nil, strconv.Itoa(s.user.UID))
	put(fieldGroup, r.Group != "", strconv.Itoa(s.user.GID))
	put(fieldGroups, r.Groups != nil, describe(s.groups))
	put(fieldComment, r.Comment != nil, s.user.Comment)
	put(fieldHome, r.Home != "", s.user.Home)
	put(fieldShell, r.Shell != "", s.user.Shell)
	put(fieldExpires, r.Expires != "", date(s.expires))
	if s.shadow {
		hash, isLocked := locked(s.hash)
		put(fieldPassword, r.Password != "", word(hash))
		put(fieldLock, r.Lock != nil || r.Password != "", strconv.FormatBool(isLocked))
	}
	return values
}

// word is what the backup store will call a hash. One that opens nothing is
// kept as it is.
func word(hash string) string {
	if !opens(hash) {
		return hash
	}
	sum := sha256.Sum256([]byte(hash))
	return hex.EncodeToString(sum[:])
}

// keepHash puts the hash that is about to be replaced into the backup store.
func (r *Resource) keepHash(s seen) error {
	hash, _ := locked(s.hash)
	if !opens(hash) || r.Sensitive && !r.host.Noted(word(hash)) {
		return nil
	}
	if _, err := r.host.KeepSecret([]byte(hash)); err != nil {
		return fmt.Errorf("cannot keep the password of user %q: %w", r.User, err)
	}
	return nil
}

func keptHash(h *host.Host, word string) (string, error) {
	if !opens(word) {
		return word, nil
	}
	data, err := h.Kept(word)
	if err != nil {
		return "", fmt.Errorf("cannot give back the earlier password: %w", err)
	}
	return string(data), nil
}
