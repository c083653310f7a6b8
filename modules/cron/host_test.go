package cron

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

// TestOnHost holds what follows against the cron of a booted host.
func TestOnHost(t *testing.T) {
	if !hosttest.Inside(t, hosttest.Options{Name: "cron", Packages: []string{"cron"}}, "useradd -rm ada") {
		return
	}
	h := host.New("/", host.Options{Backups: host.OpenBackups(t.TempDir())})
	t.Run("promises", func(t *testing.T) {
		resourcetest.Run(t, resourcetest.Case{
			Module: func() resource.Module { return New(h) },
			Resource: func(m resource.Module) resource.Resource {
				return filled(m, Resource{Title: "job", Schedule: "@daily", Line: "true", User: "ada", Env: map[string]string{"MAILTO": ""}})
			},
			Dirs: []string{"/etc/cron.d"},
		})
	})
	t.Run("promises of a crontab", func(t *testing.T) {
		if out, err := exec.Command("sh", "-c", "echo '@daily false' | crontab -u ada -").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, user := range []string{"ada", "root"} { // of whom one has a crontab
			resourcetest.Run(t, resourcetest.Case{
				Module: func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource {
					return filled(m, Resource{Title: "job", Schedule: "@daily", Line: "true", User: user, Crontab: true})
				},
				Dirs: []string{"/var/spool/cron/crontabs"},
			})
		}
	})
	t.Run("cron runs what is in a crontab", func(t *testing.T) { crontabRuns(t, h) })
	t.Run("schedules are those of cron", schedulesAreCrons)
	t.Run("cron runs what was written", func(t *testing.T) { cronRuns(t, h) })
}

func crontabTakes(t *testing.T, schedule string) bool {
	t.Helper()
	cmd := exec.Command("crontab", "-")
	cmd.Stdin = strings.NewReader(schedule + " true\n")
	return cmd.Run() == nil
}

func schedulesAreCrons(t *testing.T) {
	for _, s := range goodSchedules {
		if !crontabTakes(t, s) {
			t.Errorf("%q is taken by us, and not by cron", s)
		}
	}
	for s := range badSchedules {
		if crontabTakes(t, s) {
			t.Errorf("%q is taken by cron, and not by us", s)
		}
	}
}

// crontabRuns has cron run an entry beside the user's own, which stays, and once
// more after somebody made the crontab one that cron does not take.
func crontabRuns(t *testing.T, h *host.Host) {
	t.Parallel() // with the other that waits
	m, e := New(h), &resourcetest.Engine{}
	r := filled(m, Resource{Title: "mine", Schedule: "* * * * *", Line: `printf '%s' "$LOGNAME" >/home/ada/mine`, User: "ada", Crontab: true})
	const own = "@daily false"
	ran := func(before string) {
		t.Helper()
		if out, err := exec.Command("sh", "-ec", "rm -f /home/ada/mine; "+before).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if err := e.Converge(t.Context(), m, r); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(5 * time.Minute); ; time.Sleep(time.Second) {
			if got, err := os.ReadFile("/home/ada/mine"); err == nil && string(got) == "ada" {
				break
			} else if time.Now().After(end) {
				t.Fatalf("cron did not run it: %q, %v", got, err)
			}
		}
		list, err := exec.Command("crontab", "-u", "ada", "-l").CombinedOutput()
		if err != nil || strings.Count(string(list), own+"\n") != 1 || !strings.Contains(string(list), "# Kept by trued: cron:mine\n* * * * * printf '\\%s'") {
			t.Errorf("the crontab is\n%s, error %v", list, err)
		}
	}
	ran("echo '" + own + "' | crontab -u ada -")
	// cron leaves it out, and looks no more before the directory changes.
	ran("chmod 666 /var/spool/cron/crontabs/ada; chown root: /var/spool/cron/crontabs/ada; touch /var/spool/cron/crontabs")
}

// cronRuns waits for cron's next minute.
func cronRuns(t *testing.T, h *host.Host) {
	t.Parallel()
	m := New(h)
	r := filled(m, Resource{
		Title: "odd", Schedule: "* * * * *", User: "ada",
		Line: `printf '[%s]' "$A" "$B" "100%" 'a\b' >/home/ada/odd.new; id -un >>/home/ada/odd.new; mv /home/ada/odd.new /home/ada/odd`,
		Env:  map[string]string{"A": "  x", "B": `"y" z`, "PATH": "/usr/bin:/bin", "MAILTO": ""},
	})
	e := &resourcetest.Engine{}
	if err := e.Converge(t.Context(), m, r); err != nil {
		t.Fatal(err)
	}
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	const want = "[  x][\"y\" z][100%][a\\b]ada\n"
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
		got, err := os.ReadFile("/home/ada/odd")
		if err != nil {
			continue
		}
		if string(got) != want {
			t.Errorf("the command got %q, want %q", got, want)
		}
		return
	}
	t.Error("cron did not run it")
}
