package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/source"
)

func TestStatusTellsOfEachSource(t *testing.T) {
	const applied, newest = "7e045d77ac0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d", "9a8b7c6d5e4f30211203f4e5d6c7b8a99a8b7c6d"
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	at := time.Date(2026, 11, 24, 9, 30, 0, 0, time.Local)
	ada := source.Revision{Commit: newest, Subject: "Six workers", Author: "Ada", Date: at}
	for name, test := range map[string]struct {
		source agent.SourceStatus
		want   []string
	}{
		"in order": {
			agent.SourceStatus{Status: source.Status{Fetched: ada, Checked: ago(90 * time.Second), Moved: ago(90*time.Minute + 30*time.Second), Next: ago(-150 * time.Second)}, Applied: newest, Subject: ada.Subject, Author: ada.Author, Date: ada.Date},
			[]string{`applied   9a8b7c6d5e  "Six workers", Ada, 2026-11-24 09:30:00`, "checked   1m ago, moved 1h30m ago, next in 2m"},
		},
		"a commit that is not applied": {
			agent.SourceStatus{Status: source.Status{Fetched: ada, Checked: ago(90 * time.Second), Failed: ago(2*time.Hour + 30*time.Second)}, Applied: applied, Attempted: newest},
			[]string{"applied   7e045d77ac", `newest    9a8b7c6d5e  "Six workers", Ada, 2026-11-24 09:30:00`, "checked   1m ago, failed 2h0m ago"},
		},
		"an outage": {
			agent.SourceStatus{Status: source.Status{Checked: ago(90 * time.Second), Failed: ago(90 * time.Second), Failures: 4, Since: at, Next: ago(-630 * time.Second)}, Applied: applied, Problem: "no route"},
			[]string{"problem   no route", "failing   4 times in a row since 2026-11-24 09:30:00, the last 1m ago", "checked   1m ago, next in 10m"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.source.Name, test.source.URL, test.source.Branch = "infra", "https://git.example.com/hosts.git", "main"
			var out bytes.Buffer
			if err := (&app{out: &out}).printStatus(&agent.Status{Sources: []agent.SourceStatus{test.source}}); err != nil {
				t.Fatal(err)
			}
			// Half a minute may pass in between.
			got := regexp.MustCompile(`(\dm)\d+s`).ReplaceAllString(out.String(), "$1")
			for _, line := range append(test.want, "source    infra: https://git.example.com/hosts.git main") {
				if !strings.Contains(got, "  "+line+"\n") {
					t.Errorf("status prints\n%s\nwant %q", got, line)
				}
			}
		})
	}
}
