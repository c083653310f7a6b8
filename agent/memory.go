package agent

import (
	"encoding/binary"
	"io"
	"os"
	"runtime/debug"
	"slices"
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
// page cache and are mapped again when they are needed. What the linker, the
// program or a debugger changed is in no file, and stays.
func unmapProgram() {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	data, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	pages, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return
	}
	defer pages.Close()
	for line := range strings.Lines(string(data)) {
		// from-to rights offset device inode path
		fields := strings.Fields(line)
		from, to, isRange := strings.Cut(fields[0], "-")
		if !isRange || len(fields) < 6 || fields[5] != self || !strings.HasPrefix(fields[1], "r-") {
			continue
		}
		start, errStart := strconv.ParseUint(from, 16, 64)
		end, errEnd := strconv.ParseUint(to, 16, 64)
		if errStart == nil && errEnd == nil && asInFile(pages, start, end) {
			// It is advice: what cannot be let go of stays.
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(start), uintptr(end-start), unix.MADV_DONTNEED)
		}
	}
}

// asInFile reports whether all pages of a mapping are those of its file, by what
// the kernel tells of each. The sums that it tells of all mappings would say so,
// too, and take longer than a whole run.
func asInFile(pages io.ReaderAt, start, end uint64) bool {
	const (
		entrySize = 8
		ofFile    = 1 << 61
		swapped   = 1 << 62
		present   = 1 << 63
	)
	size := uint64(os.Getpagesize()) //nolint:gosec // not negative
	buf := make([]byte, 512*entrySize)
	for at := start; at < end; {
		part := buf[:min(uint64(len(buf)), (end-at)/size*entrySize)]
		if _, err := pages.ReadAt(part, int64(at/size*entrySize)); err != nil { //nolint:gosec // addresses of this process
			return false
		}
		for e := range slices.Chunk(part, entrySize) {
			entry := binary.NativeEndian.Uint64(e)
			if entry&swapped != 0 || entry&present != 0 && entry&ofFile == 0 {
				return false
			}
		}
		at += uint64(len(part)) / entrySize * size
	}
	return true
}
