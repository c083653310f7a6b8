package host

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A Command is a program to run on the machine, without a shell.
type Command struct {
	Args  []string
	Dir   string
	Env   []string // in place of the agent's own environment, beside PATH and LANG
	Stdin string
	// User is the name or number of the user to run as; empty for the agent's own.
	User string
	// Sensitive keeps arguments and output out of errors.
	Sensitive bool
	// Apart keeps standard error out of the output, for a program to read what is
	// left; it is in the error alone.
	Apart bool
	// Keep is how many bytes of the output are returned at most; 64 KiB for 0.
	Keep int
}

// An Output is what a command printed: both streams in one, the last of it.
type Output struct {
	Text     string
	ExitCode int
}

// A CommandError is a command that could not be started, was killed, or
// returned something other than 0.
type CommandError struct {
	Args   []string
	Output string
	Err    error
}

func (e *CommandError) Error() string {
	msg := fmt.Sprintf("command %q failed: %v", strings.Join(e.Args, " "), e.Err)
	if out := strings.TrimSpace(e.Output); out != "" {
		msg += ": " + out
	}
	return msg
}

func (e *CommandError) Unwrap() error { return e.Err }

const (
	searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	keptOutput = 64 << 10
	// A cancelled command gets this long to end before it is killed.
	killDelay = 5 * time.Second
)

// Run runs a command to its end, or until ctx is done: then its whole process
// group is ended. The error is a *CommandError.
func (h *Host) Run(ctx context.Context, c Command) (Output, error) {
	out := &tail{limit: cmp.Or(c.Keep, keptOutput)}
	failure := out
	if c.Apart {
		failure = &tail{limit: keptOutput}
	}
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...) //nolint:gosec // running what it is told is what this is for
	cmd.Dir = c.Dir
	cmd.Env = []string{"PATH=" + searchPath, "LANG=C.UTF-8", "HOME=/root"}
	cmd.Stdin = strings.NewReader(c.Stdin)
	cmd.Stdout, cmd.Stderr = out, failure
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := h.become(cmd, c.User); err != nil {
		return Output{}, err
	}
	cmd.Env = append(cmd.Env, c.Env...)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = killDelay
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it ended well, and left somebody behind who holds its output
	}
	if cmd.Process != nil && ctx.Err() != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		err = errors.Join(ctx.Err(), err)
	}
	res := Output{Text: out.String()}
	if cmd.ProcessState != nil {
		res.ExitCode = cmd.ProcessState.ExitCode()
	}
	if err == nil {
		return res, nil
	}
	failed := &CommandError{Args: c.Args, Output: failure.last(keptOutput), Err: err}
	if c.Sensitive {
		failed.Args, failed.Output = c.Args[:1], ""
	}
	return res, failed
}

// become has a command run as another user, with the groups of that user.
func (h *Host) become(cmd *exec.Cmd, name string) error {
	if name == "" {
		return nil
	}
	uid, err := h.UserID(name)
	if err != nil {
		return err
	}
	who := UserEntry{Name: name, UID: uid, GID: -1, Home: "/"}
	users, err := h.Users()
	if err != nil {
		return err
	}
	for _, u := range users {
		if u.UID == uid {
			who = u
			break
		}
	}
	if who.GID < 0 {
		return fmt.Errorf("cannot run %q as user %q: its groups are not in the machine's own files", cmd.Args[0], name)
	}
	cmd.Env = append(cmd.Env, "HOME="+who.Home, "USER="+who.Name, "LOGNAME="+who.Name)
	if uid == os.Geteuid() {
		return nil
	}
	groups, err := h.Groups()
	if err != nil {
		return err
	}
	as := &syscall.Credential{Uid: uint32(uid), Gid: uint32(who.GID)}
	for _, g := range groups {
		if slices.Contains(g.Members, who.Name) {
			as.Groups = append(as.Groups, uint32(g.GID))
		}
	}
	cmd.SysProcAttr.Credential = as
	return nil
}

// tail keeps the last bytes written to it.
type tail struct {
	limit int
	buf   bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	if n > t.limit {
		p = p[n-t.limit:]
	}
	if over := t.buf.Len() + len(p) - t.limit; over > 0 {
		t.buf.Next(over)
	}
	t.buf.Write(p)
	return n, nil
}

func (t *tail) String() string { return t.buf.String() }

func (t *tail) last(n int) string {
	b := t.buf.Bytes()
	return string(b[max(0, len(b)-n):])
}
