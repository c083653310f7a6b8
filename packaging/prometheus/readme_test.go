package prometheus_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the README's tables")

const readme = "../../README.md"

func TestTheReadmeListsMetricsAndAlerts(t *testing.T) {
	page := read(t, readme)
	for name, table := range map[string]string{"metrics": metricsTable(t), "alerts": alertsTable(t)} {
		begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->"
		before, rest, found := strings.Cut(page, begin)
		there, after, ended := strings.Cut(rest, end)
		if !found || !ended {
			t.Fatalf("%s has no place for the %s", readme, name)
		}
		if there == table {
			continue
		}
		if page = before + begin + table + end + after; !*update {
			t.Errorf("%s lists other %s (-update writes them):\n%s", readme, name, table)
		}
	}
	if *update {
		if err := os.WriteFile(readme, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// metricsTable is made of what is exported, which has something of everything.
func metricsTable(t *testing.T) string {
	t.Helper()
	text := read(t, exported)
	var b strings.Builder
	b.WriteString("| metric | labels | |\n| --- | --- | --- |\n")
	for _, m := range regexp.MustCompile(`(?m)^# HELP (\w+) (.*)\n# TYPE \w+ (\w+)\n(.*)$`).FindAllStringSubmatch(text, -1) {
		var labels []string
		for _, l := range regexp.MustCompile(`[{,](\w+)="`).FindAllStringSubmatch(m[4], -1) {
			labels = append(labels, "`"+l[1]+"`")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", m[1], strings.Join(slices.Compact(labels), ", "), m[2])
	}
	return b.String()
}

func alertsTable(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("| alert | when | for | severity |\n| --- | --- | --- | --- |\n")
	for _, rule := range strings.Split(read(t, rules), "- alert: ")[1:] {
		name, _, _ := strings.Cut(rule, "\n")
		value := func(pattern string) string {
			if m := regexp.MustCompile(pattern).FindStringSubmatch(rule); m != nil {
				return m[1]
			}
			return ""
		}
		summary := regexp.MustCompile(`\{\{ \$labels\.(\w+) \}\}`).ReplaceAllString(value(`summary: "(.*)"`), "$1")
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, strings.Replace(summary, "instance", "the host", 1), value(`\n +for: (\w+)`), value(`severity: (\w+)`))
	}
	return b.String()
}
