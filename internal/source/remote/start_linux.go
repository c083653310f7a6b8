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
	p := &process{quarantine: quarantine}
	p.cmd = exec.Command(command[0], command[1:]...) //nolint:gosec // our own binary
	p.cmd.Env = childEnv()
	p.cmd.ExtraFiles = []*os.File{scratch}
	p.cmd.Stderr = &p.said
	p.cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
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
		_ = os.RemoveAll(quarantine)
		return nil, fmt.Errorf("cannot start the process that fetches: %w", err)
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

// childEnv passes on what says where certificates are, and no more.
func childEnv() []string {
	env := []string{"GODEBUG=netdns=go", "GOTRACEBACK=none", childMark + "=1"}
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
