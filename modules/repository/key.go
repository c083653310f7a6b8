package repository

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"trued.dev/trued/internal/resource"
)

const (
	sizeLimit = 1 << 20
	armorHead = "-----BEGIN PGP "
	armorType = "PUBLIC KEY BLOCK"
)

// A keyring is the key of a repository, or several.
type keyring struct {
	// Fingerprints are those of the primary keys, sorted, in upper case.
	Fingerprints []string `json:"fingerprints"`
	// SHA256 is the digest of all, which changes when a key is made to last longer.
	SHA256 string `json:"sha256"`

	binary []byte
	// keys are those that could be looked into; a package manager may know more.
	keys openpgp.EntityList
}

// readKeyring reads public keys, armored or not.
func readKeyring(content *resource.Content) (*keyring, error) {
	r, err := content.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, sizeLimit+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > sizeLimit:
		return nil, fmt.Errorf("it has more than %d bytes", sizeLimit)
	}
	if bytes.Contains(data, []byte(armorHead)) {
		if data, err = dearmor(data); err != nil {
			return nil, err
		}
	}
	k := &keyring{binary: data, SHA256: resource.Bytes(data).SHA256}
	if k.Fingerprints, err = fingerprints(data); err != nil {
		return nil, err
	}
	k.keys, _ = openpgp.ReadKeyRing(bytes.NewReader(data)) // what it cannot read has no remarks
	return k, nil
}

// dearmor takes the armor off each of the blocks of a text.
func dearmor(data []byte) ([]byte, error) {
	var all []byte
	for _, part := range strings.Split(string(data), armorHead)[1:] {
		block, err := armor.Decode(strings.NewReader(armorHead + part))
		switch {
		case err != nil:
			return nil, fmt.Errorf("its armor cannot be read: %w", err)
		case strings.Contains(block.Type, "PRIVATE KEY"):
			return nil, errPrivate
		case block.Type != "PGP "+armorType:
			return nil, fmt.Errorf("there is a %q in it, and a public key is wanted", block.Type)
		}
		key, err := io.ReadAll(block.Body)
		if err != nil {
			return nil, fmt.Errorf("its armor cannot be read: %w", err)
		}
		all = append(all, key...)
	}
	return all, nil
}

var errPrivate = errors.New("there is a private key in it, which must not be in Git: take it out, and have another made")

// fingerprints lists all primary keys. None is passed over: each would be
// trusted.
func fingerprints(data []byte) ([]string, error) {
	var all []string
	for packets := packet.NewOpaqueReader(bytes.NewReader(data)); ; {
		p, err := packets.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("it is not an OpenPGP key: %w", err)
		}
		const secretKey, publicKey, secretSubkey = 5, 6, 7
		switch p.Tag {
		case secretKey, secretSubkey:
			return nil, errPrivate
		case publicKey:
			parsed, err := p.Parse()
			key, ok := parsed.(*packet.PublicKey)
			if err != nil || !ok {
				return nil, fmt.Errorf("a key in it cannot be read: %w", err)
			}
			all = append(all, strings.ToUpper(hex.EncodeToString(key.Fingerprint)))
		}
	}
	if len(all) == 0 {
		return nil, errors.New("there is no OpenPGP key in it")
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// parseFingerprints reads what an author writes, sorted; nothing for nothing.
func parseFingerprints(s string) ([]string, error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	var all []string
	for one := range strings.SplitSeq(s, ",") {
		one = strings.ToUpper(strings.NewReplacer(" ", "", ":", "").Replace(strings.TrimPrefix(strings.TrimSpace(one), "0x")))
		if len(one) != 40 && len(one) != 64 || strings.Trim(one, "0123456789ABCDEF") != "" {
			return nil, fmt.Errorf("%q is not a fingerprint of 40 hexadecimal digits; a shorter one tells nothing", one)
		}
		all = append(all, one)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// soon is how long before its end a key is remarked upon.
const soon = 14 * 24 * time.Hour

// remarks tells what is the matter with the keys' time. A host is not out of order
// because of it: nobody changed anything, and the other repositories work.
func (k *keyring) remarks(now time.Time) []string {
	if k == nil {
		return nil
	}
	var remarks []string
	say := func(e *openpgp.Entity, format string, args ...any) {
		remarks = append(remarks, fmt.Sprintf("the key %X ", e.PrimaryKey.Fingerprint)+fmt.Sprintf(format, args...))
	}
	for _, e := range k.keys {
		until, ends := endOf(e)
		_, signs := e.SigningKey(now)
		switch {
		case e.Revoked(now):
			say(e, "was revoked by its owner: what it signed is refused")
		case ends && !now.Before(until):
			say(e, "expired on %s: what it signed is refused until there is a newer one", until.UTC().Format(time.DateOnly))
		case !signs:
			say(e, "has nothing that can still sign: what it signed may be refused")
		case ends && now.After(until.Add(-soon)):
			say(e, "expires on %s", until.UTC().Format(time.DateOnly))
		}
	}
	return remarks
}

// next is the first moment from which on there may be more to remark; none when
// there never will be.
func (k *keyring) next(now time.Time) (first time.Time) {
	if k == nil {
		return first
	}
	at := func(t time.Time) {
		if t.After(now) && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	for _, e := range k.keys {
		if until, ends := endOf(e); ends {
			at(until.Add(-soon))
			at(until)
		}
		for _, sub := range e.Subkeys {
			if s := sub.Sig; s != nil && s.KeyLifetimeSecs != nil && *s.KeyLifetimeSecs != 0 {
				at(sub.PublicKey.CreationTime.Add(time.Duration(*s.KeyLifetimeSecs) * time.Second))
			}
		}
	}
	return first
}

// endOf returns when a primary key expires.
func endOf(e *openpgp.Entity) (until time.Time, ends bool) {
	sig, _ := e.PrimarySelfSignature()
	if sig == nil || sig.KeyLifetimeSecs == nil || *sig.KeyLifetimeSecs == 0 {
		return time.Time{}, false
	}
	return e.PrimaryKey.CreationTime.Add(time.Duration(*sig.KeyLifetimeSecs) * time.Second), true
}

// armored is the keyring as rpm wants it.
func (k *keyring) armored() []byte {
	var b bytes.Buffer
	w, err := armor.Encode(&b, "PGP "+armorType, nil)
	if err == nil {
		_, err = w.Write(k.binary)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil // a buffer takes all
	}
	return append(b.Bytes(), '\n')
}
