package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
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
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- NewServer(agent, "1.2.3").Serve(ctx, l) }()
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
	if want := "fetching|{AcceptPrune:true AcceptHistory:false Now:false}"; strings.Join(lines, "|") != want {
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

func TestBadRequestsGetAClearAnswer(t *testing.T) {
	path := serve(t, &fake{})
	for _, c := range []struct{ name, words, code, says string }{
		{"no JSON", "hello\n", CodeBadRequest, "not a JSON object"},
		{"a list", "[1]\n", CodeBadRequest, "not a JSON object"},
		{"empty", "\n", CodeBadRequest, "not a JSON object"},
		{"null", "null\n", CodeVersion, "version 0"},
		{"an unknown method", `{"protocol":1,"method":"reboot"}` + "\n", CodeBadRequest, `unknown method \"reboot\"`},
		{"another version", `{"protocol":2,"method":"ping","what":1}` + "\n", CodeVersion, "restart the daemon"},
		{"an unknown key", `{"protocol":1,"method":"ping","what":1}` + "\n", CodeBadRequest, "what"},
		{"an unknown option", `{"protocol":1,"method":"sync","params":{"accept_all":true}}` + "\n", CodeBadRequest, "accept_all"},
		{"a wrong type", `{"protocol":1,"method":"sync","params":{"now":"yes"}}` + "\n", CodeBadRequest, "now"},
		{"no time", `{"protocol":1,"method":"suspend","params":{"reason":"r","for":"long"}}` + "\n", CodeBadRequest, "2h"},
		{"time that runs back", `{"protocol":1,"method":"suspend","params":{"reason":"r","for":"-1h"}}` + "\n", CodeBadRequest, "2h"},
		{"a long reason", `{"protocol":1,"method":"suspend","params":{"reason":"` + strings.Repeat("x", maxReason+1) + `"}}` + "\n", CodeBadRequest, "longer than"},
		{"a long name", `{"protocol":1,"method":"suspend","params":{"by":"` + strings.Repeat("x", maxReason+1) + `"}}` + "\n", CodeBadRequest, "longer than"},
		{"two values", `{"protocol":1,"method":"ping"} {}` + "\n", CodeBadRequest, "after top-level value"},
		{"too long", strings.Repeat("x", maxRequest+2) + "\n", CodeBadRequest, "too long"},
		{"long and without end", strings.Repeat("x", 4*maxRequest), CodeBadRequest, "too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := say(t, path, c.words)
			var a answer
			if err := json.Unmarshal([]byte(got), &a); err != nil || a.Error == nil || a.Error.Code != c.code {
				t.Fatalf("answer = %q, %v", got, err)
			}
			if !strings.Contains(got, c.says) {
				t.Errorf("answer %q does not say %q", got, c.says)
			}
		})
	}
	dial(t, path)
}

func TestACrowdDoesNoHarm(t *testing.T) {
	path := serve(t, &fake{})
	// As many as there is room for say nothing and stay.
	var silent []net.Conn
	for range maxConnections {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, conn)
	}
	for range 10_000 {
		conn, err := net.Dial("unix", path)
		if errors.Is(err, unix.EAGAIN) {
			runtime.Gosched()
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	if n := openFiles(t); n > 3*maxConnections {
		t.Errorf("%d files are open", n)
	}
	for _, conn := range silent {
		_ = conn.Close()
	}
	for {
		_, err := Dial(t.Context(), path)
		var busy *Error
		if errors.As(err, &busy) && busy.Code == CodeBusy {
			runtime.Gosched() // some of the crowd are still being sent away
			continue
		}
		if err != nil {
			t.Errorf("after the crowd: %v", err)
		}
		return
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to connect as somebody else")
	}
	const nobody = 65534
	path := serve(t, &fake{})
	for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := connectAs(nobody, path); !errors.Is(err, unix.EACCES) {
		t.Errorf("connecting as another user = %v, want a refusal by the mode", err)
	}
	// The mode is one wall; the daemon's own look is another.
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	got, err := connectAs(nobody, path)
	if err != nil || !strings.Contains(got, CodeForbidden) {
		t.Errorf("answer to another user = %q, %v", got, err)
	}
	if got, err := connectAs(0, path); err != nil || !strings.Contains(got, "1.2.3") {
		t.Errorf("answer to root = %q, %v", got, err)
	}
}

// connectAs pings from a thread that is another user's, and returns the answer.
func connectAs(uid uintptr, path string) (string, error) {
	var got string
	var failed error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		if uid != 0 {
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
				failed = errno
				return
			}
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			failed = err
			return
		}
		defer unix.Close(fd)
		if failed = unix.Connect(fd, &unix.SockaddrUnix{Name: path}); failed != nil {
			return
		}
		_, _ = unix.Write(fd, []byte(`{"protocol":1,"method":"ping"}`+"\n"))
		buf := make([]byte, 4096)
		n, err := unix.Read(fd, buf)
		got, failed = string(buf[:max(n, 0)]), err
	}()
	<-done
	return got, failed
}

func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		`{"protocol":1,"method":"ping"}`,
		`{"protocol":1,"method":"sync","params":{"accept_prune":true,"now":true}}`,
		`{"protocol":1,"method":"suspend","params":{"reason":"r","for":"2h"}}`,
		`{"protocol":1,"method":"resume"}`, `{"protocol":1,"method":"status"}`,
		`{"protocol":9}`, `null`, `[]`, `{"params":{}}`, "\x00\xff",
	} {
		f.Add([]byte(seed))
	}
	agent := &fake{sync: func(context.Context, SyncRequest, func(string)) (SyncReply, error) { return SyncReply{}, nil }}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := parseRequest(line)
		var known *Error
		if err != nil && (!errors.As(err, &known) || known.Code == "" || known.Message == "") {
			t.Fatalf("an error without a code: %v", err)
		}
		if err != nil {
			return
		}
		if q, err := params[SuspendRequest](r); err == nil {
			if q.For < 0 || len(q.Reason) > maxReason {
				t.Fatalf("out of bounds: %+v", q)
			}
			again, err := json.Marshal(q)
			var back SuspendRequest
			if err != nil || json.Unmarshal(again, &back) != nil || back != q {
				t.Fatalf("%+v came back as %+v", q, back)
			}
		}
		if r.Method == methodSync {
			return // needs a connection
		}
		result, err := NewServer(agent, "1").answer(t.Context(), func() {}, nil, nil, line)
		if (result == nil) != (err != nil) {
			t.Fatalf("answer = %v, %v", result, err)
		}
	})
}
