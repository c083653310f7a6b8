package window

import (
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/calendar"
	"trued.dev/trued/internal/resource"
)

func TestAChangeWaitsForWhatAllowsItAndForTheEndOfWhatDeniesIt(t *testing.T) {
	berlin, err := calendar.Zone("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	night := Window{Calendar: "Mon..Fri 22:00", For: 4 * time.Hour}
	always := Window{Calendar: "*:0/5", For: 5 * time.Minute}
	holidays := Window{Calendar: "*-12-20", For: 10 * 24 * time.Hour}
	with := func(w Window, set func(*Window)) Window { set(&w); return w }
	unit, file := resource.Address{Kind: "unit", Name: "nginx.service"}, resource.Address{Kind: "file", Name: "/etc/motd"}
	tests := map[string]struct {
		set   Set
		of    resource.Address
		cause resource.Cause
		at    string
		why   string // of what it begins with; empty when nothing is held
		opens string
	}{
		"nothing is said":                  {of: file, at: "2026-11-28 12:00"},
		"within":                           {set: Set{Allow: []Window{night}}, of: file, at: "2026-11-27 22:00"},
		"at its end":                       {set: Set{Allow: []Window{night}}, of: file, at: "2026-11-28 01:59"},
		"after its end":                    {set: Set{Allow: []Window{night}}, of: file, at: "2026-11-28 02:00", why: "it is outside", opens: "2026-11-30 22:00"},
		"before it":                        {set: Set{Allow: []Window{night}}, of: file, at: "2026-11-27 21:59", why: "it is outside", opens: "2026-11-27 22:00"},
		"of another zone":                  {set: Set{Allow: []Window{with(night, func(w *Window) { w.Timezone = "UTC" })}}, of: file, at: "2026-11-27 22:30", why: "it is outside", opens: "2026-11-27 23:00"},
		"a zone in the expression":         {set: Set{Allow: []Window{with(night, func(w *Window) { w.Calendar += " UTC" })}}, of: file, at: "2026-11-27 22:30", why: "it is outside", opens: "2026-11-27 23:00"},
		"of another kind":                  {set: Set{Allow: []Window{with(night, func(w *Window) { w.Kinds = []string{"unit"} })}}, of: file, at: "2026-11-28 12:00"},
		"of the kind":                      {set: Set{Allow: []Window{with(night, func(w *Window) { w.Kinds = []string{"unit"} })}}, of: unit, at: "2026-11-28 12:00", why: "it is outside", opens: "2026-11-30 22:00"},
		"of another address":               {set: Set{Deny: []Window{with(always, func(w *Window) { w.Resources = []string{"file:/etc/ngin*/**"} })}}, of: file, at: "2026-11-28 12:00"},
		"of the address":                   {set: Set{Deny: []Window{with(always, func(w *Window) { w.Resources = []string{"file:/etc/*"} })}}, of: file, at: "2026-11-28 12:00", why: "it is within"},
		"of another cause":                 {set: Set{Allow: []Window{with(night, func(w *Window) { w.Causes = []string{"intended"} })}}, of: file, cause: resource.Drift, at: "2026-11-28 12:00"},
		"one of two":                       {set: Set{Allow: []Window{night, {Calendar: "Sat 12:00", For: time.Hour}}}, of: file, at: "2026-11-28 12:30"},
		"denied within":                    {set: Set{Allow: []Window{night}, Deny: []Window{{Calendar: "Fri 23:00", For: time.Hour}}}, of: file, at: "2026-11-27 23:10", why: "it is within", opens: "2026-11-28 00:00"},
		"denied to the end":                {set: Set{Allow: []Window{night}, Deny: []Window{{Calendar: "Fri 23:00", For: 24 * time.Hour}}}, of: file, at: "2026-11-27 23:10", why: "it is within", opens: "2026-11-30 22:00"},
		"denied when it opens":             {set: Set{Allow: []Window{night}, Deny: []Window{holidays}}, of: file, at: "2026-12-19 12:00", why: "it is outside", opens: "2026-12-30 00:00"},
		"denied for ever":                  {set: Set{Deny: []Window{always}}, of: file, at: "2026-11-28 12:00", why: "it is within"},
		"none is to come":                  {set: Set{Allow: []Window{{Calendar: "2026-01-01", For: time.Hour}}}, of: file, at: "2026-11-28 12:00", why: "it is outside of its windows, and none is to come"},
		"it goes back":                     {set: Set{Deny: []Window{always}}, of: file, cause: resource.Rollback, at: "2026-11-28 12:00"},
		"a night that is an hour shorter":  {set: Set{Allow: []Window{{Calendar: "Sat 22:00", For: 6 * time.Hour}}}, of: file, at: "2026-03-29 04:59"},
		"over after as long":               {set: Set{Allow: []Window{{Calendar: "Sat 22:00", For: 6 * time.Hour}}}, of: file, at: "2026-03-29 05:00", why: "it is outside", opens: "2026-04-04 22:00"},
		"a time that the clock leaves out": {set: Set{Allow: []Window{{Calendar: "02:30", For: time.Hour}}}, of: file, at: "2026-03-29 03:10", why: "it is outside", opens: "2026-03-30 02:30"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if err := test.set.Validate(); err != nil {
				t.Fatal(err)
			}
			at, err := time.ParseInLocation("2006-01-02 15:04", test.at, berlin)
			if err != nil {
				t.Fatal(err)
			}
			cause := test.cause
			if cause == "" {
				cause = resource.Intended
			}
			h := test.set.Hold(test.of, cause, at, berlin)
			opens := ""
			if !h.Opens.IsZero() {
				opens = h.Opens.In(berlin).Format("2006-01-02 15:04")
			}
			if !strings.HasPrefix(h.Why, test.why) || h.Any() != (test.why != "") || opens != test.opens {
				t.Errorf("held %q until %q, want %q until %q", h.Why, opens, test.why, test.opens)
			}
		})
	}
}

func TestAWindowThatMeansNothingIsRefused(t *testing.T) {
	good := Window{Calendar: "daily", For: time.Hour}
	tests := map[string]struct {
		change func(*Window)
		want   string
	}{
		"no calendar":     {func(w *Window) { w.Calendar = "" }, "calendar: is empty"},
		"a bad one":       {func(w *Window) { w.Calendar = "25:00" }, "an hour is between"},
		"no end":          {func(w *Window) { w.For = 0 }, "say how long"},
		"too long":        {func(w *Window) { w.For = 1e6 * time.Hour }, "say how long"},
		"no such zone":    {func(w *Window) { w.Timezone = "Europe/Berln" }, "not the name of a time zone"},
		"no such zone 2":  {func(w *Window) { w.Calendar = "daily Europe/Berln" }, "not the name of a time zone"},
		"two zones":       {func(w *Window) { w.Calendar, w.Timezone = "daily UTC", "Europe/Berlin" }, "calendar says UTC"},
		"no such cause":   {func(w *Window) { w.Causes = []string{"rollback"} }, "none of intended, drift, prune"},
		"no address":      {func(w *Window) { w.Resources = []string{"/etc/motd"} }, "no address"},
		"a bad glob":      {func(w *Window) { w.Resources = []string{"file:[a"} }, "syntax error"},
		"nothing but fit": {func(*Window) {}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := good
			test.change(&w)
			err := Set{Allow: []Window{good}, Deny: []Window{w}}.Validate()
			if (err == nil) != (test.want == "") || err != nil && (!strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "deny[0]")) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}
