package scenario_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/report/sinktest"
)

// rounds is how often everything drifts while something is wrong, and drifting is
// how many files there are.
func rounds() (rounds, drifting int) {
	if os.Getenv("TORTURE") == "full" {
		return 48, 200
	}
	return 8, 60
}

// Each event arrives at a central rsyslog, over TCP and over TLS, and at receivers
// of CloudEvents and of OpenTelemetry logs, in order, whatever happens to them, to
// the network, to the agent and to its disk.
func TestCentralLoggingLosesNothing(t *testing.T) {
	t.Parallel()
	lab := hosttest.New(t)
	logs := lab.Boot(t, hosttest.Options{Name: "logs", Net: true, Packages: []string{"rsyslog", "rsyslog-gnutls"}})
	web := lab.Boot(t, hosttest.Options{Name: "web-1", Net: true})
	receivers := onGateway(t, lab)
	certs := sinktest.NewCertificates(t, "logs")
	for _, file := range []string{"ca.pem", "server.pem", "server.key"} {
		logs.Copy(t, filepath.Join(certs.Dir, file), "/etc/logs/"+file)
	}
	for _, file := range []string{"ca.pem", "client.pem", "client.key"} {
		web.Copy(t, filepath.Join(certs.Dir, file), "/etc/trued/"+file)
	}
	logs.Copy(t, recipes+"/rsyslog/central.conf", "/etc/rsyslog.d/central.conf")
	logs.Run(t, "systemctl restart rsyslog")
	install(t, web)
	n, drifting := rounds()
	web.Run(t, fmt.Sprintf("mkdir -p /srv/lab/groups/web; for i in $(seq %d); do printf -- '- file: /srv/d%%s\\n  content: kept\\n' $i; done >/srv/lab/groups/web/all.yaml", drifting))
	config{dir: "/srv/lab", group: "groups/web", agent: []string{
		"  - syslog: tcp://logs:601",
		"  - http: http://gateway:8080/events",
		"  - otlp: http://gateway:4318",
		sinksOf(t, "rsyslog"),
	}}.write(t, web)
	// A disk of its own for the spools, which is soon full.
	web.Run(t, "mkdir -p /var/lib/trued/spool; mount -t tmpfs -o size=384k tmpfs /var/lib/trued/spool")
	web.Run(t, "systemctl start trued.service")
	trued(t, web, 0, "sync")
	if out := trued(t, web, 0, "report test"); strings.Count(out, ": sent") != 6 {
		t.Errorf("report test says:\n%s", out)
	}
	var stop []func()
	for _, r := range receivers {
		stop = append(stop, r.Fail(t))
	}

	for i := range n {
		heal := harm(t, i, web, logs)
		web.Run(t, "for f in /srv/d*; do echo broken >$f; done")
		// Whatever the sinks do, the run takes place.
		web.Await(t, "trued sync")
		web.Run(t, "! grep -L kept /srv/d* | grep -q .")
		// Sinks that fail are left alone for longer and longer; here they are not.
		web.Try(t, "trued report flush --wait 1s")
		heal()
	}

	for _, end := range stop {
		end()
	}
	await(t, web, "trued report flush")
	if out := trued(t, web, 0, "report status -o json"); strings.Count(out, `"waiting": 0`) != 4 || strings.Count(out, `"lost": 0`) != 4 {
		t.Errorf("report status says:\n%s", out)
	}
	var want []string
	for _, e := range events(t, web) {
		// An agent that was killed may have written some twice; a test of a sink is
		// for that one alone.
		if e.Type != report.ReportTested && !slices.Contains(want, e.ID) {
			want = append(want, e.ID)
		}
	}
	if len(want) < n*drifting {
		t.Errorf("there are %d events", len(want))
	}
	for _, file := range []string{"/var/log/tcp.log", "/var/log/tls.log"} {
		// rsyslog writes when it has a moment.
		logs.Await(t, "grep -q "+want[len(want)-1]+" "+file)
		var arrived []string
		for _, m := range eventID.FindAllStringSubmatch(logs.Read(t, file), -1) {
			arrived = append(arrived, m[1])
		}
		inOrder(t, file, arrived, want)
	}
	for what, r := range receivers {
		inOrder(t, what, r.Arrived(), want)
	}
}

// sinksOf returns what a recipe has in the agent's configuration beside the
// journal.
func sinksOf(t *testing.T, recipe string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(recipes, recipe, "trued.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(data), "report:\n  - journal\n")
	if !found {
		t.Fatalf("the recipe %s is\n%s", recipe, data)
	}
	return strings.TrimSuffix(rest, "\n")
}

// onGateway starts receivers on the lab's gateway: of CloudEvents at port 8080, of
// OpenTelemetry logs at 4318.
func onGateway(t *testing.T, lab *hosttest.Lab) map[string]*sinktest.Receiver {
	t.Helper()
	at := func(port string, serve func(net.Listener, *sinktest.Receiver)) *sinktest.Receiver {
		return sinktest.Start(t, sinktest.Kind{Serve: serve, Answers: true}, func() (net.Listener, error) { return lab.Listen(port) })
	}
	return map[string]*sinktest.Receiver{
		"CloudEvents":   at("8080", sinktest.ServeCloudEvents),
		"OpenTelemetry": at("4318", sinktest.ServeOTLP),
	}
}

// harm does one of the things that may go wrong, and returns how it ends.
func harm(t *testing.T, i int, web, logs *hosttest.Host) (heal func()) {
	t.Helper()
	switch i % 8 {
	case 1:
		logs.Run(t, "systemctl stop syslog.socket rsyslog")
		return func() { logs.Run(t, "systemctl start rsyslog") }
	case 2:
		logs.Run(t, "systemctl kill -s STOP rsyslog")
		return func() { logs.Run(t, "systemctl kill -s CONT rsyslog") }
	case 3:
		web.Cut(t)
		return func() { web.Heal(t) }
	case 4, 6:
		// The agent is killed while it delivers, and after.
		web.Run(t, "for f in /srv/d*; do echo broken >$f; done; trued sync & sleep 0."+fmt.Sprint(i%10)+"; systemctl kill -s KILL trued.service; wait || true")
		web.Await(t, "systemctl reset-failed trued.service; systemctl start trued.service && trued status -o json | grep -q '\"daemon\": true'")
		return func() {}
	case 5:
		return func() { logs.Run(t, "systemctl restart rsyslog") }
	case 7:
		logs.Run(t, "systemctl stop syslog.socket rsyslog")
		return func() {
			// More than the spools' disk takes.
			for range 3 {
				web.Run(t, "for f in /srv/d*; do echo broken >$f; done")
				web.Await(t, "trued sync")
			}
			web.Await(t, "(trued report flush || true) | grep -q 'no space left on device'")
			logs.Run(t, "systemctl start rsyslog")
		}
	}
	return func() {}
}

var eventID = regexp.MustCompile(`event_id="([^"]+)"`)

// inOrder fails the test unless all ids are in what arrived, in order but for
// repeats. Others are those of tests.
func inOrder(t *testing.T, what string, arrived, want []string) {
	t.Helper()
	known := map[string]bool{}
	for _, id := range want {
		known[id] = true
	}
	next, repeats := 0, 0
	seen := map[string]bool{}
	for _, id := range arrived {
		switch {
		case !known[id]:
		case seen[id]:
			repeats++
		case next < len(want) && id == want[next]:
			seen[id] = true
			next++
		default:
			due := want[min(next, len(want)-1)]
			t.Fatalf("%s: after %d events %s came where %s was due; that one came in the end: %v", what, next, id, due, slices.Contains(arrived, due))
		}
	}
	if next != len(want) {
		t.Errorf("%s: %d of %d events arrived", what, next, len(want))
	}
	t.Logf("%s: %d events, %d came twice", what, next, repeats)
}
