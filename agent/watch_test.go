package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/state"
	"trued.dev/trued/internal/watch"
)

// A mount that hangs is waited for by nobody, and once it answers all is looked at.
func TestWhatHangsWhileItIsWatchedKeepsNoRunBack(t *testing.T) {
	a := &Agent{following: make(chan struct{}, 1), watcher: watch.New(watch.Options{Root: t.TempDir(), Log: slog.New(slog.DiscardHandler)})}
	answer := make(chan struct{})
	if a.follow(func() { <-answer }, time.Millisecond) {
		t.Fatal("it is done already")
	}
	if a.follow(func() { t.Error("it is done beside the one that hangs") }, time.Hour) {
		t.Error("it was not left out")
	}
	close(answer)
	select {
	case <-a.watcher.Ready():
	case <-time.After(time.Minute):
		t.Fatal("nothing is looked at again")
	}
	if b := a.watcher.Take(); b.Everything == "" {
		t.Errorf("only %v is", b.Addresses)
	}
	for !a.follow(func() {}, time.Hour) { // until the other one has left
		time.Sleep(time.Millisecond)
	}
}

// Drift is not forgotten because it could not be looked into when it was seen.
func TestDriftThatCouldNotBeLookedIntoComesAgain(t *testing.T) {
	a := &Agent{watcher: watch.New(watch.Options{Root: t.TempDir(), Log: slog.New(slog.DiscardHandler)}), config: Config{Interval: time.Millisecond}}
	seen := watch.Batch{Everything: "because"}
	for _, err := range []error{
		errNotNow, state.ErrLocked, &SuspendedError{}, context.Canceled,
		fmt.Errorf("cannot write ledger: %w", unix.ENOSPC), errors.New("cannot collect facts"),
	} {
		a.giveBack(seen, err)
		select {
		case <-a.watcher.Ready():
		case <-time.After(time.Minute):
			t.Fatalf("after %q it is forgotten", err)
		}
		if b := a.watcher.Take(); b.Everything != seen.Everything {
			t.Errorf("after %q comes %+v", err, b)
		}
	}
	a.giveBack(seen, nil)
	select {
	case <-a.watcher.Ready():
		t.Error("what was looked into comes again")
	case <-time.After(100 * time.Millisecond):
	}
}
