package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"

	"trued.dev/trued/internal/source/object"
)

// A Client is the parent's end of the pipes to a child.
type Client struct {
	c    *wire
	stop func() error
	once sync.Once
	err  error
	// secrets are struck out of what the child says, since a server may repeat
	// what it was sent.
	secrets []string
}

// A Receiver takes what a child hands over, and checks it.
type Receiver interface {
	// Object takes one object. It reads exactly size bytes from r.
	Object(kind object.Kind, size int64, r io.Reader) error
	// Base returns an object that the parent holds.
	Base(id object.ID) (object.Kind, []byte, error)
}

// Within runs Serve within this process, with a scratch directory that is
// removed at the end. It is for what fetches from no network, and for tests of
// other parts: nothing confines it.
func Within(ctx context.Context, scratch string) *Client {
	ctx, cancel := context.WithCancel(ctx)
	askR, askW := io.Pipe()
	answerR, answerW := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := Serve(ctx, askR, answerW, nil)
		_ = answerW.CloseWithError(err)
	}()
	unwatch := context.AfterFunc(ctx, func() {
		_ = answerR.CloseWithError(ctx.Err())
		_ = askR.CloseWithError(ctx.Err())
	})
	return &Client{c: newWire(answerR, askW), stop: func() error {
		cancel()
		unwatch()
		_ = askR.Close()
		_ = answerR.Close()
		<-done
		return os.RemoveAll(scratch)
	}}
}

// Close ends the child, and returns when its whole process group is gone.
func (c *Client) Close() error {
	c.once.Do(func() { c.err = c.stop() })
	return c.err
}

// Open sends the request and returns what the server offers.
func (c *Client) Open(req Request) (Offer, error) {
	c.secrets = req.secrets()
	if err := c.c.send(frameRequest, req); err != nil {
		return Offer{}, c.died(err)
	}
	var o Offer
	frame, data, err := c.c.receive()
	if err != nil {
		return Offer{}, c.died(err)
	}
	switch frame {
	case frameOffer:
		if err := json.Unmarshal(data, &o); err != nil {
			return Offer{}, fmt.Errorf("fetch process sent a malformed offer: %w", err)
		}
		return o, nil
	case frameError:
		return Offer{}, c.told(data)
	default:
		return Offer{}, fmt.Errorf("fetch process sent message %q", frame)
	}
}

// Get asks for objects and hands each to r.
func (c *Client) Get(ask Ask, r Receiver) error {
	if err := c.c.send(frameAsk, ask); err != nil {
		return c.died(err)
	}
	for {
		frame, data, err := c.c.receive()
		if err != nil {
			return c.died(err)
		}
		switch frame {
		case frameObject:
			kind, size, err := parseObject(data)
			if err != nil {
				return err
			}
			if err := r.Object(kind, size, c.c.r); err != nil {
				return c.orDied(err)
			}
		case frameBase:
			if err := c.answer(data, r); err != nil {
				return err
			}
		case frameEnd:
			return nil
		case frameError:
			return c.told(data)
		default:
			return fmt.Errorf("fetch process sent message %q", frame)
		}
	}
}

// File asks for the file that the request's URL holds, and writes what comes
// of it.
func (c *Client) File(req Request, to io.Writer) error {
	req.File = true
	c.secrets = req.secrets()
	if err := c.c.send(frameRequest, req); err != nil {
		return c.died(err)
	}
	for {
		frame, n, err := c.c.head()
		if err != nil {
			return c.died(err)
		}
		if frame == frameChunk {
			if _, err := io.CopyN(to, c.c.r, int64(n)); err != nil {
				return c.orDied(err)
			}
			continue
		}
		data := make([]byte, n)
		if _, err := io.ReadFull(c.c.r, data); err != nil {
			return c.died(err)
		}
		switch frame {
		case frameEnd:
			return nil
		case frameError:
			return c.told(data)
		default:
			return fmt.Errorf("fetch process sent message %q", frame)
		}
	}
}

func (c *Client) answer(data []byte, r Receiver) error {
	var id object.ID
	if copy(id[:], data) != len(id) {
		return errors.New("fetch process asked for a malformed id")
	}
	kind, body, err := r.Base(id)
	if errors.Is(err, object.ErrMissing) {
		if err := c.c.sendRaw(frameNoBase, nil); err != nil {
			return c.died(err)
		}
		return c.c.w.Flush()
	}
	if err != nil {
		return err
	}
	if err := c.c.sendObject(kind, int64(len(body))); err != nil {
		return c.died(err)
	}
	if _, err := c.c.w.Write(body); err != nil {
		return c.died(err)
	}
	return c.c.w.Flush()
}

// told returns the child's error. Nothing that it says is trusted to be fit
// for a terminal.
func (c *Client) told(data []byte) error {
	var e Error
	if err := json.Unmarshal(data, &e); err != nil {
		return fmt.Errorf("fetch process sent a malformed error: %w", err)
	}
	for _, s := range c.secrets {
		e.Message = strings.ReplaceAll(e.Message, s, "[redacted]")
	}
	e.Message = oneLine(e.Message)
	return &e
}

// secrets lists what no message may hold.
func (r Request) secrets() []string {
	list := []string{r.Token, string(r.SSHPassphrase)}
	for _, s := range []string{r.Proxy, r.URL} {
		if u, err := url.Parse(s); err == nil {
			password, _ := u.User.Password()
			list = append(list, password)
		}
	}
	return slices.DeleteFunc(list, func(s string) bool { return s == "" })
}

// ErrDied is the error for a child that ended in the middle.
var ErrDied = errors.New("fetch process ended in the middle")

// died explains why the pipe broke.
func (c *Client) died(err error) error {
	if why := c.Close(); why != nil {
		return fmt.Errorf("%w: %w", ErrDied, why)
	}
	return fmt.Errorf("%w: %w", ErrDied, err)
}

func (c *Client) orDied(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) {
		return c.died(err)
	}
	return err
}
