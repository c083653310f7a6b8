package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"trued.dev/trued/internal/control"
)

// A drifted is how long after a change by hand a daemon began to look into it, and
// how long until the file was as it was.
type drifted struct {
	Seen []time.Duration `json:"seen"`
	Back []time.Duration `json:"back"`
}

// drift changes files below a directory, count of them one after another with a
// pause before each, and waits for a running trued to put each back. When the host
// is to be busy, as many loops as it has processors run beside.
func drift(dir string, count int, pause time.Duration, busy bool) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client, err := control.Dial(ctx, control.DefaultSocket)
	if err != nil {
		return err
	}
	names, err := filesBelow(dir)
	if err != nil {
		return err
	}
	if busy {
		for range runtime.NumCPU() {
			if err := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done").Start(); err != nil {
				return fmt.Errorf("cannot keep the host busy: %w", err)
			}
		}
	}
	var d drifted
	for i := range count {
		time.Sleep(pause)
		name := names[i*len(names)/count]
		at, back, err := breakOne(name)
		if err != nil {
			return err
		}
		seen, err := lastRun(ctx, client, at)
		if err != nil {
			return fmt.Errorf("after a change of %s: %w", name, err)
		}
		d.Seen, d.Back = append(d.Seen, seen), append(d.Back, back)
	}
	return json.NewEncoder(os.Stdout).Encode(d)
}

func filesBelow(dir string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error { //nolint:gosec // the bench says which
		if err == nil && e.Type().IsRegular() {
			names = append(names, name)
		}
		return err
	})
	return names, err
}

// breakOne writes something else into a file and waits until that is gone.
func breakOne(name string) (at time.Time, back time.Duration, err error) {
	was, err := os.ReadFile(name) //nolint:gosec // the bench says which
	if err != nil {
		return at, 0, err
	}
	at = time.Now()
	if err := os.WriteFile(name, []byte("broken\n"), 0o600); err != nil { //nolint:gosec // the bench says which
		return at, 0, err
	}
	for time.Since(at) < time.Minute {
		now, err := os.ReadFile(name) //nolint:gosec // the bench says which
		if err == nil && bytes.Equal(now, was) {
			return at, time.Since(at), nil
		}
		time.Sleep(time.Millisecond)
	}
	return at, 0, fmt.Errorf("%s is not put back", name)
}

// lastRun returns how long after a moment the run began that came after it.
func lastRun(ctx context.Context, client *control.Client, at time.Time) (time.Duration, error) {
	for time.Since(at) < time.Minute {
		raw, err := client.Status(ctx)
		if err != nil {
			return 0, err
		}
		var s struct {
			Last struct {
				Trigger string    `json:"trigger"`
				Started time.Time `json:"started"`
			} `json:"last_run"`
		}
		if err := json.Unmarshal(raw, &s); err != nil {
			return 0, err
		}
		if s.Last.Trigger == "drift" && s.Last.Started.After(at) {
			return s.Last.Started.Sub(at), nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 0, errors.New("no run is told of")
}
