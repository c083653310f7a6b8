package cacertificate

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"

	"trued.dev/trued/internal/resource"
)

const (
	sizeLimit   = 64 << 10
	certificate = "CERTIFICATE"
)

// readCertificate returns the one certificate of an authority that a content is,
// and that in the form in which it is written.
func readCertificate(content *resource.Content) (*x509.Certificate, []byte, error) {
	r, err := content.Open()
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, sizeLimit+1))
	switch {
	case err != nil:
		return nil, nil, err
	case len(data) > sizeLimit:
		return nil, nil, fmt.Errorf("it has more than %d bytes, and one certificate is wanted", sizeLimit)
	}
	var only *pem.Block
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case strings.Contains(block.Type, "PRIVATE KEY"):
			return nil, nil, errors.New("there is a private key in it, which must not be in Git: take it out, and have another made")
		case block.Type == "TRUSTED CERTIFICATE":
			return nil, nil, errors.New("it is in OpenSSL's own form: convert it with `openssl x509 -in FILE`")
		case block.Type != certificate:
			return nil, nil, fmt.Errorf("there is %q in it, and one certificate is wanted", block.Type)
		case only != nil:
			return nil, nil, errors.New("there is more than one certificate in it: declare each by itself")
		}
		only = block
	}
	if bytes.Contains(data, []byte("PRIVATE KEY-----")) { // also one that is broken
		return nil, nil, errors.New("there is a private key in it, which must not be in Git: take it out, and have another made")
	}
	if only == nil {
		return nil, nil, errors.New("there is no certificate in it: it must be in the form PEM, which begins with -----BEGIN CERTIFICATE-----")
	}
	parsed, err := x509.ParseCertificate(only.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("its certificate cannot be read: %w", err)
	}
	if !authority(parsed) {
		return nil, nil, fmt.Errorf("the certificate of %q is not that of an authority (CA:TRUE)", parsed.Subject)
	}
	return parsed, pem.EncodeToMemory(&pem.Block{Type: certificate, Bytes: only.Bytes}), nil
}

// authority reports whether a certificate may sign others. Those of the first
// version cannot tell: roots are taken.
func authority(c *x509.Certificate) bool {
	if c.Version < 3 {
		return bytes.Equal(c.RawSubject, c.RawIssuer)
	}
	return c.BasicConstraintsValid && c.IsCA
}

func digest(c *x509.Certificate) string { return sum(c.Raw) }

func sum(der []byte) string {
	s := sha256.Sum256(der)
	return hex.EncodeToString(s[:])
}

// A bundle is the certificates that are trusted, by their digests.
type bundle map[string]bool

func (b bundle) has(sum string) bool { return b[sum] }

func parseBundle(data []byte) bundle {
	b := bundle{}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == certificate {
			b[sum(block.Bytes)] = true
		}
	}
	return b
}
