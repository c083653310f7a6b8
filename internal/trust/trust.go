// Package trust decides whether a commit may be applied: by its signature, by
// who signed it, by its dates and by where it stands in its history.
//
// It knows commits and files by their bytes alone. What it is given of an
// untrusted commit it reads no further than the decision takes, and it fetches,
// writes and applies nothing. Everything that it relies on comes from the host,
// or from commits that the host has accepted.
package trust

import (
	"errors"
	"fmt"
	"time"

	"trued.dev/trued/internal/source/object"
)

// Require says which commits have to be signed.
type Require string

// What can be required.
const (
	// None of them; the source is whatever its server says.
	None Require = "none"
	// Signature asks for it of the commit that is to be applied.
	Signature Require = "signature"
	// WholeHistory asks for it of every commit since the last trusted one.
	WholeHistory Require = "history"
)

// Place says where the list of signers is.
type Place string

// The places.
const (
	// OnHost is the host's own files.
	OnHost Place = "host"
	// InRepository is SignersFile of each parent of a commit.
	InRepository Place = "repository"
)

const (
	// SignersFile lists, in a repository, who may sign the commits that follow.
	SignersFile = ".trued/allowed_signers"
	// NameFile holds a repository's name.
	NameFile = "repository.yaml"
)

// Config is what a source has to keep to. The zero value requires nothing.
type Config struct {
	Require Require
	// AllowedSigners, Keyring and Revoked are paths of files of the host, read
	// anew for each decision.
	AllowedSigners string
	Keyring        string
	Revoked        string
	Signers        Place
	// Introduction is the commit that trust begins at; zero where none is pinned.
	Introduction object.ID
	// FreshWithin is how old the newest commit may become; zero is for ever.
	FreshWithin time.Duration
	// Repository is the name that the tree must have; empty is any.
	Repository string
}

// Active reports whether signatures are looked at.
func (c Config) Active() bool { return c.Require != "" && c.Require != None }

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch c.Require {
	case "", None, Signature, WholeHistory:
	default:
		wrong("require: %q is unknown: write none, signature or history", c.Require)
	}
	switch c.Signers {
	case "", OnHost, InRepository:
	default:
		wrong("signers: %q is unknown: write host or repository", c.Signers)
	}
	files := c.AllowedSigners != "" || c.Keyring != ""
	switch {
	case !c.Active() && (files || c.Signers != "" || c.Revoked != "" || !c.Introduction.IsZero()):
		wrong("require: is missing: write signature or history, or take the other keys away")
	case c.Active() && c.Signers == InRepository && c.Introduction.IsZero():
		wrong("introduction: is missing: with `signers: repository` trust has to begin at a commit that this host names")
	case c.Active() && c.Signers == InRepository && files:
		wrong("allowed_signers and keyring: the repository lists its signers itself: take them away, or write `signers: host`")
	case c.Active() && c.Signers != InRepository && !files:
		wrong("allowed_signers or keyring: is missing: nobody could sign anything")
	}
	for key, path := range map[string]string{"allowed_signers": c.AllowedSigners, "keyring": c.Keyring, "revoked": c.Revoked} {
		if path != "" && path[0] != '/' {
			wrong("%s: %q is not an absolute path", key, path)
		}
	}
	if c.FreshWithin < 0 {
		wrong("fresh_within: must not be negative")
	}
	return errors.Join(errs...)
}
