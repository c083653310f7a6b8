package trust

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// A Keyring is the OpenPGP keys whose owners may sign.
type Keyring struct{ keys openpgp.EntityList }

// ParseKeyring reads public keys, armored or not, one after the other.
func ParseKeyring(data []byte) (*Keyring, error) {
	const head = "-----BEGIN PGP "
	if !bytes.Contains(data, []byte(head)) {
		keys, err := openpgp.ReadKeyRing(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("malformed keyring: %w", err)
		}
		return &Keyring{keys}, nil
	}
	k := &Keyring{}
	for _, part := range strings.Split(string(data), head)[1:] {
		keys, err := openpgp.ReadArmoredKeyRing(strings.NewReader(head + part))
		if err != nil {
			return nil, fmt.Errorf("malformed keyring: %w", err)
		}
		k.keys = append(k.keys, keys...)
	}
	return k, nil
}

// verify checks a signature of a message, as it was at a time. A revocation
// counts from ever on.
func (k *Keyring) verify(armored, message []byte, at, now time.Time) (string, *Refusal) {
	if !alone(armored, "-----END PGP SIGNATURE-----") {
		return "", refuse(BadSignature, "the signature is malformed: there is more than it")
	}
	block, err := armor.Decode(bytes.NewReader(armored))
	if err != nil || block.Type != openpgp.SignatureType {
		return "", refuse(BadSignature, "the signature is malformed: its armor cannot be read")
	}
	packets, err := io.ReadAll(io.LimitReader(block.Body, maxSigners))
	if err != nil {
		return "", refuse(BadSignature, "the signature is malformed: %v", err)
	}
	sig, refusal := onlySignature(packets)
	if refusal != nil {
		return "", refusal
	}
	keys := k.keys.KeysByIdUsage(*sig.IssuerKeyId, packet.KeyFlagSign)
	if len(keys) == 0 {
		name := fmt.Sprintf("OpenPGP key %016X", *sig.IssuerKeyId)
		if len(k.keys.KeysById(*sig.IssuerKeyId)) > 0 {
			return "", refuse(NotPermitted, "the key in the keyring is not one that may sign").by(name)
		}
		return "", refuse(UnknownKey, "the key is not in the keyring").by(name)
	}
	// A commit gets its date before it is signed, and a key that is made to last
	// longer is certified anew, so that the whole is looked at a bit later; whether
	// the key was valid at the date is looked at apart.
	later := at
	for _, made := range certified(keys, sig) {
		if made.After(later) {
			later = made
		}
	}
	config := &packet.Config{Time: func() time.Time { return later }}
	_, signer, err := openpgp.VerifyDetachedSignature(k.keys, bytes.NewReader(message), bytes.NewReader(packets), config)
	key := keys[0]
	if i := slices.IndexFunc(keys, func(k openpgp.Key) bool { return k.Entity == signer }); i >= 0 {
		key = keys[i]
	}
	return openpgpVerdict(key, sig, err, at, now)
}

// certified are the times at which a signature and what stands behind it was made.
func certified(keys []openpgp.Key, sig *packet.Signature) []time.Time {
	times := []time.Time{sig.CreationTime}
	for _, k := range keys {
		self, _ := k.Entity.PrimarySelfSignature()
		for _, s := range []*packet.Signature{self, k.SelfSignature} {
			if s == nil {
				continue
			}
			times = append(times, s.CreationTime)
			if s.EmbeddedSignature != nil {
				times = append(times, s.EmbeddedSignature.CreationTime)
			}
		}
	}
	return times
}

// onlySignature reads the one signature that there may be.
func onlySignature(packets []byte) (*packet.Signature, *Refusal) {
	r := packet.NewReader(bytes.NewReader(packets))
	first, err := r.Next()
	sig, ok := first.(*packet.Signature)
	if err != nil || !ok || sig.IssuerKeyId == nil {
		return nil, refuse(BadSignature, "the signature is malformed, or does not say whose it is")
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		return nil, refuse(BadSignature, "there is more than one signature")
	}
	switch sig.Hash {
	case crypto.MD5, crypto.SHA1, crypto.RIPEMD160:
		return nil, refuse(BadSignature, "the signature is made over %s, which is no longer safe", sig.Hash)
	}
	if sig.SigType != packet.SigTypeBinary {
		return nil, refuse(BadSignature, "the signature is not one of a file")
	}
	return sig, nil
}

func openpgpVerdict(key openpgp.Key, sig *packet.Signature, err error, at, now time.Time) (string, *Refusal) {
	name := fmt.Sprintf("OpenPGP key %X", key.PublicKey.Fingerprint)
	if id := key.Entity.PrimaryIdentity(); id != nil {
		name = id.Name
	}
	primary, self := key.Entity.PrimarySelfSignature()
	subkey := key.PublicKey != key.Entity.PrimaryKey
	switch {
	case errors.Is(err, pgperrors.ErrKeyRevoked), len(key.Entity.Revocations) > 0, subkey && len(key.Revocations) > 0,
		self != nil && self.Revoked(now):
		return "", refuse(Revoked, "key %X is revoked", key.PublicKey.Fingerprint).by(name)
	case errors.Is(err, pgperrors.ErrKeyExpired):
		if at.Before(key.PublicKey.CreationTime) || at.Before(key.Entity.PrimaryKey.CreationTime) {
			return "", refuse(NotYetValid, "the key was not valid on %s yet", shown(at)).by(name)
		}
		return "", refuse(Expired, "the key was not valid on %s any more", shown(at)).by(name)
	case errors.Is(err, pgperrors.ErrSignatureExpired):
		return "", refuse(Expired, "the signature was not valid on %s any more", shown(at)).by(name)
	case err != nil:
		return "", refuse(BadSignature, notOfThis).by(name)
	case at.Before(key.PublicKey.CreationTime), at.Before(key.Entity.PrimaryKey.CreationTime):
		return "", refuse(NotYetValid, "the key was not valid on %s yet", shown(at)).by(name)
	case key.PublicKey.KeyExpired(key.SelfSignature, at), key.Entity.PrimaryKey.KeyExpired(primary, at):
		return "", refuse(Expired, "the key was not valid on %s any more", shown(at)).by(name)
	case sig.CreationTime.After(now.Add(Skew)):
		return "", refuse(Future, "the signature is from %s, which is yet to come", shown(sig.CreationTime)).by(name)
	}
	return name, nil
}
