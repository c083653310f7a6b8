package remote

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/proxy"
)

// A gateway is the proxy that connections to a server go through; the zero one
// is none.
type gateway struct {
	url *url.URL
	// ca is what the proxy's own certificate is checked against, beside the
	// machine's authorities.
	ca []byte
}

// ParseProxy reads the URL of a proxy. Its error does not repeat it.
func ParseProxy(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil, u.Hostname() == "":
		return nil, &Error{Kind: KindUnsupported, Message: "proxy is no URL: write scheme://host:port"}
	case !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme):
		return nil, failf(KindUnsupported, "proxies that start with %s:// are not known: use http, https, socks5 or socks5h", u.Scheme)
	}
	return u, nil
}

func gatewayOf(req Request) (gateway, error) {
	if req.Proxy == "" {
		return gateway{}, nil
	}
	u, err := ParseProxy(req.Proxy)
	return gateway{u, req.CA}, err
}

// address is where the proxy listens.
func (g gateway) address() string {
	port := g.url.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[g.url.Scheme]
	}
	return net.JoinHostPort(g.url.Hostname(), port)
}

// dialThrough connects to an address by way of a proxy when there is one, which
// also looks its name up.
func (n *network) dialThrough(ctx context.Context, g gateway, address string) (net.Conn, error) {
	switch {
	case g.url == nil:
		return n.dial(ctx, "tcp", address)
	case strings.HasPrefix(g.url.Scheme, "socks5"):
		return n.socks(ctx, g, address)
	default:
		return n.tunnel(ctx, g, address)
	}
}

// Dial is for the interface of DialContext alone.
func (n *network) Dial(network, address string) (net.Conn, error) {
	return n.dial(context.Background(), network, address)
}

// DialContext makes a network the dialer beneath a SOCKS proxy.
func (n *network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return n.dial(ctx, network, address)
}

func (n *network) socks(ctx context.Context, g gateway, address string) (net.Conn, error) {
	var auth *proxy.Auth
	if g.url.User != nil {
		password, _ := g.url.User.Password()
		auth = &proxy.Auth{User: g.url.User.Username(), Password: password}
	}
	d, err := proxy.SOCKS5("tcp", g.address(), auth, n)
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", g.url.Host, err)
	}
	c, err := d.(proxy.ContextDialer).DialContext(ctx, "tcp", address)
	switch {
	case err == nil:
		return c, nil
	case strings.Contains(err.Error(), "authentication"):
		return nil, g.denied("it does not accept this host's user and password")
	default:
		return nil, fmt.Errorf("proxy %s: %w", g.url.Host, err)
	}
}

func (g gateway) denied(why string) error {
	return failf(KindDenied, "proxy %s does not let this host through: %s: check its user and password in `proxy`", g.url.Host, why)
}

// tunnel asks an HTTP proxy for a connection.
func (n *network) tunnel(ctx context.Context, g gateway, address string) (net.Conn, error) {
	c, err := n.dial(ctx, "tcp", g.address())
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", g.url.Host, err)
	}
	// Whoever gives up waits for no answer.
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	through, err := g.connect(ctx, c, address)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return through, nil
}

func (g gateway) connect(ctx context.Context, c net.Conn, address string) (net.Conn, error) {
	if g.url.Scheme == "https" {
		var err error
		if c, err = g.secure(ctx, c); err != nil {
			return nil, err
		}
	}
	header := http.Header{}
	if u := g.url.User; u != nil {
		password, _ := u.Password()
		header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: header}
	if err := req.Write(c); err != nil {
		return nil, fmt.Errorf("proxy %s: %w", g.url.Host, err)
	}
	r := bufio.NewReaderSize(c, 4096)
	resp, err := http.ReadResponse(r, req)
	switch {
	case err != nil:
		return nil, fmt.Errorf("proxy %s: %w", g.url.Host, err)
	case resp.StatusCode == http.StatusProxyAuthRequired, resp.StatusCode == http.StatusForbidden:
		return nil, g.denied("it answered " + oneLine(resp.Status))
	case resp.StatusCode != http.StatusOK:
		return nil, failf(KindUnreachable, "proxy %s answered %s", g.url.Host, oneLine(resp.Status))
	}
	return &buffered{Conn: c, r: r}, nil
}

// secure begins TLS with the proxy itself.
func (g gateway) secure(ctx context.Context, c net.Conn) (net.Conn, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	roots.AppendCertsFromPEM(g.ca)
	s := tls.Client(c, &tls.Config{ServerName: g.url.Hostname(), RootCAs: roots, MinVersion: tls.VersionTLS12})
	err = s.HandshakeContext(ctx)
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &certificate):
		return nil, failf(KindHostKey, "certificate of proxy %s is not accepted: %v: name its authority's certificate in ca_file", g.url.Host, certificate.Err)
	case err != nil:
		return nil, fmt.Errorf("proxy %s: %w", g.url.Host, err)
	}
	return s, nil
}

// buffered gives back what was read ahead.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }
