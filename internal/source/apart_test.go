package source_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	"trued.dev/trued/internal/source/remote"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to show that it is given up")
	}
}

// pry gives up its rights as the fetch child does, and then tries what it must
// not be able to do: to read the paths that it is given, and more. It prints
// what succeeded.
func pry() error {
	if os.Args[2] == "hoard" {
		return hoard()
	}
	if err := confine(); err != nil {
		return err
	}
	succeeded := map[string]bool{}
	try := func(what string, err error) { succeeded[what] = err == nil }
	for _, secret := range os.Args[2:] {
		try("read "+secret, read(secret))
	}
	mark := "trued-was-here-" + strconv.Itoa(os.Getpid())
	try("write to the quarantine", os.WriteFile("pack", []byte("x"), 0o600))
	for _, dir := range []string{"/etc", "/tmp", "/var/lib/trued", "/run/trued"} {
		try("write to "+dir, os.WriteFile(filepath.Join(dir, mark), []byte("x"), 0o600))
	}
	for _, name := range []string{"/etc/passwd", "/etc/hosts", "/proc/self/status"} {
		try("read "+name, read(name))
	}
	try("become root", syscall.Setuid(0))
	try("signal the agent", syscall.Kill(os.Getppid(), 0))
	try("run a program", exec.Command("/bin/true").Run())
	c, err := net.Dial("unix", "/run/trued/trued.sock")
	if err == nil {
		_ = c.Close()
	}
	try("talk to the agent", err)
	return json.NewEncoder(os.Stdout).Encode(succeeded)
}

func confine() error {
	return remote.Confine(remote.Request{UID: 61000, GID: 61000, Limits: remote.Limits{Bytes: 1 << 20, Memory: 256 << 20}})
}

// hoard takes memory until it gets no more.
func hoard() error {
	if err := confine(); err != nil {
		return err
	}
	var hoard [][]byte
	for {
		hoard = append(hoard, bytes.Repeat([]byte("x"), 16<<20))
		fmt.Fprintln(os.Stderr, len(hoard))
	}
}

// read reads a file, or lists a directory.
func read(name string) error {
	_, err := os.ReadFile(name)
	if errors.Is(err, syscall.EISDIR) {
		_, err = os.ReadDir(name)
	}
	return err
}

func runPry(t *testing.T, args ...string) (map[string]bool, string, error) {
	t.Helper()
	quarantine := t.TempDir()
	if err := os.Chown(quarantine, 61000, 61000); err != nil {
		t.Fatal(err)
	}
	d, err := os.Open(quarantine)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	cmd := exec.Command(os.Args[0], append([]string{"pry"}, args...)...)
	cmd.ExtraFiles = []*os.File{d}
	// The pipe that tells of the parent's end.
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, said.String(), err
	}
	var succeeded map[string]bool
	if err := json.Unmarshal(out.Bytes(), &succeeded); err != nil {
		t.Fatalf("%v: %s", err, out.Bytes())
	}
	return succeeded, said.String(), nil
}

// secretsKey names further files and directories, separated by colons, that
// the child must not be able to read: a booted host has those of an agent.
const secretsKey = "TRUED_TEST_SECRETS"

func TestChildCanDoNoMoreThanFetch(t *testing.T) {
	needRoot(t)
	secrets := append(filepath.SplitList(os.Getenv(secretsKey)),
		credential(t, "secret"), "/etc/shadow", fmt.Sprintf("/proc/%d/environ", os.Getpid()))
	want := map[string]bool{
		"write to the quarantine": true, "read /etc/hosts": true,
		"write to /etc": false, "write to /tmp": false, "write to /var/lib/trued": false, "write to /run/trued": false,
		"become root": false, "signal the agent": false, "run a program": false, "talk to the agent": false,
	}
	for _, s := range secrets {
		if err := read(s); err != nil {
			t.Fatalf("there is no secret to keep: %v", err)
		}
		want["read "+s] = false
	}
	got, said, err := runPry(t, secrets...)
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if hasLandlock() {
		want["read /etc/passwd"], want["read /proc/self/status"] = false, false
	} else {
		t.Log("this kernel has no Landlock, so users and groups alone are shown")
		want["write to /tmp"] = got["write to /tmp"]
	}
	for what, may := range want {
		if did, tried := got[what]; did != may || !tried {
			t.Errorf("child can %s: %v, want %v", what, did, may)
		}
	}
}

func hasLandlock() bool {
	const createRuleset, versionFlag = 444, 1
	version, _, errno := syscall.Syscall(createRuleset, 0, 0, versionFlag)
	return errno == 0 && version > 0
}

// A server that says nothing holds the child in the middle of a fetch.
func TestRunningChildIsAnotherUserAndHoldsNoSecretOutsideItsMemory(t *testing.T) {
	needRoot(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	asked := make(chan struct{}, 1)
	go accept(silent, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1<<16))
		asked <- struct{}{}
	})
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("tell-nobody\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := open(t, source.Config{URL: "http://" + silent.Addr().String() + "/hosts.git", TokenFile: token})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := h.Fetch(ctx)
		done <- err
	}()
	<-asked
	pids := children(t)
	if len(pids) != 1 {
		t.Fatalf("children are %v, want one", pids)
	}
	proc := fmt.Sprintf("/proc/%d/", pids[0])
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		t.Fatal(err)
	}
	const none = "0000000000000000"
	for key, want := range map[string]string{
		"Uid": "61000 61000 61000 61000", "Gid": "61000 61000 61000 61000", "Groups": "",
		"CapEff": none, "CapPrm": none, "CapInh": none, "CapBnd": none, "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "2",
	} {
		if got := statusField(string(status), key); got != want {
			t.Errorf("child's %s is %q, want %q", key, got, want)
		}
	}
	tasks, err := filepath.Glob(proc + "task/*/status")
	if err != nil || len(tasks) < 2 {
		t.Errorf("child has threads %v (%v)", tasks, err)
	}
	for _, task := range tasks {
		one, err := os.ReadFile(task)
		if err == nil && (statusField(string(one), "CapEff") != none || statusField(string(one), "CapBnd") != none || statusField(string(one), "NoNewPrivs") != "1") {
			t.Errorf("thread %s kept rights", task)
		}
	}
	for _, name := range []string{"cmdline", "environ"} {
		data, err := os.ReadFile(proc + name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), "tell-nobody") {
			t.Errorf("child's %s holds the token", name)
		}
	}
	cancel()
	if err := <-done; err == nil || strings.Contains(err.Error(), "tell-nobody") {
		t.Errorf("error is %v", err)
	}
	if err := syscall.Kill(pids[0], 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("child is still there after Fetch returned: %v", err)
	}
	h.wantNothingLeft()
}

// tellRights says what rights a child begins with, by dying of it.
func tellRights() error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	var rights []string
	for _, key := range []string{"Uid", "Gid", "Groups", "CapPrm", "CapBnd", "NoNewPrivs"} {
		rights = append(rights, key+" "+statusField(string(status), key))
	}
	return errors.New(strings.Join(rights, ", "))
}

func TestChildBeginsWithoutRightsWhereItsUserCanRunTheProgram(t *testing.T) {
	needRoot(t)
	private := filepath.Join(t.TempDir(), "private")
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	hidden := filepath.Join(private, "trued")
	if err := os.WriteFile(hidden, data, 0o755); err != nil {
		t.Fatal(err)
	}
	own := statusOf(t, os.Getpid())
	for program, want := range map[string]string{
		"/proc/self/exe": "Uid 61000 61000 61000 61000, Gid 61000 61000 61000 61000, Groups , " +
			"CapPrm 0000000000000000, CapBnd 0000000000000000, NoNewPrivs 1",
		// It gives its rights up before it fetches, as others show.
		hidden: "Uid 0 0 0 0, ",
	} {
		s, err := source.Open(source.Config{Name: "infra", URL: "http://127.0.0.1:1/hosts.git"}, t.TempDir(),
			source.Options{Child: []string{program, "tell-rights"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the child begins with %v, want %s", program, err, want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	// Nothing of that is left with this process, once the thread has ended.
	for until := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		now := statusOf(t, os.Getpid())
		if now == own {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("this process had the rights %s and has %s", own, now)
		}
	}
}

// statusOf returns the rights of all threads of a process.
func statusOf(t *testing.T, pid int) string {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, task := range tasks {
		data, err := os.ReadFile(task)
		if err != nil {
			continue // it has ended
		}
		seen[statusField(string(data), "CapBnd")+" "+statusField(string(data), "NoNewPrivs")] = true
	}
	return fmt.Sprint(seen)
}

func statusField(status, key string) string {
	for _, line := range strings.Split(status, "\n") {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	return "(none)"
}

func TestBinaryThatDoesNotServeFetchesStartsNoChainOfThem(t *testing.T) {
	t.Setenv("TRUED_FETCH_CHILD", "1")
	u := newUpstream(t)
	u.put("motd", "one\n")
	h := open(t, source.Config{URL: u.bare})
	if _, err := h.Fetch(context.Background()); err == nil || !strings.Contains(err.Error(), "without end") {
		t.Errorf("error is %v, want one that stops the chain", err)
	}
}
