//go:build linux && (amd64 || arm64)

package remote

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forbidden are system calls that a fetch has no use for and that would let it
// outlive its group, run something else, or reach deeper into the kernel.
var forbidden = [...]uint32{
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_SETSID, unix.SYS_SETPGID, unix.SYS_PTRACE,
	unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_OPEN_BY_HANDLE_AT,
}

// forbidCalls makes those calls fail, and those that start a process: a new
// thread is all that is left.
func forbidCalls() error {
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		above  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		anyBit = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		answer = unix.BPF_RET | unix.BPF_K

		// Where struct seccomp_data has them.
		atNumber, atArch, atFirstArgument = 0, 4, 16
		// Numbers of amd64's second set of calls, which nothing here makes.
		x32    = 0x40000000
		refuse = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
		absent = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	)
	arch := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	f := []unix.SockFilter{
		{Code: load, K: atArch},
		{Code: equal, K: arch, Jt: 1},
		{Code: answer, K: refuse},
		{Code: load, K: atNumber},
		{Code: above, K: x32, Jf: 1},
		{Code: answer, K: refuse},
	}
	for _, call := range append(forbidden[:len(forbidden):len(forbidden)], startsProcess...) {
		f = append(f, unix.SockFilter{Code: equal, K: call, Jf: 1}, unix.SockFilter{Code: answer, K: refuse})
	}
	f = append(f,
		// Its flags are in memory, so it is said not to exist: the C library
		// falls back to clone.
		unix.SockFilter{Code: equal, K: unix.SYS_CLONE3, Jf: 1},
		unix.SockFilter{Code: answer, K: absent},
		unix.SockFilter{Code: equal, K: unix.SYS_CLONE, Jf: 3},
		unix.SockFilter{Code: load, K: atFirstArgument},
		unix.SockFilter{Code: anyBit, K: unix.CLONE_THREAD, Jt: 1},
		unix.SockFilter{Code: answer, K: refuse},
		unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW},
	)
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	//nolint:gosec // the system call takes the address
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(f)
	switch errno {
	case 0, unix.ENOSYS, unix.EINVAL:
		// A kernel without seccomp has users and groups all the same.
		return nil
	default:
		return fmt.Errorf("cannot forbid system calls: %w", errno)
	}
}
