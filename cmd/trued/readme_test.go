package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/source"
	"trued.dev/trued/internal/state"
)

func readme(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestReadmeHasTheReferenceOfEveryKind(t *testing.T) {
	var want bytes.Buffer
	if err := writeReference(&want); err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(readme(t), "<!-- reference: trued generate reference -->\n")
	got, _, _ := strings.Cut(rest, "<!-- end of reference -->")
	if strings.TrimSpace(got) != strings.TrimSpace(want.String()) {
		t.Error("README.md is not up to date: put the output of `trued generate reference` between its markers")
	}
}

// What is no manifest and nothing of a group is the agent's own configuration, or a
// part of it.
func TestTheConfigurationsOfTheReadmeAreTaken(t *testing.T) {
	const some = "sources:\n  - {name: infra, dir: /srv/infra, group: groups/web}\n"
	n := 0
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(readme(t), -1) {
		text := strings.ReplaceAll(block[1], "3f9c…", strings.Repeat("3f9c", 10))
		if !regexp.MustCompile(`(?m)^(sources|secrets|confirm_within|report|metrics):`).MatchString(text) {
			continue
		}
		n++
		if !strings.Contains(text, "sources:") {
			text = some + text
		}
		file := filepath.Join(t.TempDir(), "trued.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := agent.LoadConfig(file, false); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
	if n < 6 {
		t.Errorf("only %d are configurations", n)
	}
}

// varies is what differs from run to run in the pictures of plan and status.
var varies = regexp.MustCompile(`[0-9a-f]{10}\b|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`)

func TestReadmeShowsWhatPlanPrints(t *testing.T) {
	var out, errs bytes.Buffer
	if code := Main([]string{"demo"}, strings.NewReader(""), &out, &errs); code != 0 {
		t.Fatalf("demo exits with %d: %s%s", code, out.String(), errs.String())
	}
	printed := varies.ReplaceAllString(out.String(), "X")
	_, rest, _ := strings.Cut(readme(t), "```text\n")
	picture, _, _ := strings.Cut(rest, "```")
	if !strings.Contains(printed, varies.ReplaceAllString(picture, "X")) {
		t.Errorf("the demo does not print what README.md shows:\n%s\nit prints:\n%s", picture, printed)
	}
}

func TestReadmeShowsWhatStatusPrints(t *testing.T) {
	const applied = "7e045d77ac0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d"
	now := time.Now()
	status := &agent.Status{
		Line: "in order at " + agent.Short(applied) + " of groups/web", Verdict: agent.InOrder,
		Host: "web-1", Version: "0.1.0", Mode: agent.Enforce, Resources: 6,
		Sources: []agent.SourceStatus{{
			Status: source.Status{
				Name: "infra", URL: "https://git.example.com/infra/hosts.git", Branch: "main", Checked: now, Moved: now, Next: now,
			},
			Applied: applied, Subject: `Revert "Four workers"`, Author: "Ada", Date: now,
		}},
		LastRun:  &state.Run{Finished: now, Summary: "6 in order", Trigger: "resync"},
		Daemon:   true,
		Schedule: &agent.Schedule{NextPoll: now, NextRun: now},
	}
	var out bytes.Buffer
	if err := (&app{out: &out}).printStatus(status); err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(readme(t), "$ trued status\n")
	picture, _, _ := strings.Cut(rest, "```")
	// How long ago differs; the words around it do not.
	spans := regexp.MustCompile(`\b(?:\d+h)?(?:\d+m)?\d+s\b`)
	plain := func(s string) string { return spans.ReplaceAllString(varies.ReplaceAllString(s, "X"), "Y") }
	if got, want := plain(picture), plain(out.String()); got != want {
		t.Errorf("README.md shows\n%s\nand status prints\n%s", got, want)
	}
}
