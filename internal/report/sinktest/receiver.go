package sinktest

import (
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"trued.dev/trued/internal/report"
)

// A Receiver takes events, and does what a fault has it do.
type Receiver struct {
	kind Kind
	addr string
	// listen opens the address.
	listen func() (net.Listener, error)

	mu       sync.Mutex
	listener net.Listener
	served   chan struct{}
	conns    map[net.Conn]bool
	fault    fault
	arrived  []string
	seen     map[string]int
}

// A fault is what is wrong with a receiver.
type fault struct {
	name string
	// dead: nobody listens. hung: connections are taken and nothing is read.
	dead, hung bool
	// slow is the pause before each byte that is read.
	slow time.Duration
	// after is how many bytes are read before the connection is closed, or reset.
	after int
	reset bool
	// status and later are an answer, and its Retry-After.
	status int
	later  string
}

// ofConnections reports whether the fault shows in connections, not in answers.
func (f fault) ofConnections() bool { return f.dead || f.hung || f.slow > 0 || f.after > 0 }

// faults are what a receiver may do to a sink.
func faults(k Kind) []fault {
	list := []fault{
		{name: "it is dead", dead: true},
		{name: "it hangs", hung: true},
		{name: "it reads a byte a second", slow: time.Second},
		{name: "it resets connections", after: 3000, reset: true},
		{name: "it closes in the middle", after: 2500},
		{name: "it closes at once", after: 1},
	}
	if k.Answers {
		list = append(list,
			fault{name: "it is busy", status: 503, later: "1"},
			fault{name: "it is asked too often", status: 429, later: "Tue, 24 Nov 2026 09:00:00 GMT"},
			fault{name: "it is broken", status: 500},
			fault{name: "it does not know us", status: 401},
			fault{name: "it sends us elsewhere", status: 302},
		)
	}
	return list
}

func start(t *testing.T, k Kind) *Receiver {
	t.Helper()
	addr := "127.0.0.1:0"
	r := Start(t, k, func() (net.Listener, error) {
		l, err := net.Listen("tcp", addr)
		if err == nil {
			addr = l.Addr().String() // and stays so
		}
		return l, err
	})
	r.addr = addr
	return r
}

// Start starts a receiver of the kind at an address of the caller's: listen opens
// it, each time that the receiver comes back.
func Start(t *testing.T, k Kind, listen func() (net.Listener, error)) *Receiver {
	t.Helper()
	r := &Receiver{kind: k, listen: listen, conns: map[net.Conn]bool{}, seen: map[string]int{}}
	r.open(t)
	t.Cleanup(r.kill)
	return r
}

// Fail has the receiver do all that one may do to a sink, at random, until stop is
// called.
func (r *Receiver) Fail(t *testing.T) (stop func()) { return r.chaos(t, faults(r.kind)) }

// Arrived returns the ids of the events that were taken, in order, with repeats.
func (r *Receiver) Arrived() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.arrived)
}

// open starts to listen, at the same address as before.
func (r *Receiver) open(t *testing.T) {
	l, err := r.listen()
	for deadline := time.Now().Add(time.Minute); err != nil && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond) // until the port is free again
		l, err = r.listen()
	}
	if err != nil {
		t.Errorf("cannot listen: %v", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	served := make(chan struct{})
	r.listener, r.served = l, served
	go func() {
		defer close(served)
		r.kind.Serve(&listener{Listener: l, r: r}, r)
	}()
}

// kill ends the receiver like a process: whatever it has not read is lost, and
// the other end is told so.
func (r *Receiver) kill() {
	r.mu.Lock()
	l, served := r.listener, r.served
	r.listener = nil
	for c := range r.conns {
		_ = c.(*conn).Conn.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
	r.mu.Unlock()
	if l != nil {
		_ = l.Close()
		<-served
	}
}

// harm has the receiver do what the fault says; none at all with the zero one.
// Connections that are open would not know of it, so they end.
func (r *Receiver) harm(t *testing.T, f fault) {
	t.Helper()
	r.mu.Lock()
	was := r.fault
	r.fault = f
	r.mu.Unlock()
	if f.ofConnections() || was.ofConnections() {
		r.kill()
	}
	r.mu.Lock()
	down := r.listener == nil
	r.mu.Unlock()
	if down && !f.dead {
		r.open(t)
	}
}

// chaos has the receiver fail at random until stop is called.
func (r *Receiver) chaos(t *testing.T, list []fault) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			f := fault{}
			if rand.IntN(2) == 0 {
				f = list[rand.IntN(len(list))]
				f.after *= 1 + rand.IntN(10)
				f.slow = min(f.slow, time.Millisecond)
			}
			r.harm(t, f)
			select {
			case <-done:
				r.harm(t, fault{})
				return
			case <-time.After(time.Duration(rand.IntN(60)) * time.Millisecond):
			}
			if rand.IntN(4) == 0 {
				r.kill()
			}
		}
	}()
	return func() { close(done); <-ended }
}

// Took notes an event that was taken.
func (r *Receiver) Took(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.arrived = append(r.arrived, id)
	r.seen[id]++
}

// Refusal is how a request is to be answered in place of taking it; zero to take
// it.
func (r *Receiver) Refusal() (status int, retryAfter string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fault.status, r.fault.later
}

func (r *Receiver) repeats() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.arrived) - len(r.seen)
}

// hasAll fails the test unless the events have arrived.
func (r *Receiver) hasAll(t *testing.T, all []report.Stored) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range all {
		if r.seen[id(int(e.Seq))] == 0 {
			t.Fatalf("event %d is said to have arrived, and has not", e.Seq)
		}
	}
}

// check fails the test unless n events have arrived, in order but for repeats.
func (r *Receiver) check(t *testing.T, n int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	next := 1
	known := map[string]bool{}
	for _, got := range r.arrived {
		if known[got] {
			continue
		}
		known[got] = true
		if got != id(next) {
			t.Fatalf("%s came where %s was due", got, id(next))
		}
		next++
	}
	if next != n+1 {
		t.Fatalf("%d of %d events arrived", next-1, n)
	}
}

type listener struct {
	net.Listener
	r *Receiver
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	mine := &conn{Conn: c, r: l.r, fault: l.r.fault, closed: make(chan struct{})}
	l.r.conns[mine] = true
	return mine, nil
}

// conn is a connection to a receiver that something is wrong with.
type conn struct {
	net.Conn
	r      *Receiver
	fault  fault
	read   int
	once   sync.Once
	closed chan struct{}
}

var errFault = errors.New("the receiver was told to fail")

func (c *conn) Read(b []byte) (int, error) {
	f := c.fault
	if f.hung {
		<-c.closed
		return 0, errFault
	}
	if f.slow > 0 {
		b = b[:min(1, len(b))]
		select {
		case <-c.closed:
		case <-time.After(f.slow):
		}
	}
	if f.after > 0 {
		if c.read >= f.after {
			if f.reset {
				_ = c.Conn.(*net.TCPConn).SetLinger(0)
			}
			_ = c.Close()
			return 0, errFault
		}
		b = b[:min(len(b), f.after-c.read)]
	}
	n, err := c.Conn.Read(b)
	c.read += n
	return n, err
}

// CloseWrite is asked for by servers that end one half.
func (c *conn) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }

func (c *conn) Close() error {
	var err error
	c.once.Do(func() {
		close(c.closed)
		c.r.forget(c)
		err = c.Conn.Close()
	})
	return err
}

func (r *Receiver) forget(c *conn) {
	go func() { // whoever closes may hold the lock
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.conns, c)
	}()
}
