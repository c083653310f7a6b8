package host

import (
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/resource"
)

// Moment returns the present one, by the clock that systemd keeps its monotonic
// timestamps by. A tree that is not booted has none.
func (h *Host) Moment() resource.Moment {
	var now unix.Timespec
	if h.Offline() || unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return resource.Moment{}
	}
	return resource.Moment{Boot: h.BootID(), Micros: uint64(time.Duration(now.Nano()) / time.Microsecond)}
}

// BootID returns the id of this boot, "" where there is none.
func (h *Host) BootID() string {
	h.bootOnce.Do(func() {
		id, err := h.ReadFile("/proc/sys/kernel/random/boot_id", 64)
		if err == nil {
			h.bootID = strings.TrimSpace(string(id))
		}
	})
	return h.bootID
}
