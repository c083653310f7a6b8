package hosttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	bootTimeout = 90 * time.Second
	stopTimeout = 60 * time.Second
	// systemd-nspawn's exit status when the host asks for a reboot.
	rebootStatus = 133
)

// A Host is a booted machine. Its methods fail the test that they are given.
type Host struct {
	name  string
	lab   *Lab
	disk  *disk
	lower []string
	binds []string
	port  *port

	mu   sync.Mutex
	boot *boot // the last one; nil before the first
	off  bool  // no reboot follows
	runs int
}

// A boot is the time from power on to the end of PID 1.
type boot struct {
	cgroup string
	leader int           // PID 1 as this machine knows it
	ready  chan struct{} // closed when the boot jobs are done
	ended  chan struct{} // closed when nothing runs any more
	once   sync.Once
	err    error // set before ended is closed
}

// powerOn starts the host and waits until it is up.
func (h *Host) powerOn() error {
	h.mu.Lock()
	h.off = false
	b := h.newBoot()
	h.mu.Unlock()
	go h.supervise(b)
	return h.await(b)
}

// newBoot is called with the lock held.
func (h *Host) newBoot() *boot {
	h.boot = &boot{ready: make(chan struct{}), ended: make(chan struct{})}
	h.runs++
	return h.boot
}

// supervise starts the host again as often as it asks for a reboot.
func (h *Host) supervise(b *boot) {
	// The container dies with the thread that started it, so this thread must
	// last as long.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for b != nil {
		status, err := h.nspawn(b)
		b.err = err
		h.mu.Lock()
		var next *boot
		if status == rebootStatus && !h.off {
			next = h.newBoot()
		}
		h.mu.Unlock()
		close(b.ended)
		b = next
	}
}

// The overlay is mounted in a mount namespace of the container alone, so it
// goes with the last process and is never in the machine's mount table.
const enter = `for g in $1; do echo $$ >"$g/cgroup.procs"; done
mount -t overlay overlay -o "$2" "$3"
shift 3
exec systemd-nspawn "$@"`

// nspawn runs one boot to its end.
func (h *Host) nspawn(b *boot) (status int, err error) {
	if err := killCgroup(h.disk.id()); err != nil {
		return 0, err
	}
	groups, err := makeCgroup(h.disk.id())
	if err != nil {
		return 0, err
	}
	log, err := os.OpenFile(h.consoleFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	socket := fmt.Sprintf("@%s-%s-%d", cgroupName, h.disk.id(), h.runs)
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return 0, err
	}
	defer notify.Close()
	h.mu.Lock()
	b.cgroup = groups[0]
	h.mu.Unlock()
	go h.listen(b, notify)

	overlay := "lowerdir=" + strings.Join(h.lower, ":") + ",upperdir=" + h.disk.upper() + ",workdir=" + h.disk.work()
	args := []string{
		"--mount", "--propagation", "private", "--", "sh", "-ec", enter, "sh", strings.Join(groups, " "), overlay, h.disk.root(),
		"--boot", "--directory=" + h.disk.root(), "--machine=" + cgroupName + "-" + h.disk.id(), "--hostname=" + h.name,
		"--register=no", "--keep-unit", "--notify-ready=yes", "--console=pipe", "--link-journal=no", "--resolv-conf=off", "--timezone=off",
		"--network-namespace-path=" + nsPath(h.port.ns), "--capability=CAP_NET_ADMIN",
		// A machine has Landlock, for any process to use, and fanotify for root's.
		"--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self fanotify_init fanotify_mark",
	}
	for _, bind := range h.binds {
		args = append(args, "--bind-ro="+bind)
	}
	cmd := exec.Command("unshare", args...)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+socket,
		"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1", // whatever this machine has
		"SYSTEMD_NSPAWN_API_VFS_WRITABLE=network")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	err = cmd.Run()
	status = -1
	if cmd.ProcessState != nil {
		status = cmd.ProcessState.ExitCode()
	}
	if status == 0 || status == rebootStatus {
		err = nil
	}
	return status, errors.Join(err, killCgroup(h.disk.id()))
}

// listen takes what systemd-nspawn reports.
func (h *Host) listen(b *boot, notify *net.UnixConn) {
	buf := make([]byte, 4096)
	for {
		n, err := notify.Read(buf)
		if err != nil {
			return // closed
		}
		for line := range strings.Lines(string(buf[:n])) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			switch key {
			case "X_NSPAWN_LEADER_PID":
				h.mu.Lock()
				b.leader, _ = strconv.Atoi(value)
				h.mu.Unlock()
			case "READY":
				b.once.Do(func() { close(b.ready) })
			}
		}
	}
}

// await waits until a boot's jobs are done.
func (h *Host) await(b *boot) error {
	select {
	case <-b.ready:
	case <-b.ended:
		return errors.Join(errors.New("the host died while it booted"), b.err)
	case <-time.After(bootTimeout):
		jobs, _ := h.output(nil, "systemctl", "list-jobs", "--no-legend")
		return fmt.Errorf("the host is not up after %s; its jobs: %s", bootTimeout, jobs)
	}
	ctx, cancel := context.WithTimeout(context.Background(), bootTimeout)
	defer cancel()
	state, err := h.outputContext(ctx, nil, "systemctl", "is-system-running", "--wait")
	switch state = strings.TrimSpace(state); {
	case state == "running" || state == "degraded":
		return nil
	case ctx.Err() != nil:
		jobs, _ := h.output(nil, "systemctl", "list-jobs", "--no-legend")
		return fmt.Errorf("the host is %s after %s; its jobs: %s", state, bootTimeout, jobs)
	default:
		return fmt.Errorf("the host is %q after its boot: %w", state, err)
	}
}

func (h *Host) current() *boot {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.boot
}

// awaitNext waits until the host is up again after a boot that ends by itself.
func (h *Host) awaitNext(b *boot) error {
	select {
	case <-b.ended:
	case <-time.After(stopTimeout):
		jobs, _ := h.output(nil, "systemctl", "list-jobs", "--no-legend")
		return fmt.Errorf("the host is not down after %s; its jobs: %s", stopTimeout, jobs)
	}
	next := h.current()
	if next == b {
		return errors.Join(errors.New("the host did not come back"), b.err)
	}
	return h.await(next)
}

// powerOff ends everything at once.
func (h *Host) powerOff() error {
	h.mu.Lock()
	h.off = true
	b := h.boot
	h.mu.Unlock()
	if b == nil {
		return nil
	}
	for range 2 { // one that was just being started escapes the first
		if err := killCgroup(h.disk.id()); err != nil {
			return err
		}
		select {
		case <-b.ended:
			return nil
		case <-time.After(stopTimeout / 2):
		}
	}
	return errors.New("systemd-nspawn did not end")
}

// shutDown is an orderly power off.
func (h *Host) shutDown() error {
	h.mu.Lock()
	h.off = true
	b := h.boot
	h.mu.Unlock()
	_, _ = h.output(nil, "systemctl", "poweroff") // it may die before it can answer
	select {
	case <-b.ended:
		return b.err
	case <-time.After(stopTimeout):
		return fmt.Errorf("the host is not down after %s", stopTimeout)
	}
}

func (h *Host) consoleFile() string { return filepath.Join(h.disk.dir, "console") }

func (h *Host) console() string {
	b, _ := os.ReadFile(h.consoleFile())
	return lastLines(string(b), 20)
}

// lastWords is what helps to see why a test failed.
func (h *Host) lastWords() string {
	out, err := h.output(nil, "sh", "-c", "systemctl --failed --plain --no-legend; journalctl --boot --no-pager --lines=30 --output=short-precise")
	if err != nil {
		return "its console: " + h.console()
	}
	return out
}

var errDown = errors.New("the host is down")

// Command returns a command that runs in the host as root, with nothing of the
// test's environment. It ends with ctx, and with the test's process.
func (h *Host) Command(ctx context.Context, args ...string) *exec.Cmd {
	h.mu.Lock()
	defer h.mu.Unlock()
	leader, cgroup := 0, ""
	if h.boot != nil {
		leader, cgroup = h.boot.leader, h.boot.cgroup
	}
	inside := append([]string{
		"-t", strconv.Itoa(leader), "-m", "-u", "-i", "-n", "-p", "-C", "--", "setpriv", "--pdeathsig", "KILL", "env", "-i",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "LOGNAME=root",
		"SHELL=/bin/bash", "LANG=C.UTF-8", "TERM=dumb", "container=systemd-nspawn",
	}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", inside...)
	cmd.WaitDelay = 5 * time.Second
	// In the host's own cgroup, so that a power cut takes it along.
	if f, err := os.Open(execGroup(cgroup)); err == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
		context.AfterFunc(ctx, func() { f.Close() })
	}
	if leader == 0 {
		cmd.Err = errDown
	}
	return cmd
}

func execGroup(cgroup string) string {
	if cgroup == "" {
		return ""
	}
	dir := filepath.Join(cgroup, "payload", "hosttest")
	_ = os.Mkdir(dir, 0o755)
	return dir
}

func (h *Host) output(stdin io.Reader, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	return h.outputContext(ctx, stdin, args...)
}

func (h *Host) outputContext(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := h.Command(ctx, args...)
	cmd.Stdin = stdin
	out, err := cmd.CombinedOutput()
	return string(out), err
}
