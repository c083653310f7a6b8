package control

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

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

func TestWhoeverSaysNothingIsSentAway(t *testing.T) {
	path := serveWith(t, func(s *Server) { s.requestTimeout = time.Millisecond }, &fake{})
	if got := say(t, path, `{"protocol":1,"method":`); got != "" {
		t.Errorf("answer to half a request = %q", got)
	}
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
