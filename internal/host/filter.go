package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// nobodyID is the number of the user and of the group that own nothing.
const nobodyID = 65534

// StartFilter starts a program of the system that the agent itself runs on, which
// turns what it reads into what it prints. It runs without a shell, and without
// rights where there are any to be without: what it reads is a stranger's.
//
// The caller reads to the end, where an error says that the program failed (a
// *CommandError), and closes, which ends the program in any case.
func StartFilter(ctx context.Context, args []string, from io.Reader) (io.ReadCloser, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // running what it is told is what this is for
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + searchPath, "LANG=C.UTF-8"}
	cmd.Stdin = from
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobodyID, Gid: nobodyID}
	}
	cmd.WaitDelay = killDelay
	f := &filter{cmd: cmd, said: &tail{limit: keptOutput}}
	cmd.Stderr = f.said
	var err error
	if f.out, err = cmd.StdoutPipe(); err != nil {
		return nil, fmt.Errorf("cannot run %q: %w", args[0], err)
	}
	if err := cmd.Start(); err != nil {
		return nil, &CommandError{Args: args, Err: err}
	}
	return f, nil
}

type filter struct {
	cmd  *exec.Cmd
	out  io.Reader
	said *tail
	done bool
	err  error // once it is done
}

func (f *filter) Read(p []byte) (int, error) {
	if f.done {
		return 0, f.err
	}
	n, err := f.out.Read(p)
	if errors.Is(err, io.EOF) {
		f.wait()
		err = f.err
	}
	return n, err
}

func (f *filter) wait() {
	f.done, f.err = true, io.EOF
	if err := f.cmd.Wait(); err != nil {
		f.err = &CommandError{Args: f.cmd.Args, Output: f.said.String(), Err: err}
	}
}

// Close ends the program.
func (f *filter) Close() error {
	if !f.done {
		_ = f.cmd.Process.Kill()
		f.wait()
	}
	return nil
}
