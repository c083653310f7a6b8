package agent_test

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/health"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
)

// A doctor says what the test wants to hear about the host.
type doctor struct {
	sick func() string
	seen int
	// before is what was said to have answered before, at the last look.
	before []string
}

func (d *doctor) Reach(_ context.Context, heard func(string)) { heard("route") }

func (d *doctor) Prove(ctx context.Context, _ []catalog.Probe, before []string, _ time.Time) []health.Failure {
	d.seen++
	d.before = before
	if why := d.sick(); why != "" {
		return []health.Failure{{Probe: "web", Why: why}}
	}
	return nil
}

func (d *doctor) Look(context.Context, []catalog.Probe, []string, bool) []health.Report { return nil }

// tried is a host on which commits are on trial, and that is sick as long as
// /sick holds something.
func tried(t testing.TB, manifest string) (*standing, *doctor) {
	t.Helper()
	s := stand(t, manifest)
	d := &doctor{sick: func() string { data, _ := os.ReadFile(s.at("sick")); return string(data) }}
	s.health = d
	s.open()
	return s, d
}

func (s *standing) converge() *agent.Result {
	s.t.Helper()
	ctx := context.Background()
	res, err := s.Converge(ctx, ctx, agent.Request{Trigger: "commit", Fetch: true})
	s.must(err)
	return res
}

func (s *standing) wantFile(name, want string) {
	s.t.Helper()
	got, err := os.ReadFile(s.at(name))
	if want == "" && os.IsNotExist(err) {
		return
	}
	if err != nil || string(got) != want {
		s.t.Errorf("%s holds %q (%v), want %q", name, got, err, want)
	}
}

// told returns the types of the events that there are of a kind, such as commit.
func (s *standing) told(prefix string) []string {
	s.t.Helper()
	store, err := state.Open(s.at("var/lib/trued"))
	s.must(err)
	defer store.Close()
	events, err := store.EventsAfter(0, 100_000)
	s.must(err)
	var types []string
	for _, e := range events {
		var event report.Event
		s.must(json.Unmarshal(e.Event, &event))
		if strings.HasPrefix(string(event.Type), prefix) {
			types = append(types, string(event.Type))
		}
	}
	return types
}

func (s *standing) snapshot() state.Snapshot {
	s.t.Helper()
	store, err := state.Open(s.at("var/lib/trued"))
	s.must(err)
	defer store.Close()
	return store.Snapshot()
}

const (
	goodManifest = "- file: /kept\n  content: \"good\\n\"\n- file: /only-good\n  content: \"x\\n\"\n"
	badManifest  = "- file: /kept\n  content: \"bad\\n\"\n- file: /sick\n  content: \"503\"\n- file: /before\n  content: \"theirs\\n\"\n"
)

func TestACommitThatMakesTheHostSickIsGoneBackFrom(t *testing.T) {
	s, _ := tried(t, goodManifest)
	s.put("before", "ours\n")
	if res := s.converge(); res.Verdict != agent.InOrder {
		t.Fatalf("%s: %s", res.Verdict, res.Run.Summary)
	}
	good := s.snapshot().Sources[s.source].Applied
	s.write("groups/web/a.yaml", badManifest)
	res := s.converge()
	if res.Verdict != agent.Behind || res.Run.Trigger != "rollback" {
		t.Errorf("%s after %s: %s", res.Verdict, res.Run.Trigger, res.Run.Summary)
	}
	for _, o := range res.Outcomes {
		if o.Cause != resource.Rollback {
			t.Errorf("%s changed because of %s", o.Step.Address, o.Cause)
		}
	}
	s.wantFile("kept", "good\n")
	s.wantFile("only-good", "x\n")
	s.wantFile("before", "ours\n")
	s.wantFile("sick", "")
	snap := s.snapshot()
	src := snap.Sources[s.source]
	if snap.Trial != nil || src.Applied != good || src.Quarantine == nil || src.Quarantine.Commit == good || !strings.Contains(src.Quarantine.Why, "503") {
		t.Errorf("the state says %+v of %+v", snap.Trial, src)
	}
	want := []string{"commit.confirmed", "commit.quarantined"}
	if got := s.told("commit."); !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}

	// It is not tried again, also by another process.
	s.open()
	if res := s.converge(); res.Counts.Applied+res.Counts.Repaired != 0 || res.Verdict != agent.Behind {
		t.Errorf("tried again: %+v", res.Counts)
	}
	if got := s.told("commit."); !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}

	// Something newer is.
	s.write("groups/web/a.yaml", strings.ReplaceAll(goodManifest, "good", "newer"))
	if res := s.converge(); res.Verdict != agent.InOrder {
		t.Errorf("%s: %s", res.Verdict, res.Run.Summary)
	}
	s.wantFile("kept", "newer\n")
	if q := s.snapshot().Sources[s.source].Quarantine; q != nil {
		t.Errorf("%+v is still in quarantine", q)
	}
}

func TestTheTrialIsInTheStateBeforeTheFirstChange(t *testing.T) {
	s, _ := tried(t, goodManifest)
	s.converge()
	good := s.snapshot().Sources[s.source].Applied
	s.write("groups/web/a.yaml", badManifest)
	ctx := context.Background()
	seen := false
	res, err := s.Run(ctx, ctx, agent.Request{Trigger: "commit", Fetch: true, Progress: func(resource.Address) {
		t := s.snapshot().Trial
		seen = t != nil && t.Sources[s.source].Back.Commit == good && t.Ended.IsZero() && t.Until.After(time.Now().Add(time.Hour))
	}})
	s.must(err)
	if !seen {
		t.Error("nothing was on trial when the first change was made")
	}
	if trial := s.snapshot().Trial; trial == nil || trial.Ended.IsZero() || trial.Until.Sub(trial.Ended) != 5*time.Minute {
		t.Errorf("after the run %+v is on trial", trial)
	}
	_ = res

	// Somebody finds that nobody has confirmed it.
	s.open()
	if res, err := s.GoBack(ctx, ctx, "nobody did", agent.Request{}); err != nil || res == nil {
		t.Fatal(res, err)
	}
	s.wantFile("kept", "good\n")
	s.wantFile("sick", "")
	if res, err := s.GoBack(ctx, ctx, "nobody did", agent.Request{}); err != nil || res != nil {
		t.Error("there was something to go back from a second time", res, err)
	}
}

func TestAWayBackThatWasCutOffIsGoneToItsEnd(t *testing.T) {
	s, _ := tried(t, goodManifest)
	s.converge()
	s.write("groups/web/a.yaml", badManifest)
	s.run()
	s.open()
	ctx := context.Background()
	stopped, stop := context.WithCancel(ctx)
	_, err := s.GoBack(ctx, stopped, "bad", agent.Request{Progress: func(resource.Address) { stop() }})
	if err != nil && err != context.Canceled {
		t.Fatal(err)
	}
	if snap := s.snapshot(); snap.Trial == nil || snap.Trial.Failed == "" {
		t.Fatalf("%+v is on trial after half of the way", snap.Trial)
	}
	s.open()
	s.converge()
	s.wantFile("kept", "good\n")
	s.wantFile("sick", "")
	if snap := s.snapshot(); snap.Trial != nil {
		t.Errorf("%+v is on trial at the end", snap.Trial)
	}
	if got := s.told("commit.quarantined"); len(got) != 1 {
		t.Errorf("told %d times", len(got))
	}
}

// A run that takes too long is gone back from, also where all looks well; one that
// was cut off is gone on with.
func TestARunThatTakesTooLongIsGoneBackFrom(t *testing.T) {
	long := "- file: /kept\n  content: \"next\\n\"\n- link: /to\n  target: kept\n  requires: [file:/kept]\n- file: /last\n  content: x\n  requires: [link:/to]\n"
	ctx := context.Background()
	t.Run("it does", func(t *testing.T) {
		s, _ := tried(t, goodManifest)
		s.converge()
		good := s.newest()
		s.write("groups/web/a.yaml", long)
		s.runTimeout = 100 * time.Millisecond
		s.open()
		res, err := s.Converge(ctx, ctx, agent.Request{Trigger: "commit", Fetch: true, Progress: func(a resource.Address) {
			if a.Name == "/kept" {
				time.Sleep(2 * s.runTimeout) // what is waited for is time itself
			}
		}})
		if err != nil || res.Run.Trigger != "rollback" {
			t.Fatal(err, res)
		}
		s.wantSource(good, s.newest())
		s.wantFile("kept", "good\n")
		if why := s.snapshot().Sources[s.source].Quarantine.Why; !strings.Contains(why, "run_timeout") {
			t.Errorf("in quarantine because of %q", why)
		}
	})
	t.Run("it was cut off", func(t *testing.T) {
		s, _ := tried(t, goodManifest)
		s.converge()
		s.write("groups/web/a.yaml", long)
		stopped, stop := context.WithCancel(ctx)
		if _, err := s.Run(ctx, stopped, agent.Request{Trigger: "commit", Fetch: true, Progress: func(resource.Address) { stop() }}); err != nil && err != context.Canceled {
			t.Fatal(err)
		}
		trial := s.snapshot().Trial
		if trial == nil || !trial.Ended.IsZero() {
			t.Fatalf("%+v is on trial after half of the run", trial)
		}
		s.open()
		if res := s.converge(); res.Verdict != agent.InOrder {
			t.Errorf("%s: %s", res.Verdict, res.Run.Summary)
		}
		s.wantSource(s.newest(), "")
		s.wantFile("last", "x")
	})
}

func TestAFirstConvergeHasNothingToGoBackTo(t *testing.T) {
	s, _ := tried(t, badManifest)
	res := s.converge()
	if res.Run.Trigger == "rollback" || s.snapshot().Trial == nil {
		t.Errorf("%+v, %+v", res.Run, s.snapshot().Trial)
	}
	s.wantFile("kept", "bad\n")
	if got := s.told("health."); !slices.Equal(got, []string{"health.failed"}) {
		t.Errorf("told %v", got)
	}
	// Another one has neither: nobody ever confirmed the first.
	s.write("groups/web/a.yaml", strings.ReplaceAll(badManifest, "bad", "worse"))
	s.converge()
	s.wantFile("kept", "worse\n")
	s.write("groups/web/a.yaml", goodManifest)
	s.converge()
	if snap := s.snapshot(); snap.Trial != nil || snap.Unwell != nil {
		t.Errorf("%+v is on trial, and the host %+v", snap.Trial, snap.Unwell)
	}
	if got := s.told("health."); !slices.Equal(got, []string{"health.failed", "health.recovered"}) {
		t.Errorf("told %v", got)
	}
}

func TestADriftRepairIsNeverGoneBackFrom(t *testing.T) {
	s, d := tried(t, goodManifest)
	s.converge()
	s.put("sick", "by itself")
	s.put("kept", "drifted\n")
	res := s.partial("file:/kept")
	if res.Counts.Repaired != 1 {
		t.Fatalf("%+v", res.Counts)
	}
	seen := d.seen
	s.put("kept", "drifted\n")
	ctx := context.Background()
	if res, err := s.Converge(ctx, ctx, agent.Request{Trigger: "drift", Only: []resource.Address{{Kind: "file", Name: "/kept"}}}); err != nil || res.Unwell == "" || !slices.Equal(d.before, []string{"route"}) {
		t.Errorf("%v, %+v, where %v answered before", err, res, d.before)
	}
	if seen++; seen != d.seen {
		t.Errorf("looked %d times after a repair", d.seen-seen+1)
	}
	// Until that is over it is looked after each run, and what answered is missed
	// still, also by another process.
	s.open()
	if res := s.converge(); res.Unwell == "" || !slices.Equal(d.before, []string{"route"}) {
		t.Errorf("%+v, where %v answered before", res, d.before)
	}
	s.must(os.Remove(s.at("sick")))
	if res := s.converge(); res.Verdict != agent.InOrder || !slices.Equal(d.before, []string{"route"}) {
		t.Errorf("%s, where %v answered before", res.Verdict, d.before)
	}
	s.put("sick", "by itself")
	seen = d.seen
	if res := s.converge(); res.Verdict != agent.InOrder || d.seen != seen {
		t.Errorf("%s, looked %d times", res.Verdict, d.seen-seen)
	}
	s.put("kept", "drifted\n")
	s.converge()
	s.wantFile("kept", "good\n")
	if got := s.told("commit.quarantined"); len(got) != 0 {
		t.Errorf("told %v", got)
	}
	if got := s.told("health.failed"); len(got) != 2 {
		t.Errorf("told %v", got)
	}
}

func TestWhatWasHeldBeforeABadCommitIsHeldOnTheWayBack(t *testing.T) {
	many := ""
	for _, c := range "abcdefghijklmnopqrstuvwxyz" {
		many += "- file: /many-" + string(c) + "\n  content: x\n"
	}
	s, _ := tried(t, goodManifest+many)
	s.converge()
	s.write("groups/web/a.yaml", goodManifest)
	if res := s.converge(); res.Counts.Held != 26 {
		t.Fatalf("%+v", res.Counts)
	}
	s.write("groups/web/a.yaml", badManifest)
	if res := s.converge(); res.Run.Trigger != "rollback" || res.Counts.Held != 26 {
		t.Errorf("%+v %+v", res.Run.Trigger, res.Counts)
	}
	s.wantFile("sick", "")
	s.wantFile("many-a", "x")
}

// A run that was told to stop before it changed anything has not brought the host
// to a commit: the next one puts it on trial.
func TestACommitIsOnTrialAfterARunThatWasStoppedBeforeItsFirstChange(t *testing.T) {
	s, _ := tried(t, goodManifest)
	s.converge()
	good := s.newest()
	s.write("groups/web/a.yaml", badManifest)
	stopped, stop := context.WithCancel(context.Background())
	stop()
	if _, err := s.Run(context.Background(), stopped, agent.Request{Trigger: "commit", Fetch: true}); err != nil && err != context.Canceled {
		t.Fatal(err)
	}
	s.wantFile("kept", "good\n")
	s.wantSource(good, "")
	s.open()
	s.converge()
	s.wantSource(good, s.newest())
	s.wantFile("kept", "good\n")
	s.wantFile("sick", "")
}

// Whoever says that a commit is to be tried again while the host is on its way back
// from it gets that: it is on trial anew.
func TestACommitIsTriedAgainThatTheHostHadNotLeftYet(t *testing.T) {
	for name, cured := range map[string]bool{"and it is good now": true, "and it is bad still": false} {
		t.Run(name, func(t *testing.T) {
			s, _ := tried(t, goodManifest)
			s.converge()
			good := s.newest()
			s.write("groups/web/a.yaml", badManifest)
			s.run()
			bad := s.newest()
			stopped, stop := context.WithCancel(context.Background())
			_, err := s.GoBack(context.Background(), stopped, "bad", agent.Request{Progress: func(resource.Address) { stop() }})
			if err != nil && err != context.Canceled {
				t.Fatal(err)
			}
			if snap := s.snapshot(); snap.Trial == nil || snap.Trial.Failed == "" {
				t.Fatalf("%+v is on trial after half of the way", snap.Trial)
			}
			if cured {
				s.health.(*doctor).sick = func() string { return "" }
				s.mustOrder(agent.Order{Do: agent.OrderRetry}, agent.InOrder)
				s.wantSource(bad, "")
				s.wantFile("kept", "bad\n")
				return
			}
			s.mustOrder(agent.Order{Do: agent.OrderRetry}, agent.Behind)
			s.wantSource(good, bad)
			s.wantFile("kept", "good\n")
			s.wantFile("sick", "")
			if got := s.told("commit.quarantined"); !slices.Equal(got, []string{"commit.quarantined", "commit.quarantined"}) {
				t.Errorf("told %v, want one for each time that it was tried", got)
			}
		})
	}
}
