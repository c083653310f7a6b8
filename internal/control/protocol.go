// Package control is how a command talks to the daemon on the same machine:
// over a unix socket that root alone may use.
//
// A connection carries one request, a line of JSON, and its answer: any number
// of lines with progress, then one with the result or an error. The package
// carries words to and fro and knows nothing of runs; what is asked for is done
// by an Agent.
package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultSocket is where the daemon listens.
const DefaultSocket = "/run/trued/trued.sock"

// protocol is the version of the protocol. It changes when an older peer would
// misunderstand.
const protocol = 1

// Bounds of what either side takes.
const (
	maxRequest  = 64 << 10
	maxAnswer   = 16 << 20
	maxReason   = 1 << 10
	maxProgress = 4 << 10
)

// An Agent does what is asked for. Its methods are called from several
// goroutines. The context ends when whoever asked has gone: that ends the
// waiting, and not a run that has begun.
type Agent interface {
	// Status returns a JSON object.
	Status(ctx context.Context) (json.RawMessage, error)
	// Sync fetches, runs, and waits for the outcome. Progress may be
	// called at any time and never blocks.
	Sync(ctx context.Context, r SyncRequest, progress func(line string)) (SyncReply, error)
	Suspend(ctx context.Context, r SuspendRequest) error
	Resume(ctx context.Context) error
}

// SyncRequest is what the run that is asked for may do beyond others.
type SyncRequest struct {
	// AcceptPrune lets the run remove what is held.
	AcceptPrune bool `json:"accept_prune,omitempty"`
	// AcceptHistory lets the run follow a branch whose history was rewritten.
	AcceptHistory bool `json:"accept_history,omitempty"`
	// AcceptCommit is AcceptHistory for the commit whose name begins so, and for no
	// other.
	AcceptCommit string `json:"accept_commit,omitempty"`
	// IgnoreWindows lets the run change what waits for its window.
	IgnoreWindows bool `json:"ignore_windows,omitempty"`
	// Now runs what is there, without a fetch.
	Now bool `json:"now,omitempty"`
	// Order is what is to become of a source first; nil for nothing.
	Order *Order `json:"order,omitempty"`
}

// Order is what an operator wants to become of a source.
type Order struct {
	// Do is rollback, pin, unpin or retry.
	Do     string `json:"do"`
	Source string `json:"source,omitempty"`
	Commit string `json:"commit,omitempty"`
	Reason string `json:"reason"`
	// By is the operator's name, as far as it is known.
	By string `json:"by,omitempty"`
}

// SyncReply is what came of the run.
type SyncReply struct {
	ExitCode int    `json:"exit_code"`
	Summary  string `json:"summary"`
	RunID    string `json:"run_id,omitempty"`
}

// SuspendRequest says why convergence stops and for how long; without For,
// until it is resumed.
type SuspendRequest struct {
	Reason string        `json:"reason"`
	For    time.Duration `json:"-"`
	// By is the operator's name, as far as it is known.
	By string `json:"by,omitempty"`
}

// suspendWire is a SuspendRequest with the time as people write it.
type suspendWire struct {
	Reason string `json:"reason"`
	For    string `json:"for,omitempty"`
	By     string `json:"by,omitempty"`
}

// MarshalJSON writes For as "2h0m0s".
func (r SuspendRequest) MarshalJSON() ([]byte, error) {
	w := suspendWire{Reason: r.Reason, By: r.By}
	if r.For != 0 {
		w.For = r.For.String()
	}
	return json.Marshal(w)
}

// UnmarshalJSON is the reverse of MarshalJSON.
func (r *SuspendRequest) UnmarshalJSON(data []byte) error {
	var w suspendWire
	if err := strict(data, &w); err != nil {
		return err
	}
	*r = SuspendRequest{Reason: w.Reason, By: w.By}
	if len(w.Reason) > maxReason || len(w.By) > maxReason {
		return fmt.Errorf("the reason or the name is longer than %d bytes", maxReason)
	}
	if w.For == "" {
		return nil
	}
	d, err := time.ParseDuration(w.For)
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is not a time such as 2h", w.For)
	}
	r.For = d
	return nil
}

// Pong is the answer to a ping.
type Pong struct {
	Version string `json:"version"`
	PID     int    `json:"pid"`
}

// An Error is what the daemon answers when it cannot do what was asked for. An
// Agent may return one to choose the code.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// The codes of errors.
const (
	CodeBadRequest = "bad_request"
	CodeVersion    = "version"
	CodeForbidden  = "forbidden"
	CodeBusy       = "busy"
	CodeStopping   = "stopping"
	CodeFailed     = "failed"
)

// The methods of the protocol.
const (
	methodPing    = "ping"
	methodStatus  = "status"
	methodSync    = "sync"
	methodSuspend = "suspend"
	methodResume  = "resume"
)

type request struct {
	Protocol int             `json:"protocol"`
	Method   string          `json:"method"`
	Params   json.RawMessage `json:"params,omitempty"`
}

// An answer has one of the three.
type answer struct {
	Protocol int             `json:"protocol"`
	Progress *string         `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *Error          `json:"error,omitempty"`
}

// parseRequest reads one request. An option that is not known is refused, since
// whoever gave it meant something by it.
func parseRequest(line []byte) (request, error) {
	var version struct {
		Protocol int `json:"protocol"`
	}
	if err := json.Unmarshal(line, &version); err != nil {
		return request{}, &Error{CodeBadRequest, "the request is not a JSON object: " + err.Error()}
	}
	if version.Protocol != protocol {
		return request{}, &Error{CodeVersion, fmt.Sprintf("the daemon speaks version %d of the protocol and was asked in version %d: "+
			"the command and the daemon are of different releases; restart the daemon", protocol, version.Protocol)}
	}
	var r request
	if err := strict(line, &r); err != nil {
		return request{}, &Error{CodeBadRequest, "cannot read request: " + err.Error()}
	}
	return r, nil
}

// params decodes the parameters of a request; none is all zero.
func params[T any](r request) (T, error) {
	var p T
	if len(r.Params) == 0 {
		return p, nil
	}
	if err := strict(r.Params, &p); err != nil {
		return p, &Error{CodeBadRequest, fmt.Sprintf("cannot read parameters of %q: %v", r.Method, err)}
	}
	return p, nil
}

func strict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after it")
	}
	return nil
}

// errTooLong is a line beyond its bound.
var errTooLong = errors.New("the line is too long")

// readLine reads up to a newline, which it drops, and never more than the
// reader's bound.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > limit {
			return nil, errTooLong
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// trusted reports whether the process at the other end may use the socket, or
// be believed: it is root's, or of the same user as this one.
func trusted(conn *net.UnixConn) (bool, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return false, err
	}
	if credErr != nil {
		return false, credErr
	}
	return cred.Uid == 0 || int(cred.Uid) == os.Geteuid(), nil
}
