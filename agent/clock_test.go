package agent

import (
	"context"
	"errors"
	"testing"
	"time"

	"trued.dev/trued/internal/source"
	"trued.dev/trued/internal/watch"
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

// Drift without end must not put off the check of everything.
func TestALookAtDriftLeavesTheNextFullRunWhereItWas(t *testing.T) {
	c := newClock(Config{Interval: time.Minute, Resync: time.Hour, Sources: []SourceConfig{{Name: "a"}}}, nil)
	now, resync, poll := time.Now(), c.resync, c.poll()
	for _, w := range []done{
		{drift: &watch.Batch{}}, {drift: &watch.Batch{}, result: &Result{Partial: true}},
		{drift: &watch.Batch{}, result: &Result{Partial: true, Silent: true}}, {drift: &watch.Batch{}, err: errNotNow},
	} {
		c.finished(now, w, time.Time{})
		if !c.resync.Equal(resync) || !c.poll().Equal(poll) || !c.retry.IsZero() {
			t.Errorf("after %+v: %+v", w, c)
		}
	}
	c.finished(now, done{drift: &watch.Batch{}, result: &Result{Partial: true}}, now.Add(-time.Hour))
	if !c.retry.After(now) {
		t.Errorf("what failed is tried again at %s, without a pause", c.retry)
	}
	c.finished(now.Add(time.Second), done{drift: &watch.Batch{Everything: "because"}, result: &Result{}}, time.Time{})
	if c.resync.Equal(resync) {
		t.Error("a look at everything is no full run")
	}
	if c.isDue(now) || !c.isDue(now.Add(2*time.Hour)) {
		t.Error("it does not know what is due")
	}
}

// A daemon that starts in rescue mode looks at the host soon after that is over.
func TestARunThatTheSystemForbidsIsTriedAgainSoon(t *testing.T) {
	c := newClock(Config{Interval: time.Minute, Resync: time.Hour, Sources: []SourceConfig{{Name: "a"}}}, nil)
	now := time.Now()
	c.retry = now.Add(-time.Second)
	c.finished(now, done{err: errNotNow}, now.Add(-time.Second))
	if c.due(now) != "" {
		t.Errorf("a %s is due at once", c.due(now))
	}
	if c.due(now.Add(notNowPause)) != "resync" {
		t.Error("nothing is due after a minute")
	}
}

func TestTheDaemonWakesWhenAWindowOpensAndNotWithoutEnd(t *testing.T) {
	c := newClock(Config{Interval: time.Minute, Resync: time.Hour, Sources: []SourceConfig{{Name: "a"}}}, nil)
	now := time.Now()
	for _, b := range c.beats {
		b.next = now.Add(24 * time.Hour)
	}
	opens := now.Add(10 * time.Minute)
	c.waitFor(now, opens)
	if c.isDue(opens.Add(-time.Second)) || !c.isDue(opens) || c.due(opens) != "window" {
		t.Errorf("it wakes for %q at %s", c.due(opens), opens)
	}
	// The run did not take place, since runs are suspended.
	c.waitFor(opens, opens)
	if c.isDue(opens.Add(50*time.Second)) || !c.isDue(opens.Add(70*time.Second)) {
		t.Errorf("it is tried again at %s", c.opens)
	}
	c.waitFor(now, time.Time{})
	if c.due(opens) != "" {
		t.Error("it wakes for nothing")
	}
}

// A run that could not be recorded leaves the date of the next try in the past, or
// at this very moment: the daemon must not spin.
func TestATryThatIsDueAlreadyHasAMomentToBreathe(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, at := range []time.Time{now.Add(-time.Minute), now, now.Add(time.Microsecond)} {
		c := newClock(Config{Interval: time.Minute, Resync: time.Hour}, nil)
		c.finished(now, done{err: errors.New("no space left on device")}, at)
		if pause := c.retry.Sub(now); pause < time.Second {
			t.Errorf("it is tried again after %s", pause)
		}
	}
}

// Drift waits after a run that did not take place, and not for a server that is away.
func TestAPollThatFailedHoldsUpNoDrift(t *testing.T) {
	t.Parallel()
	away := errors.New("no route to host")
	for name, c := range map[string]struct {
		w     done
		broke bool
	}{
		"a run that failed":  {done{err: away}, true},
		"a look that failed": {done{err: away, drift: &watch.Batch{}}, true},
		"a poll that failed": {done{err: away, polled: map[string]error{"infra": away}}, false},
		"a run":              {done{result: &Result{}}, false},
	} {
		if c.w.broke() != c.broke {
			t.Errorf("%s: it is %t that it broke", name, !c.broke)
		}
	}
}

// A poll that drift has cut off comes again at once, and was nobody's fault.
func TestAPollThatWasCutOffComesAgainAtOnce(t *testing.T) {
	t.Parallel()
	c := newClock(Config{Interval: time.Minute, Resync: time.Hour, Sources: []SourceConfig{{Name: "infra"}, {Name: "app"}}}, nil)
	now := time.Now()
	c.finished(now, done{cut: true, polled: map[string]error{"infra": nil, "app": context.Canceled}}, time.Time{})
	if due := c.duePolls(now); len(due) != 1 || due[0] != "app" {
		t.Errorf("due are %v, want the one that was cut off", due)
	}
	c.finished(now, done{polled: map[string]error{"app": nil}}, time.Time{})
	if pause := c.next()["app"].Sub(now); pause > 70*time.Second {
		t.Errorf("after that it is polled after %s, as one that failed", pause)
	}
}
