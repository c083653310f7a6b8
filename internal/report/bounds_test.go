package report_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/report/reporttest"
	"trued.dev/trued/internal/resource"
)

// mostOfAnEvent is what readers of the systemd journal take of a field; the
// whole event stays below.
const mostOfAnEvent = 64 << 10

func TestEventsAreBounded(t *testing.T) {
	long := strings.Repeat("Größe\x00\xff\n", 100_000)
	diff := make(resource.Diff, 10_000)
	for i := range diff {
		diff[i] = resource.Change{Field: long, Old: long, New: long, Unified: long}
	}
	run := report.NewRun(report.Context{HostID: "i", HostName: "h", Version: "v"})
	e := run.Resource(report.ResourceOutcome{
		Address: resource.Address{Kind: "file", Name: "/" + long}, Cause: resource.Intended, Outcome: report.Failed,
		Changes: diff, Note: long, ErrType: "other", Err: errors.New(long),
	})
	raw := reporttest.ValidEvent(t, e)
	if len(raw) > mostOfAnEvent {
		t.Errorf("the event has %d bytes", len(raw))
	}
	if len(e.Changes) == 0 || len(e.Changes)+e.Omitted != len(diff) {
		t.Errorf("%d changes and %d omitted, of %d", len(e.Changes), e.Omitted, len(diff))
	}
	if c := e.Changes[0]; !c.Cut || !strings.HasSuffix(c.Old, "…") {
		t.Errorf("a long value does not say that it was cut: %.50q", c.Old)
	}
}

func TestSensitiveValuesAreInNoEvent(t *testing.T) {
	const secret = "hunter2"
	diff := resource.Diff{
		{Field: "content", Old: secret, New: secret, Unified: secret},
		{Field: "key", New: secret, Redacted: true},
	}
	run := report.NewRun(report.Context{HostID: "i", HostName: "h", Version: "v"})
	for _, o := range []report.ResourceOutcome{
		{Changes: diff, Sensitive: true},
		{Changes: diff[1:]},
	} {
		o.Address, o.Cause, o.Outcome = resource.Address{Kind: "file", Name: "/k"}, resource.Drift, report.Repaired
		e := run.Resource(o)
		raw := reporttest.ValidEvent(t, e)
		if strings.Contains(string(raw), secret) {
			t.Errorf("the secret is in %s", raw)
		}
		for _, c := range e.Changes {
			if !c.Redacted {
				t.Errorf("change %q does not say that it is redacted", c.Field)
			}
		}
	}
}

func TestEventsOfARunAreNumberedAndUnique(t *testing.T) {
	ids := map[string]bool{}
	for range 2 {
		run := report.NewRun(report.Context{HostID: "i", HostName: "h", Version: "v"})
		for seq := uint64(1); seq <= 500; seq++ {
			e := run.Started("resync")
			if e.Seq != seq || e.RunID != run.ID() || ids[e.ID] {
				t.Fatalf("event %d: %+v", seq, e)
			}
			ids[e.ID] = true
			if at, err := time.Parse(time.RFC3339Nano, e.Time); err != nil || time.Since(at) < 0 {
				t.Fatalf("time = %q, %v", e.Time, err)
			}
		}
	}
}

func TestSeveralSourcesAreToldApart(t *testing.T) {
	run := report.NewRun(report.Context{HostID: "i", HostName: "h", Version: "v", Sources: []report.SourceState{
		{Name: "infra", URL: "https://a:b@x/infra.git", Branch: "main", Applied: "1", Attempted: "2"},
		{Name: "app", Group: "groups/app", URL: "git@x:app.git", Branch: "main", Applied: "3", Attempted: "3"},
	}})
	e := run.Resource(report.ResourceOutcome{Address: resource.Address{Kind: "file", Name: "/a"}, Source: "app", Outcome: report.Applied, Cause: resource.Intended})
	reporttest.ValidEvent(t, e)
	if e.Source != "app" || e.Group != "groups/app" || e.Revision != "3" || e.Attempted != "" || e.Sources != nil {
		t.Errorf("event of a resource: %+v", e)
	}
	e = run.Finished(report.Result{})
	raw := reporttest.ValidEvent(t, e)
	var keys map[string]any
	if err := json.Unmarshal(raw, &keys); err != nil {
		t.Fatal(err)
	}
	if keys["trued.source"] != nil || keys["vcs.ref.head.revision"] != nil || len(e.Sources) != 2 {
		t.Errorf("event of a run: %s", raw)
	}
	if e.Sources[0] != (report.SourceState{Name: "infra", URL: "https://x/infra.git", Branch: "main", Applied: "1", Attempted: "2"}) {
		t.Errorf("source = %+v", e.Sources[0])
	}
}

func TestWhatGivesSomethingBackIsNotSaidToHaveLeft(t *testing.T) {
	run := report.NewRun(report.Context{})
	for want, changes := range map[string]resource.Diff{
		"line:x gave back what it has no longer (text:/etc/a)": {{Field: "text:/etc/a", Cause: resource.Prune}},
		"line:x left its group, and was pruned":                {{Field: "text"}},
	} {
		e := run.Resource(report.ResourceOutcome{
			Address: resource.Address{Kind: "line", Name: "x"}, Outcome: report.Applied, Cause: resource.Prune, Changes: changes,
		})
		if e.Message != want {
			t.Errorf("it says %q, want %q", e.Message, want)
		}
	}
}

// The schema must refuse what is wrong, or Valid proves nothing.
func TestTheSchemaRefuses(t *testing.T) {
	run := report.NewRun(report.Context{HostID: "i", HostName: "h", Version: "v"})
	good := run.Finished(report.Result{})
	for name, spoil := range map[string]func(map[string]any){
		"no id":              func(e map[string]any) { delete(e, "event_id") },
		"no run":             func(e map[string]any) { delete(e, "run_id") },
		"no counts":          func(e map[string]any) { delete(e, "trued.counts.failed") },
		"another version":    func(e map[string]any) { e["schema_version"] = "2" },
		"an unknown type":    func(e map[string]any) { e["type"] = "run.ended" },
		"an unknown key":     func(e map[string]any) { e["trued.mood"] = "good" },
		"an unknown outcome": func(e map[string]any) { e["trued.outcome"] = "fine" },
		"a time of day":      func(e map[string]any) { e["time"] = "12:00" },
		"a text for a count": func(e map[string]any) { e["trued.counts.failed"] = "0" },
		"an error untold":    func(e map[string]any) { e["type"] = "resource.failed" },
	} {
		var e map[string]any
		if err := json.Unmarshal(reporttest.ValidEvent(t, good), &e); err != nil {
			t.Fatal(err)
		}
		spoil(e)
		raw, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if reporttest.Check(raw) == nil {
			t.Errorf("%s: valid", name)
		}
	}
}
