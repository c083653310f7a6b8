package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// Systemd is the service manager of the running system. It is reached over one
// D-Bus connection that is made at the first call, lives as long as the host,
// and is made again after it broke (systemd or the bus was restarted).
type Systemd struct {
	mu   sync.Mutex
	conn *systemd.Conn
	// raw is the connection that conn calls on, for the methods it lacks.
	raw *dbus.Conn
}

// Systemd returns the service manager. An offline host has none to ask.
func (h *Host) Systemd() *Systemd { return &h.systemd }

// Close ends the connection. The next call makes a new one.
func (s *Systemd) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.Close()
	}
	s.conn, s.raw = nil, nil
}

const (
	managerName      = "org.freedesktop.systemd1"
	managerPath      = "/org/freedesktop/systemd1"
	managerInterface = "org.freedesktop.systemd1.Manager"
	// privateSocket is systemd's own; only root may use it. It works without a
	// bus, and is second choice because every signal is sent to it unasked.
	privateSocket = "/run/systemd/private"
)

// connection returns a live connection.
func (s *Systemd) connection() (*systemd.Conn, *dbus.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		if s.conn.Connected() {
			return s.conn, s.raw, nil
		}
		s.conn.Close()
		s.conn, s.raw = nil, nil
	}
	conn, raw, err := connect(dialBus)
	if err != nil && os.Geteuid() == 0 {
		var direct error
		if conn, raw, direct = connect(dialPrivate); direct != nil {
			err = errors.Join(err, direct)
		} else {
			err = nil
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot reach systemd over D-Bus: %w", err)
	}
	s.conn, s.raw = conn, raw
	return conn, raw, nil
}

// connect makes the pair of connections that go-systemd works with, and keeps
// hold of the one for calls, which is dialled first.
func connect(dial func() (*dbus.Conn, error)) (*systemd.Conn, *dbus.Conn, error) {
	var raw *dbus.Conn
	conn, err := systemd.NewConnection(func() (*dbus.Conn, error) {
		c, err := dial()
		if raw == nil {
			raw = c
		}
		return c, err
	})
	return conn, raw, err
}

// dialWait is how long the bus has to answer whoever connects to it.
const dialWait = 30 * time.Second

func dialBus() (*dbus.Conn, error) {
	return dial(dbus.SystemBusPrivate, (*dbus.Conn).Hello, dialWait)
}

func dialPrivate() (*dbus.Conn, error) {
	atSystemd := func(o ...dbus.ConnOption) (*dbus.Conn, error) { return dbus.Dial("unix:path="+privateSocket, o...) }
	return dial(atSystemd, func(*dbus.Conn) error { return nil }, dialWait)
}

// dial makes a connection that lives on, and gives up one that does not come about.
// It is not bound to a caller's context: the library would close it with the first
// call that is cancelled.
func dial(to func(...dbus.ConnOption) (*dbus.Conn, error), greet func(*dbus.Conn) error, wait time.Duration) (*dbus.Conn, error) {
	ctx, hangUp := context.WithCancel(context.Background())
	patience := time.AfterFunc(wait, hangUp)
	c, err := to(dbus.WithContext(ctx))
	if err != nil {
		patience.Stop()
		hangUp()
		return nil, err
	}
	if err = c.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err == nil {
		err = greet(c)
	}
	if !patience.Stop() && err == nil {
		err = errNoAnswer
	}
	if err != nil {
		hangUp()
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

var errNoAnswer = errors.New("no answer")

// ask makes a call that may be made twice, and makes it again on a new
// connection when the one it was made on broke meanwhile.
func (s *Systemd) ask(ctx context.Context, call func(*systemd.Conn, *dbus.Conn) error) error {
	conn, raw, err := s.connection()
	if err != nil {
		return err
	}
	err = call(conn, raw)
	if err == nil || ctx.Err() != nil || conn.Connected() {
		return err
	}
	if conn, raw, err = s.connection(); err != nil {
		return err
	}
	return call(conn, raw)
}

// manager calls a method of systemd's manager object.
func manager(ctx context.Context, raw *dbus.Conn, method string, args ...any) *dbus.Call {
	return raw.Object(managerName, managerPath).CallWithContext(ctx, managerInterface+"."+method, 0, args...)
}

// property reads one property of an object.
func property[T any](ctx context.Context, raw *dbus.Conn, path dbus.ObjectPath, iface, name string) (T, error) {
	var v dbus.Variant
	var value T
	err := raw.Object(managerName, path).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, iface, name).Store(&v)
	if err != nil {
		return value, err
	}
	err = v.Store(&value)
	return value, err
}

// SystemState returns "starting", "running", "degraded", "maintenance",
// "stopping" or another of systemd's words for the system as a whole.
func (s *Systemd) SystemState(ctx context.Context) (string, error) {
	var state string
	err := s.ask(ctx, func(_ *systemd.Conn, raw *dbus.Conn) (err error) {
		state, err = property[string](ctx, raw, managerPath, managerInterface, "SystemState")
		return err
	})
	if err != nil {
		return "", fmt.Errorf("cannot read state of the system: %w", err)
	}
	return state, nil
}

// Reload makes systemd read all unit files again.
func (s *Systemd) Reload(ctx context.Context) error {
	err := s.ask(ctx, func(conn *systemd.Conn, _ *dbus.Conn) error { return conn.ReloadContext(ctx) })
	if err != nil {
		return fmt.Errorf("cannot make systemd read its unit files again: %w", err)
	}
	return nil
}
