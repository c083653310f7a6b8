package scenario_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
)

// A fresh host is given the package, a configuration and nothing else. It
// becomes the web server of the example repository, and stays it across a
// reboot without a network.
func TestFreshHostBecomesTheWebServerOfTheExample(t *testing.T) {
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			lab := hosttest.New(t)
			git := lab.GitServer(t)
			repo := git.Repository(t, "infra")
			commit := repo.CommitTree(t, "The example", example(t))
			h := lab.Boot(t, hosttest.Options{Name: "web-1", Suite: suite, Net: true})

			shop := exampleVendor(t)
			vendors(t, lab, "8090", shop)
			shop.publish(t, h, "site-tools_1.0")
			// What the vendor's name would lead to anywhere else.
			h.Write(t, "/etc/apt/apt.conf.d/vendor", `Acquire::http::Proxy::packages.example.org "http://gateway:8090";`+"\n")

			install(t, h)
			follow := config{url: repo.HTTPS(), source: []string{"ca_file: /etc/trued/ca.pem"}}
			h.Write(t, "/etc/trued/ca.pem", git.CA)
			if suite == "trixie" {
				follow = config{url: repo.SSH(), source: []string{"ssh_key_file: /etc/trued/key", "known_hosts_file: /etc/trued/known_hosts"}}
				h.Write(t, "/etc/trued/key", git.NewKey(t))
				h.Run(t, "chmod 600 /etc/trued/key")
				h.Write(t, "/etc/trued/known_hosts", git.KnownHosts(t))
			}
			follow.write(t, h)

			before := h.Run(t, "dpkg -l; find /etc | sort")
			plan := trued(t, h, 2, "plan")
			for _, want := range []string{"+ package:nginx-light", "+ repository:vendor", "package:site-tools", "+ file:/etc/nginx/conf.d/site.conf", "Plan: "} {
				if !strings.Contains(plan, want) {
					t.Errorf("the plan lacks %q:\n%s", want, plan)
				}
			}
			if after := h.Run(t, "dpkg -l; find /etc | sort"); after != before {
				t.Errorf("plan changed the host")
			}

			h.Run(t, "systemctl start trued.service")
			awaitCommit(t, h, commit)
			inOneRun(t, events(t, h), "repository:vendor", "package:site-tools", "user:deploy", "timer:site-archive")
			if line := strings.SplitN(trued(t, h, 0, "status"), "\n", 2)[0]; line != "In order at "+commit[:10]+" of groups/web" {
				t.Errorf("the first line of status is %q", line)
			}
			showsTheExample(t, h)

			// A second look finds nothing to do, and writes nothing but the heartbeat.
			told := events(t, h)
			if out := trued(t, h, 0, "apply"); strings.Contains(out, ":/") || strings.Contains(out, "package:") {
				t.Errorf("a second run still changes:\n%s", out)
			}
			for _, e := range events(t, h).since(told) {
				if e.Type != report.RunStarted && e.Type != report.RunFinished {
					t.Errorf("a second run tells of %s: %s", e.Type, e.Message)
				}
			}

			stands := func() {
				t.Helper()
				now := events(t, h)
				if finished := now.last(t, report.RunFinished); finished.Revision != commit || *finished.ExitCode != 0 {
					t.Errorf("the last run ended at commit %s with exit code %d: %s", finished.Revision, *finished.ExitCode, finished.Message)
				}
				journal := inJournal(t, h)
				for _, e := range now {
					if !journal[e.ID] {
						t.Errorf("the journal lacks event %s: %s", e.Type, e.Message)
					}
				}
			}
			stands()

			// What breaks before the boot's run is put back before the daemon starts,
			// and without a network.
			h.Write(t, "/etc/systemd/system/vandal.service", `[Unit]
DefaultDependencies=no
After=local-fs.target
Before=trued-boot.service nginx.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'rm /etc/motd /etc/nginx/conf.d/site.conf; touch /etc/nginx/sites-enabled/default'
[Install]
WantedBy=multi-user.target
`)
			h.Run(t, "systemctl enable --quiet vandal.service")
			h.Cut(t)
			told = events(t, h)
			h.Reboot(t)
			h.Await(t, "systemctl is-active --quiet trued.service")
			at := func(unit, name string) (µs int64) {
				t.Helper()
				if _, err := fmt.Sscan(property(t, h, unit, name), &µs); err != nil {
					t.Fatal(err)
				}
				return µs
			}
			if code := property(t, h, "trued-boot.service", "ExecMainStatus"); code != "0" {
				t.Errorf("the run at boot ended with exit code %s:\n%s", code, h.Run(t, "journalctl -b -u trued-boot.service"))
			}
			if ran, started := at("trued-boot.service", "ExecMainExitTimestampMonotonic"), at("trued.service", "ExecMainStartTimestampMonotonic"); ran == 0 || started < ran {
				t.Errorf("the daemon started at %d µs, and the run at boot ended at %d µs", started, ran)
			}
			h.Heal(t)
			boot := events(t, h).since(told)
			if started := boot.of(report.RunStarted); len(started) == 0 || started[0].Reason != "boot" {
				t.Fatalf("the first run after the boot is not that of the boot:\n%s", boot)
			}
			run := boot.only(func(e report.Event) bool { return e.RunID == boot.of(report.RunStarted)[0].RunID })
			for _, address := range []string{"file:/etc/motd", "file:/etc/nginx/conf.d/site.conf", "link:/etc/nginx/sites-enabled/default"} {
				if e := run.about(address); len(e) != 1 || e[0].Type != report.ResourceDrifted || e[0].Outcome != report.Repaired {
					t.Errorf("the run at boot tells of %s:\n%s\nof all:\n%s", address, e, run)
				}
			}
			h.Await(t, "systemctl is-active --quiet nginx.service")
			showsTheExample(t, h)
			stands()
		})
	}
}

// exampleVendor is the vendor of the example, whose key is in Git. Its other half
// is made anew of what is no secret, so that none is in Git.
func exampleVendor(t *testing.T) *vendor {
	t.Helper()
	seed := [32]byte([]byte("the vendor of testdata/example..")) // of 32 letters
	v := keyedVendor(t, "vendor", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), 0, rand.NewChaCha8(seed))
	v.signs = time.Now().Add(-time.Minute)
	if has, err := os.ReadFile(filepath.Join(example(t), "groups/web/files/vendor.asc")); err != nil || string(has) != v.armored(t) {
		t.Fatalf("groups/web/files/vendor.asc is not this vendor's, which is\n%serror %v", v.armored(t), err)
	}
	return v
}

// inOneRun holds that the first run there was brought about all of some resources,
// each at the first try.
func inOneRun(t *testing.T, told story, addresses ...string) {
	t.Helper()
	first := told.of(report.RunStarted)[0].RunID
	for _, address := range addresses {
		about := told.about(address)
		if len(about) == 0 || about[0].Type != report.ResourceChanged || about[0].RunID != first {
			t.Errorf("of %s is told, of which %s is the first run:\n%s", address, first, about)
		}
	}
}

// showsTheExample looks at a host from outside and from within.
func showsTheExample(t *testing.T, h *hosttest.Host) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: h.Lab().Dial}}
	defer client.CloseIdleConnections()
	get := func(url string) string {
		t.Helper()
		response, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	if page := get("http://web-1/"); !strings.Contains(page, "<h1>Hello from trued</h1>") || !strings.Contains(page, "Served by web-1.") {
		t.Errorf("the page is %q", page)
	}
	if page := get("http://web-1/robots.txt"); page != "User-agent: *\nDisallow:\n" {
		t.Errorf("robots.txt is %q", page)
	}
	if metrics := get("http://web-1:9100/metrics"); !strings.Contains(metrics, "node_exporter_build_info") {
		t.Errorf("the exporter tells nothing")
	}
	for line, want := range map[string]string{
		"sshd -T | grep -e ^maxauthtries -e ^passwordauthentication":                                                                               "maxauthtries 3\npasswordauthentication no",
		"sysctl -n net.core.somaxconn; cat /proc/sys/net/core/somaxconn":                                                                           "4096\n4096",
		"systemd-analyze cat-config systemd/journald.conf | grep ^SystemMaxUse":                                                                    "SystemMaxUse=200M",
		"systemctl is-enabled nginx ssh rsyslog prometheus-node-exporter disk-report.timer":                                                        "enabled\nenabled\nenabled\nenabled\nenabled",
		"systemctl is-active nginx ssh rsyslog prometheus-node-exporter disk-report.timer systemd-journald":                                        "active\nactive\nactive\nactive\nactive\nactive",
		"systemctl show --value -p LimitNOFILE nginx":                                                                                              "65536",
		"systemctl show --value -p NeedDaemonReload nginx disk-report.timer disk-report.service | sort -u":                                         "no",
		"systemctl start disk-report.service; systemctl show --value -p Result disk-report.service":                                                "success",
		"logger -p daemon.info from-a-test; for i in $(seq 100); do grep -o -m1 from-a-test /var/log/daemons.log && exit; sleep 0.05; done":        "from-a-test",
		"systemctl start site-archive.service; systemctl show --value -p Result site-archive.service; tar tf ~deploy/site.tar.gz | sort | tail -1": "success\nsrv/www/robots.txt",
		"systemctl start site-archive.service; systemctl is-active site-archive.timer; stat -c %U ~deploy/site.tar.gz; id -nG deploy":              "active\ndeploy\ndeploy www-data",
		"dpkg-query -W -f '${Version} ' site-tools; apt-cache policy site-tools | sed -n 's/^ *\\([0-9]*\\) http.*/\\1/p'":                         "1.0 100",
		"stat -c '%U %a' ~deploy/.ssh/authorized_keys; grep -c restrict,pty ~deploy/.ssh/authorized_keys":                                          "deploy 600\n1",
		"sed -n 's/:.*//p' /etc/motd":            "web-1",
		"systemctl --failed --plain --no-legend": "",
		"find / -xdev -name '.trued-*'":          "",
	} {
		got, _ := h.Try(t, line)
		if got = strings.Join(strings.Fields(got), "\n"); got != strings.Join(strings.Fields(want), "\n") {
			t.Errorf("%s\nsays %q, want %q", line, got, want)
		}
	}
}
