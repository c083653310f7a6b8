package source_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"trued.dev/trued/internal/source"
)

// The processes of these tests are the test binary itself: the fetch child,
// and an agent that fetches once and is there to be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		run := map[string]func() error{
			"fetch-child": func() error { return source.ServeFetch(context.Background(), os.Stdin, os.Stdout) },
			"fetch-once":  fetchOnce,
			"pry":         pry,
			"tell-rights": tellRights,
		}[os.Args[1]]
		if run != nil {
			if err := run(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// A usage is what a process took.
type usage struct {
	CPU time.Duration
	// Memory is the most that was resident, in bytes.
	Memory int64
}

func usageOf(who int) (usage, error) {
	var r syscall.Rusage
	err := syscall.Getrusage(who, &r)
	return usage{time.Duration(r.Utime.Nano() + r.Stime.Nano()), r.Maxrss << 10}, err
}

// fetchOnce is an agent: its arguments are the configuration and the store. It
// prints what it took itself, and what its child did.
func fetchOnce() error {
	var cfg source.Config
	if err := json.Unmarshal([]byte(os.Args[2]), &cfg); err != nil {
		return err
	}
	s, err := source.Open(cfg, os.Args[3], source.Options{Child: []string{os.Args[0], "fetch-child"}})
	if err != nil {
		return err
	}
	if _, err = s.Fetch(context.Background()); err != nil {
		return err
	}
	parent, err := usageOf(syscall.RUSAGE_SELF)
	if err != nil {
		return err
	}
	child, err := usageOf(syscall.RUSAGE_CHILDREN)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode([]usage{parent, child})
}
