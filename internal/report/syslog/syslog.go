// Package syslog sends events as RFC 5424 has them: to a local socket, over UDP,
// and over TCP and TLS with the length before each message (RFC 6587, RFC 5425).
//
// Syslog acknowledges nothing, so over TCP and TLS each batch has a connection
// of its own: when all is written we close our half, and the batch has arrived
// when the receiver has closed the other in order, which it does once it has
// read everything. A receiver that died before that resets the connection, and
// the batch comes again. What a local socket or the network took over UDP counts
// as arrived; nobody can know more.
package syslog

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/report"
)

// Kind is the word for the sink in the configuration.
const Kind = "syslog"

// A Sink sends to one receiver.
type Sink struct {
	config Config
}

// New returns the sink.
func New(c Config) *Sink {
	if c.Facility == 0 {
		c.Facility = daemon
	}
	return &Sink{c}
}

// Name implements report.Sink.
func (s *Sink) Name() string { return Kind + ":" + string(s.config.Address) }

// Send implements report.Sink.
func (s *Sink) Send(ctx context.Context, events []report.Stored) (n int, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot report to %s: %w", s.config.Address, err)
		}
	}()
	conn, err := s.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if scheme, _ := s.config.Address.parts(); scheme == "udp" || scheme == "unix" {
		n, err = s.datagrams(conn, scheme, events)
	} else if err = s.stream(conn, events); err == nil {
		if err = arrived(ctx, conn); err == nil {
			n = len(events)
		}
	}
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", ctx.Err(), err)
	}
	return n, err
}

func (s *Sink) dial(ctx context.Context) (net.Conn, error) {
	scheme, place := s.config.Address.parts()
	d := &net.Dialer{}
	switch scheme {
	case "unix":
		return d.DialContext(ctx, "unixgram", place)
	case "tls":
		host, _, err := net.SplitHostPort(place)
		if err != nil {
			return nil, err
		}
		c, err := s.config.Config(host)
		if err != nil {
			return nil, err
		}
		return (&tls.Dialer{NetDialer: d, Config: c}).DialContext(ctx, "tcp", place)
	default:
		return d.DialContext(ctx, scheme, place)
	}
}

// datagrams sends one message each. A receiver that is not there is often only
// found out by the next one.
func (s *Sink) datagrams(conn net.Conn, scheme string, events []report.Stored) (int, error) {
	most := mostDatagram
	if scheme == "unix" {
		most = mostStream
	}
	for i, e := range events {
		message, err := encode(e.Event, s.config.Facility, most)
		if err != nil {
			return i, &report.RefusedError{Err: err}
		}
		if _, err := conn.Write(message); err != nil {
			return i, err
		}
	}
	return len(events), nil
}

// stream writes all messages, each after its length, and closes our half.
func (s *Sink) stream(conn net.Conn, events []report.Stored) error {
	w := bufio.NewWriter(conn)
	for _, e := range events {
		message, err := encode(e.Event, s.config.Facility, mostStream)
		if err != nil {
			return err
		}
		// An error stays with the writer and comes back from Flush.
		_, _ = w.WriteString(strconv.Itoa(len(message)) + " ")
		_, _ = w.Write(message)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("a %T cannot be closed by half", conn)
	}
	if err := half.CloseWrite(); err != nil {
		return err
	}
	if t, ok := conn.(*tls.Conn); ok {
		// Some take only the end of the connection below for the end.
		if tcp, ok := t.NetConn().(*net.TCPConn); ok {
			return tcp.CloseWrite()
		}
	}
	return nil
}

// arrived waits until the receiver has closed its half, and has acknowledged all
// that was sent before it did.
func arrived(ctx context.Context, conn net.Conn) error {
	_, err := io.Copy(io.Discard, conn)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) { // TLS without its own goodbye
		return fmt.Errorf("the receiver did not read everything: %w", err)
	}
	below := conn
	if t, ok := conn.(*tls.Conn); ok {
		below = t.NetConn()
	}
	tcp, ok := below.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	const pause = 2 * time.Millisecond
	for {
		waits, err := unacknowledged(raw)
		if err != nil {
			return fmt.Errorf("the receiver did not read everything: %w", err)
		}
		if waits == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d bytes were not acknowledged: %w", waits, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// unacknowledged returns how many bytes the other end has not acknowledged.
func unacknowledged(raw syscall.RawConn) (waits int, err error) {
	cerr := raw.Control(func(fd uintptr) {
		if waits, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err != nil {
			return
		}
		var code int
		if code, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); err == nil && code != 0 {
			err = syscall.Errno(code)
		}
	})
	return waits, errors.Join(cerr, err)
}
