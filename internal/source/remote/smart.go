package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"

	"trued.dev/trued/internal/source/object"
)

// A transport carries Git's protocol, version 0, to a server.
type transport interface {
	// advertise returns the server's list of references.
	advertise(ctx context.Context) (io.ReadCloser, error)
	// request sends one complete negotiation and returns the answer.
	request(ctx context.Context, body []byte) (io.ReadCloser, error)
	// broken explains an error of reading either.
	broken(doing string, err error) error
	close()
}

// smartSession fetches from a server.
type smartSession struct {
	t       transport
	scratch string
	limits  Limits
	caps    *capability.List
}

func (s *smartSession) close() { s.t.close() }

func decodeRefs(r io.Reader) (*packp.AdvRefs, error) {
	a := packp.NewAdvRefs()
	err := a.Decode(r)
	return a, err
}

func (s *smartSession) refs(ctx context.Context) (*refs, error) {
	body, err := s.t.advertise(ctx)
	if err != nil {
		return nil, err
	}
	a, err := decodeRefs(body)
	if closeErr := body.Close(); err == nil {
		err = closeErr
	}
	var unexpected *packp.ErrUnexpectedData
	switch {
	case errors.Is(err, packp.ErrEmptyAdvRefs):
		return nil, failf(KindNotFound, "the repository is empty: push a first commit")
	case errors.As(err, &unexpected):
		return nil, failf(KindMalformed, "server's list of references is malformed: %s", oneLine(unexpected.Msg))
	case err != nil:
		return nil, s.t.broken("server did not list its references", err)
	}
	s.caps = a.Capabilities
	if formats := a.Capabilities.Get("object-format"); len(formats) > 0 && formats[0] != "sha1" {
		return nil, failf(KindUnsupported, "the repository names its objects by %s: only SHA-1 can be fetched", formats[0])
	}
	if !a.Capabilities.Supports(capability.Sideband64k) {
		return nil, failf(KindUnsupported, "server does not offer side-band-64k, as every Git server does")
	}
	all := &refs{ids: map[string]object.ID{}, peeled: map[string]object.ID{}}
	for name, id := range a.References {
		all.ids[name] = object.ID(id)
	}
	for name, id := range a.Peeled {
		all.peeled[name] = object.ID(id)
	}
	if a.Head != nil {
		all.ids["HEAD"] = object.ID(*a.Head)
	}
	for _, pair := range a.Capabilities.Get(capability.SymRef) {
		if name, target, ok := strings.Cut(pair, ":"); ok && name == "HEAD" {
			all.head = target
		}
	}
	all.anyCommit = a.Capabilities.Supports(capability.AllowReachableSHA1InWant) || a.Capabilities.Supports(capability.AllowTipSHA1InWant)
	return all, nil
}

func (s *smartSession) get(ctx context.Context, want object.ID, ask Ask, out sink) error {
	body, err := s.t.request(ctx, s.negotiation(want, ask))
	if err != nil {
		return err
	}
	if ask.CommitsOnly {
		open, err := s.commits(ctx, body, out)
		// It may well be cut short.
		_ = body.Close()
		if err != nil {
			return err
		}
		return walk(ctx, want, ask, out, open)
	}
	p, err := s.receive(ctx, body, out)
	if closeErr := body.Close(); err == nil && closeErr != nil {
		err = s.t.broken("server broke off", closeErr)
	}
	if err != nil {
		return err
	}
	defer p.close()
	return walk(ctx, want, ask, out, p.open)
}

// negotiation says in one go what is wanted and what is there, so that it is
// one round trip.
func (s *smartSession) negotiation(want object.ID, ask Ask) []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		fmt.Fprintf(&b, "%04x%s", len(text)+4, text)
	}
	caps := []string{"side-band-64k", "thin-pack", "ofs-delta"}
	if s.caps.Supports(capability.NoProgress) {
		caps = append(caps, "no-progress")
	}
	filter := (ask.CommitsOnly || ask.File != "") && s.caps.Supports(capability.Filter)
	if filter {
		caps = append(caps, "filter")
	}
	line("want %s %s\n", want, strings.Join(caps, " "))
	if s.caps.Supports(capability.Shallow) {
		for _, id := range ask.Have {
			line("shallow %s\n", id)
		}
		if ask.Depth > 0 {
			line("deepen %d\n", ask.Depth)
		}
	}
	if filter {
		line("filter tree:%d\n", ask.levels())
	}
	b.WriteString("0000")
	for _, id := range ask.Have {
		line("have %s\n", id)
	}
	line("done\n")
	return b.Bytes()
}

// receive reads the answer: what becomes shallow, what is common, the pack.
func (s *smartSession) receive(ctx context.Context, body io.Reader, out sink) (*spool, error) {
	p, err := newSpool(s.scratch, s.limits.Object)
	if err != nil {
		return nil, err
	}
	if err := s.fill(p, body); err != nil {
		p.close()
		return nil, err
	}
	if err := p.index(ctx, out); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// fill writes the pack of an answer to w.
func (s *smartSession) fill(w io.Writer, body io.Reader) error {
	lines := pktline.NewScanner(body)
	for lines.Scan() {
		data := lines.Bytes()
		switch {
		case len(data) == 0, bytes.HasPrefix(data, []byte("shallow ")), bytes.HasPrefix(data, []byte("unshallow ")),
			bytes.HasPrefix(data, []byte("ACK ")), bytes.HasPrefix(data, []byte("NAK")):
		case bytes.HasPrefix(data, []byte("ERR ")):
			return failf(KindNotFound, "server says: %s", oneLine(string(data[4:])))
		case data[0] == 1:
			if _, err := w.Write(data[1:]); err != nil {
				return fmt.Errorf("cannot keep what is fetched: %w", err)
			}
		case data[0] == 2:
		case data[0] == 3:
			return failf(KindUnreachable, "server broke off: %s", oneLine(string(data[1:])))
		default:
			return failf(KindMalformed, "server sent what is no part of Git's protocol")
		}
	}
	if err := lines.Err(); err != nil {
		if errors.Is(err, pktline.ErrInvalidPktLen) {
			return failf(KindMalformed, "server sent what is no part of Git's protocol: %v", err)
		}
		return s.t.broken("server broke off", err)
	}
	return nil
}

// levels is how deep into each commit an answer has to go: none is the commit
// itself, one its top directory.
func (a Ask) levels() int {
	if a.CommitsOnly {
		return 0
	}
	return strings.Count(a.File, "/") + 2
}
