package agent_test

import (
	"context"
	"encoding/json"
	"os"
	"testing"
	"time"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/resource"
)

func (s *standing) partial(addresses ...string) *agent.Result {
	s.t.Helper()
	req := agent.Request{Trigger: "drift", Only: []resource.Address{}}
	for _, text := range addresses {
		a, err := resource.ParseAddress(text)
		s.must(err)
		req.Only = append(req.Only, a)
	}
	ctx := context.Background()
	res, err := s.Run(ctx, ctx, req)
	s.must(err)
	return res
}

// ledger is what the state's ledger and snapshot come to, as files.
func (s *standing) ledger() string {
	s.t.Helper()
	var all string
	for _, name := range []string{"var/lib/trued/ledger.jsonl", "var/lib/trued/state.json"} {
		data, err := os.ReadFile(s.at(name))
		if err != nil && !os.IsNotExist(err) {
			s.t.Fatal(err)
		}
		all += string(data)
	}
	return all
}

func TestAPartialRunThatFindsNothingWritesNothing(t *testing.T) {
	s := stand(t, everyKind)
	s.settle()
	before := s.ledger()
	res := s.partial("file:/d/f", "directory:/tree", "package:hello", "file:/nobody-has-it")
	if !res.Silent || !res.Partial || res.Counts.Total != 3 {
		t.Errorf("it was %+v", res)
	}
	if s.ledger() != before {
		t.Error("the state was written")
	}
	if !s.run().Stood {
		t.Error("the witnesses are not enough any more")
	}
}

func TestAPartialRunForgetsNothingOfTheLastFullOne(t *testing.T) {
	s := stand(t, `- file: /a
  content: "a\n"
- file: /b
  content: "b\n"
- file: /none/x
  content: "x\n"
`)
	failed := s.run()
	if failed.Verdict != agent.Failed {
		t.Fatalf("%s: %s", failed.Verdict, failed.Run.Summary)
	}
	s.put("a", "broken\n")
	s.put("b", "broken\n")
	res := s.partial("file:/a")
	if res.Verdict != agent.Failed || res.Counts.Repaired != 1 || res.Counts.Total != 1 || !res.Run.Partial {
		t.Errorf("%s: %+v", res.Verdict, res.Run)
	}
	st, err := s.Status(t.Context())
	s.must(err)
	if st.Verdict != agent.Failed || len(st.LastRun.Issues) != 1 || st.LastRun.Issues[0].Resource.Name != "/none/x" || len(st.Failing) != 1 {
		t.Errorf("status forgot: %s %+v", st.Line, st.LastRun)
	}
	if data, _ := os.ReadFile(s.at("b")); string(data) != "broken\n" {
		t.Error("what was not asked for was changed")
	}
	if res := s.partial("file:/none/x"); !res.Silent {
		t.Errorf("what failed was tried again before its time: %+v", res.Run)
	}
}

func TestWhatDriftsAndIsOnlyReportedIsToldOnce(t *testing.T) {
	s := stand(t, "- file: /a\n  content: \"a\\n\"\n  drift: report\n")
	s.settle()
	s.put("a", "broken\n")
	if res := s.partial("file:/a"); res.Counts.Reported != 1 || res.Silent || res.Verdict != agent.Differs {
		t.Errorf("first: %+v", res)
	}
	before := s.ledger()
	if res := s.partial("file:/a"); !res.Silent || res.Verdict != agent.Differs || s.ledger() != before {
		t.Errorf("again: %+v", res)
	}
	s.put("a", "a\n")
	if res := s.partial("file:/a"); res.Silent || res.Verdict != agent.InOrder {
		t.Errorf("when it was mended: %+v", res)
	}
}

// A commit is applied by a run of all resources alone.
func TestAPartialRunIsAFullOneWhereThereIsANewCommit(t *testing.T) {
	s := stand(t, "- file: /a\n  content: \"a\\n\"\n- file: /b\n  content: \"b\\n\"\n")
	s.settle()
	s.write("groups/web/a.yaml", "- file: /a\n  content: \"new\\n\"\n- file: /b\n  content: \"new\\n\"\n")
	_, _, err := s.Poll(t.Context(), []string{s.source})
	s.must(err)
	res := s.partial("file:/a")
	if res.Partial || res.Counts.Total != 2 || res.Counts.Applied != 2 {
		t.Errorf("it was %+v", res)
	}
}

// After a repair the witnesses are whole again without a look at everything.
func TestTheWitnessesOutliveARepair(t *testing.T) {
	s := stand(t, everyKind)
	s.settle()
	s.put("d/f", "broken\n")
	if res := s.partial("file:/d/f"); res.Counts.Repaired != 1 || res.Verdict != agent.InOrder {
		t.Fatalf("%+v", res)
	}
	// What was written just now is no witness yet.
	for deadline := time.Now().Add(2 * time.Minute); ; {
		res := s.partial("file:/d/f")
		if !res.Silent {
			t.Fatal("it told of something")
		}
		if res.Outcomes[0].Step.Finding.Witness != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it is no witness even now")
		}
	}
	if !s.run().Stood {
		t.Error("a full run looked at everything")
	}
}

func TestTheThirdRepairIsToldOfAsAContest(t *testing.T) {
	s := stand(t, "- file: /a\n  content: \"a\\n\"\n")
	s.settle()
	for i := range 3 {
		if st, err := s.Status(t.Context()); err != nil || len(st.Contested) != 0 {
			t.Fatalf("contested after %d: %v %v", i, st.Contested, err)
		}
		s.put("a", "broken\n")
		s.partial("file:/a")
	}
	s.open() // it is remembered
	st, err := s.Status(t.Context())
	s.must(err)
	if len(st.Contested) != 1 || st.Contested[0].Resource.Name != "/a" {
		t.Errorf("contested are %v", st.Contested)
	}
	past, err := s.History(1)
	s.must(err)
	told := 0
	for _, e := range past[0].Events {
		if containsType(e, "resource.contested") {
			told++
		}
	}
	if told != 1 {
		t.Errorf("it is told %d times:\n%s", told, past[0].Events)
	}
}

func containsType(event json.RawMessage, kind string) bool {
	var e struct {
		Type string `json:"type"`
	}
	return json.Unmarshal(event, &e) == nil && e.Type == kind
}
