package source_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"trued.dev/trued/internal/source"
)

// An authority is a private one, with files as an operator would have them.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir(), pool: x509.NewCertPool()}
	der, key := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "Example CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, a.key = cert, key
	a.pool.AddCert(cert)
	a.file = a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) sign(c *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	return der, key
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	file := filepath.Join(a.dir, name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return file
}

// pair returns the files of a certificate and its key.
func (a *authority) pair(name string, usage x509.ExtKeyUsage) (certFile, keyFile string) {
	a.t.Helper()
	der, key := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{usage},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:    []string{farAway},
	})
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".pem", "CERTIFICATE", der), a.write(name+".key", "EC PRIVATE KEY", keyDER)
}

// serve starts an HTTPS server with a certificate of the authority.
func (a *authority) serve(h http.Handler, change func(*tls.Config)) *httptest.Server {
	a.t.Helper()
	certFile, keyFile := a.pair("server", x509.ExtKeyUsageServerAuth)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		a.t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if change != nil {
		change(s.TLS)
	}
	// Clients that turn away are what some tests are about.
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	a.t.Cleanup(s.Close)
	return s
}

func credential(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "credential")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// guarded lets in who the check accepts.
func guarded(h http.Handler, check func(*http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !check(r) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func TestHTTPSWithCredentials(t *testing.T) {
	u := newUpstream(t)
	first := u.put("motd", "one\n")
	a := newAuthority(t)
	const secret = "glpat-7f3c"
	token := credential(t, secret+"\n")
	wrong := credential(t, "another")
	clientCert, clientKey := a.pair("client", x509.ExtKeyUsageClientAuth)
	backend := u.httpBackend()
	open1 := a.serve(backend, nil)
	bearer := a.serve(guarded(backend, func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer "+secret }), nil)
	basic := a.serve(guarded(backend, func(r *http.Request) bool {
		user, password, ok := r.BasicAuth()
		return ok && user == "deploy" && password == secret
	}), nil)
	mutual := a.serve(backend, func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, a.pool })
	for name, test := range map[string]struct {
		server *httptest.Server
		cfg    source.Config
		want   error
	}{
		"a private authority":      {open1, source.Config{CAFile: a.file}, nil},
		"an unknown authority":     {open1, source.Config{}, source.ErrHostKey},
		"a bearer's token":         {bearer, source.Config{CAFile: a.file, TokenFile: token}, nil},
		"a wrong token":            {bearer, source.Config{CAFile: a.file, TokenFile: wrong}, source.ErrDenied},
		"no token":                 {bearer, source.Config{CAFile: a.file}, source.ErrDenied},
		"a user and a password":    {basic, source.Config{CAFile: a.file, TokenFile: token, Username: "deploy"}, nil},
		"a client certificate":     {mutual, source.Config{CAFile: a.file, ClientCertFile: clientCert, ClientKeyFile: clientKey}, nil},
		"no client certificate":    {mutual, source.Config{CAFile: a.file}, source.ErrUnreachable},
		"a CA file that is none":   {open1, source.Config{CAFile: token}, source.ErrHostKey},
		"a CA file that is absent": {open1, source.Config{CAFile: "/nonexistent/ca.pem"}, source.ErrDenied},
	} {
		t.Run(name, func(t *testing.T) {
			test.cfg.URL, test.cfg.Branch = test.server.URL+"/hosts.git", "main"
			h := open(t, test.cfg)
			_, err := h.Fetch(context.Background())
			if !errors.Is(err, test.want) {
				t.Fatalf("error is %v, want %v", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("error holds the token: %v", err)
			}
			if err == nil {
				h.wantAt(first)
			}
		})
	}
}

func TestTokenThatTheServerRepeatsIsNotTold(t *testing.T) {
	const secret = "glpat-7f3c"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.Header.Get("Authorization")+"\x1b[31m")
		w.WriteHeader(http.StatusOK)
	}))
	defer s.Close()
	h := open(t, source.Config{URL: s.URL + "/hosts.git", TokenFile: credential(t, secret)})
	_, err := h.Fetch(context.Background())
	if err == nil || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "\x1b") || strings.Contains(h.Status().Error, secret) {
		t.Errorf("error is %q", err)
	}
	for _, e := range h.events {
		if strings.Contains(e.Message, secret) {
			t.Errorf("event says %q", e.Message)
		}
	}
}

func TestTokenIsNotSentToWhereTheServerRedirects(t *testing.T) {
	u := newUpstream(t)
	first := u.put("motd", "one\n")
	a := newAuthority(t)
	var leaked atomic.Bool
	backend := u.httpBackend()
	other := a.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			leaked.Store(true)
		}
		backend.ServeHTTP(w, r)
	}), nil)
	front := a.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.String(), http.StatusMovedPermanently)
	}), nil)
	h := open(t, source.Config{URL: front.URL + "/hosts.git", CAFile: a.file, TokenFile: credential(t, "secret")})
	h.fetch()
	h.wantAt(first)
	if leaked.Load() {
		t.Error("the other server was sent the token")
	}
}

func TestURLsAreTriedInTurn(t *testing.T) {
	u := newUpstream(t)
	first := u.put("motd", "one\n")
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	h := open(t, source.Config{URL: gone.URL + "/hosts.git", URLs: []string{u.serveHTTP()}})
	h.fetch()
	h.wantAt(first)
	h = open(t, source.Config{URL: gone.URL + "/hosts.git", URLs: []string{gone.URL + "/mirror.git"}})
	_, err := h.Fetch(context.Background())
	if !errors.Is(err, source.ErrUnreachable) || !strings.Contains(err.Error(), "mirror.git") || !strings.Contains(err.Error(), "hosts.git") {
		t.Errorf("error is %v, want one that names both", err)
	}
}

func TestAgentsSocketIsNotUsed(t *testing.T) {
	u := newUpstream(t)
	u.put("motd", "one\n")
	s := startSSHD(t)
	socket := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var asked atomic.Bool
	go accept(l, func(net.Conn) { asked.Store(true) })
	t.Setenv("SSH_AUTH_SOCK", socket)
	h := open(t, source.Config{URL: s.url(u), KnownHostsFile: s.knownHosts})
	_, err = h.Fetch(context.Background())
	if !errors.Is(err, source.ErrDenied) || !strings.Contains(err.Error(), "ssh_key_file") {
		t.Errorf("error is %v, want ErrDenied that names ssh_key_file", err)
	}
	if asked.Load() {
		t.Error("the agent's socket was used")
	}
}

func TestCredentialThatOthersCanReadIsRefused(t *testing.T) {
	token := credential(t, "secret")
	if err := os.Chmod(token, 0o644); err != nil {
		t.Fatal(err)
	}
	h := open(t, source.Config{URL: "https://git.example.com/hosts.git", TokenFile: token})
	_, err := h.Fetch(context.Background())
	if !errors.Is(err, source.ErrDenied) || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("error is %v, want ErrDenied that says chmod 600", err)
	}
}

func TestCredentialOfSystemdIsFoundByName(t *testing.T) {
	u := newUpstream(t)
	u.put("motd", "one\n")
	a := newAuthority(t)
	server := a.serve(guarded(u.httpBackend(), func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer secret" }), nil)
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(credential(t, "secret")))
	h := open(t, source.Config{URL: server.URL + "/hosts.git", CAFile: a.file, TokenFile: "credential"})
	h.fetch()
}
