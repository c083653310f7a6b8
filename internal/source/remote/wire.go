// Package remote speaks to Git servers. It runs in a child process without
// rights, the only part that parses what the network sends, and hands over
// whole objects to the parent, which trusts none of it: see Serve for the
// child's side and Client for the parent's.
package remote

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"trued.dev/trued/internal/source/object"
)

// A Request tells the child where to fetch from. It goes over a pipe, since it
// holds credentials.
type Request struct {
	URL  string
	Want Want
	// Nameless is true when the limits have no names that an operator knows.
	Nameless bool `json:",omitempty"`
	// File asks for the bytes that the URL holds, in place of a repository.
	File bool `json:",omitempty"`

	// SSHKey is the private key in PEM; KnownHosts the lines of that file.
	SSHKey        []byte `json:",omitempty"`
	SSHPassphrase []byte `json:",omitempty"`
	KnownHosts    []byte `json:",omitempty"`
	// Username with Token is basic authentication, Token alone a bearer's.
	Username   string `json:",omitempty"`
	Token      string `json:",omitempty"`
	CA         []byte `json:",omitempty"`
	ClientCert []byte `json:",omitempty"`
	ClientKey  []byte `json:",omitempty"`
	// Proxy is an http, https, socks5 URL, or empty for none.
	Proxy  string `json:",omitempty"`
	Agent  string
	Limits Limits
	// Scratch is a directory for what is kept during the fetch.
	Scratch string

	// UID and GID are what the child becomes when it starts as root. Readable
	// lists what it may read besides what it takes to resolve names and to
	// check certificates.
	UID, GID int      `json:",omitempty"`
	Readable []string `json:",omitempty"`
}

// Want says which commit: the tip of a branch (empty: the server's default),
// the highest tag that a pattern matches, or one commit.
type Want struct {
	Branch string `json:",omitempty"`
	Tag    string `json:",omitempty"`
	Commit string `json:",omitempty"`
}

// Limits bound what a server can cost.
type Limits struct {
	// Idle is the longest silence of the server.
	Idle time.Duration
	// Bytes is the most that is taken from the network.
	Bytes int64
	// Object is the largest object.
	Object int64
	// Memory is the most that the child may allocate.
	Memory int64
}

// Offer is what the server has for the Want.
type Offer struct {
	// Ref is the full name of the reference, empty for a commit.
	Ref string
	// ID is the object that the reference names: a commit, or an annotated tag.
	ID object.ID
	// Commit is what ID leads to, as far as the server says.
	Commit object.ID
}

// Ask asks for objects.
type Ask struct {
	// Have are commits whose trees the parent holds whole, and whose parents it
	// does not hold.
	Have []object.ID
	// Depth is how many generations of commits are wanted.
	Depth int
	// CommitsOnly asks for the commits alone: the parent holds the tip.
	CommitsOnly bool
	// File asks for one file of each commit, by its path, with the directories
	// that lead to it.
	File string
}

// The kinds of errors that a child reports, as the parent tells them apart.
const (
	KindUnreachable = "unreachable"
	KindDenied      = "denied"
	KindHostKey     = "host_key"
	KindNotFound    = "not_found"
	KindTimeout     = "timeout"
	KindLimit       = "limit"
	KindMalformed   = "malformed"
	KindUnsupported = "unsupported"
	KindInternal    = "internal"
)

// An Error is one that the child reports. Its text holds no credentials.
type Error struct {
	Kind    string
	Message string
}

func (e *Error) Error() string { return e.Message }

func failf(kind, format string, args ...any) error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// Frames of the pipe between parent and child.
const (
	frameRequest = 'Q'
	frameOffer   = 'R'
	frameAsk     = 'G'
	frameObject  = 'O'
	frameBase    = 'B'
	frameNoBase  = 'N'
	frameChunk   = 'C'
	frameEnd     = 'E'
	frameError   = 'X'
)

const maxFrame = 8 << 20

// A wire is one end of the pipes.
type wire struct {
	r *bufio.Reader
	w *bufio.Writer
}

func newWire(r io.Reader, w io.Writer) *wire {
	return &wire{r: bufio.NewReaderSize(r, 1<<16), w: bufio.NewWriterSize(w, 1<<16)}
}

func (c *wire) send(frame byte, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := c.sendRaw(frame, data); err != nil {
		return err
	}
	return c.w.Flush()
}

func (c *wire) sendRaw(frame byte, data []byte) error {
	if len(data) > maxFrame {
		return errors.New("message is too long")
	}
	head := binary.BigEndian.AppendUint32([]byte{frame}, uint32(len(data)))
	if _, err := c.w.Write(head); err != nil {
		return err
	}
	_, err := c.w.Write(data)
	return err
}

// sendObject starts an object; its bytes follow, written to w.
func (c *wire) sendObject(kind object.Kind, size int64) error {
	head := binary.BigEndian.AppendUint64([]byte{byte(kind)}, uint64(size))
	return c.sendRaw(frameObject, head)
}

func (c *wire) receive() (byte, []byte, error) {
	frame, n, err := c.head()
	if err != nil {
		return 0, nil, err
	}
	data := make([]byte, n)
	_, err = io.ReadFull(c.r, data)
	return frame, data, err
}

// head receives a frame but for the n bytes that follow.
func (c *wire) head() (frame byte, n uint32, err error) {
	var head [5]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return 0, 0, err
	}
	if n = binary.BigEndian.Uint32(head[1:]); n > maxFrame {
		return 0, 0, errors.New("message is too long")
	}
	return head[0], n, nil
}

func parseObject(data []byte) (object.Kind, int64, error) {
	if len(data) != 9 {
		return 0, 0, errors.New("malformed object header")
	}
	kind := object.Kind(data[0])
	size := binary.BigEndian.Uint64(data[1:])
	if !kind.Valid() || size > 1<<62 {
		return 0, 0, errors.New("malformed object header")
	}
	return kind, int64(size), nil
}
