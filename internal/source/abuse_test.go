package source_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"trued.dev/trued/internal/source"
)

// noise makes a commit of about 120 kB that no compression makes smaller.
func (u *upstream) noise() string {
	u.t.Helper()
	data := make([]byte, 110<<10)
	_, _ = rand.Read(data)
	u.write("noise", string(data))
	return u.put("groups/base/motd", fmt.Sprintf("%x\n", data[:8]))
}

func times(t *testing.T, n int) int {
	t.Helper()
	if testing.Short() {
		return max(n/20, 5)
	}
	return n
}

func TestConnectionThatIsCutOrSpoiledLeavesTheOldCommitOrTheNew(t *testing.T) {
	for name, test := range map[string]struct {
		mode  int32
		times int
		ssh   bool
	}{
		"cut, over HTTP":     {cut, 110, false},
		"cut, over SSH":      {cut, 12, true},
		"flipped, over HTTP": {flip, 110, false},
		"flipped, over SSH":  {flip, 12, true},
		"stalled, over HTTP": {stall, 6, false},
		"stalled, over SSH":  {stall, 6, true},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t)
			old := u.noise()
			cfg := source.Config{Branch: "main", Limits: source.Limits{Idle: 10 * time.Second}}
			if test.mode != cut {
				// A length that is wrong looks like silence.
				cfg.Limits.Idle = 2 * time.Second
			}
			var m *meddler
			if test.ssh {
				s := startSSHD(t)
				m = meddle(t, fmt.Sprintf("127.0.0.1:%d", s.port))
				s.knowAt(m.l.Addr())
				cfg.URL, cfg.SSHKeyFile, cfg.KnownHostsFile = m.in(s.url(u)), s.key, s.knownHosts
			} else {
				server := u.serveHTTP()
				m = meddle(t, strings.TrimSuffix(strings.TrimPrefix(server, "http://"), "/hosts.git"))
				cfg.URL = m.in(server)
			}
			h := open(t, cfg)
			h.fetch()
			n := times(t, test.times)
			failed := 0
			for i := range n {
				h.apply(old)
				fresh := u.noise()
				m.spoil(test.mode, int64(i)*110<<10/int64(n)+int64(i*37%1024))
				_, err := h.Fetch(context.Background())
				var known *source.Error
				switch last, _ := h.Last(); {
				case err == nil && last.Commit != fresh, err != nil && last.Commit != old:
					t.Fatalf("byte %d: last commit is %s after error %v, old %s, new %s", m.at.Load(), last.Commit, err, old, fresh)
				case err != nil && !errors.As(err, &known):
					t.Fatalf("byte %d: error has no reason: %v", m.at.Load(), err)
				case err != nil:
					failed++
				}
				if i%10 == 0 {
					h.fsck()
				}
				m.spoil(pass, 0)
				h.fetch()
				h.wantAt(fresh)
				old = fresh
			}
			h.fsck()
			if failed < n/2 {
				t.Errorf("only %d of %d fetches failed, so nothing was shown", failed, n)
			}
			h.wantNothingLeft()
		})
	}
}

// wantNothingLeft looks for what fetches should have removed.
func (h *host) wantNothingLeft() {
	h.t.Helper()
	for _, pattern := range []string{"quarantine.*", "store.*/objects/pack/tmp_*", "*.new"} {
		if left, _ := filepath.Glob(filepath.Join(h.dir, pattern)); len(left) > 0 {
			h.t.Errorf("left over: %q", left)
		}
	}
	if stores, _ := filepath.Glob(filepath.Join(h.dir, "store.*")); len(stores) > 1 {
		h.t.Errorf("more than one store: %q", stores)
	}
}

// children lists the fetch processes of this process.
func children(t *testing.T) []int {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(lists) == 0 {
		t.Fatalf("the kernel does not list children (%v)", err)
	}
	var pids []int
	for _, name := range lists {
		list, _ := os.ReadFile(name)
		for _, field := range strings.Fields(string(list)) {
			args, _ := os.ReadFile("/proc/" + field + "/cmdline")
			if pid, err := strconv.Atoi(field); err == nil && strings.Contains(string(args), "\x00fetch-child") {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// orphans lists the fetch processes of this binary whose parent is gone.
func orphans(t *testing.T) []int {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, e := range entries {
		args, _ := os.ReadFile(filepath.Join(e, "cmdline"))
		if !strings.HasPrefix(string(args), self+"\x00fetch-child") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(e)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestKillingTheChildLeavesTheOldCommitOrTheNew(t *testing.T) {
	u := newUpstream(t)
	u.noise()
	h := open(t, source.Config{URL: u.serveHTTP(), Branch: "main"})
	h.fetch()
	old := u.noise()
	start := time.Now()
	h.fetch()
	usual := time.Since(start)
	killed := 0
	for range times(t, 200) {
		h.apply(old)
		fresh := u.noise()
		done := make(chan error, 1)
		go func() {
			_, err := h.Fetch(context.Background())
			done <- err
		}()
		moment := time.After(time.Duration(mrand.Int64N(int64(usual))))
		var err error
		select {
		case err = <-done:
		case <-moment:
			for _, pid := range children(t) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				killed++
			}
			err = <-done
		}
		if last, _ := h.Last(); (err == nil) != (last.Commit == fresh) || (err != nil && last.Commit != old) {
			t.Fatalf("last commit is %s after error %v; old %s, new %s", last.Commit, err, old, fresh)
		}
		h.fetch()
		h.wantAt(fresh)
		old = fresh
	}
	h.fsck()
	h.wantNothingLeft()
	if killed == 0 {
		t.Error("no child was killed, so nothing was shown")
	}
}

func TestKillingTheAgentLeavesTheOldCommitOrTheNew(t *testing.T) {
	u := newUpstream(t)
	old := u.noise()
	h := open(t, source.Config{URL: u.serveHTTP(), Branch: "main"})
	h.fetch()
	h.apply(old)
	agent := func() *exec.Cmd {
		t.Helper()
		cmd := exec.Command(os.Args[0], "fetch-once", h.json(), h.dir)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	start := time.Now()
	if err := agent().Wait(); err != nil {
		t.Fatal(err)
	}
	usual := time.Since(start) * 2
	killed := 0
	for i := range times(t, 200) {
		fresh := u.noise()
		cmd := agent()
		stop := time.AfterFunc(time.Duration(mrand.Int64N(int64(usual))), func() { _ = cmd.Process.Kill() })
		if err := cmd.Wait(); err != nil {
			killed++
		}
		stop.Stop()
		h.reopen()
		if last, _ := h.Last(); last.Commit != old && last.Commit != fresh {
			t.Fatalf("last commit is %q; old %s, new %s", last.Commit, old, fresh)
		}
		if i%10 == 0 {
			h.fsck()
		}
		h.fetch()
		h.wantAt(fresh)
		h.apply(fresh)
		old = fresh
	}
	h.fsck()
	h.wantNothingLeft()
	if killed == 0 {
		t.Error("no agent was killed, so nothing was shown")
	}
	for until := time.Now().Add(10 * time.Second); len(orphans(t)) > 0; {
		if time.Now().After(until) {
			t.Fatalf("children %v outlive their agent", orphans(t))
		}
	}
}

func TestServerThatIsSilentOrSlowCostsOneTimeOut(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	greets, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = greets.Close() }()
	drips, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = drips.Close() }()
	go accept(silent, func(net.Conn) {})
	go accept(greets, func(c net.Conn) { _, _ = c.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n")) })
	go accept(drips, func(c net.Conn) {
		for {
			if _, err := c.Write([]byte("x")); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	for name, test := range map[string]struct {
		url   string
		limit string
	}{
		"before the SSH handshake": {"ssh://git@" + silent.Addr().String() + "/hosts.git", "limits.idle"},
		"in the SSH handshake":     {"ssh://git@" + greets.Addr().String() + "/hosts.git", "limits.idle"},
		"over HTTP":                {"http://" + silent.Addr().String() + "/hosts.git", "limits.idle"},
		"a byte at a time":         {"ssh://git@" + drips.Addr().String() + "/hosts.git", "limits.time"},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, source.Config{URL: test.url, Limits: source.Limits{Idle: 300 * time.Millisecond, Time: 3 * time.Second}})
			_, err := h.Fetch(context.Background())
			if !errors.Is(err, source.ErrTimeout) || !strings.Contains(err.Error(), test.limit) {
				t.Errorf("error is %v, want a time-out that names %s", err, test.limit)
			}
			h.wantNothingLeft()
			if left := children(t); len(left) > 0 {
				t.Errorf("children %v are left", left)
			}
		})
	}
}

func accept(l net.Listener, do func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			do(c)
			// Until the other side ends it: a connection that nobody holds any longer
			// is closed by the garbage collector.
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}()
	}
}

func TestLimitsHold(t *testing.T) {
	u := newUpstream(t)
	u.fill(3, 10, 5000)
	u.put("big", strings.Repeat("0123456789abcdef", 20000))
	url := u.serveHTTP()
	for key, limits := range map[string]source.Limits{
		"limits.bytes":   {Bytes: 100 << 10},
		"limits.object":  {Object: 300_000},
		"limits.tree":    {Tree: 200_000},
		"limits.entries": {Entries: 20},
	} {
		t.Run(key, func(t *testing.T) {
			h := open(t, source.Config{URL: url, Limits: limits})
			_, err := h.Fetch(context.Background())
			if !errors.Is(err, source.ErrLimit) || !strings.Contains(err.Error(), key) {
				t.Errorf("error is %v, want ErrLimit that names %s", err, key)
			}
			if r, ok := h.Last(); ok {
				t.Errorf("commit %s was taken", r.Commit)
			}
			h.wantNothingLeft()
		})
	}
}
