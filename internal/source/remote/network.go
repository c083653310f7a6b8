package remote

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"golang.org/x/net/proxy"
)

// A network makes connections whose silence and whose bytes are limited.
type network struct {
	limits Limits
	left   atomic.Int64
	// failed is what first went wrong beneath the protocols, which do not
	// always pass it on.
	failed atomic.Pointer[error]
}

func newNetwork(l Limits) *network {
	n := &network{limits: l}
	n.left.Store(l.Bytes)
	return n
}

func (n *network) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: n.limits.Idle}
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &metered{Conn: c, n: n}, nil
}

// Dial makes a network the dialer beneath a SOCKS proxy.
func (n *network) Dial(network, address string) (net.Conn, error) {
	return n.dial(context.Background(), network, address)
}

type metered struct {
	net.Conn
	n *network
}

func (m *metered) Read(p []byte) (int, error) {
	if err := m.SetReadDeadline(time.Now().Add(m.n.limits.Idle)); err != nil {
		return 0, err
	}
	got, err := m.Conn.Read(p)
	if m.n.left.Add(-int64(got)) < 0 {
		got, err = 0, failf(KindLimit, "server sent more than %d bytes (limits.bytes)", m.n.limits.Bytes)
	}
	// A connection that was closed on this side says nothing about the server:
	// whoever closed it knows why, and net/http closes when it gives up waiting.
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		m.n.failed.CompareAndSwap(nil, &err)
	}
	return got, err
}

func (m *metered) Write(p []byte) (int, error) {
	if err := m.SetWriteDeadline(time.Now().Add(m.n.limits.Idle)); err != nil {
		return 0, err
	}
	return m.Conn.Write(p)
}

// broken explains an error of the network.
func (n *network) broken(doing string, err error) error {
	if first := n.failed.Load(); first != nil {
		err = *first
	}
	var known *Error
	var slow net.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &slow) && slow.Timeout():
		return failf(KindTimeout, "%s: server was silent for %s (limits.idle)", doing, n.limits.Idle)
	default:
		return failf(KindUnreachable, "%s: %s", doing, plainly(err))
	}
}

// plainly returns an error's text without the URL that net/http puts in front.
func plainly(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return err.Error()
}

// dialThrough connects to an address, by way of a proxy when there is one.
func (n *network) dialThrough(ctx context.Context, via, address string) (net.Conn, error) {
	if via == "" {
		return n.dial(ctx, "tcp", address)
	}
	u, err := url.Parse(via)
	if err != nil {
		return nil, failf(KindUnreachable, "proxy URL is malformed")
	}
	switch u.Scheme {
	case "socks5", "socks5h":
		d, err := proxy.FromURL(u, n)
		if err != nil {
			return nil, err
		}
		return d.Dial("tcp", address)
	case "http", "https":
		return n.connect(ctx, u, address)
	default:
		return nil, failf(KindUnsupported, "proxies that start with %s:// are not known: use http, https or socks5", u.Scheme)
	}
}

// connect asks an HTTP proxy for a tunnel.
func (n *network) connect(ctx context.Context, via *url.URL, address string) (net.Conn, error) {
	host := via.Host
	if via.Port() == "" {
		host = net.JoinHostPort(via.Hostname(), map[string]string{"http": "80", "https": "443"}[via.Scheme])
	}
	c, err := n.dial(ctx, "tcp", host)
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", via.Host, err)
	}
	if via.Scheme == "https" {
		c = tls.Client(c, &tls.Config{ServerName: via.Hostname(), MinVersion: tls.VersionTLS12})
	}
	header := http.Header{}
	if via.User != nil {
		password, _ := via.User.Password()
		header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(via.User.Username()+":"+password)))
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: header}
	if err := req.Write(c); err != nil {
		return nil, errors.Join(fmt.Errorf("proxy %s: %w", via.Host, err), c.Close())
	}
	r := bufio.NewReaderSize(c, 4096)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("proxy %s: %w", via.Host, err), c.Close())
	}
	if resp.StatusCode != http.StatusOK {
		_ = c.Close()
		return nil, failf(KindUnreachable, "proxy %s answered %s", via.Host, resp.Status)
	}
	return &buffered{Conn: c, r: r}, nil
}

// buffered gives back what was read ahead.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }
