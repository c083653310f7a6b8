package agent

import (
	"errors"
	"testing"
	"time"

	"trued.dev/trued/internal/source"
)

func TestSourceThatCannotBeReachedSlowsDownNoOther(t *testing.T) {
	c := newClock(Config{Interval: time.Minute, Resync: time.Hour, Sources: []SourceConfig{{Name: "infra"}, {Name: "app"}}}, []string{"app"})
	now := time.Now()
	if due := c.duePolls(now); len(due) != 1 || due[0] != "app" {
		t.Errorf("a daemon that starts polls %v, want the source that was never fetched", due)
	}
	lost := errors.New("unreachable")
	for range 8 {
		now = c.next()["app"]
		c.finished(now, done{polled: map[string]error{"infra": nil, "app": lost}}, time.Time{})
	}
	if pause := c.next()["infra"].Sub(now); pause < 50*time.Second || pause > 70*time.Second {
		t.Errorf("the source that can be reached is polled after %s", pause)
	}
	if pause := c.next()["app"].Sub(now); pause < 7*time.Minute || pause > 15*time.Minute {
		t.Errorf("the other one is tried after %s", pause)
	}
	if got, want := c.poll(), c.next()["infra"]; !got.Equal(want) {
		t.Errorf("the next poll is at %s, want %s", got, want)
	}
	// A run fetches it, since an operator asked for that.
	c.finished(now, done{result: &Result{Sources: []SourceStatus{{Status: source.Status{Name: "app"}}}}}, time.Time{})
	if pause := c.next()["app"].Sub(now); pause > 70*time.Second {
		t.Errorf("a source that can be reached again is polled after %s", pause)
	}
}
