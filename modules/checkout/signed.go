package checkout

import (
	"fmt"
	"io"
	"strings"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/trust"
)

const (
	allowedSigners = "allowed_signers"
	keyring        = "keyring"
	revoked        = "revoked"
)

// Load reads the lists of signers that come with the manifest.
func (r *Resource) Load(l resource.Loader) error {
	r.lists = map[string][]byte{}
	for key, name := range map[string]string{allowedSigners: r.AllowedSigners, keyring: r.Keyring, revoked: r.Revoked} {
		if name == "" || strings.HasPrefix(name, "/") {
			continue
		}
		content, err := l.Source(name)
		if err != nil {
			return err
		}
		if r.lists[key], err = whole(content); err != nil {
			return err
		}
	}
	return nil
}

func whole(content *resource.Content) ([]byte, error) {
	f, err := content.Open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, credentialLimit))
}

// checkLists looks at the lists that come with the manifest: a line that is not
// understood lists nobody, and its author should know.
func (r *Resource) checkLists() []error {
	var problems []error
	if data := r.lists[allowedSigners]; data != nil {
		list := trust.ParseSigners(data, time.UTC)
		for _, err := range list.Problems {
			problems = append(problems, resource.Wrong(allowedSigners, "%q: %v", r.AllowedSigners, err))
		}
		if len(list.Problems) == 0 && list.Len() == 0 {
			problems = append(problems, resource.Wrong(allowedSigners, "%q lists nobody", r.AllowedSigners))
		}
	}
	if data := r.lists[keyring]; data != nil {
		if _, err := trust.ParseKeyring(data); err != nil {
			problems = append(problems, resource.Wrong(keyring, "%q: %v", r.Keyring, err))
		}
	}
	if data := r.lists[revoked]; data != nil {
		if _, err := trust.ParseRevocations(data); err != nil {
			problems = append(problems, resource.Wrong(revoked, "%q: %v", r.Revoked, err))
		}
	}
	return problems
}

// signed returns what has to agree to the tag; nil where nothing does.
func (r *Resource) signed() (func(tag []byte) error, error) {
	if r.AllowedSigners == "" && r.Keyring == "" {
		return nil, nil
	}
	signers, keys := &trust.Signers{}, &trust.Keyring{}
	var lost *trust.Revocations
	data, err := r.list(allowedSigners, r.AllowedSigners)
	if err == nil && data != nil {
		// Times without a zone mean the same on every host.
		signers = trust.ParseSigners(data, time.UTC)
	}
	if err == nil {
		data, err = r.list(keyring, r.Keyring)
	}
	if err == nil && data != nil {
		keys, err = trust.ParseKeyring(data)
	}
	if err == nil {
		data, err = r.list(revoked, r.Revoked)
	}
	if err == nil && data != nil {
		lost, err = trust.ParseRevocations(data)
	}
	if err != nil {
		return nil, err
	}
	return func(tag []byte) error {
		if _, why := trust.Tag(tag, r.Tag, strings.ToLower(r.Commit), signers, keys, lost, time.Now()); why != nil {
			return why
		}
		return nil
	}, nil
}

// list is what a file of signers holds.
func (r *Resource) list(key, name string) ([]byte, error) {
	if !strings.HasPrefix(name, "/") {
		return r.lists[key], nil
	}
	data, err := r.host.ReadGuarded(host.CleanPath(name), credentialLimit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return data, nil
}

// listers are the absolute paths of files of signers.
func (r *Resource) listers() []credential {
	var given []credential
	for _, c := range []credential{{key: allowedSigners, name: r.AllowedSigners}, {key: keyring, name: r.Keyring}, {key: revoked, name: r.Revoked}} {
		if strings.HasPrefix(c.name, "/") {
			given = append(given, c)
		}
	}
	return given
}
