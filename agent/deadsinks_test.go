package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/report/cloudevents"
	"trued.dev/trued/internal/report/otlp"
	"trued.dev/trued/internal/report/post"
	"trued.dev/trued/internal/report/sinks"
	"trued.dev/trued/internal/report/syslog"
	"trued.dev/trued/internal/state"
)

// Nobody listens at port 1. What waits for a day waits on disk, whatever it is
// that does not take it.
func TestReceiversThatAreDeadForADayTakeNoMemory(t *testing.T) {
	tcp, udp := &syslog.Config{}, &syslog.Config{}
	tcp.Address, udp.Address = "tcp://127.0.0.1:1", "unix:///nowhere/log"
	dead := []sinks.Config{
		{Syslog: tcp}, {Syslog: udp},
		{HTTP: &cloudevents.Config{Config: post.Config{URL: "http://127.0.0.1:1/"}}},
		{OTLP: &otlp.Config{Config: post.Config{URL: "http://127.0.0.1:1/"}}},
	}
	without := aDay(t, nil)
	with := aDay(t, dead)
	t.Logf("the heap holds %d KiB without, %d KiB with four of them", without>>10, with>>10)
	// All that waits is 5 MiB for each.
	if with > without+1<<20 {
		t.Errorf("four dead receivers take %d KiB", (with-without)>>10)
	}
}

// aDay has events come for a day, and returns what the heap holds in the end.
func aDay(t *testing.T, dead []sinks.Config) (heap uint64) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		store, err := state.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		var routes []report.Route
		var names []string
		for _, c := range dead {
			r, err := c.Open(io.Discard, false, filepath.Join(dir, spoolDir))
			if err != nil {
				t.Fatal(err)
			}
			routes, names = append(routes, r), append(names, r.Sink.Name())
		}
		if err := store.Enroll(names); err != nil {
			t.Fatal(err)
		}
		drain := report.NewDrain(eventLog{store}, routes, report.Hooks{})
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { drain.Run(ctx) })
		const resyncs, each = 96, 50
		for i := range resyncs {
			var events []json.RawMessage
			for j := range each {
				events = append(events, json.RawMessage(fmt.Sprintf(
					`{"event_id":"%036d","time":"2026-11-24T12:00:00.000000000Z","type":"resource.drifted","severity":"warning","message":"%01000d"}`, i*each+j, j)))
			}
			if err := store.Append(state.Record{Events: events}); err != nil {
				t.Fatal(err)
			}
			if err := store.Compact(); err != nil {
				t.Fatal(err)
			}
			drain.Notify()
			time.Sleep(24 * time.Hour / resyncs)
		}
		for _, s := range drain.Status() {
			if s.Error == "" || s.Spool == nil || s.Spool.Waiting != resyncs*each || s.Spool.Lost != 0 {
				t.Errorf("%s: %+v, error %q", s.Name, s.Spool, s.Error)
			}
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		heap = m.HeapAlloc
		stop()
		running.Wait()
		runtime.KeepAlive(drain)
	})
	return heap
}
