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
	if !r.Stood {
		if a.witnesses.count > 0 {
			a.store.Shed()
			a.digests.Shed()
			a.contents.shed()
		}
		debug.FreeOSMemory()
	}
	unmapProgram()
}

// unmapProgram lets go of the pages of the program itself that the run touched,
// which are most of it, since the kernel maps them by the dozen. They stay in the
// page cache and are mapped again when they are needed.
func unmapProgram() {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(maps)) {
		// from-to rights offset device inode path
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[5] != self || !strings.HasPrefix(fields[1], "r-") {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		start, errStart := strconv.ParseUint(from, 16, 64)
		end, errEnd := strconv.ParseUint(to, 16, 64)
		if errStart != nil || errEnd != nil {
			continue
		}
		// It is advice: what cannot be let go of stays.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(start), uintptr(end-start), unix.MADV_DONTNEED)
	}
}
