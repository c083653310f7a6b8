package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
)

// sshTransport runs git-upload-pack on the server. It uses the key that it was
// given and never an agent's.
type sshTransport struct {
	n      *network
	client *ssh.Client
	path   string
	// ready is a session whose references were read and that takes a request.
	ready *sshSession
}

type sshSession struct {
	s      *ssh.Session
	in     io.WriteCloser
	out    io.Reader
	stderr *firstBytes
}

func dialSSH(ctx context.Context, req Request, u *url.URL) (*sshTransport, error) {
	n := newNetwork(req.Limits)
	port := u.Port()
	if port == "" {
		port = "22"
	}
	address := net.JoinHostPort(u.Hostname(), port)
	config, err := sshConfig(req, u, address)
	if err != nil {
		return nil, err
	}
	g, err := gatewayOf(req)
	if err != nil {
		return nil, err
	}
	conn, err := n.dialThrough(ctx, g, address)
	if err != nil {
		return nil, n.broken("server cannot be reached", err)
	}
	c, channels, requests, err := ssh.NewClientConn(conn, address, config)
	if err != nil {
		_ = conn.Close()
		if strings.Contains(err.Error(), "unable to authenticate") {
			hint := "give an ssh_key_file"
			if len(req.SSHKey) > 0 {
				hint = "add the public half of ssh_key_file there"
			}
			return nil, failf(KindDenied, "server does not let user %q in: %s", config.User, hint)
		}
		return nil, n.broken("SSH handshake failed", err)
	}
	path := u.Path
	if home, ok := strings.CutPrefix(path, "/~/"); ok {
		path = home
	}
	return &sshTransport{n: n, client: ssh.NewClient(c, channels, requests), path: path}, nil
}

func sshConfig(req Request, u *url.URL, address string) (*ssh.ClientConfig, error) {
	config := &ssh.ClientConfig{User: "git", Timeout: req.Limits.Idle, ClientVersion: "SSH-2.0-trued"}
	if name := u.User.Username(); name != "" {
		config.User = name
	}
	if len(req.SSHKey) > 0 {
		signer, err := parseKey(req)
		if err != nil {
			return nil, err
		}
		config.Auth = []ssh.AuthMethod{ssh.PublicKeys(signer)}
	}
	name := filepath.Join(req.Scratch, "known_hosts")
	if err := os.WriteFile(name, req.KnownHosts, 0o600); err != nil {
		return nil, fmt.Errorf("cannot write known_hosts for the fetch: %w", err)
	}
	known, err := knownhosts.NewDB(name)
	if err != nil {
		return nil, failf(KindHostKey, "known_hosts_file is malformed: %s", strings.ReplaceAll(err.Error(), name, "line"))
	}
	check := known.HostKeyCallback()
	config.HostKeyAlgorithms = known.HostKeyAlgorithms(address)
	config.HostKeyCallback = func(host string, remote net.Addr, key ssh.PublicKey) error {
		err := check(host, remote, key)
		shown := ssh.FingerprintSHA256(key)
		switch {
		case err == nil:
			return nil
		case knownhosts.IsHostUnknown(err):
			return failf(KindHostKey, "host key of %s is not known: if its owner confirms %s, add this line to known_hosts_file: %s",
				address, shown, knownhosts.Line([]string{address}, key))
		case knownhosts.IsHostKeyChanged(err):
			return failf(KindHostKey, "host key of %s is another than the one in known_hosts_file: it is now %s %s; either the server was set up anew or somebody is in between",
				address, key.Type(), shown)
		default:
			return failf(KindHostKey, "host key of %s is not accepted: %v", address, err)
		}
	}
	return config, nil
}

func parseKey(req Request) (ssh.Signer, error) {
	var signer ssh.Signer
	var err error
	if len(req.SSHPassphrase) > 0 {
		signer, err = ssh.ParsePrivateKeyWithPassphrase(req.SSHKey, req.SSHPassphrase)
	} else {
		signer, err = ssh.ParsePrivateKey(req.SSHKey)
	}
	var missing *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &missing):
		return nil, failf(KindDenied, "ssh_key_file has a passphrase: give it as ssh_passphrase_file")
	case err != nil && strings.Contains(err.Error(), "decryption password incorrect"):
		return nil, failf(KindDenied, "ssh_passphrase_file does not open ssh_key_file")
	case err != nil:
		return nil, failf(KindDenied, "ssh_key_file is no private key that can be used")
	}
	return signer, nil
}

func (t *sshTransport) close() { _ = t.client.Close() }

func (t *sshTransport) broken(doing string, err error) error {
	if t.ready != nil {
		if said := t.ready.stderr.String(); said != "" {
			return failf(KindNotFound, "%s: server says: %s", doing, said)
		}
	}
	return t.n.broken(doing, err)
}

func (t *sshTransport) open(ctx context.Context) (*sshSession, error) {
	s, err := t.client.NewSession()
	if err != nil {
		return nil, t.n.broken("server does not open a session", err)
	}
	context.AfterFunc(ctx, func() { _ = s.Close() })
	in, err := s.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := s.StdoutPipe()
	if err != nil {
		return nil, err
	}
	said := &firstBytes{}
	s.Stderr = said
	quoted := "'" + strings.ReplaceAll(t.path, "'", `'\''`) + "'"
	if err := s.Start(service + " " + quoted); err != nil {
		return nil, t.n.broken("server does not run "+service, err)
	}
	return &sshSession{s: s, in: in, out: out, stderr: said}, nil
}

func (t *sshTransport) advertise(ctx context.Context) (io.ReadCloser, error) {
	s, err := t.open(ctx)
	if err != nil {
		return nil, err
	}
	t.ready = s
	return io.NopCloser(s.out), nil
}

func (t *sshTransport) request(ctx context.Context, body []byte) (io.ReadCloser, error) {
	if t.ready == nil {
		// A session takes one request, and begins with the references.
		r, err := t.advertise(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := decodeRefs(r); err != nil {
			return nil, t.broken("server did not list its references", err)
		}
	}
	s := t.ready
	t.ready = nil
	if _, err := io.Copy(s.in, bytes.NewReader(body)); err != nil {
		return nil, t.n.broken("server does not take the request", err)
	}
	return &sshBody{s}, nil
}

type sshBody struct{ s *sshSession }

func (b *sshBody) Read(p []byte) (int, error) { return b.s.out.Read(p) }

func (b *sshBody) Close() error {
	err := b.s.s.Close()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// firstBytes keeps the beginning of what a server says to people.
type firstBytes struct {
	mu sync.Mutex
	b  []byte
}

func (f *firstBytes) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	const most = 300
	f.b = append(f.b, p[:min(len(p), most-min(most, len(f.b)))]...)
	return len(p), nil
}

func (f *firstBytes) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return oneLine(string(f.b))
}

// oneLine makes what a server says fit for a message.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.Join(strings.Fields(s), " ")
	const most = 600
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return s
}
