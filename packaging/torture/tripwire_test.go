package torture_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A tripwire stops a program before each system call that writes below a
// directory, so that it can be killed there, or be told that the call failed.
// It is a filter of seccomp whose decisions are the test's: the program runs as
// it is, and knows nothing.
type tripwire struct {
	dir string
	// before is called before the n-th such call, from 1 on. It returns the error
	// that the call is to end with, 0 to let it pass, or kill.
	before func(n int, call string) syscall.Errno
}

// kill has the program die before the call.
const kill syscall.Errno = 0xfff

// writing are the calls that change a file system, by number.
func writing() map[uint32]string {
	return map[uint32]string{
		unix.SYS_OPENAT: "openat", unix.SYS_WRITE: "write", unix.SYS_PWRITE64: "pwrite64",
		unix.SYS_FSYNC: "fsync", unix.SYS_FDATASYNC: "fdatasync", unix.SYS_SYNCFS: "syncfs",
		unix.SYS_RENAMEAT: "renameat", unix.SYS_RENAMEAT2: "renameat2", unix.SYS_LINKAT: "linkat",
		unix.SYS_SYMLINKAT: "symlinkat", unix.SYS_MKDIRAT: "mkdirat", unix.SYS_UNLINKAT: "unlinkat",
		unix.SYS_FCHOWN: "fchown", unix.SYS_FCHOWNAT: "fchownat", unix.SYS_FCHMOD: "fchmod",
		unix.SYS_FCHMODAT: "fchmodat", unix.SYS_FCHMODAT2: "fchmodat2", unix.SYS_FTRUNCATE: "ftruncate",
		unix.SYS_FSETXATTR: "fsetxattr", unix.SYS_COPY_FILE_RANGE: "copy_file_range", unix.SYS_SENDFILE: "sendfile",
	}
}

const (
	childMark   = "TORTURE_CHILD"
	openWriting = unix.O_CREAT | unix.O_WRONLY | unix.O_RDWR
)

// becomeChild is what the test's own program does when it is started in place
// of the one under test: it lays the filter and becomes that one.
func becomeChild() error {
	runtime.LockOSThread()
	number, err := layFilter()
	if err != nil {
		return fmt.Errorf("cannot lay filter: %w", err)
	}
	// The parent takes the listener by its number and answers with a byte.
	if _, err := fmt.Fprintf(os.NewFile(3, "to parent"), "%d\n", number); err != nil {
		return err
	}
	var ok [1]byte
	if _, err := unix.Read(4, ok[:]); err != nil {
		return err
	}
	unix.CloseOnExec(3)
	unix.CloseOnExec(4)
	return syscall.Exec(os.Args[1], os.Args[1:], os.Environ())
}

func layFilter() (int, error) {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		bits  = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		end   = unix.BPF_RET | unix.BPF_K
	)
	prog := []unix.SockFilter{{Code: load, K: 0}}
	for number := range writing() {
		if number == unix.SYS_OPENAT || number == unix.SYS_WRITE {
			continue
		}
		prog = append(prog,
			unix.SockFilter{Code: equal, Jf: 1, K: number},
			unix.SockFilter{Code: end, K: unix.SECCOMP_RET_USER_NOTIF})
	}
	prog = append(prog,
		// The pipe to the parent is written to before it listens.
		unix.SockFilter{Code: equal, Jf: 4, K: unix.SYS_WRITE},
		unix.SockFilter{Code: load, K: 16},
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, Jt: 1, K: 4},
		unix.SockFilter{Code: end, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: end, K: unix.SECCOMP_RET_USER_NOTIF},
		unix.SockFilter{Code: equal, Jf: 3, K: unix.SYS_OPENAT},
		unix.SockFilter{Code: load, K: 32},
		unix.SockFilter{Code: bits, Jf: 1, K: openWriting},
		unix.SockFilter{Code: end, K: unix.SECCOMP_RET_USER_NOTIF},
		unix.SockFilter{Code: end, K: unix.SECCOMP_RET_ALLOW},
	)
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, err
	}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return 0, errno
	}
	return int(fd), nil
}

type notification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type answer struct {
	id    uint64
	val   int64
	errno int32
	flags uint32
}

// run runs a program behind the wire and returns its exit code, -1 when it was
// killed, and what it wrote.
func (w tripwire) run(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	fromChild, toParent, err := os.Pipe()
	must(t, err)
	defer fromChild.Close()
	toldByParent, toChild, err := os.Pipe()
	must(t, err)
	defer toChild.Close()
	self, err := os.Executable()
	must(t, err)
	var output bytes.Buffer
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), childMark+"=1")
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.ExtraFiles = []*os.File{toParent, toldByParent}
	must(t, cmd.Start())
	toParent.Close()
	toldByParent.Close()
	var number int
	if _, err := fmt.Fscan(fromChild, &number); err != nil {
		_ = cmd.Wait()
		t.Fatalf("cannot lay the wire: %v\n%s", err, &output)
	}
	listener := takeFD(t, cmd.Process.Pid, number)
	_, err = toChild.Write([]byte{1})
	must(t, err)
	w.serve(t, listener, cmd.Process.Pid)
	must(t, unix.Close(listener))
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode(), output.String()
}

func takeFD(t *testing.T, pid, number int) int {
	t.Helper()
	p, err := unix.PidfdOpen(pid, 0)
	must(t, err)
	defer unix.Close(p)
	fd, err := unix.PidfdGetfd(p, number, 0)
	must(t, err)
	return fd
}

// serve answers until the program is gone.
func (w tripwire) serve(t *testing.T, listener, pid int) {
	names := writing()
	n := 0
	for {
		poll := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); errors.Is(err, unix.EINTR) {
			continue
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			return // the last that the filter is on has ended
		}
		var got notification
		if err := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&got)); err != 0 {
			continue
		}
		reply := answer{id: got.id, flags: 1} // let it pass
		if call := names[uint32(got.nr)]; w.counts(got, call) {
			n++
			switch errno := w.before(n, call); errno {
			case 0:
			case kill:
				_ = unix.Kill(pid, unix.SIGKILL)
				continue
			default:
				reply = answer{id: got.id, errno: -int32(errno)}
			}
		}
		_ = ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&reply))
	}
}

// counts reports whether the call is one on a file below the directory. Calls
// that take a name are taken to be.
func (w tripwire) counts(got notification, call string) bool {
	at := got.args[0]
	switch call {
	case "openat":
		name := cString(int(got.pid), uintptr(got.args[1]))
		return !strings.HasPrefix(name, "/") || strings.HasPrefix(name, w.dir)
	case "write", "pwrite64", "fsync", "fdatasync", "syncfs", "ftruncate", "fchown", "fchmod", "fsetxattr", "sendfile":
	case "copy_file_range":
		at = got.args[2]
	default:
		return true
	}
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", got.pid, at))
	return err == nil && strings.HasPrefix(name, filepath.Clean(w.dir)+"/") || name == w.dir
}

func cString(pid int, at uintptr) string {
	buf := make([]byte, 512)
	n, err := unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &buf[0], Len: uint64(len(buf))}},
		[]unix.RemoteIovec{{Base: at, Len: len(buf)}}, 0)
	if err != nil {
		return ""
	}
	text, _, _ := bytes.Cut(buf[:n], []byte{0})
	return string(text)
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) syscall.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	return errno
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
