// Package recovery_test is the proof that a host goes back by itself from a commit
// that passes review and takes it down: on real hosts, with the package that `make
// packages` built and a Git server.
package recovery_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/report/reporttest"
)

const eventFile = "/var/log/trued/events.jsonl"

// A patient is a host that a daemon keeps true to a repository.
type patient struct {
	*hosttest.Host
	git   *hosttest.GitServer
	repo  *hosttest.Repository
	files map[string]string // of the repository's last good commit
	good  string            // that commit
}

// healthy are the group's probes: what the host serves.
const healthy = `health:
  web: {http: "http://127.0.0.1/", contains: welcome, within: 10s}
  ssh: {tcp: "127.0.0.1:22", within: 10s}
  nginx: {unit: nginx.service, within: 10s}
  room: {command: "sh -c 'dd if=/dev/zero of=/srv/small/probe bs=64k count=1 && rm /srv/small/probe'", within: 10s}
  ready: {file: /srv/ready, within: 9m}
`

const site = `server {
	listen 80 default_server;
	root /var/www/html;
}
`

const manifest = `- file: /etc/nginx/sites-available/default
  source: files/site
  validate: nginx -t
- file: /var/www/html/index.html
  content: "welcome\n"
- file: /etc/ssh/sshd_config.d/10-trued.conf
  content: "PasswordAuthentication no\n"
  validate: sshd -t
- file: /etc/nftables.conf
  source: files/nftables.conf
  mode: "0755"
- unit: nftables.service
  state: running
  restart_on: [file:/etc/nftables.conf]
- unit: nginx.service
  state: running
  reload_on: [file:/etc/nginx/sites-available/default]
- unit: ssh.service
  state: running
  restart_on: ["file:/etc/ssh/sshd_config.d/*"]
`

const firewall = "flush ruleset\ntable inet filter {\n\tchain input {\n\t\ttype filter hook input priority 0; policy accept;\n\t}\n}\n"

// closed is a firewall that lets nothing through but to the host itself.
const closed = "flush ruleset\ntable inet filter {\n\tchain input {\n\t\ttype filter hook input priority 0; policy drop;\n\t\tiif lo accept\n\t}\n" +
	"\tchain output {\n\t\ttype filter hook output priority 0; policy drop;\n\t\toif lo accept\n\t}\n}\n"

// arrive boots a host with the project's package, and a Git server, which answers
// as the host's gateway.
func arrive(t *testing.T) (*hosttest.Host, *hosttest.GitServer) {
	t.Helper()
	lab := hosttest.New(t)
	git := lab.GitServer(t)
	h := lab.Boot(t, hosttest.Options{Name: "web-1", Net: true, Packages: []string{"nginx-light", "openssh-server", "nftables", "netbase"}})
	h.Copy(t, hosttest.Deb(t), "/root/trued.deb")
	h.Write(t, "/etc/dpkg/dpkg.cfg.d/unsafe-io", "force-unsafe-io\n")
	h.Run(t, "dpkg -i /root/trued.deb")
	// The server is the gateway: it answers, and nothing is sent through it.
	h.Write(t, "/etc/systemd/system/gateway.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=ip route replace default via "+git.IP()+"\n[Install]\nWantedBy=multi-user.target\n")
	h.Write(t, "/etc/systemd/system/srv-small.mount", "[Mount]\nWhat=tmpfs\nWhere=/srv/small\nType=tmpfs\nOptions=size=8m\n[Install]\nWantedBy=multi-user.target\n")
	h.Run(t, "systemctl daemon-reload; systemctl enable -q --now gateway.service srv-small.mount")
	return h, git
}

// admit boots the host and its Git server, and waits for the first commit.
func admit(t *testing.T) *patient {
	t.Helper()
	p := &patient{}
	p.Host, p.git = arrive(t)
	p.Write(t, "/srv/ready", "yes\n")
	p.repo = p.git.Repository(t, "hosts")
	p.files = map[string]string{
		"groups/web/group.yaml":          healthy,
		"groups/web/10-web.yaml":         manifest,
		"groups/web/files/site":          site,
		"groups/web/files/nftables.conf": firewall,
	}
	p.good = p.repo.Commit(t, "Serve", p.files)
	p.Write(t, "/etc/trued/.new", "sources:\n  - name: infra\n    url: "+p.repo.HTTP()+
		"\n    group: groups/web\ninterval: 1s\nresync: 1h\nconfirm_within: 10m\nreport:\n  - journal\n  - file: "+eventFile+"\n")
	p.Run(t, "mv /etc/trued/.new /etc/trued/trued.yaml; systemctl start trued-boot.service trued.service")
	p.awaitConfirmed(t, p.good)
	return p
}

// eventsOf returns what a host has reported of a type.
func eventsOf(t *testing.T, h *hosttest.Host, kind report.Type) []report.Event {
	t.Helper()
	var found []report.Event
	for _, e := range reporttest.ValidLines(t, strings.NewReader(h.Read(t, eventFile))) {
		if e.Type == kind {
			found = append(found, e)
		}
	}
	return found
}

// events returns what the host has reported of a type and a commit.
func (p *patient) events(t *testing.T, kind report.Type, commit string) []report.Event {
	t.Helper()
	return slices.DeleteFunc(eventsOf(t, p.Host, kind), func(e report.Event) bool {
		return commit != "" && e.Revision != commit && e.Attempted != commit
	})
}

// A look is what the tests ask of status.
type look struct {
	Line    string `json:"line"`
	Verdict string `json:"verdict"`
	Trial   *struct {
		Failed string `json:"failed"`
	} `json:"trial"`
	Unwell  *struct{ Why string } `json:"unwell"`
	Sources []struct {
		Applied, Confirmed string
		Quarantine, Pin    *struct{ Commit, Why, Reason, By string }
	}
}

func (p *patient) status(t *testing.T) look {
	t.Helper()
	out, _ := p.Try(t, "trued status -o json 2>/dev/null")
	var l look
	if err := json.Unmarshal([]byte(out), &l); err != nil || len(l.Sources) != 1 {
		t.Fatalf("status: %v\n%s", err, out)
	}
	return l
}

// await waits until status is as it should be, for minutes.
func (p *patient) await(t *testing.T, what string, is func(look) bool) look {
	t.Helper()
	var l look
	for range 600 {
		if l = p.status(t); is(l) {
			return l
		}
		p.Run(t, "sleep 0.2")
	}
	t.Fatalf("not within minutes: %s\n%+v\n%s", what, l, p.Run(t, "journalctl -u trued -u trued-boot --no-pager -o cat | tail -50"))
	return l
}

func (p *patient) awaitConfirmed(t *testing.T, commit string) {
	t.Helper()
	p.await(t, "commit "+commit+" is confirmed", func(l look) bool {
		return l.Trial == nil && l.Sources[0].Applied == commit && l.Sources[0].Confirmed == commit
	})
}

// awaitBack waits until the host has gone back from a commit to the last good one.
func (p *patient) awaitBack(t *testing.T, bad string) look {
	t.Helper()
	return p.await(t, "the host went back from "+bad, func(l look) bool {
		s := l.Sources[0]
		return l.Trial == nil && s.Applied == p.good && s.Quarantine != nil && s.Quarantine.Commit == bad
	})
}

// commit commits the files over those of the good one.
func (p *patient) commit(t *testing.T, message string, files map[string]string) string {
	t.Helper()
	return p.repo.Commit(t, message, files)
}

// revert reverts the last commit, and waits until the host took that.
func (p *patient) revert(t *testing.T) {
	t.Helper()
	p.good = p.repo.Revert(t)
	p.awaitConfirmed(t, p.good)
}

// exits runs a line of shell that must end with a code.
func (p *patient) exits(t *testing.T, code int, line string) {
	t.Helper()
	if out, got := p.Try(t, line); got != code {
		t.Errorf("%s: exit code %d, want %d\n%s", line, got, code, out)
	}
}

// A badCommit passes review, and takes the host down.
type badCommit struct {
	name  string
	files map[string]string
	says  string // in the reason
	// serves is a line of shell that holds again once the host is back.
	serves string
}

func badCommits() []badCommit {
	return []badCommit{
		{
			name:   "nginx listens at another port, which nginx -t accepts",
			files:  map[string]string{"groups/web/files/site": strings.Replace(site, "80", "81", 1)},
			says:   "web: ",
			serves: "exec 3<>/dev/tcp/127.0.0.1/80",
		},
		{
			name: "a new file has nginx answer for nothing, and says itself that it is reloaded",
			files: map[string]string{
				"groups/web/10-web.yaml": strings.Replace(manifest, "reload_on: [", "reload_on: [file:/etc/nginx/conf.d/closed.conf, ", 1),
				"groups/web/05-closed.yaml": "- file: /etc/nginx/conf.d/closed.conf\n  content: |\n    server { listen 127.0.0.1:80; return 503; }\n" +
					"  validate: nginx -t\n",
			},
			says:   "web: status is 503",
			serves: "trued health",
		},
		{
			name:   "the firewall drops all but the loopback",
			files:  map[string]string{"groups/web/files/nftables.conf": closed},
			says:   "network: ",
			serves: "exec 3<>/dev/tcp/git/80",
		},
		{
			name:   "sshd listens at another port, which sshd -t accepts",
			files:  map[string]string{"groups/web/10-web.yaml": strings.Replace(manifest, "PasswordAuthentication no", "Port 2222", 1)},
			says:   "ssh: ",
			serves: "exec 3<>/dev/tcp/127.0.0.1/22",
		},
		{
			name: "a file fills the disk, and a unit comes along",
			files: map[string]string{
				"groups/web/20-fill.yaml": "- file: /srv/small/fill\n  source: files/fill\n- file: /srv/new/deep/file\n  content: x\n  parents: true\n- unit: extra.service\n  content: |\n    [Service]\n    ExecStart=sleep infinity\n  state: running\n",
				"groups/web/files/fill":   strings.Repeat("x", 8<<20-32<<10),
			},
			says:   "room: ",
			serves: "test ! -e /srv/small/fill; test ! -e /etc/systemd/system/extra.service; ! systemctl is-active -q extra.service",
		},
		{
			name:   "a package that others need is purged, with those",
			files:  map[string]string{"groups/web/20-purge.yaml": "- package: [nginx-common, nginx, nginx-light, libnginx-mod-http-echo]\n  state: purged\n"},
			says:   "web: ",
			serves: "exec 3<>/dev/tcp/127.0.0.1/80; dpkg --audit; dpkg --verify nginx-common",
		},
	}
}

func TestAHostGoesBackFromACommitThatTakesItDown(t *testing.T) {
	t.Parallel()
	p := admit(t)
	for _, c := range badCommits() {
		if !t.Run(c.name, func(t *testing.T) {
			before := take(t, p.Host)
			bad := p.commit(t, c.name, c.files)
			st := p.awaitBack(t, bad)
			if q := st.Sources[0].Quarantine; !strings.Contains(q.Why, c.says) {
				t.Errorf("in quarantine because of %q, want %q", q.Why, c.says)
			}
			if !strings.Contains(st.Line, "in quarantine") {
				t.Errorf("status says %q", st.Line)
			}
			p.Run(t, c.serves)
			take(t, p.Host).want(t, before)
			// It is told of once, and not tried again.
			p.exits(t, 4, "trued sync")
			p.Await(t, "grep -q "+bad+" "+eventFile)
			if told := p.events(t, report.CommitQuarantined, bad); len(told) != 1 {
				t.Errorf("it was told %d times that %s is bad", len(told), bad)
			}
			p.revert(t)
			take(t, p.Host).want(t, before)
		}) {
			return
		}
	}
	t.Run("the server is away while a good commit is on trial", p.serverIsAway)
	t.Run("a drift repair is not gone back from", p.driftIsRepaired)
	t.Run("by hand, across a reboot", p.byHand)
	t.Run("the power goes between the run and the proof", p.powerCut)
}

// serverIsAway: a Git server that is down must not undo a good commit.
func (p *patient) serverIsAway(t *testing.T) {
	p.Run(t, "rm /srv/ready")
	next := p.commit(t, "Good, and slow to be seen", map[string]string{"groups/web/30-motd.yaml": "- file: /etc/motd\n  content: \"good\\n\"\n"})
	p.await(t, "it is on trial", func(l look) bool { return l.Trial != nil && l.Sources[0].Applied == next })
	p.git.Run(t, "systemctl stop nginx")
	p.Await(t, "trued status -o json | grep -q '\"failures\": [1-9]'")
	p.Write(t, "/srv/ready", "yes\n")
	p.awaitConfirmed(t, next)
	p.git.Run(t, "systemctl start nginx")
	if told := p.events(t, report.CommitQuarantined, next); len(told) != 0 {
		t.Errorf("%d times in quarantine", len(told))
	}
	p.good = next
}

// driftIsRepaired: there is nothing to go back to; it is told that the host is not
// healthy.
func (p *patient) driftIsRepaired(t *testing.T) {
	p.Run(t, "dd if=/dev/zero of=/srv/small/theirs bs=64k 2>/dev/null || true; echo drifted >/etc/motd")
	l := p.await(t, "it is told that the host is not healthy", func(l look) bool { return l.Unwell != nil })
	if l.Sources[0].Applied != p.good || l.Sources[0].Quarantine != nil || l.Verdict != "unhealthy" || !strings.Contains(l.Line, "room: ") {
		t.Errorf("%+v", l)
	}
	if got := p.Read(t, "/etc/motd"); got != "good\n" {
		t.Errorf("/etc/motd holds %q", got)
	}
	p.exits(t, 3, "trued health")
	p.Run(t, "rm /srv/small/theirs; trued sync; trued health")
	p.await(t, "the host is healthy again", func(l look) bool { return l.Unwell == nil && l.Verdict == "in order" })
	for kind, want := range map[report.Type]int{report.HealthFailed: 1, report.HealthRecovered: 1} {
		if told := p.events(t, kind, ""); len(told) != want {
			t.Errorf("%s was told %d times", kind, len(told))
		}
	}
}

// byHand: what an operator orders holds across a reboot.
func (p *patient) byHand(t *testing.T) {
	first := p.good
	second := p.commit(t, "Second", map[string]string{"groups/web/30-motd.yaml": "- file: /etc/motd\n  content: \"second\\n\"\n"})
	p.awaitConfirmed(t, second)
	motd := func(want string) {
		t.Helper()
		if got := p.Read(t, "/etc/motd"); got != want+"\n" {
			t.Errorf("/etc/motd holds %q, want %q", got, want)
		}
	}
	p.exits(t, 1, "trued rollback")
	p.exits(t, 4, "trued rollback --reason 'the shop is slow'")
	motd("good")
	p.exits(t, 1, "trued pin "+second[:8])
	p.exits(t, 0, "trued retry --reason 'it was the database'")
	motd("second")
	p.exits(t, 0, "trued pin "+first[:8]+" --reason 'until the fair is over'")
	motd("good")
	p.Reboot(t)
	p.Await(t, "systemctl is-active -q trued.service && trued status | head -1 | grep -q pinned")
	third := p.commit(t, "Third", map[string]string{"groups/web/30-motd.yaml": "- file: /etc/motd\n  content: \"third\\n\"\n"})
	p.Run(t, "trued sync")
	motd("good")
	if pin := p.status(t).Sources[0].Pin; pin == nil || pin.Reason != "until the fair is over" {
		t.Errorf("pin: %+v", pin)
	}
	p.Run(t, "trued unpin --reason 'it is over'")
	motd("third")
	p.awaitConfirmed(t, third)
	for kind, reason := range map[report.Type]string{
		report.CommitPinned: "until the fair is over", report.CommitUnpinned: "it is over", report.CommitReleased: "it was the database",
	} {
		if told := p.events(t, kind, ""); len(told) != 1 || told[0].Reason != reason {
			t.Errorf("%s: %+v", kind, told)
		}
	}
	p.good = third
}

// powerCut: what is on trial is known after a crash, and goes the same way.
func (p *patient) powerCut(t *testing.T) {
	before := take(t, p.Host)
	p.Run(t, "rm /srv/ready")
	files := maps.Clone(badCommits()[0].files)
	bad := p.commit(t, "Bad, and the power goes", files)
	p.await(t, "it is on trial", func(l look) bool {
		q := l.Sources[0].Quarantine
		return l.Trial != nil && l.Sources[0].Applied == bad || q != nil && q.Commit == bad // or was, on a slow machine
	})
	p.Kill(t)
	p.Start(t)
	p.Await(t, "systemctl is-active -q trued.service")
	p.Write(t, "/srv/ready", "yes\n")
	p.awaitBack(t, bad)
	take(t, p.Host).want(t, before)
	if told := p.events(t, report.CommitQuarantined, bad); len(told) != 1 {
		t.Errorf("it was told %d times that %s is bad", len(told), bad)
	}
	p.revert(t)
}
