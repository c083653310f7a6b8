package remote

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Start runs a child with pipes, in a process group of its own and with an
// empty directory below dir that belongs to the user uid. Ending the context
// kills it.
func Start(ctx context.Context, command []string, dir string, uid, gid int) (*Client, error) {
	if os.Getenv(childMark) != "" {
		return nil, fmt.Errorf("%q does not serve fetches but starts them: a process that fetches would start the next, without end", command)
	}
	quarantine, scratch, err := makeQuarantine(dir, uid, gid)
	if err != nil {
		return nil, err
	}
	defer func() { _ = scratch.Close() }()
	start := startAs
	if os.Geteuid() == 0 {
		start = startBare
	}
	c, err := start(ctx, command, quarantine, scratch, uid, gid)
	if errors.Is(err, os.ErrPermission) {
		// The program may be one that this user cannot run, in somebody's home: it
		// gives its rights up itself.
		c, err = startAs(ctx, command, quarantine, scratch, uid, gid)
	}
	if err != nil {
		_ = os.RemoveAll(quarantine)
		return nil, fmt.Errorf("cannot start the process that fetches: %w", err)
	}
	return c, nil
}

// startBare starts a child that has no rights from its first instruction on: it
// is the user uid, and cannot get a capability or a new privilege. Part of that
// can be taken from a thread alone, which hands it on to the child and ends with
// this call. Were it left to the child, the child would have to stop all its
// threads for each capability that there is.
func startBare(ctx context.Context, command []string, quarantine string, scratch *os.File, uid, gid int) (*Client, error) {
	var c *Client
	err := onThread(func() error {
		if err := forgoPrivileges(); err != nil {
			return err
		}
		var err error
		c, err = startWith(ctx, command, quarantine, scratch, credential(uid, gid))
		return err
	})
	return c, err
}

// onThread runs do on a thread of its own, which ends when it returns.
func onThread(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			// Never unlocked: the thread ends with the goroutine.
			done <- do()
			return
		}
		// The first thread cannot end. While it is held, another one takes over.
		err := onThread(do)
		runtime.UnlockOSThread()
		done <- err
	}()
	return <-done
}

// forgoPrivileges takes from this thread, and from what it starts, the chance of
// getting any.
func forgoPrivileges() error {
	if err := emptyBoundingSet(unix.RawSyscall6); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot forbid new privileges: %w", err)
	}
	return nil
}

// credential is what a child that root starts is to be. Who becomes no other
// user keeps the groups, too.
func credential(uid, gid int) *syscall.Credential {
	if uid == 0 {
		return nil
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// startAs starts a child with the rights of this process; it gives them up
// itself.
func startAs(ctx context.Context, command []string, quarantine string, scratch *os.File, _, _ int) (*Client, error) {
	return startWith(ctx, command, quarantine, scratch, nil)
}

func startWith(ctx context.Context, command []string, quarantine string, scratch *os.File, who *syscall.Credential) (*Client, error) {
	p := &process{quarantine: quarantine}
	p.cmd = exec.Command(command[0], command[1:]...) //nolint:gosec // our own binary
	p.cmd.Env = childEnv()
	p.cmd.ExtraFiles = []*os.File{scratch}
	p.cmd.Stderr = &p.said
	p.cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Credential: who}
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout = w
	p.out = out
	err = p.cmd.Start()
	_ = w.Close()
	if err != nil {
		_ = out.Close()
		return nil, err
	}
	unwatch := context.AfterFunc(ctx, p.kill)
	return &Client{c: newWire(out, in), stop: func() error {
		unwatch()
		return p.end()
	}}, nil
}

func makeQuarantine(dir string, uid, gid int) (string, *os.File, error) {
	name := filepath.Join(dir, "quarantine."+rand.Text()[:8])
	fail := func(err error) (string, *os.File, error) {
		_ = os.RemoveAll(name)
		return "", nil, fmt.Errorf("cannot make a quarantine: %w", err)
	}
	if err := os.Mkdir(name, 0o700); err != nil {
		return fail(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Lchown(name, uid, gid); err != nil {
			return fail(err)
		}
	}
	f, err := os.Open(name)
	if err != nil {
		return fail(err)
	}
	return name, f, nil
}

// childMark is set in a child's environment. A binary that does not know the
// command it was started with, such as that of a test, may run its usual course
// instead, and must not start a child of its own.
const childMark = "TRUED_FETCH_CHILD"

// childEnv passes on what says where certificates are, and no more. A child has
// one thing to do after the other, and needs no threads that look for work.
func childEnv() []string {
	env := []string{"GODEBUG=netdns=go", "GOTRACEBACK=none", "GOMAXPROCS=1", childMark + "=1"}
	for _, key := range []string{"SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v := os.Getenv(key); v != "" {
			env = append(env, key+"="+v)
		}
	}
	return env
}

type process struct {
	cmd        *exec.Cmd
	out        *os.File
	quarantine string
	said       firstBytes
}

func (p *process) kill() { _ = unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL) }

// end kills the group, and waits until none of it is left. It returns what the
// child died of, when it was not this.
func (p *process) end() error {
	// A child that is through needs no time, and one that is not gets none. As
	// long as it is not waited for, its group's number stays its own.
	p.kill()
	pid := p.cmd.Process.Pid
	err := p.cmd.Wait()
	_ = p.out.Close()
	gone := awaitGroup(pid)
	if rm := os.RemoveAll(p.quarantine); rm != nil && gone == nil {
		gone = fmt.Errorf("cannot remove the quarantine: %w", rm)
	}
	if gone != nil {
		return gone
	}
	return p.cause(err)
}

func awaitGroup(pid int) error {
	const patience = 5 * time.Second
	for until := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if err := unix.Kill(-pid, 0); errors.Is(err, unix.ESRCH) {
			return nil
		}
		if time.Now().After(until) {
			return fmt.Errorf("processes of the fetch (group %d) are still there after they were killed", pid)
		}
	}
}

// outOfMemory reads the last words of a child: memory may have been short for an
// object as well as for a thread.
func outOfMemory(said string) bool {
	for _, words := range []string{"out of memory", "cannot allocate memory", "failed to create new OS thread", "pthread_create failed"} {
		if strings.Contains(said, words) {
			return true
		}
	}
	return false
}

// cause returns why the child ended, nil when it was killed or had finished.
func (p *process) cause(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return nil
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() && status.Signal() == unix.SIGKILL {
		return nil
	}
	said := p.said.String()
	if outOfMemory(said) {
		return failf(KindLimit, "the process that fetches took more memory than limits.memory allows")
	}
	if status.Signaled() && status.Signal() == unix.SIGXFSZ {
		return failf(KindLimit, "the fetch was larger than limits.bytes allows")
	}
	line, _, _ := bytes.Cut([]byte(said), []byte("\n"))
	return fmt.Errorf("it ended with %s: %s", exit.ProcessState, line)
}
