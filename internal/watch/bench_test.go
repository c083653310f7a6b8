package watch

import (
	"fmt"
	"runtime"
	"testing"
)

// The index is what watching costs of the daemon's memory for good.
func BenchmarkIndex(b *testing.B) {
	var targets []Target
	for i := range 5000 {
		targets = append(targets, file(fmt.Sprintf("/srv/trued/d%02d/f%03d", i%50, i)))
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var kept []*index
	for b.Loop() {
		kept = append(kept, newIndex(targets))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(len(kept)), "bytes-kept")
	runtime.KeepAlive(kept)
}
