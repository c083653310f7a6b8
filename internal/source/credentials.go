package source

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/net/http/httpproxy"

	"trued.dev/trued/internal/source/remote"
)

var errNoUser = fmt.Errorf("there is no free user number for the process that fetches: add a system user %s", fetchUser)

// maxCredential is far more than any key or list of keys has.
const maxCredential = 4 << 20

// credentials reads what the child needs, so that no file but these pipes
// holds a secret that the child can read.
func (c Config) credentials(req *remote.Request) error {
	var errs []error
	secret := func(key, name string) []byte {
		data, err := readCredential(name, true)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
		return data
	}
	public := func(key, name string) []byte {
		data, err := readCredential(name, false)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
		return data
	}
	u, err := remote.ParseURL(req.URL)
	if err != nil {
		return err
	}
	switch u.Scheme {
	case "ssh":
		req.SSHKey = secret("ssh_key_file", c.SSHKeyFile)
		req.SSHPassphrase = []byte(strings.TrimRight(string(secret("ssh_passphrase_file", c.SSHPassphraseFile)), "\r\n"))
		if c.KnownHostsFile != "" {
			req.KnownHosts = public("known_hosts_file", c.KnownHostsFile)
		} else {
			req.KnownHosts = usualKnownHosts()
		}
	case "http", "https":
		req.Token = strings.TrimSpace(string(secret("token_file", c.TokenFile)))
		if req.Token == "" && c.TokenFile != "" && len(errs) == 0 {
			errs = append(errs, fmt.Errorf("token_file: %s is empty", c.TokenFile))
		}
		req.Username = c.Username
		req.CA = public("ca_file", c.CAFile)
		req.ClientCert = public("client_cert_file", c.ClientCertFile)
		req.ClientKey = secret("client_key_file", c.ClientKeyFile)
	}
	if req.Proxy, err = c.proxyFor(u); strings.HasPrefix(req.Proxy, "https:") && req.CA == nil {
		// The proxy has a certificate, too.
		req.CA = public("ca_file", c.CAFile)
	}
	return errors.Join(append(errs, err)...)
}

// proxyFor returns the source's proxy, or the one that the environment names
// for an HTTP URL.
func (c Config) proxyFor(u *url.URL) (string, error) {
	switch {
	case c.Proxy == "none", u.Scheme == "file":
		return "", nil
	case c.Proxy != "":
		return c.Proxy, nil
	case u.Scheme == "ssh":
		return "", nil
	}
	via, err := httpproxy.FromEnvironment().ProxyFunc()(u)
	if err != nil {
		return "", errors.New("HTTPS_PROXY is malformed")
	}
	if via == nil {
		return "", nil
	}
	return via.String(), nil
}

// readCredential reads a credential. A name without a slash is one of those
// that systemd put into the service's directory.
func readCredential(name string, secret bool) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	mask := os.FileMode(0o077)
	if !strings.Contains(name, "/") {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return nil, fmt.Errorf("%s is no path, and systemd gave this process no credentials: write an absolute path", name)
		}
		name = filepath.Join(dir, name)
		// systemd may give the service's user access by group.
		mask = 0o007
	}
	// A FIFO would never end.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the operator's choice
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no file", name)
	case info.Size() > maxCredential:
		return nil, fmt.Errorf("%s has %d bytes, which no credential has", name, info.Size())
	case secret && info.Mode()&mask != 0:
		return nil, fmt.Errorf("%s can be read by others (mode %04o): run chmod 600 on it", name, info.Mode().Perm())
	}
	data := make([]byte, info.Size())
	n, err := f.ReadAt(data, 0)
	if n == len(data) {
		err = nil
	}
	return data[:n], err
}

// usualKnownHosts are the user's and the machine's.
func usualKnownHosts() []byte {
	names := []string{"/etc/ssh/ssh_known_hosts"}
	if home, err := os.UserHomeDir(); err == nil {
		names = append(names, filepath.Join(home, ".ssh", "known_hosts"))
	}
	var all []byte
	for _, name := range names {
		if data, err := readCredential(name, false); err == nil && data != nil {
			all = append(append(all, data...), '\n')
		}
	}
	return all
}
