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

// desk opens the directory that scripts are kept track of in, below the root and
// through no link that leads out of it.
func (r runner) desk() (*os.Root, error) {
	desk, err := r.openDesk()
	if err != nil {
		return nil, fmt.Errorf("cannot keep track of package transaction: %w", err)
	}
	return desk, nil
}

func (r runner) openDesk() (*os.Root, error) {
	root, err := os.OpenRoot(r.h.Root())
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := root.MkdirAll(runDir[1:], 0o700); err != nil {
		return nil, err
	}
	return root.OpenRoot(runDir[1:])
}

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
	desk, err := r.desk()
	if err != nil {
		return "", err
	}
	defer desk.Close()
	_ = desk.Remove("output")
	_ = desk.Remove("exit")
	// A last word in a file tells how the script ended, whoever waits for it.
	script = "trap : TERM\n" + script +
		"\necho $? >" + runDir + "/exit.new && mv -f " + runDir + "/exit.new " + runDir + "/exit\n"
	if err := desk.WriteFile("script", []byte(script), 0o600); err != nil {
		return "", fmt.Errorf("cannot write package transaction: %w", err)
	}
	run := r.runSession
	if r.systemd() {
		run = r.runUnit
	}
	if err := run(ctx, desk, []string{"/bin/sh", runDir + "/script"}); err != nil {
		return "", err
	}
	return outcome(desk)
}

// outcome reads how the script ended.
func outcome(desk *os.Root) (string, error) {
	_ = desk.Remove("transaction")
	out := readTail(desk, "output", outputKept)
	word, err := desk.ReadFile("exit")
	if err != nil {
		return out, errors.New("was killed before its end")
	}
	if code := strings.TrimSpace(string(word)); code != "0" {
		return out, fmt.Errorf("ended with exit code %s", code)
	}
	return out, nil
}

func (r runner) runUnit(ctx context.Context, desk *os.Root, command []string) error {
	if err := jot(desk, underWay{Unit: transactionUnit}); err != nil {
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
	if _, missing := desk.Stat("exit"); missing != nil && err != nil {
		_ = desk.Remove("transaction")
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(readTail(desk, "output", outputKept)))
	}
	return nil
}

func letGo(ctx context.Context) error {
	return fmt.Errorf("package transaction goes on without the agent: %w", ctx.Err())
}

func (r runner) runSession(ctx context.Context, desk *os.Root, command []string) error {
	out, err := desk.OpenFile("output", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
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
	if err := jot(desk, underWay{PID: cmd.Process.Pid, Started: startOf(cmd.Process.Pid)}); err != nil {
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

func jot(desk *os.Root, u underWay) error {
	data, err := json.Marshal(u)
	if err == nil {
		err = desk.WriteFile("transaction", data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot keep track of package transaction: %w", err)
	}
	return nil
}

// attach waits for a script that an earlier run let go of. Where there is none,
// which is nearly always, it costs one failed open.
func (r runner) attach(ctx context.Context) error {
	root, err := os.OpenRoot(r.h.Root())
	if err != nil {
		return fmt.Errorf("cannot tell whether a package transaction is under way: %w", err)
	}
	defer root.Close()
	const marker = runDir + "/transaction"
	data, err := root.ReadFile(marker[1:])
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
	return root.Remove(marker[1:])
}

// endWait is how long what was killed may take to be gone.
const endWait = 10 * time.Second

// end kills a script that an earlier run let go of, with all that it has started.
func (r runner) end(ctx context.Context) error {
	desk, err := r.desk()
	if err != nil {
		return err
	}
	defer desk.Close()
	var u underWay
	if data, err := desk.ReadFile("transaction"); err != nil || json.Unmarshal(data, &u) != nil {
		return nil // there is none
	}
	ctx, cancel := context.WithTimeout(ctx, endWait)
	defer cancel()
	switch {
	case u.Unit != "" && r.systemd():
		_, _ = r.h.Run(ctx, host.Command{Args: []string{"systemctl", "kill", "--signal=KILL", u.Unit}}) // it may be gone
	case u.PID > 0 && startOf(u.PID) == u.Started && u.Started != "":
		_ = syscall.Kill(-u.PID, syscall.SIGKILL)
	}
	return r.attach(ctx)
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
func readTail(desk *os.Root, name string, limit int64) string {
	f, err := desk.Open(name)
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
