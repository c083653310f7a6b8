package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/control"
	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/plan"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
	"trued.dev/trued/internal/window"
	"trued.dev/trued/modules"
)

// everyKind has one of each kind that has witnesses.
const everyKind = `- directory: /d
- file: /d/f
  source: files/f
- file: /d/t
  content: "{{ facts.local.n }}, {{ vars.v }}\n"
- file: /d/owned
  content: "x"
  owner: me
  group: mine
- file: /d/secret
  content: "only for us"
  sensitive: true
- file: /d/mode
  mode: "0640"
- directory: /tree
  source: files/tree
- link: /l
  target: d/f
- file: /gone
  state: absent
- directory: /gone-too
  state: absent
- sysctl: net.core.somaxconn
  value: 4096
- package: hello
`

const helloInstalled = `Package: hello
Status: install ok installed
Architecture: amd64
Version: 2.10-3

`

// A standing is a host that is in order, and an agent that can tell so by its
// witnesses.
type standing struct {
	*agent.Agent
	t            testing.TB
	source, root string
	version      string
	mode         agent.Mode
	health       agent.Prober
	// windows are those of the host.
	windows window.Set
	// runTimeout is how long a run by which a commit is tried may take, 0 for the
	// default.
	runTimeout time.Duration
}

func stand(t testing.TB, manifest string) *standing {
	t.Helper()
	s := &standing{t: t, source: t.TempDir(), root: t.TempDir(), version: "1.0.0", mode: agent.Enforce}
	s.write("groups/web/group.yaml", "vars: {v: one}\n")
	s.write("groups/web/a.yaml", manifest)
	s.write("groups/web/files/f", "one\n")
	s.write("groups/web/files/tree/sub/a", "a\n")
	s.write("groups/web/files/tree/b", "b\n")
	s.put("etc/trued/facts.d/a.yaml", "n: 1\n")
	s.put("etc/passwd", fmt.Sprintf("root:x:0:0::/:/bin/sh\nme:x:%d:0::/:/bin/sh\n", os.Geteuid()))
	s.put("etc/group", fmt.Sprintf("root:x:0:\nmine:x:%d:\n", os.Getegid()))
	s.put("var/lib/dpkg/status", helloInstalled)
	s.put("var/lib/dpkg/arch", "amd64\n")
	s.open()
	return s
}

func (s *standing) write(name, text string) {
	s.t.Helper()
	put(s.t, filepath.Join(s.source, name), text)
}

func (s *standing) at(name string) string { return filepath.Join(s.root, name) }

func (s *standing) put(name, text string) { s.t.Helper(); put(s.t, s.at(name), text) }

// open begins a new process, as far as the agent can tell.
func (s *standing) open() {
	s.t.Helper()
	if s.Agent != nil {
		s.Close()
	}
	c, err := agent.LoadConfig(s.at("none"), true)
	s.must(err)
	s.must(c.UseSource(s.source, "groups/web"))
	c.Mode, c.Windows = s.mode, s.windows
	if s.runTimeout > 0 {
		c.RunTimeout = s.runTimeout
	}
	s.Agent, err = agent.New(c, agent.Options{
		Root: s.root, Version: s.version, Modules: modules.All, Log: slog.New(slog.DiscardHandler),
		ExitCode: func(agent.Verdict) int { return 0 }, Health: func(*host.Host) agent.Prober { return s.health },
	})
	s.must(err)
	s.t.Cleanup(s.Close)
}

func (s *standing) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *standing) run() *agent.Result {
	s.t.Helper()
	ctx := context.Background()
	res, err := s.Run(ctx, ctx, agent.Request{Trigger: "sync", Fetch: true})
	s.must(err)
	return res
}

// settle runs until the witnesses are enough. What was written just now is none,
// so that takes a moment.
func (s *standing) settle() {
	s.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		res := s.run()
		if res.Verdict != agent.InOrder {
			s.t.Fatalf("%s: %s %+v", res.Verdict, res.Run.Summary, res.Run.Issues)
		}
		if res.Stood {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatal("the witnesses never were enough")
		}
		time.Sleep(5 * time.Millisecond) // what is waited for is time itself
	}
}

// wantTruth holds the host against a look by an agent without any cache.
func (s *standing) wantTruth() {
	s.t.Helper()
	s.must(os.RemoveAll(s.at("var/lib/trued/cache")))
	s.open()
	p, _, err := s.Plan(context.Background(), agent.Request{})
	s.must(err)
	for _, step := range p.Steps {
		if step.Differs() {
			s.t.Errorf("%s is left %s: %+v %v", step.Address, step.Verdict, step.Finding.Diff, step.Err)
		}
	}
}

// sameTimes gives a file the times and mode of another.
func sameTimes(t testing.TB, name string, as os.FileInfo) {
	t.Helper()
	if err := errors.Join(os.Chtimes(name, as.ModTime(), as.ModTime()), os.Chmod(name, as.Mode())); err != nil {
		t.Fatal(err)
	}
}

// mischief is everything that changes a host behind the agent's back, in ways
// that are hard to see.
var mischief = map[string]func(s *standing){
	"content changed in place, its time put back": func(s *standing) {
		was, err := os.Stat(s.at("d/f"))
		s.must(err)
		s.put("d/f", "two\n")
		sameTimes(s.t, s.at("d/f"), was)
	},
	"replaced by a copy of the same size, times and mode": func(s *standing) {
		was, err := os.Stat(s.at("d/f"))
		s.must(err)
		s.put("d/.new", "two\n")
		sameTimes(s.t, s.at("d/.new"), was)
		s.must(os.Rename(s.at("d/.new"), s.at("d/f")))
	},
	"mode changed": func(s *standing) { s.must(os.Chmod(s.at("d/mode"), 0o600)) },
	"mode changed there and back": func(s *standing) {
		s.must(os.Chmod(s.at("d/f"), 0o600))
		s.must(os.Chmod(s.at("d/f"), 0o644))
	},
	"mode of a directory changed": func(s *standing) { s.must(os.Chmod(s.at("d"), 0o700)) },
	"file removed":                func(s *standing) { s.must(os.Remove(s.at("d/f"))) },
	"name taken away and given back": func(s *standing) {
		s.must(os.Rename(s.at("d/mode"), s.at("d/other")))
		s.must(os.Link(s.at("d/other"), s.at("d/mode")))
		s.must(os.Remove(s.at("d/mode")))
	},
	"sensitive content changed, its time put back": func(s *standing) {
		was, err := os.Stat(s.at("d/secret"))
		s.must(err)
		s.put("d/secret", "for everybody")
		sameTimes(s.t, s.at("d/secret"), was)
	},
	"directory replaced by another like it": func(s *standing) {
		s.must(os.Rename(s.at("d"), s.at("d.old")))
		for _, name := range []string{"f", "t", "owned", "secret", "mode"} {
			data, err := os.ReadFile(s.at("d.old/" + name))
			s.must(err)
			was, err := os.Stat(s.at("d.old/" + name))
			s.must(err)
			if name == "f" {
				data = []byte("two\n")
			}
			s.put("d/"+name, string(data))
			sameTimes(s.t, s.at("d/"+name), was)
		}
	},
	"file of a tree changed, its time put back": func(s *standing) {
		was, err := os.Stat(s.at("tree/sub/a"))
		s.must(err)
		s.put("tree/sub/a", "z\n")
		sameTimes(s.t, s.at("tree/sub/a"), was)
	},
	"file of a tree removed": func(s *standing) { s.must(os.Remove(s.at("tree/b"))) },
	"link turned": func(s *standing) {
		s.must(os.Remove(s.at("l")))
		s.must(os.Symlink("d/t", s.at("l")))
	},
	"what should be absent came":               func(s *standing) { s.put("gone", "") },
	"a directory that should be absent came":   func(s *standing) { s.must(os.Mkdir(s.at("gone-too"), 0o755)) },
	"the file of a kernel's parameter changed": func(s *standing) { s.put("etc/sysctl.d/60-trued-net.core.somaxconn.conf", "") },
}

func TestWitnessesHideNoDrift(t *testing.T) {
	for what, do := range mischief {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := stand(t, everyKind)
			s.settle()
			do(s)
			if s.run().Stood {
				t.Error("the witnesses held")
			}
			s.wantTruth()
		})
	}
}

func TestWitnessesInTheFileHideNoDrift(t *testing.T) {
	s := stand(t, everyKind)
	s.settle()
	mischief["content changed in place, its time put back"](s)
	s.open()
	if s.run().Stood {
		t.Error("the witnesses held")
	}
	s.wantTruth()
}

func TestWitnessesAreForOneDesiredStateAndOneProgram(t *testing.T) {
	for what, do := range map[string]func(s *standing){
		"a fact":        func(s *standing) { s.put("etc/trued/facts.d/a.yaml", "n: 2\n") },
		"a var":         func(s *standing) { s.write("groups/web/group.yaml", "vars: {v: two}\n") },
		"content":       func(s *standing) { s.write("groups/web/files/f", "two\n") },
		"a tree":        func(s *standing) { s.write("groups/web/files/tree/new", "new\n") },
		"what is there": func(s *standing) { s.write("groups/web/b.yaml", "- file: /new\n  content: x\n") },
		"another trued": func(s *standing) { s.version = "1.0.1"; s.open() },
		"whose uid": func(s *standing) {
			s.put("etc/passwd", fmt.Sprintf("me:x:%d:0::/:/bin/sh\n", os.Geteuid()+1))
			s.open()
		},
		"whose gid": func(s *standing) { s.put("etc/group", fmt.Sprintf("mine:x:%d:\n", os.Getegid()+1)); s.open() },
		"a package": func(s *standing) { s.put("var/lib/dpkg/status", helloInstalled+"\n") },
		"resource left": func(s *standing) {
			s.write("groups/web/a.yaml", strings.Replace(everyKind, "- link: /l\n  target: d/f\n", "", 1))
		},
		"what is ours": func(s *standing) { s.append(state.Record{Drop: []resource.Address{{Kind: "link", Name: "/l"}}}) },
		"what is owed": func(s *standing) {
			file := resource.Address{Kind: "file", Name: "/d/f"}
			s.append(state.Record{Owe: []state.Owed{{Target: file, Because: file, Reaction: resource.Restart}}})
		},
		"an earlier run": func(s *standing) { s.append(state.Record{Started: &state.Run{ID: "cut off"}}) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := stand(t, everyKind)
			s.settle()
			do(s)
			if res := s.run(); res.Stood {
				t.Error("the witnesses held")
			}
		})
	}
}

// append writes a record as another process would.
func (s *standing) append(r state.Record) {
	s.t.Helper()
	store, err := state.Open(s.at(agent.StateDir))
	s.must(err)
	defer store.Close()
	s.must(store.Append(r))
}

// What is not simply in order is looked at each time.
func TestWhatIsNotInOrderHasNoWitnesses(t *testing.T) {
	for what, manifest := range map[string]string{
		"reported":   "- file: /f\n  content: a\n  drift: report\n",
		"follows":    "- file: /f\n  content: a\n  follow: true\n",
		"recurses":   "- directory: /f\n  recurse: true\n  mode: \"0755\"\n",
		"purges":     "- directory: /f\n  purge: true\n",
		"is pending": "- unit: x.service\n  enabled: true\n  content: |\n    [Service]\n    ExecStart=/bin/true\n    [Install]\n    WantedBy=multi-user.target\n",
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := stand(t, manifest)
			s.run()
			if what == "reported" {
				s.put("f", "drifted")
			}
			// A file that is old enough makes no difference.
			time.Sleep(150 * time.Millisecond)
			for range 3 {
				if s.run().Stood {
					t.Fatal("the run looked at nothing but witnesses")
				}
			}
		})
	}
}

func TestPlanTrustsNoWitness(t *testing.T) {
	s := stand(t, everyKind)
	s.settle()
	mischief["content changed in place, its time put back"](s)
	p, res, err := s.Plan(context.Background(), agent.Request{})
	s.must(err)
	if res.Verdict != agent.Differs {
		t.Errorf("verdict %s", res.Verdict)
	}
	i := slices.IndexFunc(p.Steps, func(s *plan.Step) bool { return s.Address.String() == "file:/d/f" })
	if p.Steps[i].Verdict != plan.Change {
		t.Errorf("%s is %s", p.Steps[i].Address, p.Steps[i].Verdict)
	}
}

func TestObserveTrustsNoWitnessAndLeavesNone(t *testing.T) {
	s := stand(t, everyKind)
	s.settle()
	kept, err := os.ReadFile(s.at("var/lib/trued/cache/witnesses"))
	s.must(err)
	s.mode = agent.Observe
	s.open()
	if res := s.run(); res.Stood || res.Verdict != agent.InOrder || res.Counts.Total != 12 {
		t.Errorf("%+v", res)
	}
	now, err := os.ReadFile(s.at("var/lib/trued/cache/witnesses"))
	if err != nil || string(now) != string(kept) {
		t.Errorf("the witnesses are others now, error %v", err)
	}
}

func TestASuspendedHostIsNotLookedAt(t *testing.T) {
	s := stand(t, everyKind)
	s.settle()
	ctx := context.Background()
	s.must(s.Suspend(ctx, control.SuspendRequest{Reason: "a test"}))
	var suspended *agent.SuspendedError
	if _, err := s.Run(ctx, ctx, agent.Request{}); !errors.As(err, &suspended) {
		t.Errorf("error %v", err)
	}
	s.must(s.Resume(ctx))
	if !s.run().Stood {
		t.Error("being suspended changed the host")
	}
}

func TestDamagedWitnessesAreNone(t *testing.T) {
	s := stand(t, everyKind)
	s.settle()
	file := s.at("var/lib/trued/cache/witnesses")
	whole, err := os.ReadFile(file)
	s.must(err)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	if strings.Contains(string(whole), "only for us") {
		t.Error("the cache holds what is sensitive")
	}
	try := func(what string, data []byte) {
		t.Helper()
		s.put("var/lib/trued/cache/witnesses", string(data))
		s.open()
		if res := s.run(); res.Stood || res.Verdict != agent.InOrder {
			t.Errorf("%s: stood %v, %s", what, res.Stood, res.Verdict)
		}
	}
	for at := 0; at < len(whole); at += 31 {
		flipped := slices.Clone(whole)
		flipped[at] ^= 1 << (at % 8)
		try(fmt.Sprintf("byte %d flipped", at), flipped)
		try(fmt.Sprintf("cut at %d", at), whole[:at])
	}
	try("longer", append(slices.Clone(whole), 0))
	s.settle()
}

// A run tells the same whether it looked at everything or at witnesses.
func TestARunTellsTheSameOnBothPaths(t *testing.T) {
	s := stand(t, everyKind)
	s.settle()
	s.open()
	if !s.run().Stood {
		t.Fatal("the witnesses in the file did not hold")
	}
	quick, quickRun := s.lastEvents()
	s.must(os.RemoveAll(s.at("var/lib/trued/cache")))
	s.open()
	if s.run().Stood {
		t.Fatal("there were no witnesses")
	}
	full, fullRun := s.lastEvents()
	if diff := cmp.Diff(full, quick); diff != "" {
		t.Errorf("the run that looked at witnesses told otherwise (-full +quick):\n%s", diff)
	}
	if diff := cmp.Diff(fullRun, quickRun); diff != "" {
		t.Errorf("the run that looked at witnesses is remembered otherwise (-full +quick):\n%s", diff)
	}
	if len(full) != 2 {
		t.Errorf("%d events", len(full))
	}
	past, err := s.History(10)
	s.must(err)
	if len(past) != 1 {
		t.Errorf("the history has %d runs; want the first alone", len(past))
	}
}

var duration = regexp.MustCompile(`[0-9.]+m?s\b`)

// lastEvents returns the events of the last run, and how it is remembered, less
// what differs from run to run.
func (s *standing) lastEvents() ([]map[string]any, *state.Run) {
	s.t.Helper()
	store, err := state.Open(s.at(agent.StateDir))
	s.must(err)
	defer store.Close()
	snap := store.Snapshot()
	stored, err := store.EventsAfter(snap.Events-snap.RunEvents, 100)
	s.must(err)
	var events []map[string]any
	for _, e := range stored {
		var event map[string]any
		s.must(json.Unmarshal(e.Event, &event))
		event["message"] = duration.ReplaceAllString(fmt.Sprint(event["message"]), "some time")
		for _, key := range []string{"event_id", "run_id", "time", "trued.duration_ms"} {
			if event[key] == nil && key != "trued.duration_ms" {
				s.t.Errorf("an event has no %s: %s", key, e.Event)
			}
			delete(event, key)
		}
		sources, _ := event["trued.sources"].([]any)
		for _, source := range sources {
			delete(source.(map[string]any), "checked")
		}
		events = append(events, event)
	}
	last := *snap.LastRun
	last.ID, last.Started, last.Finished, last.Phases = "", time.Time{}, time.Time{}, nil
	return events, &last
}
