package trust

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Revocations are keys that are not to be trusted whatever else lists them: a
// list of public keys, or a KRL of ssh-keygen.
type Revocations struct {
	keys map[string]bool
	krl  *krl
}

// ParseRevocations reads either. What is not understood is an error, since it
// may be the very key that matters.
func ParseRevocations(data []byte) (*Revocations, error) {
	if bytes.HasPrefix(data, []byte(krlMagic)) {
		list, err := parseKRL(data)
		if err != nil {
			return nil, fmt.Errorf("malformed KRL: %w", err)
		}
		return &Revocations{krl: list}, nil
	}
	r := &Revocations{keys: map[string]bool{}}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.Trim(line, blanks)
		if line == "" || line[0] == '#' {
			continue
		}
		key, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		r.keys[string(bare(key).Marshal())] = true
	}
	return r, nil
}

// bare is a key without the certificate around it.
func bare(key ssh.PublicKey) ssh.PublicKey {
	if cert, ok := key.(*ssh.Certificate); ok {
		return cert.Key
	}
	return key
}

// has reports whether the key, its certificate, or the authority that gave it,
// is revoked.
func (r *Revocations) has(key ssh.PublicKey) bool {
	if r == nil {
		return false
	}
	cert, _ := key.(*ssh.Certificate)
	if r.krl != nil {
		return r.krl.revokes(bare(key)) || cert != nil && (r.krl.revokes(cert.SignatureKey) || r.krl.revokesCertificate(cert))
	}
	return r.keys[string(bare(key).Marshal())] || cert != nil && r.keys[string(cert.SignatureKey.Marshal())]
}

var errCutOff = errors.New("it is cut off")
