package scenario_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
)

// scrapes is a Prometheus that looks at the agent's port and at the file that the
// node exporter passes on, every second.
const scrapes = `global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [/etc/prometheus/trued.rules.yaml]
scrape_configs:
  - job_name: trued
    static_configs: [{targets: ['127.0.0.1:9469']}]
  - job_name: node
    static_configs: [{targets: ['127.0.0.1:9100']}]
`

const waiting = `for: \d+[mhd]`

// A Prometheus of Debian scrapes the agent, and the node exporter with the agent's
// file; a host that goes out of order, or whose agent is gone, raises the alert
// that is in the package, and comes back.
func TestPrometheusHearsOfAHostThatIsNotInOrder(t *testing.T) {
	t.Parallel()
	h := hosttest.Boot(t, hosttest.Options{Name: "web-1", Packages: []string{"prometheus", "prometheus-node-exporter"}})
	install(t, h)
	// The rules of the package, less their patience.
	rules := regexp.MustCompile(waiting).ReplaceAllString(h.Read(t, "/usr/share/trued/prometheus/trued.rules.yaml"), "for: 2s")
	h.Write(t, "/etc/prometheus/trued.rules.yaml", rules)
	h.Write(t, "/etc/prometheus/prometheus.yml", scrapes)
	h.Run(t, "systemctl restart prometheus")

	const textfile = "/var/lib/prometheus/node-exporter/trued.prom"
	h.Write(t, "/srv/lab/groups/web/all.yaml", "- file: /etc/motd\n  content: kept\n")
	h.Write(t, "/etc/trued/trued.yaml", "sources:\n  - {name: infra, dir: /srv/lab, group: groups/web}\ninterval: 1s\nresync: 2s\nreport:\n  - journal\n"+
		"  - syslog: tcp://127.0.0.1:1\nmetrics:\n  listen: 127.0.0.1:9469\n  textfile: "+textfile+"\n")
	h.Run(t, "systemctl start trued.service")
	holds(t, h, `count(trued_last_run_success == 1) == 2`)
	holds(t, h, `count(trued_applied_info{source="infra", group="groups/web", revision=~"[0-9a-f]+"}) == 2`)
	holds(t, h, `count(node_textfile_mtime_seconds{file="`+textfile+`"}) == 1 and on () node_textfile_scrape_error == 0`)
	if got := h.Run(t, "stat -c %a:%U "+textfile+"; ss -Hltn sport = :9469 | awk '{print $4}'"); got != "644:root\n127.0.0.1:9469" {
		t.Errorf("the file and the port are %s", got)
	}
	exported(t, h)

	// Something that cannot be brought into order.
	h.Write(t, "/srv/lab/groups/web/all.yaml", "- file: /etc/motd\n  content: kept\n- unit: none.service\n  state: running\n")
	alerts(t, h, "TruedHostNotInOrder", 2)
	holds(t, h, `count(trued_resources{kind="unit", outcome="failed"} == 1) == 2`)
	h.Write(t, "/srv/lab/groups/web/all.yaml", "- file: /etc/motd\n  content: kept\n")
	alerts(t, h, "TruedHostNotInOrder", 0)

	// A commit that does not load. The receiver of events is not there all the
	// time.
	h.Write(t, "/srv/lab/groups/web/bad.yaml", "- fil: /etc/motd\n")
	alerts(t, h, "TruedCommitRefused", 2)
	alerts(t, h, "TruedSinkFailing", 2)
	h.Run(t, "rm /srv/lab/groups/web/bad.yaml")
	alerts(t, h, "TruedCommitRefused", 0)

	// An agent that is gone, which only the node exporter is left to tell of; and
	// counts that go on when it is back.
	before := h.Run(t, `sed -n 's/^trued_runs_total{verdict="in_order"} //p' `+textfile)
	h.Run(t, "systemctl kill -s KILL trued.service; systemctl stop trued.service")
	alerts(t, h, "TruedNoHeartbeat", 2)
	h.Run(t, "systemctl reset-failed trued.service; systemctl start trued.service")
	alerts(t, h, "TruedNoHeartbeat", 0)
	holds(t, h, `count(trued_runs_total{verdict="in_order"} > `+before+`) == 2`)

	// One that is suspended is silent on purpose.
	trued(t, h, 0, "suspend --reason test --for 1h")
	alerts(t, h, "TruedSuspended", 2)
	holds(t, h, `count(time() - trued_last_run_timestamp_seconds > 7) == 2`)
	alerts(t, h, "TruedNoHeartbeat", 0)
}

// holds waits until a Prometheus has an answer to a query.
func holds(t *testing.T, h *hosttest.Host, query string) {
	t.Helper()
	await(t, h, "promtool query instant http://127.0.0.1:9090 '"+query+"' | grep -q .")
}

// alerts waits until an alert fires that many times: once for the agent's port
// and once for its file.
func alerts(t *testing.T, h *hosttest.Host, name string, times int) {
	t.Helper()
	query := `ALERTS{alertname="` + name + `", alertstate="firing"}`
	if times == 0 {
		holds(t, h, "absent("+query+")")
		return
	}
	holds(t, h, fmt.Sprintf("count(%s) == %d", query, times))
}

// exported fails the test unless the host exports what is published, and nothing
// else. Some of it needs a failure that there was not.
func exported(t *testing.T, h *hosttest.Host) {
	t.Helper()
	published, err := os.ReadFile("../../internal/metrics/testdata/metrics.prom")
	if err != nil {
		t.Fatal(err)
	}
	rare := []string{
		"trued_source_failures_total", "trued_source_refused_commits_total", "trued_sink_last_success_timestamp_seconds", "trued_applied_commit_timestamp_seconds",
		"trued_source_pinned_timestamp_seconds", "trued_source_unconfirmed_timestamp_seconds",
		// A directory has no commits, and so none that becomes old.
		"trued_source_commit_timestamp_seconds", "trued_source_fresh_within_seconds",
	}
	isRare := func(name string) bool { return slices.Contains(rare, name) }
	want := slices.DeleteFunc(families(string(published)), isRare)
	holds(t, h, `up{job="trued"} == 1`)
	got := slices.DeleteFunc(families(h.Run(t, "exec 3<>/dev/tcp/127.0.0.1/9469; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3")), isRare)
	if !slices.Equal(got, want) {
		t.Errorf("the host exports\n%s\nand what is published is\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func families(text string) []string {
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\w+) `).FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	return names
}
