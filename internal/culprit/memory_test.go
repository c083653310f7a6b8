package culprit

import (
	"fmt"
	"hash/maphash"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/resource"
)

// fill makes all that is remembered as large as it may be: paths of interest in
// many directories, and rings full of what long-named programs did.
func fill(f *Finder, claims []resource.Claim) {
	f.Watch(claims)
	by := process{pid: 4194304, comm: strings.Repeat("c", 15), exe: "/usr/" + strings.Repeat("e", most), unit: strings.Repeat("u", 250) + ".scope"}
	for i := range 2 * mostTouches {
		by.pid = i
		f.watcher.mu.Lock()
		f.watcher.touches.add(touch{path: fmt.Sprintf("/srv/%s/%d", strings.Repeat("p", 200), i), mask: unix.FAN_MODIFY, by: by, when: time.Now()})
		f.watcher.mu.Unlock()
		f.asked(by, request{what: "stopped", units: []string{strings.Repeat("u", longestUnit), fmt.Sprint(i)}})
	}
}

// heap returns what make comes to in memory.
func heap(make func() any) int64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	kept := make()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(kept)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

// Whatever happens on a host, to know who did it costs a megabyte at most, where
// as many resources are watched as a large host has.
func TestWhoIsRememberedInAMegabyte(t *testing.T) {
	root := t.TempDir()
	var claims []resource.Claim
	for d := range 50 {
		if err := os.Mkdir(fmt.Sprintf("%s/d%d", root, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5000 {
		claims = append(claims, resource.Path(fmt.Sprintf("%s/d%d/f%d", root, i%50, i)))
	}
	size := heap(func() any {
		// Without the right to ask the kernel only its directories are missing.
		w, err := openWatcher(nil)
		if err != nil {
			w = &watcher{fan: -1, seed: maphash.MakeSeed(), dirs: map[string]*directory{}, touches: newTouches()}
		} else {
			t.Cleanup(w.close)
		}
		f := &Finder{watcher: w, requests: newTouches()}
		fill(f, claims)
		return f
	})
	runtime.KeepAlive(claims)
	t.Logf("%d bytes", size)
	if size > 1<<20 {
		t.Errorf("it takes %d bytes", size)
	}
}
