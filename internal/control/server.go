package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Bounds that keep a crowd, or a peer that is slow or silent, from doing harm.
const (
	maxConnections  = 64
	requestTimeout  = 5 * time.Second
	writeTimeout    = 5 * time.Second
	answerTimeout   = 30 * time.Second
	acceptPause     = 50 * time.Millisecond
	pendingProgress = 64
)

// A Server answers requests by asking an Agent.
type Server struct {
	agent          Agent
	version        string
	requestTimeout time.Duration
}

// NewServer returns a server for an agent of the given version.
func NewServer(agent Agent, version string) *Server {
	return &Server{agent: agent, version: version, requestTimeout: requestTimeout}
}

// Serve answers until ctx is done; then it closes the listener, ends what waits,
// and returns nil when all of it has ended.
func (s *Server) Serve(ctx context.Context, l *Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { defer close(closed); _ = l.Close() })
	defer func() {
		if !stop() {
			<-closed // the next daemon finds no socket of this one
		}
	}()
	var all sync.WaitGroup
	defer all.Wait()
	room := make(chan struct{}, maxConnections)
	for {
		conn, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			cancel()
			return err
		case err != nil:
			// Out of descriptors: some will be given back.
			pause(ctx, acceptPause)
			continue
		}
		select {
		case room <- struct{}{}:
			all.Go(func() {
				defer func() { <-room }()
				s.handle(ctx, conn)
			})
		default:
			turnAway(conn, CodeBusy, "the daemon has too many connections; try again")
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// turnAway answers with an error and closes. It does not wait for the peer.
func turnAway(conn *net.UnixConn, code, message string) {
	p := &peer{conn: conn}
	_ = conn.SetWriteDeadline(time.Now().Add(acceptPause))
	_ = p.write(answer{Error: &Error{code, message}})
	_ = conn.Close()
}

// handle answers the one request of a connection.
func (s *Server) handle(ctx context.Context, conn *net.UnixConn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer conn.Close()
	if ok, err := trusted(conn); err != nil || !ok {
		turnAway(conn, CodeForbidden, "only root may ask the daemon")
		return
	}
	// A daemon that stops does not wait for a request to be finished.
	interrupt := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer interrupt()
	_ = conn.SetReadDeadline(time.Now().Add(s.requestTimeout))
	p := &peer{conn: conn}
	in := bufio.NewReader(conn)
	line, err := readLine(in, maxRequest)
	if errors.Is(err, errTooLong) {
		err = &Error{CodeBadRequest, "the request is too long"}
	} else if err != nil {
		return // it went, or said nothing in its time
	}
	var result any
	if err == nil {
		result, err = s.answer(ctx, cancel, p, in, line)
	}
	_ = p.finish(result, asError(ctx, err))
}

// answer does what one request asks for.
func (s *Server) answer(ctx context.Context, gone func(), p *peer, in *bufio.Reader, line []byte) (any, error) {
	r, err := parseRequest(line)
	if err != nil {
		return nil, err
	}
	if r.Method == methodSync {
		return s.sync(ctx, gone, p, in, r)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	switch r.Method {
	case methodPing:
		return Pong{Version: s.version, PID: os.Getpid()}, nil
	case methodStatus:
		return s.agent.Status(ctx)
	case methodSuspend:
		q, err := params[SuspendRequest](r)
		if err != nil {
			return nil, err
		}
		return nothing(s.agent.Suspend(ctx, q))
	case methodResume:
		return nothing(s.agent.Resume(ctx))
	default:
		return nil, &Error{CodeBadRequest, "unknown method " + quote(r.Method)}
	}
}

// nothing is the result of what has none.
func nothing(err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return struct{}{}, nil
}

// sync waits for a run as long as the one who asked does, and passes progress
// on: as much of it as the peer can take, so that it never slows the run.
func (s *Server) sync(ctx context.Context, gone func(), p *peer, in io.Reader, r request) (any, error) {
	q, err := params[SyncRequest](r)
	if err != nil {
		return nil, err
	}
	if ctx.Err() == nil {
		_ = p.conn.SetReadDeadline(time.Time{})
	}
	go func() {
		// Nothing more is to come, so whatever comes is the end.
		_, _ = in.Read(make([]byte, 1))
		gone()
	}()
	lines, done := make(chan string, pendingProgress), make(chan struct{})
	var sender sync.WaitGroup
	sender.Go(func() {
		if p.stream(lines, done) != nil {
			gone()
		}
	})
	reply, failed := s.agent.Sync(ctx, q, func(line string) {
		select {
		case lines <- line[:min(len(line), maxProgress)]:
		default:
		}
	})
	close(done)
	sender.Wait()
	return reply, failed
}

// stream writes progress until there is none left after done.
func (p *peer) stream(lines <-chan string, done <-chan struct{}) error {
	for {
		select {
		case line := <-lines:
			if err := p.write(answer{Progress: &line}); err != nil {
				return err
			}
			continue
		default:
		}
		select {
		case line := <-lines:
			if err := p.write(answer{Progress: &line}); err != nil {
				return err
			}
		case <-done:
			if len(lines) == 0 {
				return nil
			}
		}
	}
}

// asError is the error as the peer will see it.
func asError(ctx context.Context, err error) *Error {
	var known *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	case ctx.Err() != nil:
		return &Error{CodeStopping, "the daemon is stopping"}
	default:
		return &Error{CodeFailed, err.Error()}
	}
}

func quote(s string) string {
	const shown = 64
	q, err := json.Marshal(s[:min(len(s), shown)])
	if err != nil {
		return "?"
	}
	return string(q)
}

// peer is the writing half of a connection.
type peer struct {
	conn *net.UnixConn
	// broken is set once a line could not be written as a whole: after that
	// nothing that is written makes sense.
	broken error
}

func (p *peer) write(a answer) error {
	if p.broken != nil {
		return p.broken
	}
	a.Protocol = protocol
	line, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_ = p.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, p.broken = p.conn.Write(append(line, '\n'))
	return p.broken
}

func (p *peer) finish(result any, failed *Error) error {
	if failed != nil {
		return p.write(answer{Error: failed})
	}
	raw, err := json.Marshal(result)
	if err != nil {
		return p.write(answer{Error: &Error{CodeFailed, "cannot encode answer: " + err.Error()}})
	}
	return p.write(answer{Result: raw})
}
