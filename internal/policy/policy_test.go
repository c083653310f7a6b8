package policy_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/facts"
	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/policy"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/modules"
)

// load makes the catalog of one manifest of a source.
func load(t *testing.T, source, manifest string) *catalog.Catalog {
	t.Helper()
	return loadGroup(t, source, "", manifest)
}

func loadGroup(t *testing.T, source, group, manifest string) *catalog.Catalog {
	t.Helper()
	cat, err := catalog.Load(catalog.Input{
		Name: source, Group: "g", Facts: facts.Nothing("not in this test"), Version: "1.0.0",
		Tree: fstest.MapFS{
			"g/a.yaml":      {Data: []byte(manifest)},
			"g/group.yaml":  {Data: []byte("allow_empty: true\n" + group)},
			"g/files/a.txt": {Data: []byte("a")},
		},
		Modules: modules.All(host.New("/", host.Options{})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return cat
}

func parse(t *testing.T, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("policy.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// mapped is a host that knows some paths by other names.
type mapped map[string][]string

func (m mapped) KnownAs(name string, _ bool) ([]string, error) {
	for at, also := range m {
		if rest, ok := strings.CutPrefix(name, at); ok && (rest == "" || rest[0] == '/') {
			known := make([]string, len(also))
			for i := range also {
				known[i] = also[i] + rest
			}
			return known, nil
		}
	}
	return []string{name}, nil
}

func (mapped) OwnerName(name string) string {
	if name == "0" {
		return "root"
	}
	return name
}
func (m mapped) OwningGroupName(name string) string { return m.OwnerName(name) }

const mixed = `
rules:
  - name: no setuid
    deny: setuid or setgid
  - name: the app team stays under /srv/app
    sources: [app]
    require: within("/srv/app", "/etc/cron.d", "/etc/systemd")
  - name: nobody touches /etc/trued
    deny: touches("/etc/trued")
  - name: root owns nothing of the app team's
    sources: [app]
    kinds: [file, directory]
    deny: '"root" in owners'
  - name: kinds of the app team
    sources: [app]
    require: kind in ["file", "link", "directory", "unit", "cron", "timer", "command", "mount", "line", "archive"]
  - name: the app team may check its configuration
    sources: [app]
    kinds: [file]
    allow_run: run.argv == ["check", "{path}"]
    as: app
  - name: the app team runs its own programs
    sources: [app]
    allow_run: run.program startsWith "/srv/app/bin/" or run.shell startsWith "/srv/app/bin/"
    as: app
`

func TestARuleIsAboutWhatAResourceDoes(t *testing.T) {
	for name, c := range map[string]struct {
		source, manifest string
		breaks           []string
	}{
		"in its place":          {"app", "- {file: /srv/app/a, content: x}\n", nil},
		"elsewhere":             {"app", "- {file: /srv/apple, content: x}\n", []string{"the app team stays under /srv/app"}},
		"another source":        {"infra", "- {file: /etc/motd, content: x, validate: anything}\n", nil},
		"setuid":                {"infra", "- {file: /usr/bin/x, mode: \"04755\"}\n", []string{"no setuid"}},
		"a tree of setuid":      {"infra", "- {directory: /srv/x, source: files, file_mode: \"02755\"}\n", []string{"no setuid"}},
		"number of root":        {"app", "- {file: /srv/app/a, owner: 0}\n", []string{"root owns nothing of the app team's"}},
		"below":                 {"infra", "- {file: /etc/trued/policy.yaml, content: x}\n", []string{"nobody touches /etc/trued"}},
		"above, with all of it": {"infra", "- {directory: /etc, state: absent, force: true}\n", []string{"nobody touches /etc/trued"}},
		"above, itself alone":   {"infra", "- {directory: /etc, mode: \"0755\"}\n", nil},
		"a part of a file":      {"infra", "- {line: x, path: /etc/trued/trued.yaml}\n", []string{"nobody touches /etc/trued"}},
		"kind":                  {"app", "- {package: nginx}\n", []string{"kinds of the app team"}},
		"by a link of its own": {"app", "- {link: /srv/app/l, target: /etc}\n- {file: /srv/app/l/passwd, content: x}\n",
			[]string{"the app team stays under /srv/app", unallowed}},
		"by a mount of its own": {"infra", "- {mount: /srv/m, device: /etc, fstype: none, options: bind}\n- {file: /srv/m/trued/x, content: x}\n",
			[]string{"nobody touches /etc/trued"}},
		"by a relative link": {"infra", "- {link: /srv/l, target: ../etc/trued}\n- {file: /srv/l/x, content: x}\n",
			[]string{"nobody touches /etc/trued"}},
		"a link of the host": {"app", "- {file: /srv/app/etc/passwd, content: x}\n", []string{"the app team stays under /srv/app", unallowed}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(t, mixed).Judge(t.Context(), load(t, c.source, c.manifest), mapped{"/srv/app/etc": {"/etc"}})
			if got := broken(err); !slices.Equal(got, c.breaks) {
				t.Errorf("breaks %q, want %q (%v)", got, c.breaks, err)
			}
		})
	}
}

func broken(err error) []string {
	var refused *policy.Refusal
	if !errors.As(err, &refused) {
		return nil
	}
	var rules []string
	for _, b := range refused.Breaches {
		if !slices.Contains(rules, b.Rule) {
			rules = append(rules, b.Rule)
		}
	}
	return rules
}

const unallowed = "a confined source runs what a rule allows"

func TestAConfinedSourceRunsWhatARuleAllows(t *testing.T) {
	unit := func(text string) string {
		return "- unit: a.service\n  content: |\n    " + strings.ReplaceAll(text, "\n", "\n    ") + "\n"
	}
	for name, c := range map[string]struct {
		manifest string
		ok       bool
	}{
		"validate":                      {"- {file: /srv/app/a, content: x, validate: \"check {path}\"}\n", true},
		"another validate":              {"- {file: /srv/app/a, content: x, validate: \"check -x {path}\"}\n", false},
		"command":                       {"- {command: a, argv: [/srv/app/bin/a], creates: /srv/app/x}\n", true},
		"as the user":                   {"- {command: a, argv: [/srv/app/bin/a], creates: /srv/app/x, user: app}\n", true},
		"as another":                    {"- {command: a, argv: [/srv/app/bin/a], creates: /srv/app/x, user: root}\n", false},
		"a guard":                       {"- {command: a, argv: [/srv/app/bin/a], unless: id}\n", false},
		"timer as the user":             {"- {timer: a, on_calendar: daily, argv: [/srv/app/bin/a], user: app}\n", true},
		"timer as root":                 {"- {timer: a, on_calendar: daily, argv: [/srv/app/bin/a]}\n", false},
		"cron as the user":              {"- {cron: a, schedule: '@daily', run: /srv/app/bin/a, user: app}\n", true},
		"cron as root":                  {"- {cron: a, schedule: '@daily', run: /srv/app/bin/a}\n", false},
		"unit as the user":              {unit("[Service]\nUser=app\nExecStart=/srv/app/bin/a -v"), true},
		"unit as root":                  {unit("[Service]\nExecStart=/srv/app/bin/a"), false},
		"another program":               {unit("[Service]\nUser=app\nExecStart=/srv/app/bin/a\nExecStartPost=/bin/sh"), false},
		"with full rights":              {unit("[Service]\nUser=app\nExecStart=+/srv/app/bin/a"), false},
		"a second command":              {unit("[Service]\nUser=app\nType=oneshot\nExecStart=/srv/app/bin/a ; /bin/sh"), false},
		"called otherwise":              {unit("[Service]\nUser=app\nExecStart=@/bin/sh /srv/app/bin/a"), false},
		"escaped":                       {unit("[Service]\nUser=app\nExecStart=/srv/app/bin/a \\x41"), false},
		"continued":                     {unit("[Service]\nUser=app\nExecStart=/bin/sh \\\n  /srv/app/bin/a"), false},
		"with a group":                  {unit("[Service]\nUser=app\nGroup=disk\nExecStart=/srv/app/bin/a"), false},
		"with a log of root's":          {unit("[Service]\nUser=app\nStandardOutput=append:/etc/passwd\nExecStart=/srv/app/bin/a"), false},
		"drop-in":                       {"- unit: b.service\n  drop_ins: {a: \"[Service]\\nExecStart=/bin/sh\\n\"}\n", false},
		"drop-in of a user":             {"- unit: b.service\n  drop_ins: {a: \"[Service]\\nUser=root\\n\"}\n", false},
		"drop-in of a limit":            {"- unit: b.service\n  drop_ins: {a: \"[Service]\\nLimitNOFILE=9\\n\"}\n", true},
		"unit by file":                  {"- {file: /etc/systemd/system/c.service, content: \"[Service]\\nExecStart=/bin/sh\\n\"}\n", false},
		"unit by a line":                {"- {line: ExecStart=/bin/sh, path: /etc/systemd/system/c.service}\n", false},
		"unit by a link":                {"- {link: /etc/systemd/system/c.service, target: /srv/app/c}\n", false},
		"by a link that climbs":         {"- {link: /etc/systemd/system/c.service, target: /etc/systemd/system/../../../srv/app/c.service}\n", false},
		"by a relative link":            {"- {link: /etc/systemd/system/c.service, target: ../../../srv/app/systemd/system/c.service}\n", false},
		"by a likely place":             {"- {link: /etc/systemd/system/c.service, target: /srv/app/systemd/system/c.service}\n", false},
		"a directory by a link":         {"- {link: /etc/systemd/system/c.service.d, target: /srv/app/systemd/system}\n", false},
		"a unit of the system":          {"- {link: /etc/systemd/system/c.service, target: /usr/lib/systemd/system/d.service}\n", true},
		"one beside it":                 {"- {link: /etc/systemd/system/c.service, target: d.service}\n", true},
		"a user's unit":                 {"- {link: /etc/systemd/user/c.service, target: /usr/lib/systemd/user/d.service}\n", true},
		"a user's, wanted by another":   {"- {link: /etc/systemd/user/default.target.wants/c.service, target: ../../../../usr/lib/systemd/user/c.service}\n", true},
		"a system's for users":          {"- {link: /etc/systemd/user/c.service, target: /etc/systemd/system/d.service}\n", false},
		"a user's for the system":       {"- {link: /etc/systemd/system/c.service, target: /usr/lib/systemd/user/d.service}\n", false},
		"a likely place of users":       {"- {link: /etc/systemd/user/c.service, target: /srv/app/systemd/user/c.service}\n", false},
		"a generator by a link":         {"- {link: /etc/systemd/system-generators/c, target: /etc/systemd/system/d.service}\n", false},
		"mask by a link":                {"- {link: /etc/systemd/system/c.service, target: /dev/null}\n", true},
		"that ends the host":            {unit("[Unit]\nFailureAction=reboot-force\n[Service]\nUser=app\nExecStart=/srv/app/bin/a"), false},
		"cron by file":                  {"- {file: /etc/cron.d/x, content: \"* * * * * root /srv/app/bin/a\\n\"}\n", false},
		"cron by file, as it should be": {"- {file: /etc/cron.d/x, content: \"PATH=/bin\\n# x\\n*/5 * * * * app /srv/app/bin/a\\n\"}\n", true},
		"unit by archive":               {"- {archive: /etc/systemd/system, source: files/a.txt}\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(t, mixed).Judge(t.Context(), load(t, "app", c.manifest), mapped{})
			if c.ok != (err == nil) || !c.ok && !slices.Equal(broken(err), []string{unallowed}) {
				t.Errorf("breaks %q: %v", broken(err), err)
			}
		})
	}
}

// everything is a policy under which a source may write where it likes, and run
// one directory's programs as one user.
const everything = `
rules:
  - name: the app team runs its own programs
    sources: [app]
    allow_run: run.program startsWith "/srv/app/bin/" or run.by in ["authorized_key", "user"]
    as: app
`

func TestAConfinedSourceDoesNotBecomeRoot(t *testing.T) {
	quoted := func(kind, name, text string, more ...string) string {
		return fmt.Sprintf("- %s: %s\n  content: %q\n%s", kind, name, text, strings.Join(more, ""))
	}
	unit := func(text string) string { return quoted("unit", "a.service", text) }
	const ok = "[Service]\nUser=app\nExecStart=/srv/app/bin/a\n"
	for name, c := range map[string]struct {
		manifest string
		ok       bool
	}{
		"a unit":                                 {unit(ok), true},
		"a user of another section":              {unit("[Service]\nExecStart=/srv/app/bin/a\n[Install]\nUser=app\n"), false},
		"a user of a section of one's own":       {unit("[X-Mine]\nUser=app\n[Service]\nExecStart=/srv/app/bin/a\n"), false},
		"a socket with the user of a service":    {quoted("file", "/etc/systemd/system/a.socket", "[Service]\nUser=app\n[Socket]\nExecStartPre=/srv/app/bin/a\n"), false},
		"an escaped backslash at the end":        {unit(ok + "Environment=A=\\\\\nExecStartPost=/bin/sh\n"), false},
		"a space behind the backslash":           {unit(ok + "Environment=A=\\ \nExecStartPost=/bin/sh\n"), false},
		"a comment that goes on":                 {unit("[Service]\nUser=app\n# x \\\nExecStart=/bin/sh\n"), false},
		"a line that ends in the middle":         {unit(ok + "Environment=A=b\rExecStartPost=/bin/sh\n"), false},
		"lines that end as in DOS":               {unit(strings.ReplaceAll(ok, "\n", "\r\n")), true},
		"by way of dots":                         {unit("[Service]\nUser=app\nExecStart=/srv/app/bin/../../../bin/sh\n"), false},
		"a specifier":                            {unit("[Service]\nUser=app\nExecStart=/srv/app/bin/%i\n"), false},
		"a directory of the state":               {unit(ok + "StateDirectory=app/a\n"), true},
		"the agent's own state":                  {unit(ok + "StateDirectory=trued\n"), false},
		"by a second name":                       {unit(ok + "StateDirectory=app:../lib/trued trued\n"), false},
		"a configuration that stays root's":      {unit(ok + "ConfigurationDirectory=app\n"), true},
		"a state by quotes":                      {unit(ok + "StateDirectory=tr\"ue\"d\n"), false},
		"a state in quotes":                      {unit(ok + "StateDirectory=\"app\"\n"), true},
		"an end by a failure":                    {unit("[Unit]\nOnFailure=app-b.target\nOnFailureJobMode=isolate\n" + ok), false},
		"an end by success":                      {unit("[Unit]\nOnSuccess=app-b.target\nOnSuccessJobMode=flush\n" + ok), false},
		"an end by an old name":                  {unit("[Unit]\nOnFailure=app-b.target\nOnFailureIsolate=yes\n" + ok), false},
		"a failure as always":                    {unit("[Unit]\nOnFailure=app-b@%n.service\nOnFailureJobMode=replace\n" + ok), true},
		"an end by a unit that runs nothing":     {quoted("unit", "a.target", "[Unit]\nJobTimeoutSec=1\nJobTimeoutAction=reboot\n"), false},
		"an end by a specifier":                  {quoted("file", "/etc/systemd/system/a@.service", "[Unit]\nOnFailure=%i.target\n"+ok), false},
		"an end by an escape":                    {unit("[Unit]\nOnFailure=reb\\x6ft.target\n" + ok), false},
		"a part of the name by a specifier":      {unit("[Unit]\nWants=app-%i.service srv-my\\x2ddata.mount\n" + ok), true},
		"another by a specifier":                 {unit("[Unit]\nConflicts=ss%i.service\n" + ok), false},
		"an instance by a specifier":             {unit("[Unit]\nConflicts=app-b@%i.service\n" + ok), true},
		"another by an escape":                   {unit(ok + "[Install]\nAlso=ss\\h.service\n"), false},
		"others by quotes that do not end":       {unit("[Unit]\nConflicts=\"a.service\n" + ok), false},
		"a credential of root's":                 {unit(ok + "LoadCredential=x:/etc/shadow\n"), false},
		"an environment that root reads":         {unit(ok + "EnvironmentFile=/etc/trued/token\n"), false},
		"a generator":                            {quoted("file", "/etc/systemd/system-generators/a", "#!/bin/sh\n[Unit]\nDescription=x touch /pwned\n", "  mode: \"0755\"\n"), false},
		"a hook of sleep":                        {quoted("file", "/usr/lib/systemd/system-sleep/a", "#!/bin/sh\n"), false},
		"systemd's configuration":                {quoted("file", "/etc/systemd/system.conf.d/a.conf", "[Manager]\nDefaultEnvironment=LD_PRELOAD=/srv/app/x\n"), false},
		"a user's manager":                       {quoted("file", "/etc/systemd/user/a.service", ok), false},
		"a unit that others may change":          {quoted("file", "/etc/systemd/system/a.service", ok, "  owner: app\n"), false},
		"a unit that all may change":             {quoted("file", "/etc/systemd/system/a.service", ok, "  mode: \"0666\"\n"), false},
		"a unit by file":                         {quoted("file", "/etc/systemd/system/a.service", ok, "  owner: root\n  mode: \"0644\"\n"), true},
		"a drop-in of all services":              {quoted("file", "/etc/systemd/system/service.d/a.conf", "[Service]\nEnvironment=LD_PRELOAD=/srv/app/x\n"), false},
		"a pipe at a place of root's":            {quoted("unit", "a.socket", "[Socket]\nListenFIFO=/etc/cron.d/a\n"), false},
		"one by a specifier":                     {quoted("unit", "a.socket", "[Socket]\nListenFIFO=%E/cron.d/a\n"), false},
		"a directory of drop-ins by a specifier": {quoted("unit", "a.path", "[Path]\nPathExists=%E/systemd/system/b.service.d/x\nMakeDirectory=yes\n"), false},
		"a place that nobody knows":              {quoted("file", "/etc/systemd/system/a@.path", "[Path]\nPathExists=/%I\nMakeDirectory=yes\n"), false},
		"a place by a part of its name":          {quoted("file", "/etc/systemd/system/a@.path", "[Path]\nPathExists=/e%ic/x\nMakeDirectory=yes\n"), false},
		"a place that climbs":                    {quoted("file", "/etc/systemd/system/a@.path", "[Path]\nPathExists=/srv/%i/etc/cron.d/x\nMakeDirectory=yes\n"), false},
		"a port by a specifier":                  {quoted("file", "/etc/systemd/system/a@.socket", "[Socket]\nListenStream=127.0.0.1:%i\n"), true},
		"a socket by specifiers":                 {quoted("file", "/etc/systemd/system/a@.socket", "[Socket]\nListenStream=%t/app-%i\n"), true},
		"a socket":                               {quoted("unit", "a.socket", "[Socket]\nListenStream=/srv/app/socket\n"), true},
		"a directory that runs what is in it":    {"- {directory: /etc/cron.d, owner: app}\n", false},
		"one above it":                           {"- {directory: /etc, mode: \"0777\"}\n", false},
		"one that stays root's":                  {"- {directory: /etc/cron.d, owner: root, mode: \"0755\"}\n", true},
		"cron with a space of its own":           {quoted("file", "/etc/cron.d/a", "* * * * *\u00a0app\u00a0 root /srv/app/bin/a\n"), false},
		"a line of cron that ends in the middle": {quoted("file", "/etc/cron.d/a", "* * * * * app /srv/app/bin/a\r* * * * * root /bin/sh\n"), false},
		"what is loaded first":                   {quoted("file", "/etc/ld.so.preload", "/srv/app/x.so\n"), false},
		"a program on root's path":               {quoted("file", "/usr/local/sbin/ls", "x"), false},
		"whom all programs believe":              {quoted("file", "/usr/local/share/ca-certificates/x.crt", "x"), false},
		"what a login has run":                   {quoted("file", "/etc/update-motd.d/x", "x"), false},
		"what root's programs load":              {quoted("file", "/etc/ssl/openssl.cnf", "x"), false},
		"a program of the logs":                  {quoted("file", "/etc/rsyslog.d/x.conf", "x"), false},
		"documents":                              {quoted("file", "/usr/share/doc/app/x", "x"), true},
		"the kernel's own helper":                {"- {sysctl: kernel.core_pattern, value: \"|/srv/app/x\"}\n", false},
		"a file of sysctl":                       {"- {line: x, path: /etc/sysctl.conf}\n", false},
		"a mount by a helper":                    {"- {mount: /srv/app/m, device: \"/srv/app/bin/x#y\", fstype: fuse}\n", false},
		"a mighty group":                         {"- {group: docker, members: [app]}\n", false},
		"a group by its user":                    {"- {user: app, groups: [sudo], append: true, create_home: false}\n", false},
		"a primary group":                        {"- {user: app, group: disk, create_home: false}\n", false},
		"a primary group by number":              {"- {user: app, group: \"0\", create_home: false}\n", false},
		"a group of one's own":                   {"- {group: app, members: [app]}\n", true},
		"the user root":                          {"- {user: root, password: \"$6$x$y\"}\n", false},
		"a user":                                 {"- {user: app, shell: /bin/sh, home: /srv/app, create_home: false}\n", true},
		"a password of the user":                 {"- {user: app, password: \"$6$x$y\", create_home: false}\n", true},
		"a password of another":                  {"- {user: ops, password: \"$6$x$y\", create_home: false}\n", false},
		"another who is let in again":            {"- {user: ops, lock: false, create_home: false}\n", false},
		"another who is locked out":              {"- {user: ops, lock: true, create_home: false}\n", true},
		"a shell of one who is there":            {"- {user: daemon, shell: /srv/app/bin/sh, create_home: false}\n", false},
		"a shell that lets nobody in":            {"- {user: daemon, shell: /bin/false, create_home: false}\n", true},
		"which shells there are":                 {quoted("file", "/etc/shells", "/srv/app/bin/sh\n"), false},
		"a home of one who is there":             {"- {user: daemon, home: /srv/app, create_home: false}\n", false},
		"a key of the user":                      {"- {authorized_key: a, user: app, key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN1rvNbVhsVmQ2bHcMGbBvmCXZgXJmhvHcxoUmRgGDbk}\n", true},
		"a key of root":                          {"- {authorized_key: a, user: root, key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN1rvNbVhsVmQ2bHcMGbBvmCXZgXJmhvHcxoUmRgGDbk}\n", false},
		"keys by a file":                         {quoted("file", "/home/ops/.ssh/authorized_keys", "x"), false},
		"a repository":                           {"- {repository: x, uris: [http://elsewhere], suites: [a], components: [b], signed_by: /usr/share/k.gpg}\n", false},
		"a hook of apt":                          {quoted("file", "/etc/apt/apt.conf.d/a", "x"), false},
		"a rotation with a script":               {"- {logrotate: x, paths: [/srv/app/log], postrotate: id}\n", false},
		"sudo":                                   {"- {sudoers: x, user: app, commands: [ALL]}\n", false},
		"the rules":                              {quoted("file", "/etc/trued/policy.yaml", "x"), false},
		"a tree above":                           {"- {directory: /etc, purge: true}\n", false},
		"a checkout in a place of root's":        {"- {archive: /usr/local/bin, source: files/a.txt}\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(t, everything).Judge(t.Context(), load(t, "app", c.manifest), mapped{})
			if c.ok != (err == nil) || !c.ok && !slices.Equal(broken(err), []string{unallowed}) {
				t.Errorf("breaks %q: %v", broken(err), err)
			}
		})
	}
}

// What a group has run to see whether the host is healthy is run as what a resource
// has run, and what it has looked for in a file is read by root.
func TestAConfinedSourceHasProbesRunWhatARuleAllows(t *testing.T) {
	rules := mixed + `
  - name: the app team looks at its file
    sources: [app]
    allow_run: run.by == "contains" and run.line == "/run/app/ready"
    as: root
`
	for probe, want := range map[string]struct {
		as string
		ok bool
	}{
		`{command: "/srv/app/bin/ready -v"}`:        {"app", true},
		`{command: "/bin/sh -c id"}`:                {"", false},
		`{command: "/srv/app/bin/../../../bin/sh"}`: {"", false},
		`{command: "'"}`:                            {"", false},
		`{file: /run/app/ready, contains: x}`:       {"", true},
		`{file: /etc/shadow, contains: "root:$6$"}`: {"", false},
		`{file: /run/app/other}`:                    {"", true},
		`{http: "http://localhost/"}`:               {"", true},
		`{unit: ssh.service}`:                       {"", true},
	} {
		cat := loadGroup(t, "app", "health:\n  x: "+probe+"\n", "[]")
		_, err := parse(t, rules).Judge(t.Context(), cat, mapped{})
		if want.ok != (err == nil) || !want.ok && !slices.Equal(broken(err), []string{unallowed}) {
			t.Errorf("%s: %v", probe, err)
			continue
		}
		if err == nil && cat.Health[0].As != want.as {
			t.Errorf("%s is run as %q, want %q", probe, cat.Health[0].As, want.as)
		}
		if err != nil && !strings.Contains(err.Error(), "g/group.yaml:3:6: health:x ") {
			t.Errorf("%s is refused by %v", probe, err)
		}
		cat = loadGroup(t, "infra", "health:\n  x: "+probe+"\n", "[]")
		if _, err := parse(t, rules).Judge(t.Context(), cat, mapped{}); err != nil || cat.Health[0].As != "" {
			t.Errorf("%s of a source that is not confined: as %q, error %v", probe, cat.Health[0].As, err)
		}
	}
}

// What no resource may have run or read, no probe may either, whosever it is.
func TestAProbeIsUnderTheRulesAboutWhatIsRunAndRead(t *testing.T) {
	rules := parse(t, `
rules:
  - name: kinds
    require: kind in ["file"]
  - name: no keys
    deny: any(reads, under(#, "/etc/ssh"))
  - name: no shells
    deny: any(runs, .program endsWith "/sh")
  - name: what may be read
    require: all(reads, under(#, "/run") or under(#, "/etc"))
`)
	for probe, want := range map[string][]string{
		`{file: /etc/ssh/key, contains: x}`: {"no keys"},
		`{file: /etc/ssh/key}`:              nil,
		`{file: /run/ready, contains: x}`:   nil,
		`{file: /srv/x, contains: x}`:       {"what may be read"},
		`{command: "/bin/sh -c id"}`:        {"no shells"},
		`{command: "/bin/true"}`:            nil,
		`{http: "http://localhost/"}`:       nil,
	} {
		_, err := rules.Judge(t.Context(), loadGroup(t, "infra", "health:\n  x: "+probe+"\n", "[]"), mapped{})
		if got := broken(err); !slices.Equal(got, want) {
			t.Errorf("%s breaks %q, want %q (%v)", probe, got, want, err)
		}
	}
}

// What runs as root by a rule is the program that the rule names, with nothing of
// its author's that could make another of it.
func TestWhatRootRunsIsGivenNothingThatNoRuleSpeaksOf(t *testing.T) {
	const before = "rules:\n  - name: the team's backup\n    sources: [app]\n    as: "
	const program = "\n    allow_run: '(run.program == \"/usr/bin/backup\" or run.shell == \"/usr/bin/backup\")"
	const some = program + ` and all(run.with, # in ["env A=b", "cwd /srv"])'`
	unit := func(text string) string {
		return fmt.Sprintf("- unit: a.service\n  content: %q\n", "[Service]\nExecStart=/usr/bin/backup\n"+text)
	}
	command := func(more string) string {
		return "- {command: a, argv: [/usr/bin/backup], creates: /x" + more + "}\n"
	}
	timer := func(more string) string {
		return "- {timer: a, on_calendar: daily, argv: [/usr/bin/backup]" + more + "}\n"
	}
	cron := func(more string) string {
		return "- {cron: a, schedule: '@daily', run: /usr/bin/backup" + more + "}\n"
	}
	for name, c := range map[string]struct {
		manifest    string
		plain, some bool
	}{
		"a command":                 {command(""), true, true},
		"its environment":           {command(", env: {LD_PRELOAD: /srv/x}"), false, false},
		"one that the rule knows":   {command(", env: {A: b}"), false, true},
		"its directory":             {command(", cwd: /srv"), false, true},
		"another directory":         {command(", cwd: /srv/app"), false, false},
		"its input":                 {command(", stdin: x"), false, false},
		"a timer":                   {timer(""), true, true},
		"a timer's environment":     {timer(", env: {LD_PRELOAD: /srv/x}"), false, false},
		"a timer's directory":       {timer(", cwd: /srv"), false, true},
		"a table of cron":           {cron(""), true, true},
		"a table's environment":     {cron(", env: {SHELL: /srv/x}"), false, false},
		"a unit":                    {unit(""), true, true},
		"a unit's environment":      {unit("Environment=LD_PRELOAD=/srv/x\n"), false, false},
		"a unit's environment file": {unit("EnvironmentFile=/srv/x\n"), false, false},
		"a unit's root":             {unit("RootDirectory=/srv/app\n"), false, false},
		"what is mounted over it":   {unit("BindReadOnlyPaths=/srv/x:/usr/bin/backup\n"), false, false},
		"a unit's input":            {unit("StandardInputText=x\n"), false, false},
		"an input of a unit":        {unit("StandardInput=file:/srv/x\n"), false, false},
		"no input":                  {unit("StandardInput=null\n"), true, true},
		"who sits at the terminal":  {unit("StandardInput=tty\n"), true, true},
		"a unit's credential":       {unit("SetCredential=a:x\n"), false, false},
		"one that is encrypted":     {unit("SetCredentialEncrypted=a:x\n"), false, false},
		"a limit of a unit":         {unit("LimitNOFILE=9\n"), true, true},
	} {
		for _, rule := range []struct {
			text string
			ok   bool
		}{
			{before + "root" + program + "'\n", c.plain}, {before + "\"0\"" + program + "'\n", c.plain}, {before + "root" + some + "\n", c.some},
		} {
			_, err := parse(t, rule.text).Judge(t.Context(), load(t, "app", c.manifest), mapped{})
			if rule.ok != (err == nil) || !rule.ok && !slices.Equal(broken(err), []string{unallowed}) {
				t.Errorf("%s: by %s\n%v", name, rule.text, err)
			}
		}
	}
	// As a user of less it may be what it likes.
	if _, err := parse(t, before+"app"+program+"'\n").Judge(t.Context(), load(t, "app", command(", env: {LD_PRELOAD: /srv/x}")), mapped{}); err != nil {
		t.Error(err)
	}
}

// What root reads and shows to a server of the author's choice is read for a
// confined source where a rule says so.
func TestAConfinedSourceHasNoSecretsOfTheHostsRead(t *testing.T) {
	rules := parse(t, everything+`
  - name: the app team's token
    sources: [app]
    kinds: [download]
    allow_run: run.by == "token_file" and run.line == "/etc/app.token"
    as: root
  - name: nobody shows keys of the host
    deny: 'any(reads, under(#, "/etc/ssh"))'
`)
	const sum = "checksum: 'sha256:0000000000000000000000000000000000000000000000000000000000000000'"
	const commit = "commit: '1111111111111111111111111111111111111111'"
	const validate = "validate: '/srv/app/bin/check {path}'"
	for name, c := range map[string]struct {
		source, manifest string
		breaks           []string
	}{
		"no token":             {"app", "- {download: /srv/app/x, url: 'https://x/y', " + sum + "}\n", nil},
		"its token":            {"app", "- {download: /srv/app/x, url: 'https://x/y', token_file: /etc/app.token, " + sum + ", " + validate + "}\n", nil},
		"its token, otherwise": {"app", "- {archive: /srv/app/x, url: 'https://x/y', token_file: /etc/app.token, " + sum + "}\n", []string{unallowed}},
		"another token":        {"app", "- {download: /srv/app/x, url: 'https://x/y', username: u, token_file: /var/lib/trued/backups.key, " + sum + "}\n", []string{unallowed}},
		"the host's key":       {"app", "- {archive: /srv/app/x, url: 'https://x/y', username: u, token_file: /etc/ssh//ssh_host_ed25519_key, " + sum + "}\n", []string{"nobody shows keys of the host", unallowed}},
		"a token of Git's":     {"app", "- {checkout: /srv/app/x, url: 'https://x/y', token_file: /etc/trued/token, " + commit + "}\n", []string{unallowed}},
		"a key of Git's":       {"app", "- {checkout: /srv/app/x, url: 'a@x:y', ssh_key_file: /etc/trued/key, " + commit + "}\n", []string{unallowed}},
		"of another source":    {"infra", "- {checkout: /srv/x, url: 'a@x:y', ssh_key_file: /etc/trued/key, " + commit + "}\n", nil},
		"the key of another":   {"infra", "- {checkout: /srv/x, url: 'a@x:y', ssh_key_file: /etc/ssh/ssh_host_ed25519_key, " + commit + "}\n", []string{"nobody shows keys of the host"}},
	} {
		_, err := rules.Judge(t.Context(), load(t, c.source, c.manifest), mapped{})
		if got := broken(err); !slices.Equal(got, c.breaks) {
			t.Errorf("%s: breaks %q, want %q (%v)", name, got, c.breaks, err)
		}
	}
}

func TestAUnitIsWhatItIsAnotherNameFor(t *testing.T) {
	rules := parse(t, `rules: [{name: own, require: 'all(units, # startsWith "app-")'}, {name: homes, require: 'within("/etc/systemd/system", "/var/lib/app")'}]`)
	for text, want := range map[string][]string{
		"[Install]\nAlias=app-b.service\n":                   nil,
		"[Install]\nAlias=app-b.service \"ssh.service\"\n":   {"own"},
		"[Install]\nAlso=ssh.service\n":                      {"own"},
		"[Unit]\nConflicts=ssh.service\n":                    {"own"},
		"[Unit]\nConflicts=shutdown.target umount.target\n":  nil,
		"[Unit]\nConflicts=shutdown.target ssh.service\n":    {"own"},
		"[Unit]\nPropagatesStopTo=shutdown.target\n":         {"own"},
		"[Unit]\nPropagatesStopTo=ssh.service\n":             {"own"},
		"[Unit]\nOnFailure=reboot.target\n":                  {"own"},
		"[Unit]\nWants=network-online.target db.service\n":   nil,
		"[Unit]\nWants=systemd-reboot.service\n":             {"own"},
		"[Unit]\nUpholds=rescue.service\n":                   {"own"},
		"[Unit]\nOnFailure=reb\"oot\".target\n":              {"own"},
		"[Unit]\nOnFailure=%i.target\n":                      {"own"},
		"[Unit]\nOnFailure=db@%n.service %p.socket\n":        nil,
		"[Unit]\nConflicts=ss\"h\".service\n":                {"own"},
		"[Unit]\nConflicts=\" ssh.service \"\n":              {"own"},
		"[Install]\nRequiredBy=ssh.service\n":                {"own"},
		"[Install]\nWantedBy=ssh.service\n":                  nil,
		"[Service]\nSockets=app-a.socket docker.socket\n":    {"own"},
		"[Service]\nUser=app\nStateDirectory=app app/more\n": nil,
		"[Service]\nUser=app\nStateDirectory=app other\n":    {"homes"},
	} {
		_, err := rules.Judge(t.Context(), load(t, "infra", fmt.Sprintf("- unit: app-a.service\n  content: %q\n", text)), mapped{})
		if got := broken(err); !slices.Equal(got, want) {
			t.Errorf("%q breaks %q, want %q (%v)", text, got, want, err)
		}
	}
}

func TestALinkNamesTheUnitThatIsWanted(t *testing.T) {
	rules := parse(t, `rules: [{name: own, require: 'all(units, # startsWith "app-")'}]`)
	for name, want := range map[string][]string{
		"app-a.service.wants/app-b.service": nil,
		"app-a.service.wants/reboot.target": {"own"},
	} {
		_, err := rules.Judge(t.Context(), load(t, "infra", "- {link: /etc/systemd/system/"+name+", target: /etc/systemd/system/app-b.service}\n"), mapped{})
		if got := broken(err); !slices.Equal(got, want) {
			t.Errorf("%q breaks %q, want %q (%v)", name, got, want, err)
		}
	}
}

func TestABreachNamesRuleResourceFileAndLine(t *testing.T) {
	_, err := parse(t, mixed).Judge(t.Context(), load(t, "infra", "\n\n- {file: /usr/bin/x, mode: \"04755\"}\n"), mapped{})
	const want = `g/a.yaml:3:4: file:/usr/bin/x breaks the rule "no setuid" (policy.yaml:3): denied: setuid or setgid`
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestARuleThatCannotBeJudgedIsBroken(t *testing.T) {
	p := parse(t, "rules: [{name: first, deny: 'paths[3] == \"\"'}, {name: relative, deny: 'touches(\"etc\")'}]")
	_, err := p.Judge(t.Context(), load(t, "x", "- {file: /a, content: x}\n"), nil)
	if got := broken(err); !slices.Equal(got, []string{"first", "relative"}) {
		t.Errorf("broken: %q", got)
	}
}

func TestAPathIsJudgedWhereItLeadsWhenItIsWritten(t *testing.T) {
	j, err := parse(t, mixed).Judge(t.Context(), load(t, "app", "- {file: /srv/app/d/a, content: x}\n- {directory: /srv/app/t, purge: true}\n- {unit: a.service, enabled: true}\n"), mapped{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		known []string
		ok    bool
	}{
		{"/srv/app/d/a", []string{"/srv/app/d/a"}, true},
		{"/srv/app/d/a", []string{"/srv/app/e/a"}, true},
		{"/srv/app/d/a", []string{"/etc/a"}, false},
		{"/srv/app/d/a", []string{"/srv/app/d/a", "/etc/a"}, false}, // mounted
		{"/srv/app/d/a", []string{"/etc/systemd/system/a"}, false},  // run, unasked
		{"/srv/app/d", []string{"/srv/app/d"}, true},                // its parents
		{"/srv", []string{"/srv"}, false},
		{"/srv/app/t/x/y", []string{"/srv/app/t/x/y"}, true},
		{"/srv/app/t/x/y", []string{"/etc/x/y"}, false},
		{"/srv/app/other", []string{"/srv/app/other"}, false}, // nobody said so
		{"/etc/systemd/system/multi-user.target.wants/a.service", []string{"/etc/systemd/system/multi-user.target.wants/a.service"}, true},
	} {
		if err := j.Permit(c.name, c.known); (err == nil) != c.ok {
			t.Errorf("%s as %q: %v", c.name, c.known, err)
		}
	}
}

func TestWhatIsWrongWithRulesIsToldWithItsPlace(t *testing.T) {
	for text, want := range map[string]string{
		"rules: [{name: a, deny: 'setuld'}]":            `p:1:25: deny: at character 1: unknown name "setuld": did you mean "setuid"?`,
		"rules: [{name: a, deny: 'kind'}]":              "p:1:25: deny: expected bool, but got string",
		"rules: [{name: a, deni: 'x'}]":                 `p:1:19: unknown key "deni": did you mean "deny"?`,
		"rules: [{name: a}]":                            "p:1:9: a rule has one of deny, require and allow_run",
		"rules: [{deny: setuid}]":                       "p:1:9: a rule without a name, by which its breach is told",
		"rules: [{name: a, allow_run: 'true'}]":         "p:1:9: allow_run and as go together: what may be run, and as whom",
		"rules: [{name: a, sources: [], deny: setuid}]": "p:1:28: sources: an empty list is about nothing",
		"rules: []":                              "p:1:8: there are no rules: take the file away if that is meant",
		"{}":                                     "p:1:1: there are no rules: a file without any is one that was cut off",
		"":                                       "p: it is empty: take the file away if that is meant",
		"rules: [{name: a, deny: 'run.opaque'}]": `p:1:25: deny: at character 1: unknown name "run": did you mean "runs"?`,
		"rules: [{name: a, deny: setuid}, {name: a, deny: setgid}]": `p:1:34: there are two rules "a"`,
	} {
		_, err := policy.Parse("p", []byte(text))
		if err == nil || err.Error() != want {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
		}
	}
}

// indexed is a kind of packages whose index is known.
type indexed struct{ resource.Module }

func (indexed) Origins(context.Context, []string) (map[string][]string, error) {
	return map[string][]string{"nginx": {"http://deb.debian.org/debian bookworm/main"}, "own": {"http://deb.debian.org/debian bookworm/main", "http://elsewhere x/y"}}, nil
}

func TestARuleMayBeAboutWherePackagesComeFrom(t *testing.T) {
	const manifest = "- {package: nginx}\n- {package: own}\n- {package: nobodys}\n- {package: [gone], state: absent}\n- {file: /a, content: x}\n"
	for rule, want := range map[string][]string{
		`require: 'all(origins, # startsWith "http://deb.debian.org/")'`: {"own", "nobodys"},
		// What nobody knows may be from there.
		`deny: 'any(origins, # startsWith "http://elsewhere")'`:                       {"own", "nobodys"},
		`when: 'kind == "package"', deny: 'any(origins, # startsWith "http://else")'`: {"own", "nobodys"},
		`kinds: [file], deny: 'any(origins, # startsWith "http://elsewhere")'`:        nil,
	} {
		cat := load(t, "infra", manifest)
		for i := range cat.Entries {
			cat.Entries[i].Module = indexed{cat.Entries[i].Module}
		}
		_, err := parse(t, "rules: [{name: mirror, "+rule+"}]").Judge(t.Context(), cat, mapped{})
		var refused *policy.Refusal
		errors.As(err, &refused)
		var got []string
		if refused != nil {
			for _, b := range refused.Breaches {
				got = append(got, b.Address.Name)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: refused are %q, want %q: %v", rule, got, want, err)
		}
	}
}

// delivered takes down who is asked about what is about to be installed.
type delivered struct {
	resource.Resource
	judge func(string, []string) error
}

func (*delivered) Brings() bool                               { return true }
func (d *delivered) Admit(judge func(string, []string) error) { d.judge = judge }

func TestWhatComesAlongWithAPackageIsJudgedByTheSameRules(t *testing.T) {
	for rules, want := range map[string]bool{
		`rules: [{name: mirror, require: 'all(origins, # startsWith "http://deb.debian.org/")'}]`:                   true,
		`rules: [{name: mirror, sources: [other], require: 'all(origins, # startsWith "http://deb.debian.org/")'}]`: false,
	} {
		cat := load(t, "infra", "- {package: nginx}\n")
		d := &delivered{Resource: cat.Entries[0].Resource}
		cat.Entries[0].Resource, cat.Entries[0].Module = d, indexed{cat.Entries[0].Module}
		if _, err := parse(t, rules).Judge(t.Context(), cat, mapped{}); err != nil {
			t.Fatal(err)
		}
		if err := d.judge("libc6", []string{"http://deb.debian.org/debian bookworm/main"}); err != nil {
			t.Error(err)
		}
		for _, origins := range [][]string{{"http://elsewhere x/y"}, nil} {
			err := d.judge("evil", origins)
			if (err != nil) != want || want && (!strings.Contains(err.Error(), `"mirror"`) || !strings.Contains(err.Error(), "evil")) {
				t.Errorf("%q: %v", origins, err)
			}
		}
	}
	cat := load(t, "infra", "- {package: nginx}\n")
	d := &delivered{Resource: cat.Entries[0].Resource}
	cat.Entries[0].Resource = d
	if _, err := parse(t, "rules: [{name: no setuid, deny: setuid}]").Judge(t.Context(), cat, mapped{}); err != nil || d.judge != nil {
		t.Errorf("somebody is asked where no rule is about origins: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(mixed)
	f.Add("rules: [{name: a, when: 'all(paths, under(#, \"/\"))', deny: 'any(writes, .mode == 0o644)'}]")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := policy.Parse("p", []byte(text))
		if err != nil {
			return
		}
		if p.Digest() == "" {
			t.Error("rules without a digest")
		}
		_, _ = p.Judge(t.Context(), &catalog.Catalog{Source: "x"}, nil)
	})
}

func TestTheDocumentationHasTheWholeLanguage(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range policy.Language() {
		if row := "| `" + n.Name + "` | " + n.Doc + " |\n"; !strings.Contains(string(readme), row) {
			t.Errorf("README.md does not have %s", row)
		}
	}
}

func TestTheExampleIsOfUse(t *testing.T) {
	text, err := os.ReadFile("../../packaging/policy.yaml.example")
	if err != nil {
		t.Fatal(err)
	}
	rules := parse(t, string(text))
	for manifest, want := range map[string][]string{
		"- {file: /srv/app/nginx.conf, content: x, owner: app, validate: \"/usr/sbin/nginx -t -c {path}\"}\n": nil,
		"- unit: app-web.service\n  content: \"[Service]\\nUser=app\\nExecStart=/srv/app/bin/web\\n\"\n":      nil,
		"- {unit: ssh.service, state: stopped}\n":                                                             {"units of the app team"},
		"- {file: /etc/trued/policy.yaml, state: absent}\n":                                                   {"nobody touches /etc/trued", "the app team stays under /srv/app"},
		"- {file: /etc/systemd/system/ssh.service.d/x.conf, content: \"\"}\n":                                 {"unit files of the app team are those of its units"},
		"- {repository: x, uris: [http://elsewhere], suites: [a], components: [b], signed_by: /usr/share/k.gpg}\n": {
			"the app team stays under /srv/app", "what the app team may declare", "owners of the app team", "packages come from our mirror",
			unallowed,
		},
	} {
		_, err := rules.Judge(t.Context(), load(t, "app", manifest), mapped{})
		got := broken(err)
		if len(want) == 5 { // what a repository's files are owned by is the host's to say
			got = slices.DeleteFunc(got, func(s string) bool { return s == "owners of the app team" })
			want = slices.DeleteFunc(slices.Clone(want), func(s string) bool { return s == "owners of the app team" })
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s\nbreaks %q, want %q", manifest, got, want)
		}
	}
}
