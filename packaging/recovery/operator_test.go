package recovery_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
)

// A quiet is a host that looks for commits when it is told to, so that whatever else
// happens there is not because of a poll.
type quiet struct {
	*patient
}

const metricsFile = "/run/trued.prom"

// settleDown boots a host that serves nothing, and brings it to a first commit.
func settleDown(t *testing.T) *quiet {
	t.Helper()
	lab := hosttest.New(t)
	q := &quiet{patient: &patient{git: lab.GitServer(t)}}
	q.Host = lab.Boot(t, hosttest.Options{Name: "night-1", Net: true, Packages: []string{"nginx-light", "openssh-server", "nftables", "netbase"}})
	q.Copy(t, hosttest.Deb(t), "/root/trued.deb")
	q.Write(t, "/etc/dpkg/dpkg.cfg.d/unsafe-io", "force-unsafe-io\n")
	q.Run(t, "dpkg -i /root/trued.deb; mkdir -p /srv/w")
	q.repo = q.git.Repository(t, "hosts")
	q.files = map[string]string{"groups/night/group.yaml": "{}\n", "groups/night/a.yaml": "- directory: /srv/w\n"}
	q.good = q.repo.Commit(t, "Begin", q.files)
	q.configure(t, "")
	q.Run(t, "systemctl start trued.service")
	q.awaitConfirmed(t, q.good)
	return q
}

// configure writes the configuration, with some lines more, and waits until a daemon
// that runs is at work with it.
func (q *quiet) configure(t *testing.T, lines string) {
	t.Helper()
	anew := func() (n int) {
		for _, e := range q.events(t, report.RunStarted, "") {
			if e.Reason == "config" {
				n++
			}
		}
		return n
	}
	_, code := q.Try(t, "systemctl is-active --quiet trued.service")
	before := 0
	if code == 0 {
		before = anew()
	}
	q.Write(t, "/etc/trued/.new", "sources:\n  - name: infra\n    url: "+q.repo.HTTP()+"\n    group: groups/night\n"+
		"interval: 1h\nresync: 1h\nmetrics: {textfile: "+metricsFile+"}\nreport: [journal, {file: "+eventFile+"}]\n"+lines)
	q.Run(t, "mv /etc/trued/.new /etc/trued/trued.yaml")
	for range 300 {
		if code != 0 || anew() > before {
			return
		}
		q.Run(t, "sleep 0.2")
	}
	t.Fatal("the daemon did not take the new configuration")
}

// brings commits the files over those that there are.
func (q *quiet) brings(t *testing.T, message string, files map[string]string) string {
	t.Helper()
	maps.Copy(q.files, files)
	return q.repo.Commit(t, message, files)
}

func (q *quiet) wantFiles(t *testing.T, want map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		got, _ := q.Try(t, "if [ -L "+name+" ]; then readlink "+name+"; elif [ -e "+name+" ]; then cat "+name+"; fi")
		if got != want[name] {
			t.Errorf("%s holds %q, want %q", name, got, want[name])
		}
	}
}

// held are the resources of which was told that they wait, with their causes, as
// often as it was.
func (q *quiet) held(t *testing.T) map[string]int {
	t.Helper()
	found := map[string]int{}
	for _, e := range q.events(t, report.ResourcePending, "") {
		if e.Outcome == report.Held {
			found[e.Cause+" "+e.Resource]++
		}
	}
	return found
}

func (q *quiet) wantHeld(t *testing.T, before map[string]int, want ...string) {
	t.Helper()
	var got []string
	for what, n := range q.held(t) {
		for range n - before[what] {
			got = append(got, what)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("it is told that %q wait, want %q", got, want)
	}
}

// An operator of one host has it change within its windows, gets back what was
// replaced, looks at its health, and keeps it at a commit.
func TestAnOperatorOfOneHost(t *testing.T) {
	t.Parallel()
	q := settleDown(t)
	for _, c := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"what is outside of its window waits", q.waits},
		{"the daemon wakes when a window opens", q.wakes},
		{"what waited is on trial when it is made", q.waitsAndIsBad},
		{"what was replaced is had back", q.hadBack},
		{"each kind of probe", q.probes},
		{"a resolver that is lost", q.resolverIsLost},
	} {
		if !t.Run(c.name, c.do) {
			return
		}
	}
}

// thing is a file in /srv/w.
func thing(name, content string) string {
	return fmt.Sprintf("- file: /srv/w/%s\n  content: %q\n", name, content)
}

const (
	anotherDay = `calendar: "2099-01-01 UTC", for: 1h`
	anyTime    = `calendar: "*:* UTC", for: 5m`
)

func (q *quiet) waits(t *testing.T) {
	files := func(v string) string {
		return "- directory: /srv/w\n" + thing("late", v) + thing("drifts", v) + thing("denied", v) + thing("free", v) +
			"- link: /srv/w/link\n  target: " + v + "\n"
	}
	q.brings(t, "One", map[string]string{"groups/night/a.yaml": files("one") + thing("leaves", "one")})
	q.exits(t, 0, "trued sync")
	two := q.brings(t, "Two", map[string]string{"groups/night/a.yaml": files("two"), "groups/night/group.yaml": `windows:
  allow:
    - {` + anotherDay + `, resources: ["file:/srv/w/late"]}
    - {` + anotherDay + `, resources: ["file:/srv/w/drifts"], causes: [drift]}
    - {` + anotherDay + `, resources: ["file:/srv/w/*"], causes: [prune]}
    - {` + anotherDay + `, kinds: [link]}
    - {` + anyTime + `, resources: ["file:/srv/w/denied"]}
  deny:
    - {` + anyTime + `, resources: ["file:/srv/w/denied"]}
`})
	before := q.held(t)
	q.exits(t, 2, "trued sync")
	waiting := map[string]string{"/srv/w/late": "one", "/srv/w/denied": "one", "/srv/w/link": "one", "/srv/w/leaves": "one", "/srv/w/drifts": "two", "/srv/w/free": "two"}
	q.wantFiles(t, waiting)
	all := []string{"intended file:/srv/w/late", "intended file:/srv/w/denied", "intended link:/srv/w/link", "prune file:/srv/w/leaves"}
	q.Await(t, "[ $(grep -c '\"trued.outcome\":\"held\"' "+eventFile+") -ge 4 ]")
	q.wantHeld(t, before, all...)
	q.exits(t, 2, "trued sync") // it was told
	q.exits(t, 2, "trued status")

	// A drift that has a window of its own waits, and another does not; neither is one
	// of the commit's.
	q.Run(t, "echo -n theirs >/srv/w/drifts; echo -n theirs >/srv/w/free")
	q.Await(t, "[ $(cat /srv/w/free) = two ] && (trued status || true) | grep -q 'window  *file:/srv/w/drifts: its window opens .*2099'")
	waiting["/srv/w/drifts"] = "theirs"
	q.wantFiles(t, waiting)
	q.Await(t, "[ $(grep -c '\"trued.outcome\":\"held\"' "+eventFile+") -ge 5 ]")
	q.wantHeld(t, before, append(all, "drift file:/srv/w/drifts")...)

	// What waits neither failed nor was put back, and counts as what it is.
	out, _ := q.Try(t, "trued status")
	if n := strings.Count(out, "window  "); n != 5 || !strings.HasPrefix(out, "Not in order: differences that were not applied at "+two[:10]) {
		t.Errorf("%d resources are said to wait, want 5:\n%s", n, out)
	}
	for _, e := range q.events(t, report.RunFinished, two) {
		if e.Failed != 0 || *e.ExitCode != 2 && *e.ExitCode != 0 {
			t.Errorf("a run ended with exit code %d, and %d that failed", *e.ExitCode, e.Failed)
		}
	}
	for kind, n := range map[string]int{"file": 4, "link": 1} {
		q.Await(t, fmt.Sprintf("grep -qF 'trued_resources{kind=\"%s\",outcome=\"held\"} %d' %s", kind, n, metricsFile))
	}
	q.Await(t, "! grep 'trued_resources{.*outcome=\"failed\"} [1-9]' "+metricsFile)

	// Whoever is on the host may say that it is time.
	q.exits(t, 0, "trued sync --now")
	q.wantFiles(t, map[string]string{"/srv/w/late": "two", "/srv/w/denied": "two", "/srv/w/link": "two", "/srv/w/leaves": "", "/srv/w/drifts": "two", "/srv/w/free": "two"})
	q.exits(t, 0, "trued status")
	q.awaitConfirmed(t, two)
}

// opening has something wait for a window that opens soon: it calls commit with the
// time, as a calendar has it, until that is not over too early.
func (q *quiet) opening(t *testing.T, commit func(at string)) (at string) {
	t.Helper()
	for lead := 6; ; lead *= 2 {
		at := q.Run(t, fmt.Sprintf("date -u -d '+%d seconds' '+%%F %%T UTC'", lead))
		commit(at)
		out, code := q.Try(t, "trued sync")
		switch {
		case code == 2:
			return at
		case code != 0 || lead > 300:
			t.Fatalf("exit code %d, with a window that opens after %d s\n%s", code, lead, out)
		}
	}
}

// wakes: the windows of the group and those of the host count together, and the
// daemon waits for no poll, which would come in an hour.
func (q *quiet) wakes(t *testing.T) {
	n := 0
	at := q.opening(t, func(at string) {
		n++
		// That of the group opens first.
		q.brings(t, fmt.Sprint("Soon ", n), map[string]string{
			"groups/night/group.yaml": "windows:\n  allow: [{calendar: \"" + q.Run(t, "date -u '+%F %T UTC'") + "\", for: 1h}]\n",
			"groups/night/a.yaml":     "- directory: /srv/w\n" + thing("late", fmt.Sprint("soon ", n)),
		})
		q.configure(t, "windows: {allow: [{calendar: \""+at+"\", for: 1h, resources: [\"file:/srv/w/late\"]}]}\n")
	})
	q.Await(t, fmt.Sprintf("[ \"$(cat /srv/w/late)\" = 'soon %d' ]", n))
	if got := q.Run(t, "test $(stat -c %Y /srv/w/late) -ge $(date -d '"+at+"' +%s) && echo after"); got != "after" {
		t.Errorf("it was changed before %s", at)
	}
	q.Await(t, "trued status | head -1 | grep -q '^In order'")
	q.awaitConfirmed(t, q.repo.Head(t))
	if last := q.events(t, report.RunStarted, ""); last[len(last)-1].Reason != "window" {
		t.Errorf("the last run was begun for a %s", last[len(last)-1].Reason)
	}
	q.good = q.repo.Head(t)
	q.configure(t, "")
}

// waitsAndIsBad: a commit is healthy as long as a part of it waits, and bad with it.
func (q *quiet) waitsAndIsBad(t *testing.T) {
	calm := "health:\n  late: {file: /srv/w/late, contains: soon, within: 3s, every: 200ms}\n"
	q.good = q.brings(t, "Look at it", map[string]string{
		"groups/night/group.yaml": calm, "groups/night/a.yaml": "- directory: /srv/w\n" + thing("late", "soon") + thing("free", "three"),
	})
	q.exits(t, 0, "trued sync")
	q.awaitConfirmed(t, q.good)
	n := 0
	q.opening(t, func(at string) {
		n++
		if n > 1 {
			q.good = q.repo.Revert(t)
			q.exits(t, 0, "trued sync")
		}
		q.brings(t, fmt.Sprint("Bad at night ", n), map[string]string{
			"groups/night/group.yaml": calm + "windows:\n  allow: [{calendar: \"" + at + "\", for: 1h, resources: [\"file:/srv/w/late\"]}]\n",
			"groups/night/a.yaml":     "- directory: /srv/w\n" + thing("late", "bad") + thing("free", "four"),
		})
	})
	bad := q.repo.Head(t)
	if l := q.status(t); l.Sources[0].Applied == bad && l.Sources[0].Quarantine != nil {
		t.Errorf("in quarantine before its window opened: %+v", l)
	}
	st := q.awaitBack(t, bad)
	if why := st.Sources[0].Quarantine.Why; !strings.Contains(why, "late: ") {
		t.Errorf("in quarantine because of %q", why)
	}
	q.wantFiles(t, map[string]string{"/srv/w/late": "soon", "/srv/w/free": "three"})
	q.Await(t, "grep commit.quarantined "+eventFile+" | grep -q "+bad)
	if told := q.events(t, report.CommitConfirmed, bad); len(told) > 1 {
		t.Errorf("%d times confirmed", len(told))
	}
	q.good = q.repo.Revert(t)
	q.exits(t, 0, "trued sync")
	q.awaitConfirmed(t, q.good)
}

// hadBack: what the operator had before is listed, shown, and had back with all that
// it had; nothing of a secret is in the state.
func (q *quiet) hadBack(t *testing.T) {
	q.Run(t, `mkdir -p /srv/b; cd /srv/b
for f in plain twin; do printf 'theirs\n' >$f; done; printf 'hunter2-theirs\n' >secret; printf 'gone\n' >absent
chown www-data:adm plain; chmod 0664 plain; chmod 0600 secret`)
	if err := unix.Setxattr(q.Root()+"/srv/b/plain", "user.note", []byte("kept"), 0); err != nil {
		t.Fatal(err)
	}
	q.good = q.brings(t, "Manage it", map[string]string{"groups/night/group.yaml": "{}\n", "groups/night/a.yaml": "- directory: /srv/w\n" +
		"- file: [/srv/b/plain, /srv/b/twin]\n  content: ours\n- file: /srv/b/secret\n  content: hunter2-ours\n  sensitive: true\n- file: /srv/b/absent\n  state: absent\n"})
	q.exits(t, 0, "trued sync")
	q.awaitConfirmed(t, q.good)
	q.wantFiles(t, map[string]string{"/srv/b/plain": "ours", "/srv/b/secret": "hunter2-ours", "/srv/b/absent": ""})

	out := q.Run(t, "trued backup list /srv/b")
	for _, name := range []string{"plain  by file:/srv/b/plain  at " + q.good[:10], "twin", "secret  (secret)", "absent"} {
		if !strings.Contains(out, "/srv/b/"+name) {
			t.Errorf("the list lacks %q:\n%s", name, out)
		}
	}
	const same = "find /var/lib/trued/backups -type f -size 7c | xargs -r grep -l '^theirs$' | wc -l"
	if n := q.Run(t, same); n != "1" {
		t.Errorf("one content is kept %s times", n)
	}
	if got := q.Run(t, "trued backup show /srv/b/plain"); got != "theirs" {
		t.Errorf("shown is %q", got)
	}
	q.Run(t, "! grep -r hunter2 /var/lib/trued; ! trued backup show /srv/b/secret | grep hunter2; ! trued backup show --diff /srv/b/secret | grep hunter2")

	// Something newer is there, and is kept in its turn.
	q.Run(t, "trued suspend --reason 'I look' --for 1h; printf 'newer\n' >/srv/b/plain; chown root:root /srv/b/plain; trued backup restore /srv/b/plain")
	if got := q.Run(t, "cat /srv/b/plain; stat -c '%U:%G %a' /srv/b/plain"); got != "theirs\nwww-data:adm 664" {
		t.Errorf("had back is %q", got)
	}
	value := make([]byte, 16)
	if n, err := unix.Getxattr(q.Root()+"/srv/b/plain", "user.note", value); err != nil || string(value[:n]) != "kept" {
		t.Errorf("its attribute is %q, %v", value, err)
	}
	if got := q.Run(t, "trued backup show /srv/b/plain; trued backup restore --to /srv/b/copy /srv/b/absent >/dev/null; cat /srv/b/copy"); got != "newer\ngone" {
		t.Errorf("of what was newer is kept %q", got)
	}
	q.Run(t, "trued resume")
	q.exits(t, 0, "trued sync")
	q.wantFiles(t, map[string]string{"/srv/b/plain": "ours"})

	// Within narrow bounds what may have to come back stays, and comes.
	q.configure(t, "backups: {size: 1KiB, age: 1ns}\n")
	q.good = q.brings(t, "Let go of it", map[string]string{"groups/night/a.yaml": "- directory: /srv/w\n- file: /srv/w/late\n  content: more\n"})
	q.exits(t, 0, "trued sync")
	if got := q.Run(t, "cat /srv/b/plain /srv/b/secret; stat -c '%U:%G %a' /srv/b/plain /srv/b/secret"); got != "theirs\nhunter2-theirs\nwww-data:adm 664\nroot:root 600" {
		t.Errorf("after it left Git there is %q", got)
	}
	if left := q.Run(t, "trued backup list /srv/b"); strings.Contains(left, "plain") {
		t.Errorf("what nothing needs is kept beyond its bounds:\n%s", left)
	}
	q.configure(t, "")
	q.awaitConfirmed(t, q.good)
}

// probes: each kind is good, and says by hand what is wrong when it is not.
func (q *quiet) probes(t *testing.T) {
	q.Run(t, `mkdir -p /srv/web; printf 'well\n' >/srv/web/index.html
printf '[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sh -c "sleep 0.3; exit 1"\nRestart=always\nRestartSec=50ms\n' >/etc/systemd/system/flaps.service
printf '[Service]\nExecStart=/bin/sleep infinity\n' >/etc/systemd/system/stays.service
systemctl daemon-reload; systemctl start stays.service flaps.service`)
	q.Write(t, "/srv/ca.pem", q.git.CA)
	health := `health:
  tls: {http: "https://git/", ca_file: /srv/ca.pem, status: 404}
  port: {tcp: "git:443"}
  stays: {unit: stays.service}
  file: {file: /srv/web/index.html, contains: well}
  command: {command: "test -d /srv/web"}
`
	health = strings.Replace(health, "404", q.Run(t, "exec 3<>/dev/tcp/git/80; printf 'GET / HTTP/1.0\\r\\nHost: git\\r\\n\\r\\n' >&3; head -1 <&3 | cut -d' ' -f2"), 1)
	q.good = q.brings(t, "Look at all", map[string]string{"groups/night/group.yaml": health})
	q.exits(t, 0, "trued sync")
	q.awaitConfirmed(t, q.good)
	out := q.Run(t, "trued health")
	if n := strings.Count(out, "good  ") - strings.Count(out, "good  network"); n != 5 {
		t.Errorf("%d probes are good, want 5:\n%s", n, out)
	}
	q.Run(t, "trued health --wait")

	// A unit that is started again and again is active at each look.
	bad := q.brings(t, "Wants a unit that flaps", map[string]string{
		"groups/night/group.yaml": health + "  flaps: {unit: flaps.service, within: 3s, every: 400ms}\n",
		"groups/night/b.yaml":     thing("flaps", "x"),
	})
	q.exits(t, 4, "trued sync")
	if why := q.awaitBack(t, bad).Sources[0].Quarantine.Why; !strings.Contains(why, "flaps: ") {
		t.Errorf("in quarantine because of %q", why)
	}
	q.Run(t, "systemctl stop stays.service flaps.service; rm /srv/web/index.html /srv/ca.pem")
	out, code := q.Try(t, "trued health")
	if n := strings.Count(out, "bad   "); n != 3 || code != 3 {
		t.Errorf("%d probes are bad and the exit code is %d, want 3 and 3:\n%s", n, code, out)
	}
	delete(q.files, "groups/night/b.yaml")
	q.repo.Remove(t, "Take it away", "groups/night/b.yaml")
	q.good = q.brings(t, "Look at nothing", map[string]string{"groups/night/group.yaml": "{}\n"})
	q.exits(t, 0, "trued sync")
	q.awaitConfirmed(t, q.good)
}

// answers is a resolver that answers any question with itself.
const answers = `use Socket; socket(S, PF_INET, SOCK_DGRAM, 17); bind(S, sockaddr_in(53, INADDR_ANY)) or die;
while (my $from = recv(S, my $m, 4096, 0)) { substr($m, 2, 1) = chr(ord(substr($m, 2, 1)) | 0x80); send(S, $m, 0, $from) }
`

// resolverIsLost: nobody names a probe, and a commit that takes the names away goes.
func (q *quiet) resolverIsLost(t *testing.T) {
	q.git.Write(t, "/srv/answers.pl", answers)
	q.git.Run(t, "systemd-run -q --unit=answers perl /srv/answers.pl")
	q.Run(t, "printf 'nameserver "+q.git.IP()+"\n' >/etc/resolv.conf")
	q.Await(t, "trued health | grep -q resolver")
	bad := q.brings(t, "Ask somebody else", map[string]string{"groups/night/c.yaml": "- file: /etc/resolv.conf\n  content: \"nameserver 127.0.0.9\\n\"\n"})
	q.exits(t, 4, "trued sync")
	if why := q.awaitBack(t, bad).Sources[0].Quarantine.Why; !strings.Contains(why, "no name can be resolved") {
		t.Errorf("in quarantine because of %q", why)
	}
	q.wantFiles(t, map[string]string{"/etc/resolv.conf": "nameserver " + q.git.IP()})
	q.Run(t, "trued health")
}
