package agent

import (
	"testing"
	"time"

	"trued.dev/trued/internal/state"
)

func TestTheThirdRepairInTenMinutesMakesAContest(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	var c state.Contest
	for range 5 { // as slow as this is nobody's fight
		c = repaired(c, now, time.Minute)
		now = now.Add(6 * time.Minute)
	}
	if !c.Since.IsZero() || c.Pause != 0 {
		t.Errorf("a repair each six minutes is a contest: %+v", c)
	}
	now = now.Add(time.Hour)
	for i, pause := range []time.Duration{
		0, 0, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second,
		time.Minute, time.Minute,
	} {
		c = repaired(c, now, time.Minute)
		if c.Pause != pause || pause > 0 && !c.Next.Equal(now.Add(pause)) || c.Since.IsZero() != (i < 2) {
			t.Errorf("after repair %d: %+v, want a pause of %s", i+1, c, pause)
		}
		now = now.Add(c.Pause + time.Second)
	}
	if len(c.Repairs) != contestRepairs {
		t.Errorf("%d dates are remembered", len(c.Repairs))
	}
	for after, want := range map[time.Duration]bool{0: false, 9 * time.Minute: false, 12 * time.Minute: true, -time.Hour: true} {
		if over(c, now.Add(after)) != want {
			t.Errorf("after %s it is over: %v", after, !want)
		}
	}
	if c = repaired(c, now.Add(time.Hour), time.Minute); !c.Since.IsZero() || len(c.Repairs) != 1 {
		t.Errorf("after a quiet hour: %+v", c)
	}
}
