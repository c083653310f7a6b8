package scenario_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
)

// spied gets what every process of a host was started with, each time that trued
// starts something that looks.
const spied = "/srv/spied"

// A secrets is a host whose repository has secrets, and everything that the host
// ever said.
type secrets struct {
	t    *testing.T
	host *hosttest.Host
	// values are all secrets that there ever were.
	values []string
	said   strings.Builder
}

// put encrypts a secret in the repository, with the program's own command. It
// reaches the program as a file: what is in a command line is for all to see.
func (s *secrets) put(name, value string) {
	s.t.Helper()
	s.values = append(s.values, strings.TrimSpace(value))
	s.host.Write(s.t, "/root/plain", value)
	s.host.Run(s.t, "cd /srv/repo && trued secret encrypt groups/web/secrets/"+name+".age </root/plain && rm /root/plain")
}

// try runs a command of the program and keeps what it says.
func (s *secrets) try(code int, words string) string {
	s.t.Helper()
	out := trued(s.t, s.host, code, words+" 2>&1")
	s.said.WriteString(out)
	return out
}

// ask has the program say all that it knows.
func (s *secrets) ask() {
	s.t.Helper()
	for _, words := range []string{"status", "plan", "history", "facts"} {
		for _, form := range []string{"", " -o json"} {
			out, _ := s.host.Try(s.t, "trued "+words+form+" 2>&1")
			s.said.WriteString(out)
		}
	}
	out, _ := s.host.Try(s.t, `for run in $(trued history -o json | sed -n 's/.*"id": "\(.*\)",/\1/p'); do trued history $run; trued history $run -o json; done
		for a in $(trued plan --source /srv/repo --group groups/web -o json | sed -n 's/.*"address": "\(.*\)",/\1/p'); do trued explain "$a"; trued explain "$a" -o json; done
		for a in file:/etc/app/password file:/etc/app/app.conf file:/etc/app/key user:app command:load line:password; do trued explain $a; trued explain $a -o json; done`)
	s.said.WriteString(out)
}

// keptQuiet looks for the secrets, and for what is easily made of them, in all that
// left the program.
func (s *secrets) keptQuiet(when string) {
	s.t.Helper()
	s.ask()
	s.host.Run(s.t, "journalctl --sync; journalctl -o export >/root/journal; cat /etc/app/trued.prom >/root/metrics || true")
	var forms []string
	for _, v := range s.values {
		sum := sha256.Sum256([]byte(v))
		line := sha256.Sum256([]byte(v + "\n"))
		forms = append(forms, v, base64.StdEncoding.EncodeToString([]byte(v))[:len(v)], hex.EncodeToString([]byte(v)),
			hex.EncodeToString(sum[:]), hex.EncodeToString(line[:]))
	}
	s.host.Write(s.t, "/root/forms", strings.Join(forms, "\n")+"\n")
	found := s.host.Run(s.t, "grep -rlaF -f /root/forms /var/lib/trued /run/trued /var/log /root/journal /root/metrics "+spied+" || true")
	if found != "" {
		s.t.Errorf("%s: a secret is in\n%s\n%s", when, found,
			s.host.Run(s.t, "grep -raoF -f /root/forms "+strings.Join(strings.Fields(found), " ")+" | sort | uniq -c | head; grep -ahF -f /root/forms "+strings.Join(strings.Fields(found), " ")+" | cut -c1-500 | head -5"))
	}
	for _, form := range forms {
		if i := strings.Index(s.said.String(), form); i >= 0 {
			s.t.Errorf("%s: a secret was said: …%s…", when, s.said.String()[max(0, i-300):i+len(form)])
		}
	}
}

// The manifest uses secrets in every way that there is. What it starts looks at
// what every process was started with.
const secretManifest = `
- directory: /etc/app
- file: /etc/app/base.conf
  content: "[db]\nname = app\n"
- file: /etc/app/password
  content: '{{ secret "secrets/password.age" }}'
- file: /etc/app/app.conf
  template: templates/app.conf
  mode: "0640"
- file: /etc/app/key
  source: secrets/key.age
  validate: /srv/spy {path}
- user: app
  password: '{{ vars.hash }}'
- command: load
  run: /srv/spy; cat; touch /srv/loaded
  stdin: 'password={{ vars.db.password }}'
  creates: /srv/loaded
- command: each
  for_each: []
  run: 'true'
- line: password
  path: /etc/app/lines
  text: 'password={{ vars.db.password }}'
- line: beside it
  path: /etc/app/lines
  text: 'user=app'
  validate: sh -c 'cat "$0"; ! grep -q refused "$0"' {path}
- ini: user
  path: /etc/app/app.ini
  section: db
  key: user
  value: app
- block: db
  path: /etc/app/blocks
  content: 'password={{ vars.db.password }}'
- ini: password
  path: /etc/app/app.ini
  section: db
  key: password
  value: '{{ vars.db.password }}'
- unit: app.service
  content: |
    [Service]
    LoadCredential=password:/etc/app/password
    ExecStart=/bin/sh -c 'wc -c <"$CREDENTIALS_DIRECTORY/password" >/srv/app; exec sleep infinity'
  state: running
  restart_on: [file:/etc/app/password]
`

// A host decrypts what its repository has for it, with the key of its own SSH
// server, and nothing of that leaves the program: not when all is well, not when a
// secret is changed, drifts or leaves, and not when somebody makes a mistake.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	h := hosttest.Boot(t, hosttest.Options{Name: "secret"})
	install(t, h)
	s := &secrets{t: t, host: h}
	dir := t.TempDir()
	keygen := func(name string) (private, public string) {
		file := filepath.Join(dir, name)
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "root@"+name, "-f", file).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
		a, errA := os.ReadFile(file)
		b, errB := os.ReadFile(file + ".pub")
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		return string(a), string(b)
	}
	key, public := keygen("secret")
	otherKey, other := keygen("other")
	h.Write(t, "/etc/ssh/ssh_host_ed25519_key", key)
	h.Run(t, "chmod 600 /etc/ssh/ssh_host_ed25519_key; touch /etc/app.lines; mkdir -p /etc/app; touch /etc/app/lines /etc/app/blocks /etc/app/app.ini; chmod 600 /etc/app/*")
	h.Write(t, "/srv/spy", "#!/bin/sh\nfor p in /proc/[0-9]*; do tr '\\0' '\\n' <$p/environ; tr '\\0' '\\n' <$p/cmdline; done >>"+spied+" 2>/dev/null\nexit 0\n")
	h.Run(t, "chmod 755 /srv/spy")
	h.Write(t, "/srv/repo/.trued/recipients", "groups/web "+public)
	h.Write(t, "/srv/repo/groups/web/group.yaml", `vars:
  hash: '{{ secret "secrets/hash.age" }}'
  db: {user: app, password: '{{ secret "secrets/password.age" }}'}
`)
	h.Write(t, "/srv/repo/groups/web/templates/app.conf", "user {{ vars.db.user }}\npassword {{ vars.db.password }}\n")
	write := func(manifest string) { h.Write(t, "/srv/repo/groups/web/web.yaml", manifest) }
	write(secretManifest)
	s.put("password", "Xyzzy31337FirstMark\n")
	s.put("key", "-----BEGIN THING-----\nPlughKeyFirstMark\n-----END THING-----\n")
	s.values[1] = "PlughKeyFirstMark"
	s.put("hash", "$6$salt$FrotzHashFirstMark\n")
	h.Run(t, "cd /srv/repo && trued validate && trued secret recipients")
	config{dir: "/srv/repo", group: "groups/web", agent: []string{"metrics: {textfile: /etc/app/trued.prom}"}}.write(t, h)

	s.try(2, "plan")
	s.try(0, "apply")
	if got := h.Run(t, "cat /etc/app/password /etc/app/app.conf /etc/app/key /etc/app/lines /etc/app/app.ini; stat -c '%a' /etc/app/password /etc/app/app.conf /etc/app/key; grep ^app: /etc/shadow"); strings.Count(got, "Xyzzy31337FirstMark") != 4 ||
		!strings.Contains(got, "PlughKeyFirstMark") || !strings.Contains(got, "600\n640\n600\n") || !strings.Contains(got, "$6$salt$FrotzHashFirstMark") {
		t.Errorf("the host has\n%s", got)
	}
	if got := h.Read(t, spied); !strings.Contains(got, "/srv/spy") {
		t.Errorf("nobody looked: %s", got)
	}
	h.Run(t, "systemctl start trued")
	s.keptQuiet("at first")
	h.Run(t, "grep -qaF -f /root/forms /etc/app/password") // it would be found

	// Another value of each: nothing keeps the old one.
	s.put("password", "Xyzzy31337SecondMark\n")
	s.put("hash", "$6$salt$FrotzHashSecondMark\n")
	s.put("key", "PlughKeySecondMark\n")
	h.Run(t, "rm /srv/loaded")
	s.try(0, "sync")
	await(t, h, "grep -q SecondMark /etc/app/password && grep -q SecondMark /etc/shadow")
	s.keptQuiet("changed")

	// A drift, put back by the daemon; the old value is in the file meanwhile.
	h.Run(t, "echo drifted >>/etc/app/app.conf; echo drifted >>/etc/app/key; sed -i /user/d /etc/app/lines /etc/app/app.ini")
	await(t, h, "! grep -q drifted /etc/app/app.conf /etc/app/key")
	await(t, h, "grep 'resource.drifted' "+eventFile+" | grep -q /etc/app/app.conf")
	await(t, h, "grep 'resource.drifted' "+eventFile+" | grep -q 'line:beside it' && grep 'resource.drifted' "+eventFile+" | grep -q ini:user")
	h.Run(t, "systemctl stop trued; sed -i s/user=app/refused/ /etc/app/lines; echo refused >>/etc/app/lines")
	s.try(3, "apply") // and what refuses it quotes the whole
	h.Run(t, "sed -i /refused/d /etc/app/lines; systemctl start trued")
	s.keptQuiet("drifted")

	// Mistakes of authors, and programs that tell what they are given.
	for name, item := range map[string]string{
		"a number":     "- user: app2\n  uid: '{{ vars.db.password }}'\n",
		"a unit":       "- unit: b.service\n  content: \"[Service]\\nEnvironment=P={{ vars.db.password }}\\n\"\n",
		"an argument":  "- command: x\n  argv: [/bin/echo, '{{ vars.db.password }}']\n  creates: /srv/x\n",
		"environment":  "- command: x\n  run: 'true'\n  env: {P: '{{ vars.db.password }}'}\n  creates: /srv/x\n",
		"a name":       "- file: '/srv/{{ vars.db.password }}'\n",
		"a template":   "- file: /srv/x\n  content: '{{ vars.db.password | int }}'\n",
		"a condition":  "- file: /srv/x\n  when: vars.db.password == \"x\"\n",
		"a mode":       "- file: /srv/x\n  content: '{{ vars.db.password }}'\n  mode: \"0644\"\n",
		"a validation": "- file: /srv/x\n  content: x\n  validate: grep '{{ vars.db.password }}' {path}\n",
	} {
		write(secretManifest + item)
		if out := s.try(4, "sync"); !strings.Contains(out, "web.yaml") {
			t.Errorf("%s: sync says\n%s", name, out)
		}
	}
	write(secretManifest + `
- command: tells
  run: cat; echo; echo told >&2; exit 3
  stdin: '{{ vars.db.password }}'
  creates: /srv/never
- file: /srv/told
  content: '{{ vars.db.password }}'
  validate: sh -c 'cat "$0"; exit 1' {path}
- sudoers: tells
  content: "nonsense {{ vars.db.password }}\n"
- user: app
  override: true
  password: '{{ vars.hash }}'
`)
	s.try(4, "sync") // an override of what is in the same group
	write(secretManifest + `
- command: tells
  run: cat; echo; echo told >&2; exit 3
  stdin: '{{ vars.db.password }}'
  creates: /srv/never
- file: /srv/told
  content: '{{ vars.db.password }}'
  validate: sh -c 'cat "$0"; exit 1' {path}
`)
	s.try(3, "sync")
	s.keptQuiet("mistaken")

	// Encrypted for another host alone: the last good commit stays, and the error
	// says whose key is missing.
	write(secretManifest)
	s.try(0, "sync")
	h.Write(t, "/srv/repo/.trued/recipients", "groups/web "+other)
	h.Run(t, "cd /srv/repo && trued secret rekey -i /etc/ssh/ssh_host_ed25519_key && rm /etc/app/key")
	if out := s.try(4, "sync") + s.try(4, "status"); !strings.Contains(out, "it is not encrypted for this host's key "+strings.Join(strings.Fields(public)[:2], " ")) ||
		!strings.Contains(out, "it is for root@other") {
		t.Errorf("sync and status say\n%s", out)
	}
	if refused := events(t, h).of(report.SourceRefused); len(refused) == 0 || !strings.Contains(refused[len(refused)-1].ErrorMessage, "root@other") {
		t.Errorf("the events say %v", refused)
	}
	await(t, h, "grep -q SecondMark /etc/app/password /etc/app/key")

	// Another key on the host: not even that commit can be read, and all stays as
	// it is. Of another key that the host is told of, it makes use.
	h.Run(t, "mv /etc/ssh/ssh_host_ed25519_key /etc/trued/key")
	h.Write(t, "/srv/repo/.trued/recipients", "groups/web "+public)
	h.Write(t, "/etc/ssh/ssh_host_ed25519_key", otherKey)
	h.Run(t, "chmod 600 /etc/ssh/ssh_host_ed25519_key; cd /srv/repo && trued secret rekey -i /etc/ssh/ssh_host_ed25519_key")
	s.try(1, "sync")
	h.Run(t, "grep -q SecondMark /etc/app/password")
	config{dir: "/srv/repo", group: "groups/web", agent: []string{"metrics: {textfile: /etc/app/trued.prom}", "secrets: {identities: [/etc/trued/key]}"}}.write(t, h)
	await(t, h, "trued sync")
	s.keptQuiet("with another key")

	// All of it leaves.
	write("- file: /srv/other\n  content: x\n")
	s.try(0, "sync --accept-prune")
	if out, code := h.Try(t, "ls /etc/app/password /etc/app/key 2>/dev/null"); code == 0 {
		t.Errorf("what left Git is there: %s", out)
	}
	s.keptQuiet("gone")
}
