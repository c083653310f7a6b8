package culprit

import (
	"bytes"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// nobody is the number that stands for no user: a process that no login began.
const nobody = ^uint32(0)

// A process is what could be read of one. Its texts are as they came.
type process struct {
	pid       int
	comm, exe string
	// uid is whom it runs as; login, in whose session; behind, who has run what
	// gave it the rights that it has, via.
	uid, login, behind uint32
	via, unit          string
	// own is true for this process and all that it started.
	own bool
}

func unknown(pid int) process {
	return process{pid: pid, uid: nobody, login: nobody, behind: nobody, own: pid == os.Getpid()}
}

// known reports whether anything could be read.
func (p process) known() bool { return p.comm != "" }

// longestChain bounds how many ancestors are looked at.
const longestChain = 16

// look reads what there is of a process, which may be gone any moment: what goes
// first is read first.
func look(pid int) process {
	p := unknown(pid)
	if p.own {
		return p
	}
	s, ok := readStatus(pid)
	if !ok {
		return p
	}
	p.comm, p.uid = s.comm, s.uid
	p.exe = executable(pid)
	p.login = loginOf(pid)
	p.unit = unitOf(pid)
	p.own = ownUnit(p.unit)
	p.readAncestors(s)
	return p
}

// readAncestors finds out who stands behind a process: the first above it that
// runs as another user, or was started by one, when what is between gives such
// rights.
func (p *process) readAncestors(above status) {
	giver := ""
	for range longestChain {
		if above.parent == os.Getpid() {
			p.own = true
		}
		var ok bool
		if above, ok = readStatus(above.parent); !ok || above.parent == 0 {
			break
		}
		if givesRights(above.comm) {
			giver = above.comm
			if above.real != p.uid { // it remembers who started it
				p.behind = above.real
				break
			}
			continue
		}
		if above.uid != p.uid {
			if giver != "" {
				p.behind = above.uid
			}
			break
		}
	}
	p.via = giver
}

// givesRights reports whether a program starts others as another user.
func givesRights(comm string) bool {
	switch comm {
	case "sudo", "sudo-rs", "su", "doas", "pkexec", "runuser":
		return true
	}
	return false
}

// ownUnit reports whether a unit is one of the agent's own: what runs there was
// started by it.
func ownUnit(unit string) bool {
	return unit == "trued.service" || strings.HasPrefix(unit, "trued-") && strings.HasSuffix(unit, ".service")
}

// A status is what is read of /proc/PID/status.
type status struct {
	comm      string
	parent    int
	real, uid uint32
}

func readStatus(pid int) (status, bool) {
	var buf [4096]byte
	s := status{real: nobody, uid: nobody}
	text := buf[:readProc(pid, "status", buf[:])]
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte("\n"))
		key, value, _ := bytes.Cut(line, []byte(":\t"))
		switch string(key) {
		case "Name":
			s.comm = string(value)
		case "PPid":
			s.parent, _ = strconv.Atoi(string(value))
		case "Uid":
			// real, effective …
			if ids := bytes.Fields(value); len(ids) > 1 {
				s.real, s.uid = number(ids[0]), number(ids[1])
			}
			return s, s.comm != ""
		}
	}
	return s, false
}

// loginOf returns who logged in, in whose session a process is.
func loginOf(pid int) uint32 {
	var buf [16]byte
	return number(bytes.TrimSpace(buf[:readProc(pid, "loginuid", buf[:])]))
}

func number(text []byte) uint32 {
	n, err := strconv.ParseUint(string(text), 10, 32)
	if err != nil {
		return nobody
	}
	return uint32(n)
}

// executable returns the path of a process's program; empty for one that is
// ending, or that this process may not look at.
func executable(pid int) string {
	var buf [unix.PathMax]byte
	n, err := unix.Readlink(procPath(pid, "exe"), buf[:])
	if err != nil || n <= 0 {
		return ""
	}
	return strings.TrimSuffix(string(buf[:n]), " (deleted)")
}

// unitOf returns the unit of the service manager that a process belongs to, by
// its control group.
func unitOf(pid int) string {
	var buf [4096]byte
	text := buf[:readProc(pid, "cgroup", buf[:])]
	for line := range bytes.Lines(text) {
		id, rest, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		controllers, group, _ := bytes.Cut(rest, []byte(":"))
		if string(id) == "0" || string(controllers) == "name=systemd" {
			if unit := unitIn(string(group)); unit != "" {
				return unit
			}
		}
	}
	return ""
}

// unitIn returns the first unit on the way down to a control group that is no
// slice: that of the system's own service manager.
func unitIn(group string) string {
	for part := range strings.SplitSeq(group, "/") {
		switch path.Ext(part) {
		case ".service", ".scope", ".socket", ".mount", ".swap":
			return strings.TrimPrefix(part, "_")
		}
	}
	return ""
}

func procPath(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

// readProc reads the beginning of a file of /proc, in as few calls as can be.
func readProc(pid int, name string, buf []byte) int {
	fd, err := unix.Open(procPath(pid, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return 0
	}
	return n
}
