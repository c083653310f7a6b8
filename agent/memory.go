package agent

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// rest gives back the memory that a run took: a daemon does nothing for nearly
// all of its time. Where the next run will most likely get by with the
// witnesses, what only a full run needs goes as well.
func (a *Agent) rest(r *Result) {
	if !r.Stood || r.Loaded {
		if a.witnesses.whole {
			a.store.Shed()
			a.digests.Shed()
			a.contents.shed()
		}
		debug.FreeOSMemory()
	}
	unmapProgram()
}

// cool gives back what was kept for a while for the next drift.
func (a *Agent) cool() {
	if a.witnesses.whole {
		if k := a.takeKit(); k != nil {
			k.close()
		}
	}
	a.rest(&Result{})
}

// unmapProgram lets go of the pages of the program itself that the run touched,
// which are most of it, since the kernel maps them by the dozen. They stay in the
// page cache and are mapped again when they are needed. What the linker or the
// program changed is in no file, and stays.
func unmapProgram() {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	data, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	var start, end uint64
	ours := false
	for line := range strings.Lines(string(data)) {
		// from-to rights offset device inode path, and then a line for each figure
		fields := strings.Fields(line)
		switch from, to, isRange := strings.Cut(fields[0], "-"); {
		case isRange:
			var errStart, errEnd error
			start, errStart = strconv.ParseUint(from, 16, 64)
			end, errEnd = strconv.ParseUint(to, 16, 64)
			ours = len(fields) > 5 && fields[5] == self && strings.HasPrefix(fields[1], "r-") && errStart == nil && errEnd == nil
		case ours && fields[0] == "Anonymous:" && fields[1] == "0":
			// It is advice: what cannot be let go of stays.
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(start), uintptr(end-start), unix.MADV_DONTNEED)
		}
	}
}
