package scenario_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
)

// Who broke it is named with the drift, as a hint: in the event, in the journal,
// in status and in the history.
func TestADriftNamesWhoDidIt(t *testing.T) {
	t.Parallel()
	h := hosttest.Boot(t, hosttest.Options{Name: "web-1", Packages: []string{"sudo", "tree", "cron"}})
	install(t, h)
	h.Run(t, `useradd -m -s /bin/bash alice; echo 'alice ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/alice`)
	h.Write(t, "/srv/infra/groups/web/all.yaml", `
- package: tree
  drift: report
- file: /etc/motd
  content: "as declared\n"
- file: [/etc/by-shell, /etc/by-service, /etc/by-cron]
  content: "as declared\n"
- file: /etc/app.key
  content: "hunter2 of old\n"
  sensitive: true
- unit: worker.service
  enabled: true
  state: running
  content: |
    [Service]
    ExecStart=/bin/sleep infinity
    [Install]
    WantedBy=multi-user.target
`)
	config{dir: "/srv/infra", group: "groups/web"}.write(t, h)
	h.Run(t, "systemctl start trued.service")
	await(t, h, "trued status")

	by := func(line string) string { return `su alice -c '` + line + `; :'` }
	e := blamed(t, h, "file:/etc/motd", by(`sudo sh -c "echo broken >/etc/motd; sleep 1"`))
	if e.ProcessPID <= 1 || e.ProcessExecutable != "/usr/bin/dash" || e.ProcessUser != "root" ||
		e.CulpritLogin != "alice" || e.CulpritAction != "edited" || e.CulpritTime == "" {
		t.Errorf("the event is %+v", e)
	}
	const hint = "edited by sh (pid "
	if !strings.HasPrefix(e.Culprit, hint) || !strings.Contains(e.Culprit, "), by alice behind sudo, ") || !strings.Contains(e.Message, "; hint: "+hint) {
		t.Errorf("it says %q: %s", e.Culprit, e.Message)
	}
	if out := trued(t, h, 0, "status"); !strings.Contains(out, "file:/etc/motd, repaired; hint: "+hint) {
		t.Errorf("status says:\n%s", out)
	}
	var status struct {
		LastRun struct {
			Drifts []struct{ Resource, Outcome, Hint string }
		} `json:"last_run"`
	}
	if err := json.Unmarshal([]byte(trued(t, h, 0, "status -o json")), &status); err != nil {
		t.Fatal(err)
	}
	if d := status.LastRun.Drifts; len(d) == 0 || d[0].Resource != "file:/etc/motd" || !strings.HasPrefix(d[0].Hint, hint) {
		t.Errorf("status has %+v", d)
	}
	if out := trued(t, h, 0, "history "+e.RunID); !strings.Contains(out, "; hint: "+hint) {
		t.Errorf("the history says:\n%s", out)
	}
	if got := h.Run(t, "journalctl --sync; journalctl -t trued -o cat --output-fields=TRUED_CULPRIT,TRUED_CULPRIT_LOGIN,PROCESS_EXECUTABLE_NAME EVENT_ID="+e.ID); !strings.Contains(got, hint) || !slices.Contains(strings.Split(got, "\n"), "alice") {
		t.Errorf("the journal has %q", got)
	}

	e = blamed(t, h, "file:/etc/app.key", by(`sudo sh -c "echo hunter2 >/etc/app.key; sleep 1"`))
	if raw, err := json.Marshal(e); err != nil || strings.Contains(string(raw), "hunter2") || !strings.Contains(e.Culprit, "by alice behind sudo") {
		t.Errorf("of a sensitive file is told %s", raw)
	}
	e = blamed(t, h, "unit:worker.service", by("sudo systemctl stop worker.service"))
	if !strings.HasPrefix(e.Culprit, "stopped by systemctl (pid ") || !strings.Contains(e.Culprit, "by alice behind sudo") {
		t.Errorf("of a unit that was stopped it says %q", e.Culprit)
	}
	for name, by := range map[string]struct{ line, unit string }{
		"shell":   {"sh -c 'echo broken >/etc/by-shell; sleep 1'", ""},
		"service": {"systemd-run --quiet --wait --unit=breaker sh -c 'echo broken >/etc/by-service; sleep 1'", "breaker.service"},
		"cron":    {"echo '* * * * * root echo broken >/etc/by-cron; sleep 1' >/etc/cron.d/job", "cron.service"},
	} {
		e = blamed(t, h, "file:/etc/by-"+name, by.line)
		of := ""
		if by.unit != "" {
			of = " of " + by.unit
		}
		if !strings.HasPrefix(e.Culprit, "edited by sh (pid ") || !strings.Contains(e.Culprit, ")"+of+", by root, ") {
			t.Errorf("of what a %s did it says %q", name, e.Culprit)
		}
	}
	h.Run(t, "rm /etc/cron.d/job")
	e = told(t, h, "package:tree", by("sudo apt-get -q -y remove tree"))
	if !strings.HasPrefix(e.Culprit, "removed by apt-get, by alice behind sudo, ") {
		t.Errorf("of a package that was removed it says %q", e.Culprit)
	}

	// What puts a package back is in the same logs, by then.
	h.Run(t, tinyRepository)
	h.Write(t, "/srv/infra/groups/web/tiny.yaml", "- package: tiny\n")
	h.Run(t, "trued sync || [ $? = 2 ]; dpkg-query -W tiny")
	for _, how := range []struct{ line, want string }{
		{"sudo apt-get -q -y remove tiny", "removed by apt-get, by alice behind sudo, "},
		{"sudo dpkg --remove tiny", "removed by dpkg, "},
		{"sudo apt-get -q -y remove tiny", "removed by apt-get, by alice behind sudo, "},
	} {
		if e = told(t, h, "package:tiny", by(how.line)); e.Outcome != report.Repaired || !strings.HasPrefix(e.Culprit, how.want) {
			t.Errorf("after %q it is %s and says %q", how.line, e.Outcome, e.Culprit)
		}
	}
}

// tinyRepository makes a repository of one package the only one of the host.
const tinyRepository = `rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*; mkdir -p /srv/deb/tiny/DEBIAN; cd /srv/deb
printf 'Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.com>\nDescription: tiny\n' >tiny/DEBIAN/control
dpkg-deb --root-owner-group -b tiny tiny.deb >/dev/null
{ cat tiny/DEBIAN/control; echo "Filename: ./tiny.deb"; echo "Size: $(stat -c %s tiny.deb)"; echo "SHA256: $(sha256sum tiny.deb | cut -d' ' -f1)"; } >Packages
echo 'deb [trusted=yes] file:/srv/deb ./' >/etc/apt/sources.list.d/tiny.list
apt-get -q update`

// blamed breaks something until it is known who did it: whoever did may be gone
// before anybody looks.
func blamed(t *testing.T, h *hosttest.Host, address, line string) report.Event {
	t.Helper()
	const tries = 10
	var e report.Event
	for range tries {
		if e = told(t, h, address, line); e.Culprit != "" && !strings.Contains(e.Culprit, "gone since") {
			return e
		}
	}
	t.Fatalf("%s: nobody is known: %s", address, e.Message)
	return e
}

// told breaks something, and returns the drift that the daemon tells of then.
func told(t *testing.T, h *hosttest.Host, address, line string) report.Event {
	t.Helper()
	before := len(events(t, h).about(address).of(report.ResourceDrifted))
	h.Run(t, line)
	await(t, h, fmt.Sprintf(`test $(grep -F '"trued.resource":"%s"' %s | grep -c '"type":"resource.drifted"') -gt %d`, address, eventFile, before))
	return events(t, h).about(address).of(report.ResourceDrifted)[before]
}
