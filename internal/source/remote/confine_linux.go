package remote

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"unsafe"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// scratchFD is where the parent puts the quarantine directory.
const scratchFD = 3

// Confine gives up what the fetch does not need: root, capabilities, the
// chance of new privileges or of another process, memory without end, and all
// files but those that resolve names and check certificates. The quarantine becomes the working
// directory.
func Confine(req Request) error {
	if err := unix.Fchdir(scratchFD); err != nil {
		return fmt.Errorf("cannot enter the quarantine: %w", err)
	}
	_ = unix.Close(scratchFD)
	if err := limitResources(req.Limits); err != nil {
		return err
	}
	// The parent has seen to the next two where it could.
	if os.Geteuid() == 0 {
		if err := dropRoot(req.UID, req.GID); err != nil {
			return err
		}
	}
	if err := forbidNewPrivileges(); err != nil {
		return err
	}
	// Other processes of the same user may not look into this one.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot hide memory: %w", err)
	}
	go dieWithParent()
	if err := restrictFiles(req); err != nil {
		return err
	}
	return forbidCalls()
}

// forbidNewPrivileges does so for all threads. A thread has it from the one that
// started it, so where this one has it from the parent all have.
func forbidNewPrivileges() error {
	if is, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil && is == 1 {
		return nil
	}
	if _, _, errno := psx.Syscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("cannot forbid new privileges: %w", errno)
	}
	return nil
}

func limitResources(l Limits) error {
	const slack = 64 << 20
	limits := []struct {
		what  int
		limit int64
	}{
		{unix.RLIMIT_CORE, 0},
		{unix.RLIMIT_FSIZE, l.Bytes + slack},
		{unix.RLIMIT_NOFILE, 256},
		{unix.RLIMIT_DATA, l.Memory + slack},
	}
	if !boundsMemory {
		limits = limits[:len(limits)-1]
	}
	for _, r := range limits {
		limit := uint64(r.limit)
		if err := unix.Setrlimit(r.what, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			return fmt.Errorf("cannot limit resources: %w", err)
		}
	}
	debug.SetMemoryLimit(l.Memory / 4 * 3)
	return nil
}

func dropRoot(uid, gid int) error {
	if err := emptyBoundingSet(psx.Syscall6); err != nil {
		return err
	}
	if uid != 0 {
		if err := unix.Setgroups(nil); err != nil {
			return fmt.Errorf("cannot drop groups: %w", err)
		}
		if err := unix.Setresgid(gid, gid, gid); err != nil {
			return fmt.Errorf("cannot become group %d: %w", gid, err)
		}
		if err := unix.Setresuid(uid, uid, uid); err != nil {
			return fmt.Errorf("cannot become user %d: %w", uid, err)
		}
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	//nolint:gosec // the system call takes the addresses of both
	if _, _, errno := psx.Syscall6(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&none[0])), 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("cannot drop capabilities: %w", errno)
	}
	if err := unix.Setresuid(0, 0, 0); uid != 0 && err == nil {
		return errors.New("root can be had back")
	}
	return nil
}

// A call makes a system call, for one thread or for all.
type call func(number, a, b, c, d, e, f uintptr) (uintptr, uintptr, syscall.Errno)

// emptyBoundingSet gives up the capabilities that a program could bring along.
func emptyBoundingSet(do call) error {
	for c := uintptr(0); ; c++ {
		switch _, _, errno := do(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0, 0, 0, 0); errno {
		case 0:
		case unix.EINVAL:
			// The kernel has no more.
			return nil
		case unix.EPERM:
			// A root that may not do this has no way either to start a program with
			// new capabilities: new privileges are forbidden right after.
			return nil
		default:
			return fmt.Errorf("cannot drop capability %d: %w", c, errno)
		}
	}
}

// dieWithParent ends this process when the parent's end of the pipe closes,
// whatever else it is doing.
func dieWithParent() {
	fds := []unix.PollFd{{Fd: 0}}
	for {
		n, err := unix.Poll(fds, -1)
		if n > 0 && fds[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0 {
			os.Exit(1) //nolint:forbidigo // this process has nobody left to return to
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// restrictFiles uses Landlock, as far as the kernel has it.
func restrictFiles(req Request) error {
	dirs := []string{
		"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
		"/usr/lib/ssl", "/var/lib/ca-certificates", "/run/systemd/resolve", "/usr/share/zoneinfo",
	}
	files := []string{
		"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/services",
		"/etc/protocols", "/etc/localtime", "/dev/urandom", "/dev/null", "/proc/sys/net/core/somaxconn",
		"/sys/kernel/mm/transparent_hugepage/hpage_pmd_size",
	}
	if f := os.Getenv("SSL_CERT_FILE"); f != "" {
		files = append(files, f)
	}
	dirs = append(dirs, filepath.SplitList(os.Getenv("SSL_CERT_DIR"))...)
	dirs = append(dirs, req.Readable...)
	rules := []landlock.Rule{landlock.RWDirs("."), landlock.ROFiles(files...).IgnoreIfMissing()}
	for _, d := range dirs {
		// What this user may not read anyway needs no rule.
		if unix.Access(d, unix.R_OK|unix.X_OK) != nil {
			continue
		}
		rules = append(rules, landlock.RODirs(d).IgnoreIfMissing())
	}
	if err := landlock.V5.BestEffort().RestrictPaths(rules...); err != nil {
		return fmt.Errorf("cannot restrict files: %w", err)
	}
	return nil
}
