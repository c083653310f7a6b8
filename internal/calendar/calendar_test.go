package calendar

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

func berlin(t testing.TB) *time.Location {
	t.Helper()
	zone, err := Zone("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func TestAnHourThatTheClockLeavesOutOrShowsTwiceComesAtMostOnce(t *testing.T) {
	tests := []struct{ expression, after, want string }{
		{"02:30", "2026-03-28T12:00:00+01:00", "2026-03-30T02:30:00+02:00"}, // there is none on the 29th
		{"03:00", "2026-03-28T12:00:00+01:00", "2026-03-29T03:00:00+02:00"},
		{"02:30", "2026-10-24T12:00:00+02:00", "2026-10-25T02:30:00+02:00"}, // the first of two
		{"02:30", "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"},
		{"02:30", "2026-10-25T02:10:00+01:00", "2026-10-26T02:30:00+01:00"},
		{"02:30 UTC", "2026-10-25T02:30:00+02:00", "2026-10-25T03:30:00+01:00"},
	}
	for _, test := range tests {
		e, err := Parse(test.expression)
		if err != nil {
			t.Fatal(err)
		}
		zone, err := e.In(berlin(t))
		if err != nil {
			t.Fatal(err)
		}
		after, err := time.Parse(time.RFC3339, test.after)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := e.Next(after, zone)
		if got := got.In(berlin(t)).Format(time.RFC3339); !ok || got != test.want {
			t.Errorf("%q after %s: %s, want %s", test.expression, test.after, got, test.want)
		}
	}
}

// expressions returns those that the parser is tested with, and some hundred that
// are made at random, in several time zones.
func expressions() []string {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	var list []string
	for _, text := range goodCalendars {
		if !strings.HasPrefix(text, "@") {
			list = append(list, text)
		}
	}
	for range 250 {
		text := pick("", "", "Mon", "Sat,Sun", "Mon..Fri", "Tue,Thu..Sat", "Sun") + " " +
			pick("*", "*", "2026..2028", "2027", "2026/3", "2028,2032") + "-" +
			pick("*", "*", "02", "3,10", "1..6", "1/3", "10..12/2") +
			pick("-*", "-*", "-01", "-29", "-31", "-1..7", "-1/10", "-25..31", "~01", "~07/1", "~3..5", "~1,3", "-8,15") + " " +
			pick("*", "0", "1", "2", "3", "1..3", "0/6", "2,23", "22..23", "5/7") + ":" +
			pick("*", "0", "30", "0/15", "10..12", "59", "7/20") + pick("", ":00", ":30", ":*", ":0/20", ":10..20/5", ":59")
		list = append(list, strings.TrimSpace(text))
	}
	for i, text := range list {
		if words := strings.Fields(text); isZone(words[len(words)-1]) && len(words) > 1 {
			continue
		}
		list[i] = text + " " + pick("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia")
	}
	return list
}

var elapse = regexp.MustCompile(`(?m)^ *(?:Next elapse|Iter. #\d+): ... (\S+ \S+) UTC$`)

// TestMomentsAreThoseOfSystemd holds what comes next against what systemd says,
// around the days on which clocks are set and years begin.
func TestMomentsAreThoseOfSystemd(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("needs systemd-analyze")
	}
	const form = "2006-01-02 15:04:05"
	list := expressions()
	compared := 0
	for _, base := range []string{
		"2026-03-08 05:30:00", "2026-03-28 22:10:05", "2026-04-04 13:00:00", "2026-10-24 22:59:59",
		"2026-11-01 04:45:00", "2026-12-31 23:59:30", "2028-02-28 12:00:00",
	} {
		c := exec.Command(analyze, append([]string{"calendar", "--base-time=" + base + " UTC", "--iterations=6"}, list...)...)
		c.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
		out, err := c.Output()
		if err != nil {
			t.Fatalf("systemd-analyze: %v\n%s", err, err.(*exec.ExitError).Stderr)
		}
		parts := strings.Split(strings.TrimSpace(string(out)), "\n\n")
		if len(parts) != len(list) {
			t.Fatalf("%d answers to %d expressions", len(parts), len(list))
		}
		from, err := time.Parse(form, base)
		if err != nil {
			t.Fatal(err)
		}
		for i, text := range list {
			e, err := Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			zone, err := e.In(time.UTC)
			if err != nil {
				t.Fatal(err)
			}
			// By the clock on the wall: of an hour that it shows twice, systemd takes
			// now the first and now the second, as the C library remembers.
			var want, got []string
			for _, m := range elapse.FindAllStringSubmatch(parts[i], -1) {
				at, err := time.Parse(form, m[1])
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, at.In(zone).Format(form))
			}
			for at := from; len(got) < 6; {
				next, ok := e.Next(at, zone)
				if !ok {
					break
				}
				got = append(got, next.In(zone).Format(form))
				at = next
			}
			compared++
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%q after %s:\n got %v\nwant %v", text, base, got, want)
			}
		}
	}
	t.Logf("%d comparisons", compared)
}

func TestWhatIsTakenIsWhatSystemdTakes(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("needs systemd-analyze")
	}
	for _, c := range goodCalendars {
		if out, err := exec.Command(analyze, "calendar", "--", c).CombinedOutput(); err != nil {
			t.Errorf("%q is taken by us, and not by systemd: %s", c, out)
		}
	}
	for c := range badCalendars {
		if exec.Command(analyze, "calendar", "--", c).Run() == nil {
			t.Errorf("%q is taken by systemd, and not by us", c)
		}
	}
}
