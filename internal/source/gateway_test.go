package source_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"trued.dev/trued/internal/source"
)

// farAway is a host that a proxy alone can find.
const farAway = "git.invalid"

// A wall keeps hosts from servers: its proxies are the way out.
type wall struct {
	t *testing.T
	// servers are where a proxy connects to, by the address that it is given.
	servers map[string]string

	mu    sync.Mutex
	asked []string
}

const proxyUser, proxyPassword = "proxy", "pass@word"

// as returns the URL of a proxy with a user.
func as(scheme, password string, at net.Addr) string {
	u := url.URL{Scheme: scheme, Host: at.String(), User: url.UserPassword(proxyUser, password)}
	return u.String()
}

// open connects to where an address leads.
func (w *wall) open(address string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, address)
	to, ok := w.servers[address]
	if !ok {
		return nil, errors.New("no way there")
	}
	return net.Dial("tcp", to)
}

// calls returns the addresses that proxies were asked for since the last time.
func (w *wall) calls() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := w.asked
	w.asked = nil
	return slices.Compact(asked)
}

// join carries what a client sends, of which some may be read ahead, and what
// the server answers.
func join(client net.Conn, sent io.Reader, server net.Conn) {
	go func() { _, _ = io.Copy(server, sent); _ = server.Close() }()
	_, _ = io.Copy(client, server)
	_ = client.Close()
}

// ServeHTTP is a proxy that makes tunnels, and carries plain requests.
func (w *wall) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	r.Header.Set("Authorization", r.Header.Get("Proxy-Authorization"))
	if user, password, ok := r.BasicAuth(); !ok || user != proxyUser || password != proxyPassword {
		rw.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	address := r.Host
	if r.Method != http.MethodConnect {
		address += ":80"
	}
	server, err := w.open(address)
	if err != nil {
		rw.WriteHeader(http.StatusBadGateway)
		return
	}
	if r.Method != http.MethodConnect {
		r.Header.Del("Authorization")
		r.Close = true
		if r.Write(server) != nil {
			return
		}
	} else {
		rw.WriteHeader(http.StatusOK)
	}
	client, ahead, err := rw.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	join(client, ahead, server)
}

// serveSOCKS is a proxy of the other kind, as RFC 1928 and 1929 have it.
func (w *wall) serveSOCKS(c net.Conn) {
	fail := func() { _ = c.Close() }
	// read returns n bytes, or as many as the next byte says.
	read := func(n int) []byte {
		if n < 0 {
			var one [1]byte
			if _, err := io.ReadFull(c, one[:]); err != nil {
				return nil
			}
			n = int(one[0])
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(c, b); err != nil {
			return nil
		}
		return b
	}
	if head := read(1); head == nil || head[0] != 5 || !slices.Contains(read(-1), 2) {
		_, _ = c.Write([]byte{5, 0xff})
		fail()
		return
	}
	_, _ = c.Write([]byte{5, 2})
	read(1)
	if user, password := read(-1), read(-1); string(user) != proxyUser || string(password) != proxyPassword {
		_, _ = c.Write([]byte{1, 1})
		fail()
		return
	}
	_, _ = c.Write([]byte{1, 0})
	head := read(4)
	if head == nil || head[1] != 1 || head[3] != 3 {
		// The host looked the name up, which it cannot.
		_, _ = c.Write([]byte{5, 8, 0, 1, 0, 0, 0, 0, 0, 0})
		fail()
		return
	}
	host, port := string(read(-1)), binary.BigEndian.Uint16(read(2))
	server, err := w.open(net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err != nil {
		_, _ = c.Write([]byte{5, 4, 0, 1, 0, 0, 0, 0, 0, 0})
		fail()
		return
	}
	_, _ = c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	join(c, c, server)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// knowFar returns a known_hosts file that has the server's key for farAway.
func (s *sshd) knowFar() string {
	s.t.Helper()
	public, err := os.ReadFile(filepath.Join(s.dir, "host_ed25519.pub"))
	if err != nil {
		s.t.Fatal(err)
	}
	file := filepath.Join(s.t.TempDir(), "known_hosts")
	if err := os.WriteFile(file, []byte(farAway+" "+string(public)), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return file
}

func TestServerBehindAProxyIsFetchedFrom(t *testing.T) {
	u := newUpstream(t)
	first := u.put("motd", "one\n")
	a := newAuthority(t)
	s := startSSHD(t)
	far, err := url.Parse(s.url(u))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := url.Parse(u.serveHTTP())
	if err != nil {
		t.Fatal(err)
	}
	w := &wall{t: t, servers: map[string]string{
		farAway + ":443": a.serve(u.httpBackend(), nil).Listener.Addr().String(),
		farAway + ":22":  far.Host,
		farAway + ":80":  plain.Host,
	}}
	far.Host = farAway
	httpProxy := httptest.NewServer(w)
	t.Cleanup(httpProxy.Close)
	socks := listen(t)
	go accept(socks, w.serveSOCKS)

	proxies := map[string]net.Addr{
		"http": httpProxy.Listener.Addr(), "https": a.serve(w, nil).Listener.Addr(), "socks5": socks.Addr(), "socks5h": socks.Addr(),
	}
	servers := map[string]source.Config{
		farAway + ":443": {URL: "https://" + farAway + "/hosts.git", CAFile: a.file},
		farAway + ":22":  {URL: far.String(), SSHKeyFile: s.key, KnownHostsFile: s.knowFar(), CAFile: a.file},
		farAway + ":80":  {URL: "http://" + farAway + "/hosts.git", CAFile: a.file},
	}
	for address, cfg := range servers {
		for scheme, at := range proxies {
			t.Run(address+" by way of "+scheme, func(t *testing.T) {
				cfg.Proxy = as(scheme, proxyPassword, at)
				h := open(t, cfg)
				h.fetch()
				h.wantAt(first)
				if got := w.calls(); len(got) != 1 || got[0] != address {
					t.Errorf("the proxy was asked for %v, want %s", got, address)
				}
				cfg.Proxy = as(scheme, "wrong-one", at)
				_, err := open(t, cfg).Fetch(context.Background())
				if !errors.Is(err, source.ErrDenied) || !strings.Contains(err.Error(), "proxy") || strings.Contains(err.Error(), "wrong-one") {
					t.Errorf("with a wrong password the error is %v, want ErrDenied of the proxy", err)
				}
				if got := w.calls(); len(got) != 0 {
					t.Errorf("with a wrong password the proxy connects to %v", got)
				}
			})
		}
	}
	for scheme, at := range proxies {
		t.Run("nowhere by way of "+scheme, func(t *testing.T) {
			h := open(t, source.Config{URL: "https://nowhere.invalid/hosts.git", Proxy: as(scheme, proxyPassword, at), CAFile: a.file})
			_, err := h.Fetch(context.Background())
			if !errors.Is(err, source.ErrUnreachable) || !strings.Contains(err.Error(), "proxy "+at.String()) || strings.Contains(err.Error(), proxyPassword) {
				t.Errorf("error is %v, want one that names the proxy", err)
			}
		})
	}
	w.calls()
	t.Run("a proxy of an unknown authority", func(t *testing.T) {
		stranger := newAuthority(t).serve(w, nil).Listener.Addr()
		for address, cfg := range servers {
			cfg.Proxy = as("https", proxyPassword, stranger)
			_, err := open(t, cfg).Fetch(context.Background())
			if !errors.Is(err, source.ErrHostKey) || !strings.Contains(err.Error(), "certificate of proxy") || len(w.calls()) > 0 {
				t.Errorf("%s: error is %v, want ErrHostKey of the proxy", address, err)
			}
		}
	})
}

func TestProxyThatIsSilentCostsOneTimeOut(t *testing.T) {
	silent := listen(t)
	go accept(silent, func(net.Conn) {})
	for _, scheme := range []string{"http", "https", "socks5"} {
		for _, server := range []string{"https", "ssh"} {
			h := open(t, source.Config{
				URL: server + "://" + farAway + "/hosts.git", Proxy: as(scheme, proxyPassword, silent.Addr()),
				Limits: source.Limits{Idle: 300 * time.Millisecond},
			})
			_, err := h.Fetch(context.Background())
			if !errors.Is(err, source.ErrTimeout) || !strings.Contains(err.Error(), "limits.idle") {
				t.Errorf("%s by way of %s: error is %v, want a time-out that names limits.idle", server, scheme, err)
			}
		}
	}
}

func TestProxyOfTheEnvironmentIsUsed(t *testing.T) {
	u := newUpstream(t)
	first := u.put("motd", "one\n")
	a := newAuthority(t)
	plain, err := url.Parse(u.serveHTTP())
	if err != nil {
		t.Fatal(err)
	}
	w := &wall{t: t, servers: map[string]string{
		farAway + ":443": a.serve(u.httpBackend(), nil).Listener.Addr().String(), farAway + ":80": plain.Host,
	}}
	proxy := httptest.NewServer(w)
	t.Cleanup(proxy.Close)
	socks := listen(t)
	go accept(socks, w.serveSOCKS)
	via := as("http", proxyPassword, proxy.Listener.Addr())
	nobody := "http://127.0.0.1:1"
	for name, test := range map[string]struct {
		env  map[string]string
		cfg  source.Config
		want string
	}{
		"for HTTPS":              {map[string]string{"HTTPS_PROXY": via, "HTTP_PROXY": nobody}, source.Config{URL: "https://" + farAway + "/hosts.git"}, farAway + ":443"},
		"in lower case":          {map[string]string{"https_proxy": via}, source.Config{URL: "https://" + farAway + "/hosts.git"}, farAway + ":443"},
		"for HTTP":               {map[string]string{"HTTP_PROXY": via, "HTTPS_PROXY": nobody}, source.Config{URL: "http://" + farAway + "/hosts.git"}, farAway + ":80"},
		"of the other kind":      {map[string]string{"HTTPS_PROXY": as("socks5", proxyPassword, socks.Addr())}, source.Config{URL: "https://" + farAway + "/hosts.git"}, farAway + ":443"},
		"behind the source's":    {map[string]string{"HTTPS_PROXY": nobody, "NO_PROXY": "*"}, source.Config{URL: "https://" + farAway + "/hosts.git", Proxy: via}, farAway + ":443"},
		"not where it may not":   {map[string]string{"HTTPS_PROXY": via, "NO_PROXY": "example.com,.invalid"}, source.Config{URL: "https://" + farAway + "/hosts.git"}, ""},
		"not where it shall not": {map[string]string{"HTTPS_PROXY": via}, source.Config{URL: "https://" + farAway + "/hosts.git", Proxy: "none"}, ""},
		"not for SSH":            {map[string]string{"HTTPS_PROXY": via, "HTTP_PROXY": via}, source.Config{URL: "ssh://git@" + farAway + "/hosts.git"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, key := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"} {
				t.Setenv(key, test.env[key])
			}
			test.cfg.CAFile = a.file
			h := open(t, test.cfg)
			_, err := h.Fetch(context.Background())
			if test.want != "" {
				if err != nil {
					t.Fatal(err)
				}
				h.wantAt(first)
			} else if !errors.Is(err, source.ErrUnreachable) {
				t.Errorf("error is %v: nothing but the proxy can find the server", err)
			}
			if got := strings.Join(w.calls(), " "); got != test.want {
				t.Errorf("the proxy was asked for %q, want %q", got, test.want)
			}
		})
	}
}
