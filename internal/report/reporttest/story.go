package reporttest

import (
	"errors"
	"fmt"
	"time"

	"trued.dev/trued/internal/culprit"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/resource"
)

const (
	oldCommit = "5f0c1de2b6a94c7d8e3f1a2b3c4d5e6f70819293"
	newCommit = "9a8b7c6d5e4f30211203f4e5d6c7b8a99a8b7c6d"
)

// fixed is a context whose clock and ids are the same each time.
func fixed() report.Context {
	n, at := 0, time.Date(2026, 11, 24, 9, 30, 0, 120_000_000, time.FixedZone("CET", 3600))
	return report.Context{
		HostID: "2f1c7a52b9e04f3c8a6d0e1b5c947d38", HostName: "web-1", Version: "1.0.0",
		Sources: []report.SourceState{{
			Name: "infra", Group: "groups/web", URL: "https://ci:s3cret@git.example.com/infra/hosts.git?token=s3cret",
			Branch: "main", Applied: newCommit, Attempted: newCommit,
			Author: "Ada", Date: report.Timestamp(at.Add(-2 * time.Hour)), Checked: report.Timestamp(at.Add(-time.Minute)),
			Moved: report.Timestamp(at.Add(-time.Hour)), Failed: report.Timestamp(at.Add(-time.Minute)), Failures: 3,
			Next: report.Timestamp(at.Add(time.Minute)),
		}},
		Now: func() time.Time { at = at.Add(250 * time.Millisecond); return at },
		NewID: func() string {
			n++
			return fmt.Sprintf("019ab3f0-0000-7000-8000-%012d", n)
		},
	}
}

func file(name string) resource.Address { return resource.Address{Kind: "file", Name: name} }

// Story returns events of each type and outcome: a run, one that was cut off,
// and what else leaves a host. They are the same each time.
func Story() []report.Event {
	agent := report.NewStream(fixed())
	events := []report.Event{
		agent.Incident(report.Incident{Type: report.AgentStarted, Message: "agent 1.0.0 started"}),
		agent.Incident(report.Incident{Type: report.ConfigLoaded}),
		agent.Incident(report.Incident{Type: report.ReportTested, Sink: "syslog:tls://logs.example.com:6514", Message: "a test of the sink syslog:tls://logs.example.com:6514"}),
		agent.Incident(report.Incident{Type: report.ReportDropped, Sink: "syslog:tls://logs.example.com:6514", Dropped: 1200, Message: "1200 events were dropped: the spool was full"}),
		agent.Incident(report.Incident{Type: report.ConfigRefused, ErrType: "config", Err: errors.New("/etc/trued/trued.yaml:3:1: unknown key \"intervall\": did you mean interval?")}),
		agent.Incident(report.Incident{Type: report.SourceUpdated, Source: "infra"}),
		agent.Incident(report.Incident{Type: report.SourceRefused, Source: "infra", ErrType: "load", Err: errors.New("groups/web/10-nginx.yaml:4:3: unknown key \"contnet\": did you mean content?")}),
		agent.Incident(report.Incident{Type: report.SourceUnreachable, Source: "infra", ErrType: "fetch", Err: errors.New("cannot fetch \"https://ci:s3cret@git.example.com/infra/hosts.git\": no route to host")}),
		agent.Incident(report.Incident{Type: report.SourceStale, Source: "infra", Message: "source \"infra\" was last fetched 3 h ago"}),
		agent.Incident(report.Incident{Type: report.SourceRecovered, Source: "infra"}),
		agent.Incident(report.Incident{Type: report.SourceRepaired, Source: "infra"}),
		agent.Incident(report.Incident{Type: report.AgentSuspended, Reason: "database migration", Until: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)}),
		agent.Incident(report.Incident{Type: report.AgentResumed}),
		agent.Incident(report.Incident{Type: report.AgentStopped}),
		agent.Incident(report.Incident{Type: report.RebootRequired, Message: "a reboot is asked for by linux-image-amd64"}),
		agent.Incident(report.Incident{Type: report.RebootBegun, Message: "the host reboots for linux-image-amd64"}),
		agent.Incident(report.Incident{Type: report.WatchLimited, ErrType: "limit", Message: "40 resources cannot be watched and are polled: no space left on device"}),
		agent.Incident(report.Incident{Type: report.CommitConfirmed, Source: "infra", Message: "commit 9a8b7c6d5e of source \"infra\" is confirmed: the host is healthy"}),
		agent.Incident(report.Incident{Type: report.CommitQuarantined, Source: "infra", ErrType: "health", Err: errors.New("web: status is 503, not 200"), Message: "commit 9a8b7c6d5e of source \"infra\" is bad; the host goes back to 5f0c1de2b6"}),
		agent.Incident(report.Incident{Type: report.CommitReleased, Source: "infra", Reason: "the database is up again", Message: "commit 9a8b7c6d5e of source \"infra\" is tried again"}),
		agent.Incident(report.Incident{Type: report.CommitPinned, Source: "infra", Reason: "until the fair is over", Message: "source \"infra\" is pinned to commit 5f0c1de2b6"}),
		agent.Incident(report.Incident{Type: report.CommitUnpinned, Source: "infra", Reason: "it is over", Message: "source \"infra\" is followed again"}),
		agent.Incident(report.Incident{Type: report.HealthFailed, ErrType: "health", Err: errors.New("web: status is 503, not 200"), Message: "the host is not healthy"}),
		agent.Incident(report.Incident{Type: report.HealthRecovered, Message: "the host is healthy again after 2m0s"}),
		report.ContinueRun(fixed(), "019ab3ef-0000-7000-8000-000000000001", 7).Interrupted("while 3 resources were being applied"),
	}
	run := report.NewRun(fixed())
	events = append(events, run.Started("new commit"))
	for _, o := range outcomes() {
		events = append(events, run.Resource(o))
	}
	fight := report.ResourceOutcome{Address: file("/etc/motd"), Source: "infra", Cause: resource.Drift, Outcome: report.Repaired}
	events = append(events,
		run.Contested(fight, "file:/etc/motd was put back 3 times within 10m0s: the next time comes after a pause"),
		run.Calmed(fight, "file:/etc/motd was left alone for 10m0s: it is put back at once again"))
	counts := report.Counts{}
	counts.Add(report.InOrder)
	for _, o := range outcomes() {
		counts.Add(o.Outcome)
	}
	run.SetSources(report.SourceState{
		Name: "infra", Group: "groups/web", URL: "ssh://git@git.example.com/infra/hosts.git",
		Branch: "main", Applied: oldCommit, Attempted: newCommit,
	})
	return append(events, run.Finished(report.Result{
		Counts: counts, Duration: 1234 * time.Millisecond, ExitCode: 3,
		ErrType: "load", Err: errors.New("commit 9a8b7c6 was refused"),
	}))
}

// edited is who changed something, as the kernel tells it.
func edited() *culprit.Culprit {
	return &culprit.Culprit{
		PID: 712, Executable: "/usr/bin/vim.basic", Comm: "vim", User: "root", LoginUser: "alice", Via: "sudo",
		Unit: "session-3.scope", What: "edited", When: time.Date(2026, 11, 24, 8, 30, 0, 0, time.UTC),
	}
}

func outcomes() []report.ResourceOutcome {
	return []report.ResourceOutcome{
		{
			Address: file("/etc/motd"), Source: "infra", Cause: resource.Intended, Outcome: report.Applied,
			Changes: resource.Diff{
				{Field: "content", Unified: "--- /etc/motd\n+++ /etc/motd\n@@ -1 +1 @@\n-old\n+new\n"},
				{Field: "mode", Old: "0600", New: "0644"},
			},
			Duration: 12 * time.Millisecond,
		},
		{Address: file("/etc/issue"), Cause: resource.Intended, Outcome: report.Applied, Creates: true, Changes: resource.Diff{{Field: "state", Old: "absent", New: "present"}}},
		{Address: file("/etc/shadow.key"), Cause: resource.Intended, Outcome: report.Applied, Changes: resource.Diff{{Field: "content", Redacted: true}}},
		{Address: file("/etc/hosts"), Cause: resource.Drift, Outcome: report.Repaired, Changes: resource.Diff{{Field: "owner", Old: "alice", New: "root"}}, Culprit: edited()},
		{Address: file("/etc/fstab"), Cause: resource.Drift, Outcome: report.Reported, Changes: resource.Diff{{Field: "mode", Old: "0666", New: "0644"}}},
		{Address: file("/etc/resolv.conf"), Cause: resource.Intended, Outcome: report.Reported, Changes: resource.Diff{{Field: "mode", Old: "0666", New: "0644"}}},
		{Address: file("/srv/old.conf"), Cause: resource.Prune, Outcome: report.Applied, Changes: resource.Diff{{Field: "state", Old: "present", New: "absent"}}},
		{Address: file("/srv/kept.conf"), Cause: resource.Prune, Outcome: report.Held, Note: "something failed in this run", Changes: resource.Diff{{Field: "state", Old: "present", New: "absent"}}},
		{Address: file("/etc/back"), Cause: resource.Rollback, Outcome: report.Applied, Changes: resource.Diff{{Field: "mode", Old: "0640", New: "0644"}}},
		{
			Address: resource.Address{Kind: "directory", Name: "/srv/www"}, Cause: resource.Intended, Outcome: report.Applied,
			Changes: resource.Diff{{Field: "content:/srv/www/gone.html", Old: "present", New: "absent", Cause: resource.Prune}},
		},
		{Address: resource.Address{Kind: "unit", Name: "nginx.service"}, Cause: resource.Intended, Outcome: report.Applied, Reaction: resource.Reload},
		{Address: resource.Address{Kind: "unit", Name: "cron.service"}, Cause: resource.Drift, Outcome: report.Repaired, Note: "because of file:/etc/hosts"},
		{Address: resource.Address{Kind: "unit", Name: "net.service"}, Outcome: report.Pending, Note: "no network address yet"},
		{Address: resource.Address{Kind: "package", Name: "nginx"}, Cause: resource.Intended, Outcome: report.Failed, ErrType: "command", Err: errors.New("command \"apt-get install nginx\" failed: exit status 100:\nE: Unable to locate package nginx")},
		{Address: resource.Address{Kind: "unit", Name: "app.service"}, Outcome: report.Skipped, Note: "package:nginx, which it requires, failed"},
	}
}
