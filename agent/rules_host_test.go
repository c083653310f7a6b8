package agent_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/health"
	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/hosttest"
)

// hostRules are what a team is limited by: its directory, its user, and two
// commands that stand for what goes wrong between a look and a change.
const hostRules = `
rules:
  - name: stays
    require: within("/srv/app", "/etc/systemd/system")
  - name: no setuid
    deny: setuid
  - name: the team's own programs
    sources: ["*"]
    allow_run: run.program startsWith "/srv/app/bin/"
    as: app
  - name: what is planted
    sources: ["*"]
    kinds: [command]
    allow_run: run.argv == ["/usr/local/bin/plant"]
    as: root
`

// TestRulesOfAHost tries to get around rules on a booted host, by all that its
// file systems have.
func TestRulesOfAHost(t *testing.T) {
	prepare := `useradd -rm app; mkdir -p /srv/app/bin /srv/app/out /etc/trued; chown app /srv/app/out
printf '#!/bin/sh\nid -u >/srv/app/out/uid\ntest -r "$1"\n' >/srv/app/bin/check; chmod 755 /srv/app/bin/check`
	if !hosttest.Inside(t, hosttest.Options{Name: "rules"}, prepare) {
		return
	}
	k := &kept{t: t, source: t.TempDir(), root: "/"}
	put(t, "/etc/trued/policy.yaml", hostRules)
	k.write("groups/web/a.yaml", "- directory: /srv/app/first\n")
	k.open()
	k.accepts("")
	shadow := sh(t, "stat -c '%a %u %g %i' /etc/shadow; cat /etc/shadow")

	for name, c := range map[string]struct{ prepare, manifest, undo string }{
		"a link":              {"ln -s /etc /srv/app/l", "- {file: /srv/app/l/new, content: x}", "rm /srv/app/l"},
		"a link that climbs":  {"ln -s ../../etc /srv/app/l", "- {file: /srv/app/l/new, content: x}", "rm /srv/app/l"},
		"a link to follow":    {"ln -s /etc/new /srv/app/f", "- {file: /srv/app/f, content: x, follow: true}", "rm /srv/app/f"},
		"a line in a link":    {"ln -s /etc/shadow /srv/app/f", "- {line: x, path: /srv/app/f}", "rm /srv/app/f"},
		"a link of its own":   {"", "- {link: /srv/app/l, target: /etc}\n- {file: /srv/app/l/new, content: x}", ""},
		"a bind mount":        {"mkdir /srv/app/m; mount --bind /etc /srv/app/m", "- {file: /srv/app/m/new, content: x}", "umount /srv/app/m; rmdir /srv/app/m"},
		"one below a link":    {"mkdir /srv/app/m; mount --bind / /srv/app/m", "- {file: /srv/app/m/etc/new, content: x}", "umount /srv/app/m; rmdir /srv/app/m"},
		"a file mounted":      {"touch /srv/app/m; mount --bind /etc/shadow /srv/app/m", "- {file: /srv/app/m, mode: \"0666\"}", "umount /srv/app/m; rm /srv/app/m"},
		"a directory mounted": {"mkdir /srv/app/m; mount --bind /etc /srv/app/m", "- {directory: /srv/app/m, mode: \"0777\"}", "umount /srv/app/m; rmdir /srv/app/m"},
		"dots":                {"", "- {file: /srv/app/../../etc/new, content: x}", ""},
		"a unit":              {"", "- unit: new.service\n  content: \"[Service]\\nExecStart=/bin/sh\\n\"", ""},
		"a unit as root":      {"", "- unit: new.service\n  content: \"[Service]\\nExecStart=/srv/app/bin/check\\n\"", ""},
		"a drop-in":           {"", "- unit: systemd-journald.service\n  drop_ins: {new: \"[Service]\\nExecStartPre=/bin/sh\\n\"}", ""},
		"a unit by a link":    {"mkdir -p /srv/app/systemd/system; printf '[Service]\\nExecStart=/bin/touch /etc/new\\n' >/srv/app/systemd/system/new.service", "- {link: /etc/systemd/system/new.service, target: ../../../srv/app/systemd/system/new.service}", "rm -r /srv/app/systemd"},
		"a unit by a file":    {"", "- {file: /etc/systemd/system/new.service, content: \"[Service]\\nExecStart=/bin/sh\\n\"}", ""},
		"a command":           {"", "- {command: a, argv: [/bin/touch, /etc/new], creates: /etc/new}", ""},
		"a command as root":   {"", "- {command: a, argv: [/srv/app/bin/check], creates: /etc/new, user: root}", ""},
		"a validate":          {"", "- {file: /srv/app/v, content: x, validate: /bin/sh}", ""},
		"setuid":              {"", "- {file: /srv/app/s, content: x, mode: \"04755\"}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			k.t = t
			sh(t, c.prepare)
			defer sh(t, c.undo)
			k.write("groups/web/a.yaml", "- directory: /srv/app/never\n"+c.manifest+"\n")
			if verdict, summary := k.ask(); verdict != agent.Behind {
				t.Errorf("%s: %s", verdict, summary)
			}
			k.holds("etc/new", "")
			k.holds("srv/app/v", "")
			k.holds("etc/systemd/system/new.service", "")
			if _, err := os.Lstat("/srv/app/never"); err == nil {
				t.Error("a part of the commit was applied")
			}
			if now := sh(t, "stat -c '%a %u %g %i' /etc/shadow; cat /etc/shadow"); now != shadow {
				t.Errorf("/etc/shadow is now %s", now)
			}
		})
	}

	t.Run("mounts are known as they come and go", mountsComeAndGo)
	t.Run("what is planted after the look", func(t *testing.T) { plants(t, k) })
	t.Run("a second name of another's file", func(t *testing.T) {
		k.t = t
		sh(t, "ln /etc/shadow /srv/app/h")
		k.write("groups/web/a.yaml", "- {file: /srv/app/h, mode: \"0666\", owner: app}\n")
		k.ask() // it may fail, or give the name to a file of its own
		if now := sh(t, "stat -c '%a %u %g %i' /etc/shadow; cat /etc/shadow"); now != shadow {
			t.Errorf("/etc/shadow is now %s", now)
		}
		sh(t, "rm -f /srv/app/h")
	})
	t.Run("validate runs as the user that the rule names", func(t *testing.T) {
		k.t = t
		k.accepts("- {file: /srv/app/v, content: x, validate: \"/srv/app/bin/check {path}\"}\n")
		if got, want := sh(t, "cat /srv/app/out/uid"), sh(t, "id -u app"); got != want || want == "0" {
			t.Errorf("it ran as %s, want %s", got, want)
		}
	})
	t.Run("so does a command", func(t *testing.T) {
		k.t = t
		sh(t, "rm /srv/app/out/uid")
		k.accepts("- {command: a, argv: [/srv/app/bin/check, /], creates: /srv/app/out/uid}\n")
		if got, want := sh(t, "stat -c %U /srv/app/out/uid"), "app"; got != want {
			t.Errorf("it ran as %s, want %s", got, want)
		}
	})
	t.Run("a unit of the team's runs", func(t *testing.T) {
		k.t = t
		k.accepts("- unit: new.service\n  state: running\n  content: \"[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nUser=app\\nExecStart=/srv/app/bin/check /\\n\"\n")
		if got := sh(t, "systemctl is-active new.service"); got != "active" {
			t.Errorf("the unit is %s", got)
		}
		k.accepts("- directory: /srv/app/first\n")
		if got := sh(t, "systemctl is-active new.service || true"); got != "inactive" {
			t.Errorf("the unit that left is %s", got)
		}
	})
	t.Run("what a group has looked at", func(t *testing.T) { probes(t, k) })
	t.Run("what is shown to a server", func(t *testing.T) { shows(t, k) })
	t.Run("many kinds come and go under rules that none of them breaks", func(t *testing.T) { comeAndGo(t, k) })
	t.Run("packages come from where they may", func(t *testing.T) { comesFrom(t, k) })
}

// mountsComeAndGo looks at a path before, while and after it has a second name.
func mountsComeAndGo(t *testing.T) {
	h := host.New("/", host.Options{})
	for range 50 {
		for _, c := range []struct {
			change string
			names  int
		}{{"mkdir -p /srv/app/m; mount --bind / /srv/app/m", 2}, {"umount /srv/app/m; rmdir /srv/app/m", 1}} {
			sh(t, c.change)
			one, err := h.KnownAs("/srv/app/x", false)
			many, surveyErr := h.Survey().KnownAs("/srv/app/x", false)
			if err != nil || surveyErr != nil || len(one) != c.names || !slices.Equal(one, many) {
				t.Fatalf("after %q it is known as %q, %v and as %q, %v", c.change, one, err, many, surveyErr)
			}
		}
	}
}

// manyKinds are resources of the kinds that write paths.
const manyKinds = `
- group: team
- user: ada
  home: /home/ada
  create_home: true
  remove_home: true
- authorized_key: ada@laptop
  user: ada
  key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN1rvNbVhsVmQ2bHcMGbBvmCXZgXJmhvHcxoUmRgGDbk
- file: /srv/k/f/a
  content: a
  parents: true
- directory: /srv/k/d
  source: files/tree
- directory: /srv/k/r
  recurse: true
  owner: ada
- link: /srv/k/l
  target: d
- file: /srv/k/lines
  content: ""
- line: one line
  path: /srv/lines
  text: x = 1
  create: true
- block: one block
  path: /srv/lines
  content: "y = 2\n"
  create: true
- ini: one key
  path: /srv/keys
  section: s
  key: k
  value: v
  create: true
- archive: /srv/k/archive
  source: files/a.tar
- timer: tick
  on_calendar: daily
  argv: [/bin/true]
- cron: tock
  schedule: "@daily"
  run: "true"
- unit: many.service
  enabled: true
  state: running
  content: |
    [Service]
    Type=oneshot
    RemainAfterExit=yes
    ExecStart=/bin/true
    [Install]
    WantedBy=multi-user.target
  drop_ins: {a: "[Service]\nLimitNOFILE=99\n"}
- mount: /srv/k/tmp
  device: tmpfs
  fstype: tmpfs
  parents: true
- timezone: UTC
- hostname: rules
- repository: some
  uris: [https://mirror.example.com/debian]
  suites: [bookworm]
  components: [main]
  signed_by: /usr/share/keyrings/debian-archive-keyring.gpg
- command: mark
  argv: [/bin/touch, /srv/k/mark]
  creates: /srv/k/mark
`

// comeAndGo brings resources of many kinds and takes them back, with rules that
// are about them and broken by none.
func comeAndGo(t *testing.T, k *kept) {
	k.t = t
	put(t, "/etc/trued/policy.yaml", "rules: [{name: no setuid, deny: setuid}, {name: no peer, deny: 'touches(\"/nowhere\")'}]")
	k.write("groups/web/files/tree/in/a", "a")
	k.write("groups/web/group.yaml", "prune_limit: 100\n")
	sh(t, "tar -C /srv/app/bin -cf "+filepath.Join(k.source, "groups/web/files/a.tar")+" .")
	k.accepts(manyKinds)
	sh(t, "set -e; test -e /srv/k/archive/check; test -e /etc/cron.d/tock; grep -q x /srv/lines; findmnt /srv/k/tmp; test -e /home/ada/.ssh/authorized_keys")
	k.accepts(strings.NewReplacer("/srv/lines", "/srv/moved", "/srv/keys", "/srv/moved-keys", "user: ada\n  key", "user: app\n  key").Replace(manyKinds))
	sh(t, "set -e; test ! -e /srv/lines; test ! -e /srv/keys; grep -q y /srv/moved; test ! -e /home/ada/.ssh; test -e /home/app/.ssh/authorized_keys")
	k.accepts("- directory: /srv/app/first\n")
	sh(t, "set -e; test ! -e /srv/moved; test ! -e /srv/moved-keys; test ! -e /home/app/.ssh; test ! -e /srv/k/archive; test ! -e /etc/cron.d/tock; test ! -e /srv/lines; ! findmnt /srv/k/tmp; test ! -e /home/ada")
}

// probes has the commands of a group that looks whether the host is healthy run as
// the user that the rules name, and others not at all.
func probes(t *testing.T, k *kept) {
	k.t = t
	group := func(probe string) { k.write("groups/web/group.yaml", "health:\n  x: "+probe+"\n") }
	defer k.write("groups/web/group.yaml", "{}\n")
	for _, probe := range []string{
		`{command: "/bin/touch /etc/new"}`, `{command: "/srv/app/bin/../../../bin/touch /etc/new"}`, `{file: /etc/shadow, contains: root}`,
	} {
		group(probe)
		if verdict, summary := k.ask(); verdict != agent.Behind || !strings.Contains(summary, "health:x") {
			t.Errorf("%s: %s, %s", probe, verdict, summary)
		}
		k.holds("etc/new", "")
	}
	sh(t, "rm -f /srv/app/out/uid")
	k.health = func(h *host.Host) agent.Prober { return health.New(h) }
	k.open()
	defer func() { k.health = nil; k.open() }()
	group(`{command: "/srv/app/bin/check /", times: 1}`)
	k.accepts("")
	if reports, err := k.Health(t.Context(), false); err != nil || len(reports) == 0 || !reports[0].Good {
		t.Errorf("the probe came to %+v, error %v", reports, err)
	}
	if got, want := sh(t, "cat /srv/app/out/uid; stat -c %U /srv/app/out/uid"), sh(t, "id -u app")+"\napp"; got != want {
		t.Errorf("the probe ran as %s, want %s", got, want)
	}
}

// shows has a server take down what a commit would have it shown.
func shows(t *testing.T, k *kept) {
	k.t = t
	put(t, "/etc/trued/age.key", "AGE-SECRET-KEY-1X")
	sh(t, "chmod 600 /etc/trued/age.key")
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { asked++; w.WriteHeader(http.StatusNotFound) }))
	defer server.Close()
	sum := strings.Repeat("0", 64)
	for _, kind := range []string{"download", "archive"} {
		k.write("groups/web/a.yaml", "- {"+kind+": /srv/app/x, url: \""+server.URL+"/x\", token_file: /etc/trued/age.key, username: u, checksum: \"sha256:"+sum+"\"}\n")
		if verdict, summary := k.ask(); verdict != agent.Behind || !strings.Contains(summary, "token_file") {
			t.Errorf("%s: %s, %s", kind, verdict, summary)
		}
	}
	if asked > 0 {
		t.Errorf("the server was asked %d times", asked)
	}
	k.accepts("- directory: /srv/app/first\n")
}

// comesFrom has packages come from two repositories of which one may be used, by
// themselves and as what others depend on.
func comesFrom(t *testing.T, k *kept) {
	k.t = t
	sh(t, `deb() { # repository, name, version, dependencies
	d=$(mktemp -d); chmod 755 $d; mkdir $d/DEBIAN
	printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: x\n%s' $2 $3 "${4:+Depends: $4
}" >$d/DEBIAN/control
	mkdir -p /srv/$1; cd /srv/$1; dpkg-deb --root-owner-group -Znone -b $d $2_$3.deb >/dev/null
	{ dpkg-deb -f $2_$3.deb; echo "Filename: ./$2_$3.deb"; echo "Size: $(stat -c %s $2_$3.deb)"; echo "SHA256: $(sha256sum <$2_$3.deb | cut -d' ' -f1)"; echo; } >>Packages
}
deb ours own-plain 1; deb ours own-newer 1; deb ours own-library 1; deb ours own-whole 1 own-library; deb ours own-needs 1 foreign-library
deb theirs own-newer 2; deb theirs foreign-library 1; deb theirs foreign 1
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*
for r in ours theirs; do echo "deb [trusted=yes] copy:/srv/$r ./"; done >/etc/apt/sources.list.d/lab.list
apt-get -q update`)
	put(t, "/etc/trued/policy.yaml", `rules: [{name: our mirror, require: 'all(origins, # startsWith "copy:/srv/ours ")'}]`)
	there := func() string {
		return sh(t, "dpkg-query -W -f '${db:Status-Abbrev}${Package} ' 'own-*' 'foreign*' 2>/dev/null | tr -s ' ' || true")
	}
	for _, name := range []string{"foreign", "own-newer", "nowhere"} {
		k.write("groups/web/a.yaml", "- package: ["+name+", own-plain]\n")
		if verdict, summary := k.ask(); verdict != agent.Behind || !strings.Contains(summary, "our mirror") || there() != "" {
			t.Errorf("%s: %s, %s; there are %q", name, verdict, summary, there())
		}
	}
	k.write("groups/web/a.yaml", "- package: [own-needs, own-plain]\n")
	verdict, summary := k.ask()
	if verdict != agent.Failed || there() != "ii own-plain" {
		t.Errorf("with what it depends on from elsewhere: %s, %s; there are %q", verdict, summary, there())
	}
	k.accepts("- package: [own-whole, own-plain]\n")
	if got := there(); got != "ii own-library ii own-plain ii own-whole" {
		t.Errorf("there are %q", got)
	}
}

// plants has a command of the same commit lead a path elsewhere after all of the
// commit was judged and looked at.
func plants(t *testing.T, k *kept) {
	k.t = t
	for name, c := range map[string]struct{ plant, resource, undo string }{
		"a link":          {"rmdir /srv/app/d; ln -s /etc /srv/app/d", "file: /srv/app/d/new\n  content: x", "rm /srv/app/d"},
		"a mount":         {"mount --bind /etc /srv/app/d", "file: /srv/app/d/new\n  content: x", "umount /srv/app/d; rmdir /srv/app/d"},
		"for a directory": {"mount --bind /etc /srv/app/d", "directory: /srv/app/d/new", "umount /srv/app/d; rmdir /srv/app/d"},
		"for a link":      {"mount --bind /etc /srv/app/d", "link: /srv/app/d/new\n  target: /x", "umount /srv/app/d; rmdir /srv/app/d"},
		"for a removal":   {"touch /etc/old; mount --bind /etc /srv/app/d", "file: /srv/app/d/old\n  state: absent", "test -e /etc/old; umount /srv/app/d; rmdir /srv/app/d"},
		"for parents":     {"mount --bind /etc /srv/app/d", "file: /srv/app/d/new/b\n  content: x\n  parents: true", "umount /srv/app/d; rmdir /srv/app/d"},
		"for a mode":      {"rm /srv/app/d/e; mount --bind /etc /srv/app/d; touch /etc/e; chmod 600 /etc/e", "file: /srv/app/d/e\n  mode: \"0666\"", "test $(stat -c %a /etc/e) = 600; umount /srv/app/d; rmdir /srv/app/d; rm /etc/e"},
		"for an archive":  {"mount --bind /etc /srv/app/d", "archive: /srv/app/d/new\n  source: files/a.tar", "umount /srv/app/d; rmdir /srv/app/d"},
	} {
		t.Run(name, func(t *testing.T) {
			k.t = t
			sh(t, "mkdir -p /srv/app/d; touch /srv/app/d/e; rm -f /srv/planted; mkdir -p "+filepath.Join(k.source, "groups/web/files"))
			sh(t, "tar -C /srv/app/bin -cf "+filepath.Join(k.source, "groups/web/files/a.tar")+" .")
			plant := "#!/bin/sh -e\ntouch /srv/planted\nrm -f /srv/app/d/e\n" + c.plant + "\n"
			if strings.HasPrefix(c.plant, "rm /srv") {
				plant = "#!/bin/sh -e\ntouch /srv/planted\n" + c.plant + "\n"
			}
			put(t, "/usr/local/bin/plant", plant)
			sh(t, "chmod 755 /usr/local/bin/plant")
			k.write("groups/web/a.yaml", "- command: plant\n  argv: [/usr/local/bin/plant]\n  creates: /srv/planted\n- "+c.resource+"\n  requires: [\"command:plant\"]\n")
			verdict, summary := k.ask()
			if verdict != agent.Failed {
				t.Errorf("%s: %s", verdict, summary)
			}
			if _, err := os.Stat("/srv/planted"); err != nil {
				t.Error("nothing was planted")
			}
			if _, err := os.Lstat("/etc/new"); err == nil {
				t.Error("it was written where the rules do not let it")
			}
			sh(t, "set -e; "+c.undo)
		})
	}
}

// accepts runs a commit, and expects the host to come into order by it.
func (k *kept) accepts(manifest string) {
	k.t.Helper()
	if manifest != "" {
		k.write("groups/web/a.yaml", manifest)
	}
	if verdict, summary := k.ask(); verdict != agent.InOrder {
		k.t.Errorf("%s: %s", verdict, summary)
	}
}

// sh runs a line of shell and returns what it prints.
func sh(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.Command("/bin/sh", "-ec", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return strings.TrimSpace(string(out))
}
