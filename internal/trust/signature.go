package trust

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// namespace is what Git has signatures made for.
const namespace = "git"

const (
	notOfThis = "the signature is not one of what it comes with: one of both was tampered with"

	sshHead = "-----BEGIN SSH SIGNATURE-----"
	pgpHead = "-----BEGIN PGP SIGNATURE-----"
)

// readSSH reads an armored signature and checks that it is one of the message.
// It returns the key that made it, of which nothing else is known.
func readSSH(armored, message []byte, namespace string) (ssh.PublicKey, *Refusal) {
	if !strings.HasPrefix(string(armored), sshHead) {
		return nil, refuse(BadSignature, "the signature is malformed: it does not begin like one")
	}
	if !alone(armored, "-----END SSH SIGNATURE-----") {
		return nil, refuse(BadSignature, "the signature is malformed: there is more than it")
	}
	block, _ := pem.Decode(armored)
	if block == nil || len(block.Headers) > 0 {
		return nil, refuse(BadSignature, "the signature is malformed: its armor cannot be read")
	}
	sig, err := sshsig.ParseSignature(block.Bytes)
	if err != nil {
		return nil, refuse(BadSignature, "the signature is malformed: %v", err)
	}
	if err := suits(sig); err != nil {
		return nil, refuse(BadSignature, "%v", err).by(fingerprint(sig.PublicKey))
	}
	if sig.Namespace != namespace {
		return nil, refuse(BadSignature, "the signature was made for the namespace %q and not for %q", sig.Namespace, namespace).
			by(fingerprint(sig.PublicKey))
	}
	if err := sshsig.Verify(bytes.NewReader(message), sig, sig.PublicKey, sig.HashAlgorithm, namespace); err != nil {
		return nil, refuse(BadSignature, notOfThis).
			by(fingerprint(sig.PublicKey))
	}
	return sig.PublicKey, nil
}

// alone reports whether an armored text ends with a line, and has it nowhere else:
// what stands behind a signature is signed by nobody.
func alone(armored []byte, end string) bool {
	return strings.Count(string(armored), "-----BEGIN ") == 1 && strings.HasSuffix(strings.TrimRight(string(armored), "\r\n"), end)
}

func fingerprint(key ssh.PublicKey) string { return ssh.FingerprintSHA256(key) }

// suits reports whether key and algorithm go together and are any good.
func suits(sig *sshsig.Signature) error {
	key := sig.PublicKey
	if cert, ok := key.(*ssh.Certificate); ok {
		key = cert.Key
	}
	switch key.Type() {
	case ssh.KeyAlgoRSA:
		if f := sig.Signature.Format; f != ssh.KeyAlgoRSASHA256 && f != ssh.KeyAlgoRSASHA512 {
			return fmt.Errorf("the signature is made by %q, which is no longer safe", f)
		}
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
	default:
		return fmt.Errorf("keys of the type %q are not taken", key.Type())
	}
	return nil
}

// VerifySSH does what `ssh-keygen -Y verify -I IDENTITY` does, with a time of
// verification. An empty identity is anybody who is listed. It returns who that
// is.
func VerifySSH(s *Signers, revoked *Revocations, armored, message []byte, namespace, identity string, at time.Time) (string, *Refusal) {
	key, refusal := readSSH(armored, message, namespace)
	if refusal != nil {
		return "", refusal
	}
	return verifyKey(s, revoked, key, namespace, identity, "", at)
}

func verifyKey(s *Signers, revoked *Revocations, key ssh.PublicKey, namespace, identity, hint string, at time.Time) (string, *Refusal) {
	name, why := s.check(key, namespace, identity, hint, at)
	if revoked.has(key) {
		if why != nil {
			name = why.Signer
		}
		why = refuse(Revoked, "key %s is revoked", fingerprint(key)).by(name)
	}
	if why != nil {
		if why.Signer == "" {
			why.Signer = fingerprint(key)
		}
		return "", why
	}
	return name, nil
}
