// Package endpoint is how a receiver of events is reached and told who asks:
// certificates, keys and tokens, from files, as they are at that moment.
//
// It knows no protocol and no event.
package endpoint

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// TLS says which certificates count, and which one is shown. The keys are part
// of a sink's own.
type TLS struct {
	CAFile         string `yaml:"ca_file" doc:"certificates that the receiver is checked against; the system's"`
	ClientCertFile string `yaml:"client_cert_file" doc:"certificate shown to the receiver"`
	ClientKeyFile  string `yaml:"client_key_file" doc:"its key, readable by its owner alone"`
	ServerName     string `yaml:"server_name" doc:"the name in the receiver's certificate, when it is not that of the address"`
}

// Validate reports what is wrong.
func (t TLS) Validate() error {
	if (t.ClientCertFile == "") != (t.ClientKeyFile == "") {
		return errors.New("client_cert_file and client_key_file go together")
	}
	return nil
}

// Config reads the files. The host is the one that is dialled.
func (t TLS) Config(host string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if t.ServerName != "" {
		c.ServerName = t.ServerName
	}
	if t.CAFile != "" {
		ca, err := read(t.CAFile, false)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("ca_file: there is no certificate in %q", t.CAFile)
		}
	}
	if t.ClientCertFile != "" {
		cert, err := read(t.ClientCertFile, false)
		if err != nil {
			return nil, fmt.Errorf("client_cert_file: %w", err)
		}
		key, err := read(t.ClientKeyFile, true)
		if err != nil {
			return nil, fmt.Errorf("client_key_file: %w", err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("client_cert_file %q and client_key_file %q: %w", t.ClientCertFile, t.ClientKeyFile, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// Secret reads a secret of one line.
func Secret(name string) ([]byte, error) {
	data, err := read(name, true)
	if err != nil {
		return nil, err
	}
	if data = bytes.TrimSpace(data); len(data) == 0 {
		return nil, fmt.Errorf("%q is empty", name)
	}
	return data, nil
}

// read reads a file. A name without a slash is one of those that systemd put
// into the service's directory. A secret that others can read is none.
func read(name string, secret bool) ([]byte, error) {
	const most = 1 << 20
	mask := os.FileMode(0o077)
	if !strings.Contains(name, "/") {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return nil, fmt.Errorf("%q is no path, and systemd gave this process no credentials: write an absolute path", name)
		}
		name = filepath.Join(dir, name)
		// systemd may give the service's user access by group.
		mask = 0o007
	}
	// A FIFO would never end.
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) //nolint:gosec // the operator's choice
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%q is no file", name)
	case info.Size() > most:
		return nil, fmt.Errorf("%q is too large: %d bytes", name, info.Size())
	case secret && info.Mode()&mask != 0:
		return nil, fmt.Errorf("%q can be read by others (mode %04o): run chmod 600 on it", name, info.Mode().Perm())
	}
	data := make([]byte, info.Size())
	n, err := f.ReadAt(data, 0)
	if n == len(data) {
		err = nil
	}
	return data[:n], err
}
