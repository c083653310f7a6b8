package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is an agent that remembers what it was asked for.
type fake struct {
	mu        sync.Mutex
	suspended *SuspendRequest
	resumed   bool
	sync      func(ctx context.Context, r SyncRequest, progress func(string)) (SyncReply, error)
}

func (f *fake) Status(context.Context) (json.RawMessage, error) {
	return json.RawMessage(`{"state":"in order"}`), nil
}

func (f *fake) Sync(ctx context.Context, r SyncRequest, progress func(string)) (SyncReply, error) {
	return f.sync(ctx, r, progress)
}

func (f *fake) Suspend(_ context.Context, r SuspendRequest) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.suspended = &r
	return nil
}

func (f *fake) Resume(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.suspended == nil {
		return errors.New("convergence is not suspended")
	}
	f.resumed = true
	return nil
}

// serve starts a server for the time of the test and returns its socket.
func serve(t *testing.T, agent Agent) string {
	t.Helper()
	return serveWith(t, func(*Server) {}, agent)
}

func serveWith(t *testing.T, set func(*Server), agent Agent) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(agent, "1.2.3")
	set(server)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return path
}

func dial(t *testing.T, path string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// say sends raw bytes and returns everything that comes back.
func say(t *testing.T, path, words string) string {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() { _, _ = conn.Write([]byte(words)) }()
	var b strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			return b.String()
		}
	}
}

func TestEachRequestReachesTheAgent(t *testing.T) {
	agent := &fake{}
	c := dial(t, serve(t, agent))
	pong, err := c.Ping(t.Context())
	if err != nil || pong.Version != "1.2.3" || pong.PID != os.Getpid() {
		t.Errorf("Ping = %+v, %v", pong, err)
	}
	status, err := c.Status(t.Context())
	if err != nil || string(status) != `{"state":"in order"}` {
		t.Errorf("Status = %s, %v", status, err)
	}
	if err := c.Resume(t.Context()); err == nil || err.Error() != "convergence is not suspended" {
		t.Errorf("the agent's error arrived as %v", err)
	}
	want := SuspendRequest{Reason: "database \"migration\"\n", For: 90 * time.Minute, By: "alice"}
	if err := c.Suspend(t.Context(), want); err != nil || *agent.suspended != want {
		t.Errorf("Suspend arrived as %+v, %v", agent.suspended, err)
	}
	if err := c.Resume(t.Context()); err != nil || !agent.resumed {
		t.Errorf("Resume: %v", err)
	}
}

func TestSyncPassesProgressOnAndReturnsTheOutcome(t *testing.T) {
	agent := &fake{sync: func(_ context.Context, r SyncRequest, progress func(string)) (SyncReply, error) {
		progress("fetching")
		progress(fmt.Sprintf("%+v", r))
		return SyncReply{ExitCode: 2, Summary: "1 held", RunID: "r1"}, nil
	}}
	var lines []string
	reply, err := dial(t, serve(t, agent)).Sync(t.Context(), SyncRequest{AcceptPrune: true}, func(l string) { lines = append(lines, l) })
	if err != nil || reply != (SyncReply{2, "1 held", "r1"}) {
		t.Errorf("Sync = %+v, %v", reply, err)
	}
	if want := "fetching|{AcceptPrune:true AcceptHistory:false AcceptCommit: IgnoreWindows:false Now:false Order:<nil>}"; strings.Join(lines, "|") != want {
		t.Errorf("progress = %q, want %q", lines, want)
	}
}

func TestProgressThatNobodyReadsDoesNotSlowTheRun(t *testing.T) {
	ended := make(chan struct{})
	agent := &fake{sync: func(_ context.Context, _ SyncRequest, progress func(string)) (SyncReply, error) {
		for range 100_000 {
			progress(strings.Repeat("x", 2*maxProgress))
		}
		close(ended)
		return SyncReply{}, nil
	}}
	conn, err := net.Dial("unix", serve(t, agent))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(`{"protocol":1,"method":"sync"}` + "\n")); err != nil {
		t.Fatal(err)
	}
	<-ended
}

func TestWhoeverStopsWaitingEndsTheWaitAlone(t *testing.T) {
	started, left := make(chan struct{}), make(chan error, 1)
	agent := &fake{sync: func(ctx context.Context, _ SyncRequest, _ func(string)) (SyncReply, error) {
		close(started)
		<-ctx.Done()
		left <- ctx.Err()
		return SyncReply{}, ctx.Err()
	}}
	c := dial(t, serve(t, agent))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-started; cancel() }()
	if _, err := c.Sync(ctx, SyncRequest{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Sync = %v", err)
	}
	if err := <-left; err == nil {
		t.Error("the agent still waits")
	}
	if _, err := c.Ping(t.Context()); err != nil {
		t.Errorf("the daemon no longer answers: %v", err)
	}
}

func TestAStoppingDaemonSaysSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	agent := &fake{sync: func(ctx context.Context, _ SyncRequest, _ func(string)) (SyncReply, error) {
		stop()
		<-ctx.Done()
		return SyncReply{}, ctx.Err()
	}}
	done := make(chan error, 1)
	go func() { done <- NewServer(agent, "1").Serve(ctx, l) }()
	_, err = (&Client{path}).Sync(t.Context(), SyncRequest{}, nil)
	var said *Error
	if !errors.As(err, &said) || said.Code != CodeStopping {
		t.Errorf("Sync = %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestWithoutADaemonTheErrorSaysSo(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	for _, path := range []string{filepath.Join(dir, "none"), stale, filepath.Join(dir, "no", "dir")} {
		if _, err := Dial(t.Context(), path); !errors.Is(err, ErrNoDaemon) || !strings.Contains(err.Error(), path) {
			t.Errorf("Dial(%q) = %v", path, err)
		}
	}
}

func TestADaemonThatGoesAwayIsToldFromOneThatIsNotThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = conn.Close()
		}
		done <- err
	}()
	if _, err := Dial(t.Context(), path); !errors.Is(err, ErrGone) || errors.Is(err, ErrNoDaemon) || !IsLeaving(err) {
		t.Errorf("Dial = %v", err)
	}
	if err := errors.Join(<-done, l.Close()); err != nil {
		t.Error(err)
	}
	if IsLeaving(&Error{Code: CodeFailed}) || !IsLeaving(&Error{Code: CodeStopping}) {
		t.Error("who says that it stops is not told from who fails")
	}
}

func TestASocketThatADeadDaemonLeftIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("mode = %v, %v", info.Mode(), err)
	}
	if _, err := Listen(path); !errors.Is(err, ErrInUse) {
		t.Errorf("a second daemon got %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	again, err := Listen(path)
	if err != nil {
		t.Fatalf("after the first has closed: %v", err)
	}
	_ = again.Close()
}

func TestWhatIsNoSocketIsNotReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("Listen = %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "mine" {
		t.Errorf("the file is now %q, %v", got, err)
	}
}
