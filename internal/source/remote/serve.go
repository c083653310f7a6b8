package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"trued.dev/trued/internal/source/object"
)

// A session is a connection to one repository.
type session interface {
	// refs lists what the repository offers.
	refs(ctx context.Context) (*refs, error)
	// get hands objects to out: what is new from want on, breadth first.
	get(ctx context.Context, want object.ID, ask Ask, out sink) error
	close()
}

// A sink takes objects, and gives the bases that deltas are made against.
type sink interface {
	object(kind object.Kind, size int64, write func(io.Writer) error) error
	base(id object.ID) (object.Kind, []byte, error)
}

// Serve is the child: it reads a Request, answers with an Offer, and then with
// objects to each Ask until its input ends. confine, unless nil, gives up the
// process's rights before anything is read from the network.
func Serve(ctx context.Context, in io.Reader, out io.Writer, confine func(Request) error) error {
	c := newWire(in, out)
	err := serve(ctx, c, confine)
	if err == nil || errors.Is(err, io.EOF) {
		return nil
	}
	var told *Error
	if !errors.As(err, &told) {
		told = &Error{Kind: KindInternal, Message: err.Error()}
	}
	return c.send(frameError, told)
}

func serve(ctx context.Context, c *wire, confine func(Request) error) error {
	var req Request
	if err := c.expect(frameRequest, &req); err != nil {
		return err
	}
	if confine != nil {
		if err := confine(req); err != nil {
			return fmt.Errorf("cannot give up rights before fetching: %w", err)
		}
	}
	if req.File {
		return serveFile(ctx, c, req)
	}
	s, err := dial(ctx, req)
	if err != nil {
		return err
	}
	defer s.close()
	all, err := s.refs(ctx)
	if err != nil {
		return err
	}
	offer, err := all.choose(req.Want)
	if err != nil {
		return err
	}
	if err := c.send(frameOffer, offer); err != nil {
		return err
	}
	for {
		var ask Ask
		if err := c.expect(frameAsk, &ask); err != nil {
			return err
		}
		if err := s.get(ctx, offer.ID, ask, &pipeSink{c}); err != nil {
			return err
		}
		if err := c.send(frameEnd, struct{}{}); err != nil {
			return err
		}
	}
}

func (c *wire) expect(frame byte, v any) error {
	got, data, err := c.receive()
	if err != nil {
		return err
	}
	if got != frame {
		return fmt.Errorf("message %q came where %q was due", got, frame)
	}
	return json.Unmarshal(data, v)
}

type pipeSink struct{ c *wire }

func (p *pipeSink) object(kind object.Kind, size int64, write func(io.Writer) error) error {
	if err := p.c.sendObject(kind, size); err != nil {
		return err
	}
	return write(p.c.w)
}

func (p *pipeSink) base(id object.ID) (object.Kind, []byte, error) {
	if err := p.c.sendRaw(frameBase, id[:]); err != nil {
		return 0, nil, err
	}
	if err := p.c.w.Flush(); err != nil {
		return 0, nil, err
	}
	frame, data, err := p.c.receive()
	if err != nil {
		return 0, nil, err
	}
	if frame != frameObject {
		return 0, nil, failf(KindMalformed, "server sent a difference to an object that is not known here: %s", id)
	}
	kind, size, err := parseObject(data)
	if err != nil {
		return 0, nil, err
	}
	body := make([]byte, size)
	_, err = io.ReadFull(p.c.r, body)
	return kind, body, err
}
