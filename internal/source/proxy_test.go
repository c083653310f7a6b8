package source_test

import (
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// A meddler stands between the host and a server. It counts what the server
// sends, and spoils it from a place on.
type meddler struct {
	t    *testing.T
	l    net.Listener
	to   string
	sent atomic.Int64
	// at is the byte at which spoil begins, counted over all connections.
	at    atomic.Int64
	mode  atomic.Int32
	mu    sync.Mutex
	conns []net.Conn
}

const (
	pass = iota
	cut
	stall
	flip
)

func meddle(t *testing.T, to string) *meddler {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &meddler{t: t, l: l, to: to}
	go m.serve()
	t.Cleanup(func() {
		_ = l.Close()
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, c := range m.conns {
			_ = c.Close()
		}
	})
	return m
}

// spoil sets what happens from the byte at on, and starts to count anew.
func (m *meddler) spoil(mode int32, at int64) {
	m.sent.Store(0)
	m.at.Store(at)
	m.mode.Store(mode)
}

// in returns the URL with the meddler in place of its server.
func (m *meddler) in(s string) string {
	m.t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		m.t.Fatal(err)
	}
	u.Host = m.l.Addr().String()
	return u.String()
}

func (m *meddler) serve() {
	for {
		client, err := m.l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", m.to)
		if err != nil {
			_ = client.Close()
			continue
		}
		m.mu.Lock()
		m.conns = append(m.conns, client, server)
		m.mu.Unlock()
		go func() {
			_, _ = io.Copy(server, client)
			_ = server.(*net.TCPConn).CloseWrite()
		}()
		go func() {
			m.back(client, server)
			_ = client.Close()
			_ = server.Close()
		}()
	}
}

// back carries what the server sends.
func (m *meddler) back(client io.Writer, server io.Reader) {
	buf := make([]byte, 4096)
	for {
		n, err := server.Read(buf)
		start := m.sent.Add(int64(n)) - int64(n)
		part, at := buf[:n], m.at.Load()-start
		if within := at < int64(n); within && m.mode.Load() != pass {
			switch m.mode.Load() {
			case cut:
				_, _ = client.Write(part[:max(at, 0)])
				return
			case stall:
				_, _ = client.Write(part[:max(at, 0)])
				_, _ = io.Copy(io.Discard, server)
				return
			case flip:
				if at >= 0 {
					part[at] ^= 1
				}
			}
		}
		if _, werr := client.Write(part); werr != nil || err != nil {
			return
		}
	}
}
