package metrics_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"trued.dev/trued/internal/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve serves at an address until the test ends, and returns the end.
func serve(t *testing.T, at string, log io.Writer) (stop func()) {
	t.Helper()
	e, err := metrics.NewExporter(func() (metrics.Reading, error) { return reading(), nil })
	if err != nil {
		t.Fatal(err)
	}
	var a metrics.Address
	if err := a.UnmarshalText([]byte(at)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var served sync.WaitGroup
	served.Go(func() { e.Serve(ctx, a, slog.New(slog.NewTextHandler(log, nil))) })
	stop = func() { cancel(); served.Wait() }
	t.Cleanup(stop)
	return stop
}

// get asks until something answers.
func get(t *testing.T, at, method, path string) (status int, kind, body string) {
	t.Helper()
	network := "tcp"
	if at[0] == '/' {
		network = "unix"
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, at)
	}}
	defer transport.CloseIdleConnections()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://host"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil && time.Now().Before(deadline) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header.Get("Content-Type"), string(data)
	}
}

// freePort is an address of the loopback interface that nobody listens at.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestAScrapeGetsTheExposition(t *testing.T) {
	for _, at := range []string{freePort(t), filepath.Join(t.TempDir(), "metrics.sock")} {
		stop := serve(t, at, io.Discard)
		status, kind, body := get(t, at, "GET", "/metrics")
		if status != 200 || !strings.HasPrefix(kind, "text/plain; version=0.0.4") || !strings.Contains(body, "trued_build_info{") {
			t.Errorf("%s: %d, %q:\n%s", at, status, kind, body)
		}
		if status, _, body := get(t, at, "GET", "/"); status != 404 || !strings.Contains(body, "/metrics") {
			t.Errorf("%s: %d, %q", at, status, body)
		}
		if status, _, _ := get(t, at, "POST", "/metrics"); status != 405 {
			t.Errorf("%s: %d", at, status)
		}
		stop()
	}
}

func TestASocketThatADeadProcessLeftIsReplaced(t *testing.T) {
	at := filepath.Join(t.TempDir(), "metrics.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: at, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	stop := serve(t, at, io.Discard)
	if status, _, _ := get(t, at, "GET", "/metrics"); status != 200 {
		t.Error(status)
	}
	if info, err := os.Stat(at); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	stop()
	if _, err := os.Lstat(at); !os.IsNotExist(err) {
		t.Errorf("after the end: %v", err)
	}
}

// Whatever is where the socket should be stays there.
func TestNothingButASocketIsReplaced(t *testing.T) {
	dir := t.TempDir()
	file, taken := filepath.Join(dir, "file"), filepath.Join(dir, "taken")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", taken)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for at, want := range map[string]string{file: "not a socket", taken: "another process does"} {
		log := &logged{}
		stop := serve(t, at, log)
		for deadline := time.Now().Add(time.Minute); !strings.Contains(log.String(), want); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the log says %q", log)
			}
		}
		stop()
		if _, err := os.Lstat(at); err != nil {
			t.Error(err)
		}
	}
}

// logged is a log that is read while it is written.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
