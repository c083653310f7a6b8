package pkg

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"trued.dev/trued/internal/host"
)

const (
	// transactionUnit is the one transient unit that transactions run in: there
	// is one run at a time, so one name is enough, and finds it again.
	transactionUnit = "trued-packages.service"
	// runDir is not the agent's own runtime directory, which goes when the agent
	// stops, while the transaction goes on.
	runDir = "/run/trued-packages"

	waitStep   = 200 * time.Millisecond
	outputKept = 16 << 10
)

// A runner runs a script apart from the agent, so that neither the end of the
// agent nor its cancellation reaches the script: in a transient systemd unit
// where systemd runs, in a session of its own elsewhere.
type runner struct {
	h *host.Host
}

// underWay is what is written down about a script that was started.
type underWay struct {
	Unit string `json:"unit,omitempty"`
	PID  int    `json:"pid,omitempty"`
	// Started is the process's start in /proc, which tells it from a later one
	// with the same number.
	Started string `json:"started,omitempty"`
}

func (r runner) path(name string) string { return filepath.Join(r.h.Path(runDir), name) }

// systemd reports whether there is a service manager to ask.
func (r runner) systemd() bool {
	if r.h.Offline() {
		return false
	}
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

// run runs a shell script to its end and returns the last of its output. When
// ctx is done it lets go.
func (r runner) run(ctx context.Context, script string) (string, error) {
	if err := r.attach(ctx); err != nil {
		return "", err
	}
	if err := os.MkdirAll(r.h.Path(runDir), 0o700); err != nil {
		return "", fmt.Errorf("cannot keep track of package transaction: %w", err)
	}
	_ = os.Remove(r.path("output"))
	_ = os.Remove(r.path("exit"))
	// A last word in a file tells how the script ended, whoever waits for it.
	script = "trap : TERM\n" + script +
		"\necho $? >" + runDir + "/exit.new && mv -f " + runDir + "/exit.new " + runDir + "/exit\n"
	if err := os.WriteFile(r.path("script"), []byte(script), 0o600); err != nil {
		return "", fmt.Errorf("cannot write package transaction: %w", err)
	}
	run := r.runSession
	if r.systemd() {
		run = r.runUnit
	}
	err := run(ctx, []string{"/bin/sh", runDir + "/script"})
	if err != nil {
		return "", err
	}
	return r.outcome()
}

// outcome reads how the script ended.
func (r runner) outcome() (string, error) {
	_ = os.Remove(r.path("transaction"))
	out := readTail(r.path("output"), outputKept)
	word, err := os.ReadFile(r.path("exit"))
	if err != nil {
		return out, errors.New("was killed before its end")
	}
	if code := strings.TrimSpace(string(word)); code != "0" {
		return out, fmt.Errorf("ended with exit code %s", code)
	}
	return out, nil
}

func (r runner) runUnit(ctx context.Context, command []string) error {
	if err := r.note(underWay{Unit: transactionUnit}); err != nil {
		return err
	}
	args := []string{
		"systemd-run", "--unit=" + transactionUnit, "--collect", "--quiet", "--service-type=exec",
		"--description=Package transaction of trued",
		"-p", "StandardOutput=file:" + runDir + "/output", "-p", "StandardError=inherit",
		// At shutdown only the shell is told, and waits for what it has begun.
		"-p", "KillMode=mixed", "-p", "TimeoutStopSec=10min",
	}
	if _, err := os.Stat("/run/dbus/system_bus_socket"); err == nil {
		args = append(args, "--wait")
	}
	_, err := r.h.Run(ctx, host.Command{Args: append(args, command...)})
	if ctx.Err() != nil {
		return letGo(ctx)
	}
	// systemd-run may have lost the bus, or may not have waited.
	if waitErr := r.waitUnit(ctx); waitErr != nil {
		return waitErr
	}
	if _, missing := os.Stat(r.path("exit")); missing != nil && err != nil {
		_ = os.Remove(r.path("transaction"))
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(readTail(r.path("output"), outputKept)))
	}
	return nil
}

func letGo(ctx context.Context) error {
	return fmt.Errorf("package transaction goes on without the agent: %w", ctx.Err())
}

func (r runner) runSession(ctx context.Context, command []string) error {
	out, err := os.OpenFile(r.path("output"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("cannot keep output of package transaction: %w", err)
	}
	defer out.Close()
	args := command
	if r.h.Offline() {
		args = append([]string{"chroot", r.h.Root()}, args...)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	cmd := exec.Command(args[0], args[1:]...) //nolint:gosec,noctx // it outlives the context on purpose
	cmd.Env = []string{searchPath, "LANG=C.UTF-8", "HOME=/root"}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start package transaction: %w", err)
	}
	if err := r.note(underWay{PID: cmd.Process.Pid, Started: startOf(cmd.Process.Pid)}); err != nil {
		return errors.Join(err, cmd.Wait())
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in the exit file
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return letGo(ctx)
	}
}

func (r runner) note(u underWay) error {
	data, err := json.Marshal(u)
	if err == nil {
		err = os.WriteFile(r.path("transaction"), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot keep track of package transaction: %w", err)
	}
	return nil
}

// attach waits for a script that an earlier run let go of. Where there is none,
// which is nearly always, it costs one failed open.
func (r runner) attach(ctx context.Context) error {
	data, err := os.ReadFile(r.path("transaction"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot tell whether a package transaction is under way: %w", err)
	}
	var u underWay
	if json.Unmarshal(data, &u) == nil {
		if u.Unit != "" {
			err = r.waitUnit(ctx)
		} else {
			err = waitWhile(ctx, func() (bool, error) { return u.PID > 0 && startOf(u.PID) == u.Started && u.Started != "", nil })
		}
	}
	if err != nil {
		return err
	}
	return os.Remove(r.path("transaction"))
}

// waitUnit waits until the transient unit is gone, or has failed.
func (r runner) waitUnit(ctx context.Context) error {
	if !r.systemd() {
		return nil
	}
	return waitWhile(ctx, func() (bool, error) {
		out, err := r.h.Run(ctx, host.Command{
			Args: []string{"systemctl", "show", "--property=ActiveState", transactionUnit},
		})
		if err != nil {
			return false, err
		}
		switch _, state, _ := strings.Cut(strings.TrimSpace(out.Text), "="); state {
		case "inactive", "failed":
			return false, nil
		default:
			return true, nil
		}
	})
}

func waitWhile(ctx context.Context, busy func() (bool, error)) error {
	for {
		yes, err := busy()
		if ctx.Err() != nil {
			return letGo(ctx)
		}
		if err != nil || !yes {
			return err
		}
		select {
		case <-ctx.Done():
			return letGo(ctx)
		case <-time.After(waitStep):
		}
	}
}

// startOf returns when a process started, in the kernel's own count; empty when
// there is none.
func startOf(pid int) string {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	// The name in parentheses may hold anything; the count is the 20th field after.
	_, rest, _ := strings.Cut(string(data[strings.LastIndexByte(string(data), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fields[19]
}

// readTail returns the end of a file.
func readTail(name string, limit int64) string {
	f, err := os.Open(name) //nolint:gosec // a path of this package
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > limit {
		_, _ = f.Seek(-limit, io.SeekEnd)
	}
	data, _ := io.ReadAll(io.LimitReader(f, limit))
	return string(data)
}
