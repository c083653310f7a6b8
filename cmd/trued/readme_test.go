package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"
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

func TestReadmeShowsStatusInItsWords(t *testing.T) {
	page := readme(t)
	for _, word := range []string{"host", "source", "applied", "checked", "last run", "next"} {
		if !strings.Contains(page, "\n  "+word) {
			t.Errorf("the picture of status has no line %q", word)
		}
	}
}
