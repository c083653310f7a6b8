package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/host"
	"trued.dev/trued/modules"
)

// follow makes the agent that of a host with some sources, each a directory of its
// own, and begins a new process.
func (s *standing) follow(names ...string) {
	s.t.Helper()
	var b strings.Builder
	b.WriteString("sources:\n")
	for _, name := range names {
		fmt.Fprintf(&b, "  - {name: %s, dir: %s, group: groups/web}\n", name, filepath.Join(s.source, name))
	}
	put(s.t, s.at("sources.yaml"), b.String())
	c, err := agent.LoadConfig(s.at("sources.yaml"), false)
	s.must(err)
	s.Close()
	s.Agent, err = agent.New(c, agent.Options{
		Root: s.root, Version: s.version, Modules: modules.All, Log: slog.New(slog.DiscardHandler),
		ExitCode: func(agent.Verdict) int { return 0 }, Health: func(*host.Host) agent.Prober { return s.health },
	})
	s.must(err)
	s.t.Cleanup(s.Close)
}

// say has a source bring a manifest.
func (s *standing) say(name, manifest string) {
	s.t.Helper()
	s.write(name+"/groups/web/a.yaml", manifest)
}

// twoSources are a host that was healthy with a commit of each.
func twoSources(t *testing.T) *standing {
	t.Helper()
	s, _ := tried(t, goodManifest)
	s.say("infra", goodManifest)
	s.say("app", "- file: /app\n  content: one\n")
	s.follow("infra", "app")
	s.converge()
	return s
}

func (s *standing) bad(name string) string {
	s.t.Helper()
	if q := s.snapshot().Sources[name].Quarantine; q != nil {
		return q.Commit
	}
	return ""
}

// Only what is on trial goes back: a source that brought nothing new stays.
func TestOneOfTwoSourcesGoesBack(t *testing.T) {
	s := twoSources(t)
	s.say("app", "- file: /app\n  content: two\n")
	s.converge()
	s.wantFile("app", "two")
	s.say("infra", badManifest)
	if res := s.converge(); res.Run.Trigger != "rollback" {
		t.Errorf("%s after %s", res.Verdict, res.Run.Trigger)
	}
	s.wantFile("kept", "good\n")
	s.wantFile("sick", "")
	s.wantFile("app", "two")
	if s.bad("infra") == "" || s.bad("app") != "" {
		t.Errorf("in quarantine are %q of infra and %q of app", s.bad("infra"), s.bad("app"))
	}
	// The other one follows its newest commit all the same.
	s.say("app", "- file: /app\n  content: three\n")
	s.converge()
	s.wantFile("app", "three")
	s.wantFile("kept", "good\n")
	if snap := s.snapshot(); snap.Trial != nil || s.bad("app") != "" || s.bad("infra") == "" {
		t.Errorf("%+v is on trial, and in quarantine are %q of infra and %q of app", snap.Trial, s.bad("infra"), s.bad("app"))
	}
	// A word is needed where an order could be of either.
	var err error
	if _, err = s.Converge(context.Background(), context.Background(), agent.Request{Trigger: "pin", Order: &agent.Order{Do: agent.OrderRollback, Reason: "x"}}); err == nil || !strings.Contains(err.Error(), "--source") {
		t.Errorf("an order of one of two sources: %v", err)
	}
}

// What cannot be told apart goes back together.
func TestTwoSourcesThatAreOnTrialGoBackTogether(t *testing.T) {
	s := twoSources(t)
	s.say("app", "- file: /app\n  content: two\n")
	s.say("infra", badManifest)
	s.converge()
	s.wantFile("kept", "good\n")
	s.wantFile("app", "one")
	if s.bad("infra") == "" || s.bad("app") == "" {
		t.Errorf("in quarantine are %q of infra and %q of app", s.bad("infra"), s.bad("app"))
	}
	// An operator who knows better has one of them tried again.
	ctx := context.Background()
	res, err := s.Converge(ctx, ctx, agent.Request{Trigger: "retry", Order: &agent.Order{Do: agent.OrderRetry, Source: "app", Reason: "it was the other"}, Hasty: true})
	s.must(err)
	s.wantFile("app", "two")
	s.wantFile("kept", "good\n")
	if s.bad("infra") == "" || s.bad("app") != "" || res.Verdict != agent.Behind {
		t.Errorf("%s, in quarantine are %q of infra and %q of app", res.Verdict, s.bad("infra"), s.bad("app"))
	}
}

// A source that leaves the configuration takes its trial with it, at whatever point
// of the way, and leaves the others alone.
func TestASourceThatLeavesTheConfigurationEndsItsTrial(t *testing.T) {
	for name, way := range map[string]bool{"on trial": false, "on the way back": true} {
		t.Run(name, func(t *testing.T) {
			s := twoSources(t)
			s.say("infra", badManifest)
			s.run()
			if way {
				stopped, stop := context.WithCancel(context.Background())
				stop()
				if _, err := s.GoBack(context.Background(), stopped, "bad", agent.Request{}); err != nil && err != context.Canceled {
					t.Fatal(err)
				}
			}
			if s.snapshot().Trial == nil {
				t.Fatal("nothing is on trial")
			}
			s.must(os.Remove(s.at("sick"))) // nobody puts back what is an orphan
			s.follow("app")
			s.converge()
			if snap := s.snapshot(); snap.Trial != nil {
				t.Errorf("%+v is on trial", snap.Trial)
			}
			s.wantFile("kept", "bad\n")
			s.say("app", "- file: /app\n  content: two\n")
			if res := s.converge(); res.Verdict != agent.InOrder {
				t.Errorf("%s: %s", res.Verdict, res.Run.Summary)
			}
			s.wantFile("app", "two")
		})
	}
}
