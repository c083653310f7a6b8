package report_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/report/reporttest"
	"trued.dev/trued/internal/report/schema"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestEventsAreAsTheGoldenFileHasThem(t *testing.T) {
	var got bytes.Buffer
	for _, e := range reporttest.Story() {
		got.Write(reporttest.ValidEvent(t, e))
		got.WriteByte('\n')
	}
	golden(t, "events.jsonl", got.Bytes())
	if strings.Contains(got.String(), "s3cret") {
		t.Error("a credential of a repository's URL is in an event")
	}
	for _, typ := range report.Types() {
		if !strings.Contains(got.String(), fmt.Sprintf("%q:%q", "type", typ)) {
			t.Errorf("the story has no event of type %s", typ)
		}
	}
}

func TestSchemaInPackagingIsUpToDate(t *testing.T) {
	want, err := schema.Make()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../packaging/schema/event.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("run go generate ./internal/report (-made +kept):\n%s", diff)
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}
