package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var readme = filepath.Join("..", "..", "README.md")

// TestTheReadmeIsUpToDate holds what the program can say by itself against what
// the README shows: the tables of kinds, and the pictures of plan and status.
func TestTheReadmeIsUpToDate(t *testing.T) {
	data, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	var reference bytes.Buffer
	if err := writeReference(&reference); err != nil {
		t.Fatal(err)
	}
	shown := runDemo(t)
	want := page
	for name, text := range map[string]string{
		"reference": "\n" + reference.String() + "\n",
		"plan":      picture("plan", section(t, shown, "$ trued plan\n", "$ trued apply")),
		"status":    picture("status", section(t, shown, "$ trued status\n", "")),
	} {
		if want, err = between(want, name, text); err != nil {
			t.Fatal(err)
		}
	}
	if *update {
		if shape(want) != shape(page) {
			if err := os.WriteFile(readme, []byte(want), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	if diff := cmp.Diff(shape(want), shape(page)); diff != "" {
		t.Errorf("README.md is out of date (go test ./cmd/trued -update):\n%s", diff)
	}
}

// runDemo runs the program in a process of its own: it starts itself anew to
// fetch, and this process would start the tests.
func runDemo(t *testing.T) string {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "trued", "demo")
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("demo: %v: %s", err, errs.String())
	}
	return out.String()
}

func section(t *testing.T, text, begin, end string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, begin)
	if !ok {
		t.Fatalf("the demo shows no %q", begin)
	}
	if end != "" {
		rest, _, _ = strings.Cut(rest, end)
	}
	return rest
}

func picture(command, text string) string {
	text = regexp.MustCompile(`/\S*/trued-demo-\d+/infra`).ReplaceAllString(text, "https://git.example.com/infra.git")
	return "\n```text\n$ trued " + command + "\n" + text + "```\n\n"
}

// shape blanks out what differs from run to run.
func shape(text string) string {
	for _, p := range []struct{ what, by string }{
		{`\b[0-9a-f]{10}\b`, "COMMIT"},
		{`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`, "DATE"},
		{`\b\d+m?s\b`, "TIME"},
		{`trued \d+\.\d+\.\d+\S*`, "VERSION"},
	} {
		text = regexp.MustCompile(p.what).ReplaceAllString(text, p.by)
	}
	return text
}
