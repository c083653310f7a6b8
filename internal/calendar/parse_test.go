package calendar

import (
	"strings"
	"testing"
	"time"
)

// goodCalendars are right, for us and for systemd.
var goodCalendars = []string{
	"daily", "Weekly", "minutely", "semi-annually", "hourly UTC", "daily Europe/Berlin",
	"02:30", "2:30:15", "*:0/5", "0..23/2:00", "8..18:0,15,30,45", "*:*:00", "*:*:0/30", "00:00:0.5",
	"Mon", "Mon..Fri 02:30", "mon,wed..fri 04:00:00", "Saturday,Sunday", "Mon *-*-01 12:00",
	"*-*-*", "*-*-01 04:00:00", "2027-01-31", "27-01-31", "*-02~03", "*-*~01 12:00", "01-01", "*-1,7-1 0:0",
	"Mon *-05~07/1", "2012-11-23 11:12:13 UTC", "@1395716396", "Fri 2012-11-23", "*-*-1/2",
	"Mon-Fri 02:30", "Mon,Tue, 02:30", "*:0/59", "*:10..20/10", "*:10..10", "*-*-28/3",
}

// badCalendars are wrong, for us and for systemd.
var badCalendars = map[string]string{
	"":                 "is empty",
	"  ":               "is empty",
	"Fri..Mon 10:00":   "ends before it begins",
	"dayly":            `"dayly" is neither a weekday`,
	"Mond 02:30":       `"Mond" is neither a weekday`,
	"25:00":            "an hour is between 0 and 23",
	"02:60":            "a minute is between 0 and 59",
	"02:30:60":         "a second is between 0 and 59",
	"*-13-01":          "a month is between 1 and 12",
	"*-00-01":          "a month is between 1 and 12",
	"*-*-32":           "a day is between 1 and 31",
	"*-*~31":           "a day is between 1 and 28",
	"2300-01-01":       "a year is between 1970 and 2199",
	"2:30:00:00":       "is not a time",
	"*/5 * * * *":      "neither a date",
	"0 2 * * *":        "neither a date",
	"*:*/5":            "write numbers, such as 0/5",
	"*:0/0":            "not repeated by 0",
	"*:5..2":           "ends before it begins",
	"02:30 daily":      "",
	"*:0/70":           "never repeats",
	"*:0/60":           "never repeats",
	"*:30/30":          "never repeats",
	"every day":        "",
	"@noon":            "number of seconds",
	"02:30 03:30":      "too much",
	"02.30":            "neither a date",
	"1:2x":             "not a minute",
	"*-*-* *-*-* 1:00": "not a time",
	"02:0.5":           "not a minute",
}

func TestCalendarExpressionsOfSystemdAreTaken(t *testing.T) {
	for _, text := range goodCalendars {
		if _, err := Parse(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestWhatIsNoCalendarExpressionIsRefused(t *testing.T) {
	for text, want := range badCalendars {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want it to say %q", text, err, want)
		}
	}
}

func FuzzCalendar(f *testing.F) {
	for _, text := range goodCalendars {
		f.Add(text)
	}
	for text := range badCalendars {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Parse(text)
		if err != nil {
			return
		}
		if strings.ContainsAny(text, "%\x00;#") {
			t.Errorf("%q is taken", text)
		}
		// Whatever it is, what comes next comes later, and is what it says.
		from := time.Date(2026, 3, 28, 23, 59, 59, 0, time.UTC)
		for range 3 {
			next, ok := e.Next(from, berlin(t))
			if !ok {
				return
			}
			if !next.After(from) {
				t.Fatalf("%q: %s does not come after %s", text, next, from)
			}
			from = next
		}
	})
}
