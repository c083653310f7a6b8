// Package prometheus_test holds the alerts and the dashboard against what the
// agent exports, with Prometheus' own tools.
package prometheus_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
)

const (
	rules     = "trued.rules.yaml"
	ruleTests = "trued.rules.test.yaml"
	dashboard = "trued.dashboard.json"
	exported  = "../../internal/metrics/testdata/metrics.prom"
)

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// queries returns those of the dashboard, by the titles of their panels.
func queries(t *testing.T) (exprs, legends map[string][]string) {
	t.Helper()
	var board struct {
		Panels []struct {
			Title   string `json:"title"`
			Targets []struct {
				Expr   string `json:"expr"`
				Legend string `json:"legendFormat"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal([]byte(read(t, dashboard)), &board); err != nil {
		t.Fatal(err)
	}
	exprs, legends = map[string][]string{}, map[string][]string{}
	for _, p := range board.Panels {
		if len(p.Targets) == 0 {
			t.Errorf("panel %q has no query", p.Title)
		}
		for _, q := range p.Targets {
			exprs[p.Title] = append(exprs[p.Title], q.Expr)
			legends[p.Title] = append(legends[p.Title], q.Legend)
		}
	}
	return exprs, legends
}

// A rule or a panel that names what is not exported would be silent for ever.
func TestRulesAndDashboardNameOnlyWhatIsExported(t *testing.T) {
	families := map[string]bool{}
	labels := map[string]bool{"job": true, "instance": true} // the scrape's
	for line := range strings.Lines(read(t, exported)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		families[regexp.MustCompile(`^\w+`).FindString(line)] = true
		for _, m := range regexp.MustCompile(`[{,](\w+)="`).FindAllStringSubmatch(line, -1) {
			labels[m[1]] = true
		}
	}
	used := map[string]bool{}
	check := func(where, text string) {
		for _, name := range regexp.MustCompile(`\btrued_\w+`).FindAllString(text, -1) {
			if used[name] = true; !families[name] {
				t.Errorf("%s: %s is not exported", where, name)
			}
		}
		var named []string
		for _, m := range regexp.MustCompile(`\b(?:by|on|without|ignoring|group_left|group_right) \(([^)]*)\)`).FindAllStringSubmatch(text, -1) {
			named = append(named, regexp.MustCompile(`\w+`).FindAllString(m[1], -1)...)
		}
		for _, m := range regexp.MustCompile(`[{,] ?(\w+)(?:=~|!~|!=|=)"|\{\{ ?(?:\$labels\.)?(\w+) ?\}\}`).FindAllStringSubmatch(text, -1) {
			named = append(named, m[1]+m[2])
		}
		for _, l := range named {
			if !labels[l] {
				t.Errorf("%s: nothing that is exported has a label %s", where, l)
			}
		}
	}
	check(rules, read(t, rules))
	exprs, legends := queries(t)
	for title, list := range exprs {
		check(fmt.Sprintf("panel %q", title), strings.Join(slices.Concat(list, legends[title]), "\n"))
	}
	for name := range families {
		if !used[name] && name != "trued_start_timestamp_seconds" && name != "trued_sink_last_success_timestamp_seconds" {
			t.Errorf("neither a rule nor a panel uses %s", name)
		}
	}
}

// Each alert has a test in which it fires, and in the same one a host for which
// it does not.
func TestEachAlertIsTestedBothWays(t *testing.T) {
	tests := read(t, ruleTests)
	alerts := regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(read(t, rules), -1)
	if len(alerts) == 0 {
		t.Fatal("there are no alerts")
	}
	for _, m := range alerts {
		quiet := regexp.MustCompile(`alertname: ` + m[1] + `\n +exp_alerts: \[\]`)
		fires := regexp.MustCompile(`alertname: ` + m[1] + `\n +exp_alerts:\n +- exp_labels: .*instance: web-1`)
		if !quiet.MatchString(tests) || !fires.MatchString(tests) {
			t.Errorf("%s is not tested both ways", m[1])
		}
	}
}

// recorded are the dashboard's queries as rules, since promtool parses no
// dashboards.
func recorded(t *testing.T) string {
	t.Helper()
	exprs, _ := queries(t)
	var b strings.Builder
	b.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	for i, title := range slices.Sorted(maps.Keys(exprs)) {
		for j, expr := range exprs[title] {
			quoted, err := json.Marshal(expr)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "      - {record: 'panel:%d:%d', expr: %s}\n", i, j, quoted)
		}
	}
	return b.String()
}

func TestPrometheusAcceptsRulesAndDashboard(t *testing.T) {
	h := hosttest.Boot(t, hosttest.Options{Packages: []string{"prometheus", "prometheus-node-exporter"}})
	for _, name := range []string{rules, ruleTests} {
		h.Copy(t, name, "/root/"+name)
	}
	h.Write(t, "/root/dashboard.yaml", recorded(t))
	for _, line := range []string{"check rules " + rules, "check rules dashboard.yaml", "test rules " + ruleTests} {
		if out, code := h.Try(t, "cd /root; promtool "+line); code != 0 {
			t.Errorf("promtool %s:\n%s", line, out)
		}
	}
}
