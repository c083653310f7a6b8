package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoDaemon says that no daemon listens at the socket.
var ErrNoDaemon = errors.New("no daemon listens")

// ErrGone says that the daemon ended, or was loaded anew, before it answered.
var ErrGone = errors.New("the daemon went away before it answered")

// IsLeaving reports whether an error is that of a daemon that is there no longer, or
// soon.
func IsLeaving(err error) bool {
	var said *Error
	return errors.Is(err, ErrGone) || errors.As(err, &said) && said.Code == CodeStopping
}

// crowdTries is how often a client tries again when the daemon's queue is full,
// with acceptPause between.
const crowdTries = 100

// A Client asks the daemon at a socket. It has the methods of Agent.
type Client struct {
	path string
}

var _ Agent = (*Client)(nil)

// Dial returns a client when a daemon answers at the socket; the error is
// ErrNoDaemon when there is none. Each request has a connection of its own, so
// there is nothing to close.
func Dial(ctx context.Context, path string) (*Client, error) {
	c := &Client{path: path}
	if _, err := c.Ping(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Ping returns who listens.
func (c *Client) Ping(ctx context.Context) (Pong, error) {
	return ask[Pong](ctx, c, methodPing, nil, nil)
}

// Status returns the agent's status.
func (c *Client) Status(ctx context.Context) (json.RawMessage, error) {
	return ask[json.RawMessage](ctx, c, methodStatus, nil, nil)
}

// Sync asks for a run and waits for its outcome. When ctx ends first the run
// goes on.
func (c *Client) Sync(ctx context.Context, r SyncRequest, progress func(line string)) (SyncReply, error) {
	return ask[SyncReply](ctx, c, methodSync, r, progress)
}

// Suspend stops convergence.
func (c *Client) Suspend(ctx context.Context, r SuspendRequest) error {
	_, err := ask[struct{}](ctx, c, methodSuspend, r, nil)
	return err
}

// Resume starts convergence again.
func (c *Client) Resume(ctx context.Context) error {
	_, err := ask[struct{}](ctx, c, methodResume, nil, nil)
	return err
}

// ask sends one request and reads its answer.
func ask[T any](ctx context.Context, c *Client, method string, params any, progress func(string)) (T, error) {
	var result T
	conn, err := c.connect(ctx)
	if err != nil {
		return result, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := exchange(conn, method, params, progress)
	switch {
	case ctx.Err() != nil && err != nil:
		return result, fmt.Errorf("cannot wait for the daemon's answer to %q: %w", method, ctx.Err())
	case err != nil:
		return result, err
	}
	if err := json.Unmarshal(raw, &result); err != nil {
		return result, fmt.Errorf("cannot read the daemon's answer to %q: %w", method, err)
	}
	return result, nil
}

func (c *Client) connect(ctx context.Context) (*net.UnixConn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", c.path)
	for range crowdTries {
		if !errors.Is(err, unix.EAGAIN) || ctx.Err() != nil {
			break
		}
		pause(ctx, acceptPause)
		conn, err = new(net.Dialer).DialContext(ctx, "unix", c.path)
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOTDIR) {
		return nil, fmt.Errorf("%w at %q: %w", ErrNoDaemon, c.path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot reach the daemon: %w", err)
	}
	uc := conn.(*net.UnixConn) //nolint:forcetypeassert // what dialling "unix" returns
	if ok, err := trusted(uc); err != nil || !ok {
		return nil, errors.Join(fmt.Errorf("whoever listens at %q is not root", c.path), err, uc.Close())
	}
	return uc, nil
}

// exchange returns the result as the daemon wrote it; an *Error is the daemon's
// own word.
func exchange(conn *net.UnixConn, method string, params any, progress func(string)) (json.RawMessage, error) {
	r := request{Protocol: protocol, Method: method}
	if params != nil {
		raw, err := json.Marshal(params)
		if err != nil {
			return nil, fmt.Errorf("cannot encode request %q: %w", method, err)
		}
		r.Params = raw
	}
	line, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("cannot encode request %q: %w", method, err)
	}
	// One that turns us away may have closed before it read; its answer says
	// more than the failure to write does.
	_, sendErr := conn.Write(append(line, '\n'))
	in := bufio.NewReader(conn)
	for {
		line, err := readLine(in, maxAnswer)
		if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
			return nil, errors.Join(ErrGone, sendErr)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the daemon's answer to %q: %w", method, err)
		}
		var a answer
		if err := json.Unmarshal(line, &a); err != nil {
			return nil, fmt.Errorf("cannot read the daemon's answer to %q: %w", method, err)
		}
		switch {
		case a.Error != nil:
			return nil, a.Error
		case a.Progress == nil:
			return a.Result, nil
		case progress != nil:
			progress(*a.Progress)
		}
	}
}
