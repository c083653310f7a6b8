package remote

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"sync/atomic"
	"time"
)

// A network makes connections whose silence and whose bytes are limited.
type network struct {
	limits Limits
	left   atomic.Int64
	// failed is what first went wrong beneath the protocols, which do not
	// always pass it on.
	failed atomic.Pointer[error]
	// named is true where limits have the names of a source's configuration.
	named bool
}

func newNetwork(l Limits) *network {
	n := &network{limits: l, named: true}
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
		got, err = 0, failf(KindLimit, "server sent more than %d bytes%s", m.n.limits.Bytes, m.n.name("limits.bytes"))
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

func (n *network) name(limit string) string {
	if !n.named {
		return ""
	}
	return " (" + limit + ")"
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
		return failf(KindTimeout, "%s: server was silent for %s%s", doing, n.limits.Idle, n.name("limits.idle"))
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
