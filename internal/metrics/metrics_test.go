package metrics_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/metrics"
	"trued.dev/trued/internal/state"
)

var update = flag.Bool("update", false, "write the golden file")

const golden = "testdata/metrics.prom"

// noon is the moment of all readings here.
func noon() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }

// reading has something of everything.
func reading() metrics.Reading {
	return metrics.Reading{
		Version: "1.2.3", Started: noon().Add(-24 * time.Hour), Resync: 15 * time.Minute, Unhealthy: true, Owed: 1, Contested: 2,
		LastRun: &state.Run{
			ID: "r", Trigger: "resync", Started: noon().Add(-1500 * time.Millisecond), Finished: noon(), Verdict: "failed",
			Phases: map[string]time.Duration{
				"recover": time.Millisecond, "fetch": 250 * time.Millisecond, "witness": 2 * time.Millisecond, "load": 40 * time.Millisecond,
				"plan": 60 * time.Millisecond, "apply": 1100 * time.Millisecond,
			},
			Resources: state.Tallies{
				{Kind: "file", Outcome: "in_order", Count: 41}, {Kind: "file", Outcome: "repaired", Count: 2},
				{Kind: "package", Outcome: "in_order", Count: 7}, {Kind: "unit", Outcome: "failed", Count: 1},
			},
		},
		Verdicts: []string{"in order", "differs", "interrupted", "behind", "failed", "unusable"},
		Runs:     map[string]uint64{"in order": 1234, "failed": 3, "behind": 2},
		Told: state.Tallies{
			{Kind: "file", Cause: "drift", Outcome: "repaired", Count: 17}, {Kind: "file", Cause: "intended", Outcome: "applied", Count: 120},
			{Kind: "package", Cause: "drift", Outcome: "reported", Count: 1}, {Kind: "unit", Outcome: "failed", Count: 3},
		},
		Sources: []metrics.Source{
			{
				Name: "infra", Group: "groups/web", Ref: "main", Applied: "7e045d77ac8b8a0d8b9a4b5cbf0aa1a62d2fbd5e",
				Committed: noon().Add(-time.Hour), Newest: noon().Add(-time.Minute), FreshWithin: 14 * 24 * time.Hour, Quarantined: true, Unconfirmed: noon().Add(-time.Minute), Pinned: noon().Add(-24 * time.Hour),
			},
			{
				Name: "app", Group: "deploy", Applied: "1f55f667abf39607ba9a6cb21a5d7bde0ffe5b9b", Committed: noon().Add(-48 * time.Hour),
				Failures: 4, Refused: true, FailedFetches: map[string]uint64{"timeout": 4, "denied": 1}, RefusedCommits: map[string]uint64{"load": 1},
			},
		},
		Sinks: []metrics.Sink{
			{Label: "journal"},
			{Label: "syslog", Waiting: 210, Failing: true, Spool: &metrics.Spool{
				Bytes: 180_000, Limit: 64 << 20, Dropped: 12, LastSuccess: noon().Add(-2 * time.Hour),
			}},
		},
	}
}

// text is the exposition of a reading, whatever Go it was built with.
func text(t *testing.T, r metrics.Reading) string {
	t.Helper()
	e, err := metrics.NewExporter(func() (metrics.Reading, error) { return r, nil })
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := e.Write(&b); err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`goversion="[^"]*"`).ReplaceAllString(b.String(), `goversion="go1"`)
}

func TestTheExpositionIsAsPublished(t *testing.T) {
	got := text(t, reading())
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("the exposition is another (-update writes it):\n%s", d)
	}
}

func TestNamesFollowTheConventions(t *testing.T) {
	found, err := promlint.New(strings.NewReader(text(t, reading()))).Lint()
	if err != nil || len(found) > 0 {
		t.Errorf("%v, %v", found, err)
	}
}

// promtool is Debian's.
func TestNamesPassPrometheusOwnCheck(t *testing.T) {
	h := hosttest.Boot(t, hosttest.Options{Packages: []string{"prometheus", "prometheus-node-exporter"}})
	h.Write(t, "/root/metrics.prom", text(t, reading()))
	if out := h.Run(t, "promtool check metrics </root/metrics.prom 2>&1"); out != "" {
		t.Errorf("promtool says:\n%s", out)
	}
}

// A host of which nothing is known yet says so by what it leaves out.
func TestNothingIsSaidOfWhatIsNotKnown(t *testing.T) {
	got := text(t, metrics.Reading{Version: "1.2.3", Verdicts: []string{"in order"}, Sources: []metrics.Source{{Name: "infra"}}, Sinks: []metrics.Sink{{Label: "journal"}}})
	for _, name := range []string{"last_run", "applied", "resources", "spool", "start_timestamp", "dropped"} {
		if strings.Contains(got, "trued_"+name) {
			t.Errorf("there is trued_%s in:\n%s", name, got)
		}
	}
	if !strings.Contains(got, `trued_source_refused{source="infra"} 0`) {
		t.Errorf("the exposition is:\n%s", got)
	}
}

func TestWhatIsNoTextSpoilsNothing(t *testing.T) {
	r := reading()
	r.Sources[0].Group = "a\xff\"\n\\"
	if got := text(t, r); !strings.Contains(got, `group="a`+"\uFFFD"+`\"\n\\"`) {
		t.Errorf("the exposition is:\n%s", got)
	}
}

func TestAReadingThatFailsIsNoExposition(t *testing.T) {
	broken := errors.New("the disk is gone")
	e, err := metrics.NewExporter(func() (metrics.Reading, error) { return metrics.Reading{}, broken })
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := e.Write(&b); err == nil || !strings.Contains(err.Error(), broken.Error()) || b.Len() > 0 {
		t.Errorf("error %v, and %q", err, b.String())
	}
}

func TestTheTextfileIsForOthersToRead(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "var/lib/node")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// What a process left that was cut off, and what is somebody else's.
	for name, kept := range map[string]bool{".trued-abcdefghij-trued.prom~": false, ".trued-abcdefghij-other.prom": true, "other.prom": true} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if _, err := os.Lstat(filepath.Join(dir, name)); (err == nil) != kept {
				t.Errorf("%s: %v", name, err)
			}
		}()
	}
	e, err := metrics.NewExporter(func() (metrics.Reading, error) { return reading(), nil })
	if err != nil {
		t.Fatal(err)
	}
	h := host.New(root, host.Options{})
	var first os.FileInfo
	for range 2 {
		if err := e.WriteFile(t.Context(), h, "/var/lib/node/trued.prom"); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, "trued.prom"))
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && !os.SameFile(first, info) {
			t.Error("what had not changed was written")
		}
		first = info
	}
	info, err := os.Stat(filepath.Join(dir, "trued.prom"))
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := e.WriteFile(t.Context(), h, "/var/lib/none/trued.prom"); err == nil {
		t.Error("a directory that is not there is no error")
	}
}

// A collector that reads the directory all the time never sees a part of it, nor
// a file that it would take for one of its own.
func TestTheTextfileIsNeverHalf(t *testing.T) {
	root := t.TempDir()
	runs := uint64(0)
	e, err := metrics.NewExporter(func() (metrics.Reading, error) {
		r := reading()
		runs++
		r.Runs = map[string]uint64{"in order": runs}
		return r, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	h := host.New(root, host.Options{})
	done := make(chan error, 1)
	go func() {
		var err error
		for range 200 {
			if err = e.WriteFile(t.Context(), h, "/trued.prom"); err != nil {
				break
			}
		}
		done <- err
	}()
	size := len(text(t, reading()))
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
		files, err := filepath.Glob(filepath.Join(root, "*.prom"))
		if hidden, herr := filepath.Glob(filepath.Join(root, ".*.prom")); herr != nil || len(hidden) > 0 || err != nil || len(files) > 1 {
			t.Fatalf("there are %q and %q", files, hidden)
		}
		for _, f := range files {
			if data, err := os.ReadFile(f); err != nil || len(data) < size-20 || !bytes.HasSuffix(data, []byte("\n")) {
				t.Fatalf("%s has %d bytes: %v", f, len(data), err)
			}
		}
	}
}
