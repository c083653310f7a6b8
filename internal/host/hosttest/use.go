package hosttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Name returns the host's name.
func (h *Host) Name() string { return h.name }

// IP returns the host's address in its lab, or "" when it has no network.
func (h *Host) IP() string { return h.port.ip }

// Lab returns the lab that the host belongs to.
func (h *Host) Lab() *Lab { return h.lab }

// Run runs a line of shell in the host as root and returns its standard
// output, less the last newline. The test fails when the line does, or takes
// more than ten minutes.
func (h *Host) Run(t testing.TB, line string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := h.Command(ctx, "bash", "-euo", "pipefail", "-c", line)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("host %s: %s\n%v\n%s%s", h.name, line, errors.Join(err, ctx.Err()), stdout.String(), stderr.String())
	}
	return strings.TrimSuffix(stdout.String(), "\n")
}

// Try runs a line of shell like Run, and returns both streams as one and the
// exit code, whatever it is.
func (h *Host) Try(t testing.TB, line string) (out string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 21*time.Minute)
	defer cancel()
	text, err := h.Command(ctx, "bash", "-uo", "pipefail", "-c", line).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("host %s: %s\n%v\n%s", h.name, line, errors.Join(err, ctx.Err()), text)
	}
	if exit != nil {
		code = exit.ExitCode()
	}
	return strings.TrimSuffix(string(text), "\n"), code
}

// Write writes a file in the host, with the directories above it. A file that
// is new gets mode 0644.
func (h *Host) Write(t testing.TB, path, content string) {
	t.Helper()
	out, err := h.output(strings.NewReader(content), "sh", "-ec", `umask 022; mkdir -p "$(dirname "$1")"; cat >"$1"`, "sh", path)
	if err != nil {
		t.Fatalf("host %s: cannot write %s: %v\n%s", h.name, path, err, out)
	}
}

// Read returns what a file in the host holds.
func (h *Host) Read(t testing.TB, path string) string {
	t.Helper()
	out, err := h.output(nil, "cat", "--", path)
	if err != nil {
		t.Fatalf("host %s: cannot read %s: %v\n%s", h.name, path, err, out)
	}
	return out
}

// Copy copies a file of the machine to the path dst in the host, or what is in
// a directory into the directory dst. Modes are kept; all becomes root's.
func (h *Host) Copy(t testing.TB, src, dst string) {
	t.Helper()
	info, err := os.Stat(src)
	if err != nil {
		t.Fatalf("cannot copy to host %s: %v", h.name, err)
	}
	if !info.IsDir() {
		content, err := os.ReadFile(src)
		if err != nil {
			t.Fatalf("cannot copy to host %s: %v", h.name, err)
		}
		mode := strconv.FormatUint(uint64(info.Mode().Perm()), 8)
		out, err := h.output(bytes.NewReader(content), "sh", "-ec",
			`mkdir -p "$(dirname "$1")"; cat >"$1.hosttest"; chmod "$2" "$1.hosttest"; mv -f "$1.hosttest" "$1"`, "sh", dst, mode)
		if err != nil {
			t.Fatalf("host %s: cannot copy %s: %v\n%s", h.name, src, err, out)
		}
		return
	}
	tar, err := exec.Command("tar", "-C", src, "--owner=0", "--group=0", "--numeric-owner", "-cf", "-", ".").Output()
	if err != nil {
		t.Fatalf("cannot read %s: %v", src, err)
	}
	out, err := h.output(bytes.NewReader(tar), "sh", "-ec", `mkdir -p "$1"; tar -C "$1" --no-overwrite-dir -xpf -`, "sh", filepath.Clean(dst))
	if err != nil {
		t.Fatalf("host %s: cannot copy %s: %v\n%s", h.name, src, err, out)
	}
}

// Root is the host's tree of files as this machine reaches it, also where the
// host mounts something of its own. It is gone when the host goes down, and
// another after each boot.
func (h *Host) Root() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprintf("/proc/%d/root", h.boot.leader)
}

// Signal sends a signal to all that runs in a unit of the system, from outside
// of the host and so at once, and returns how many processes that were.
func (h *Host) Signal(t testing.TB, unit string, signal syscall.Signal) int {
	t.Helper()
	h.mu.Lock()
	group := filepath.Join(h.boot.cgroup, "payload", "system.slice", unit, "cgroup.procs")
	h.mu.Unlock()
	processes, err := os.ReadFile(group)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("host %s: cannot tell the processes of %s: %v", h.name, unit, err)
	}
	sent := 0
	for _, word := range strings.Fields(string(processes)) {
		if pid, err := strconv.Atoi(word); err == nil && syscall.Kill(pid, signal) == nil {
			sent++
		}
	}
	return sent
}

// Reboot reboots the host in order and waits until it is up again.
func (h *Host) Reboot(t testing.TB) {
	t.Helper()
	b := h.current()
	_, _ = h.output(nil, "systemctl", "reboot") // it may die before it can answer
	if err := h.awaitNext(b); err != nil {
		t.Fatalf("host %s: %v\n%s", h.name, err, h.console())
	}
	h.lab.tellNames()
}

// AwaitReboot waits until the host is up again after a reboot that do caused
// within.
func (h *Host) AwaitReboot(t testing.TB, do func()) {
	t.Helper()
	b := h.current()
	do()
	if err := h.awaitNext(b); err != nil {
		t.Fatalf("host %s: %v\n%s", h.name, err, h.console())
	}
	h.lab.tellNames()
}

// Kill cuts the power: every process dies at once. What was written but not
// synced is not lost, for the page cache is the machine's.
func (h *Host) Kill(t testing.TB) {
	t.Helper()
	if err := h.powerOff(); err != nil {
		t.Fatalf("host %s: %v", h.name, err)
	}
}

// Stop shuts the host down in order.
func (h *Host) Stop(t testing.TB) {
	t.Helper()
	if err := h.shutDown(); err != nil {
		t.Fatalf("host %s: %v\n%s", h.name, err, h.console())
	}
}

// Start boots a host that is down, with the disk that it had.
func (h *Host) Start(t testing.TB) {
	t.Helper()
	if err := h.powerOn(); err != nil {
		t.Fatalf("host %s: %v\n%s", h.name, err, h.console())
	}
	h.lab.tellNames()
}

// Cut pulls the host's network cable.
func (h *Host) Cut(t testing.TB) {
	t.Helper()
	if err := h.port.set("down"); err != nil {
		t.Fatalf("host %s: %v", h.name, err)
	}
}

// Heal puts the cable back.
func (h *Host) Heal(t testing.TB) {
	t.Helper()
	if err := h.port.set("up"); err != nil {
		t.Fatalf("host %s: %v", h.name, err)
	}
}

// Await runs a line of shell until it succeeds, and fails the test when it has
// not after a minute.
func (h *Host) Await(t testing.TB, line string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var last []byte
	for {
		out, err := h.Command(ctx, "bash", "-uo", "pipefail", "-c", line).CombinedOutput()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("host %s: not within a minute: %s\n%s", h.name, line, last)
		}
		last = out
		time.Sleep(50 * time.Millisecond) // between two looks
	}
}

// Deb returns the path of the project's own package: that of TRUED_DEB, or
// what `make packages` left in dist. Without one the test is skipped, or fails
// in continuous integration.
func Deb(t testing.TB) string {
	t.Helper()
	return built(t, os.Getenv("TRUED_DEB"), "trued_*_"+runtime.GOARCH+".deb")
}

// RPM is Deb for the other kind of package, and TRUED_RPM.
func RPM(t testing.TB) string {
	t.Helper()
	return built(t, os.Getenv("TRUED_RPM"), "trued-*.rpm")
}

func built(t testing.TB, given, pattern string) string {
	t.Helper()
	if given != "" {
		return given
	}
	dir, err := filepath.Abs(".")
	for err == nil && dir != "/" && !exists(filepath.Join(dir, "go.mod")) {
		dir = filepath.Dir(dir)
	}
	found, _ := filepath.Glob(filepath.Join(dir, "dist", pattern))
	switch {
	case len(found) == 1:
		return found[0]
	case os.Getenv("CI") == "true":
		t.Fatalf("%d files dist/%s: run make packages", len(found), pattern)
	default:
		t.Skipf("needs one file dist/%s: run make packages", pattern)
	}
	return ""
}
