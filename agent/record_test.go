package agent

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/apply"
	"trued.dev/trued/internal/plan"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/report/reporttest"
	"trued.dev/trued/internal/resource"
)

// What is not tried yet, since it failed before, is an event that says so in the
// keys that every failure has.
func TestAResourceThatWaitsForItsNextTryIsAValidEvent(t *testing.T) {
	o := &apply.Outcome{
		Step: &plan.Step{Address: resource.Address{Kind: "file", Name: "/a"}}, Status: apply.Failed, Cause: resource.Drift,
		Why: "failed 1 times in a row; the next try is due at 07:08:35",
	}
	r := report.NewRun(report.Context{HostID: "id", HostName: "web-1", Version: "1.0.0"})
	e := r.Resource(reportOutcome(o))
	e.ID, e.Time = "01a220fb-8995-7ed4-a66a-24a5c25ac5c7", time.Now().Format(time.RFC3339Nano)
	line, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	reporttest.ValidLines(t, strings.NewReader(string(line)+"\n"))
	if e.ErrorMessage != o.Why || strings.Count(e.Message, "next try") != 1 {
		t.Errorf("it says %q: %s", e.ErrorMessage, e.Message)
	}
}
