package agent

import (
	"log/slog"
	"testing"
	"time"

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
