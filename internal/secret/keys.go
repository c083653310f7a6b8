package secret

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"

	"trued.dev/trued/internal/host"
)

// HostKey is the identity of a host that names no other: the key that its SSH
// server has in any case.
const HostKey = "/etc/ssh/ssh_host_ed25519_key"

// maxKey is more than any file of keys has.
const maxKey = 1 << 20

// Keys are the identities that files are opened with. They are read when the
// first one is wanted, and kept for as long as the value is.
type Keys struct {
	read  func(name string) ([]byte, error)
	names []string
	whose string // in messages

	done     bool
	found    []identity
	problems []error
}

// An identity is a private key, with what its public half is called.
type identity struct {
	identity  age.Identity
	recipient string
}

// HostKeys are the identities of a host: absolute paths below its root, or
// names of credentials that systemd gave this process. None means HostKey.
func HostKeys(h *host.Host, names []string) *Keys {
	if len(names) == 0 {
		names = []string{HostKey}
	}
	return &Keys{names: names, whose: "this host's", read: func(name string) ([]byte, error) {
		if strings.Contains(name, "/") {
			return h.ReadSecret(name, maxKey)
		}
		return readCredential(name)
	}}
}

// FileKeys are identities in files of whoever runs this process.
func FileKeys(names []string) *Keys {
	return &Keys{names: names, whose: "your", read: func(name string) ([]byte, error) { return readPrivate(name, 0o077) }}
}

// CheckName says what is wrong with the name of an identity in a
// configuration; nil when nothing is.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("an empty name")
	case strings.Contains(name, "/"):
		return host.CheckPath("identities", name)
	case strings.HasPrefix(name, "."):
		return fmt.Errorf("%q is neither an absolute path nor the name of a credential", name)
	}
	return nil
}

func readCredential(name string) ([]byte, error) {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return nil, fmt.Errorf("%q is no path, and systemd gave this process no credentials", name)
	}
	// systemd may give the service's user access by group.
	return readPrivate(filepath.Join(dir, name), 0o007)
}

// readPrivate reads a file that nobody else may read.
func readPrivate(name string, mask os.FileMode) ([]byte, error) {
	// A FIFO would never end.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the operator's choice
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%q is no file", name)
	case info.Size() > maxKey:
		return nil, fmt.Errorf("%q has %d bytes, which no key has", name, info.Size())
	case info.Mode()&mask != 0:
		return nil, fmt.Errorf("cannot use %q: it can be read by others (mode %04o): run chmod 600 on it", name, info.Mode().Perm())
	}
	data := make([]byte, info.Size())
	n, err := f.ReadAt(data, 0)
	if n == len(data) {
		err = nil
	}
	return data[:n], err
}

// identities reads the keys, and returns those that can be used with what is
// wrong with the others.
func (k *Keys) identities() ([]identity, []error) {
	if k.done {
		return k.found, k.problems
	}
	k.done = true
	for _, name := range k.names {
		data, err := k.read(name)
		if err == nil {
			var list []identity
			list, err = parseIdentities(data)
			k.found = append(k.found, list...)
			if err != nil {
				err = fmt.Errorf("%q: %w", name, err)
			}
		}
		if err != nil {
			k.problems = append(k.problems, err)
		}
	}
	return k.found, k.problems
}

// Recipients are the public halves of the keys, and what is wrong with those
// that cannot be used.
func (k *Keys) Recipients() ([]string, error) {
	found, problems := k.identities()
	var list []string
	for _, i := range found {
		list = append(list, i.recipient)
	}
	return list, errors.Join(problems...)
}

// parseIdentities reads an SSH private key, or age's own keys, one a line. Its
// errors quote nothing of it.
func parseIdentities(data []byte) ([]identity, error) {
	if bytes.Contains(data, []byte("-----BEGIN")) {
		i, err := parseSSH(data)
		if err != nil {
			return nil, err
		}
		return []identity{i}, nil
	}
	list, err := age.ParseIdentities(bytes.NewReader(data))
	if err != nil {
		return nil, errors.New("holds neither an SSH private key nor age's own (AGE-SECRET-KEY-1…), one a line")
	}
	var found []identity
	for _, i := range list {
		native, ok := i.(*age.X25519Identity)
		if !ok {
			return nil, errors.New("holds a key of a kind that is not known here")
		}
		found = append(found, identity{native, native.Recipient().String()})
	}
	return found, nil
}

func parseSSH(data []byte) (identity, error) {
	key, err := ssh.ParseRawPrivateKey(data)
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return identity{}, errors.New("is protected by a passphrase, which nobody is here to give")
	case err != nil:
		return identity{}, errors.New("holds no SSH private key that can be read")
	}
	var made age.Identity
	switch key := key.(type) {
	case *ed25519.PrivateKey:
		made, err = agessh.NewEd25519Identity(*key)
	case ed25519.PrivateKey:
		made, err = agessh.NewEd25519Identity(key)
	case *rsa.PrivateKey:
		made, err = agessh.NewRSAIdentity(key)
	default:
		return identity{}, errors.New("holds an SSH key that is neither ed25519 nor RSA")
	}
	if err != nil {
		return identity{}, errors.New("holds an SSH key that cannot be used")
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return identity{}, errors.New("holds an SSH key that cannot be used")
	}
	public := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	return identity{made, public}, nil
}
