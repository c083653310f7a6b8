package agent

import (
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/state"
	"trued.dev/trued/internal/window"
)

func TestAHostRebootsOnceForEachTimeThatItIsAskedFor(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	allowed := &window.Reboot{Allow: true}
	var noted *state.Reboot
	look := func(wanted bool, boot, told, held string) {
		t.Helper()
		next, event := nextReboot(noted, wanted, []string{"linux-image-amd64"}, boot, now)
		if next != nil {
			if noted = next; next.Since.IsZero() {
				noted = nil
			}
		}
		if (event.Type != "") != (told != "") || !strings.Contains(event.Message, told) {
			t.Errorf("told %q, want %q", event.Message, told)
		}
		if noted == nil {
			if held != "none" {
				t.Errorf("none is asked for, want one that is held by %q", held)
			}
			return
		}
		if why := rebootHold(noted, nil, allowed, boot, now).Why; why != held {
			t.Errorf("held by %q, want %q", why, held)
		}
	}
	look(false, "a", "", "none")
	look(true, "a", "a reboot is asked for by linux-image-amd64", "")
	look(true, "a", "", "")
	noted.Asked = "a"
	look(true, "a", "", "it is under way")
	look(true, "b", "again after the one that was made for it", "it was made once, and is asked for again")
	look(true, "b", "", "it was made once, and is asked for again")
	look(true, "c", "", "it was made once, and is asked for again") // somebody else's
	look(false, "c", "", "none")
	look(true, "c", "a reboot is asked for", "")
	// Somebody else reboots, and something asks again.
	look(true, "d", "", "")
}

func TestAHostRebootsWhereAndWhenItMay(t *testing.T) {
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	asked := &state.Reboot{Since: at, Boot: "a"}
	sunday := &window.Window{Calendar: "Sun 04:00", For: time.Hour, Timezone: "UTC"}
	tests := map[string]struct {
		rule  *window.Reboot
		trial *state.Trial
		at    time.Time
		held  bool
		opens time.Time
	}{
		"nothing says so":       {held: true, at: at},
		"it is not allowed":     {rule: &window.Reboot{Window: sunday}, held: true, at: at},
		"at any time":           {rule: &window.Reboot{Allow: true}, at: at},
		"a commit is on trial":  {rule: &window.Reboot{Allow: true}, trial: &state.Trial{Since: at}, held: true, at: at},
		"outside of its window": {rule: &window.Reboot{Allow: true, Window: sunday}, held: true, at: at, opens: at.Add(16 * time.Hour)},
		"within":                {rule: &window.Reboot{Allow: true, Window: sunday}, at: at.Add(16 * time.Hour)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := rebootHold(asked, test.trial, test.rule, "a", test.at)
			if h.Any() != test.held || !h.Opens.Equal(test.opens) {
				t.Errorf("held by %q until %s", h.Why, h.Opens)
			}
		})
	}
}

func TestARebootIsOfTheCommitSinceWhichItIsAskedFor(t *testing.T) {
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	asked := &state.Reboot{Since: at.Add(time.Minute), Boot: "a"}
	trial := func(change func(*state.Trial)) *state.Trial {
		t := &state.Trial{Since: at, Ended: at.Add(time.Minute), Sources: map[string]state.Probation{"s": {Commit: "b", Back: &state.Standing{Commit: "a"}}}}
		change(t)
		return t
	}
	tests := map[string]struct {
		trial  *state.Trial
		reboot *state.Reboot
		want   bool
	}{
		"the run asked for it":           {trial(func(*state.Trial) {}), asked, true},
		"nothing asks for one":           {trial(func(*state.Trial) {}), nil, false},
		"it was asked for before":        {trial(func(t *state.Trial) { t.Since = at.Add(2 * time.Minute) }), asked, false},
		"the run is under way":           {trial(func(t *state.Trial) { t.Ended = time.Time{} }), asked, false},
		"there is nothing to go back to": {trial(func(t *state.Trial) { t.Sources["s"] = state.Probation{Commit: "b"} }), asked, false},
		"nothing is on trial":            {nil, asked, false},
	}
	for name, test := range tests {
		if got := asksFor(test.trial, test.reboot); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
