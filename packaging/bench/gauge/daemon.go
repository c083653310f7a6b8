package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"trued.dev/trued/internal/control"
)

// settle is what a daemon has for what it does after it answered.
const settle = 300 * time.Millisecond

// A turn is what each run of a daemon took, without and with a look at the
// repository, and what the daemon is afterwards.
type turn struct {
	Runs  []time.Duration `json:"runs"`
	Syncs []time.Duration `json:"syncs"`
	// Idle is what it took in IdleFor without being asked.
	Idle    time.Duration `json:"idle"`
	IdleFor time.Duration `json:"idle_for"`
	State   state         `json:"state"`
}

// A state is what a process holds.
type state struct {
	Resident  int64 `json:"resident"`  // KiB
	Anonymous int64 `json:"anonymous"` // KiB of it that no file backs
	Peak      int64 `json:"peak"`      // KiB
	Threads   int64 `json:"threads"`
	Files     int   `json:"files"`
}

// daemon has a running trued do count runs of each sort.
func daemon(unit string, count int) error {
	ctx := context.Background()
	client, err := control.Dial(ctx, control.DefaultSocket)
	if err != nil {
		return err
	}
	pong, err := client.Ping(ctx)
	if err != nil {
		return err
	}
	group := filepath.Join(cgroups, "system.slice", unit)
	var t turn
	sync := func(r control.SyncRequest) (time.Duration, error) {
		before, err := used(group)
		if err != nil {
			return 0, err
		}
		reply, err := client.Sync(ctx, r, nil)
		if err != nil || reply.ExitCode != 0 {
			return 0, fmt.Errorf("the run ended with %d, %s: %w", reply.ExitCode, reply.Summary, err)
		}
		time.Sleep(settle)
		after, err := used(group)
		return after - before, err
	}
	for range count {
		cpu, err := sync(control.SyncRequest{Now: true})
		if err != nil {
			return err
		}
		t.Runs = append(t.Runs, cpu)
		if cpu, err = sync(control.SyncRequest{}); err != nil {
			return err
		}
		t.Syncs = append(t.Syncs, cpu)
	}
	t.IdleFor = 10 * time.Second
	if t.Idle, err = leave(group, t.IdleFor); err != nil {
		return err
	}
	if t.State, err = look(pong.PID); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(t)
}

// leave returns what a control group takes in a time in which it is left alone.
func leave(group string, alone time.Duration) (time.Duration, error) {
	before, err := used(group)
	if err != nil {
		return 0, err
	}
	time.Sleep(alone)
	after, err := used(group)
	return after - before, err
}

// idle prints what a unit takes in a time in which it is left alone.
func idle(unit string, alone time.Duration) error {
	took, err := leave(filepath.Join(cgroups, "system.slice", unit), alone)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(turn{Idle: took, IdleFor: alone})
}

// many has a running trued do count runs, and prints what it is at ten
// moments on the way.
func many(count int) error {
	ctx := context.Background()
	client, err := control.Dial(ctx, control.DefaultSocket)
	if err != nil {
		return err
	}
	pong, err := client.Ping(ctx)
	if err != nil {
		return err
	}
	var states []state
	for i := range count {
		if reply, err := client.Sync(ctx, control.SyncRequest{Now: true}, nil); err != nil || reply.ExitCode != 0 {
			return fmt.Errorf("run %d ended with %d, %s: %w", i+1, reply.ExitCode, reply.Summary, err)
		}
		if (i+1)%max(1, count/10) == 0 {
			time.Sleep(settle) // its last event may be on its way
			s, err := look(pong.PID)
			if err != nil {
				return err
			}
			states = append(states, s)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(states)
}

// look reads what a process holds.
func look(pid int) (state, error) {
	var s state
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return s, err
	}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		into := map[string]*int64{"VmRSS": &s.Resident, "RssAnon": &s.Anonymous, "VmHWM": &s.Peak, "Threads": &s.Threads}[key]
		if into == nil {
			continue
		}
		if *into, err = strconv.ParseInt(strings.Fields(value)[0], 10, 64); err != nil {
			return s, err
		}
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	s.Files = len(files)
	return s, err
}
