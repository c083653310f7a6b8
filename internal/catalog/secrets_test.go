package catalog_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/crypto/ssh"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/secret"
)

// marked is in every secret of these tests, and may be in nothing that is said.
const marked = "xyzzy-31337"

// A vault is a host's key with what is encrypted for it.
type vault struct {
	t      testing.TB
	public string
	keys   func() *secret.Keys
}

func newVault(t testing.TB, name string) vault {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, name)
	if err != nil {
		t.Fatal(err)
	}
	wire, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return vault{
		t: t, public: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(wire))) + " " + name,
		keys: func() *secret.Keys { return secret.FileKeys([]string{file}) },
	}
}

// seal encrypts for the keys of some hosts.
func seal(t testing.TB, plain string, to ...vault) *fstest.MapFile {
	t.Helper()
	var list []secret.Recipient
	for _, v := range to {
		r, err := secret.ParseRecipient(v.public)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	data, err := secret.Seal([]byte(plain), list, true)
	if err != nil {
		t.Fatal(err)
	}
	return &fstest.MapFile{Data: data, Mode: 0o644}
}

// shell is a kind that cannot keep what it runs to itself.
type shell struct {
	base  `yaml:",inline"`
	Title string            `yaml:"shell"`
	Run   string            `yaml:"run"`
	Stdin string            `yaml:"stdin"`
	Count int               `yaml:"count"`
	Env   map[string]string `yaml:"env"`
	List  []string          `yaml:"list"`
}

func (s *shell) Name() string             { return s.Title }
func (s *shell) Claims() []resource.Claim { return []resource.Claim{{Space: "shell", Name: s.Title}} }

func (s *shell) Validate() error {
	if strings.Contains(s.Stdin, "bad") {
		return resource.Wrong("stdin", "%q is bad, and so is its end %q, and %s", s.Stdin, s.Stdin[len(s.Stdin)-4:], s.Stdin)
	}
	return nil
}

type shellKind struct{ kind }

func (shellKind) Discloses(key string) string {
	if key == "run" {
		return "everybody sees it"
	}
	return ""
}

// opens loads groups/web of a repository with the secrets in it.
func (v vault) load(tree fstest.MapFS) (*catalog.Catalog, error) {
	in := input(tree)
	in.Secrets = v.keys()
	in.Modules = append(in.Modules, shellKind{kind{"shell", func() resource.Resource { return &shell{} }}})
	return catalog.Load(in)
}

func (v vault) repository(text string) fstest.MapFS {
	v.t.Helper()
	tree := repository(v.t, text)
	tree["groups/web/secrets/db.age"] = seal(v.t, marked+"\n", v)
	tree["groups/base/secrets/db.age"] = seal(v.t, "base-"+marked+"\n", v)
	tree["secrets/db.age"] = seal(v.t, "root-"+marked+"\n", v)
	return tree
}

func body(t *testing.T, c *catalog.Catalog, name string) (string, bool) {
	t.Helper()
	e, ok := c.Find(resource.Address{Kind: "file", Name: name})
	if !ok {
		t.Fatalf("there is no file %s in %s", name, addresses(c))
	}
	r, err := e.Resource.(*file).Body.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data), e.Resource.Common().Sensitive
}

func TestWhatASecretIsUsedForIsSensitive(t *testing.T) {
	v := newVault(t, "root@web-1")
	c, err := v.load(v.repository(`
-- hosts.yaml --
"web-*": {group: groups/web, vars: {root: '{{ secret "secrets/db.age" }}'}}
-- groups/base/group.yaml --
vars:
  base: '{{ secret "secrets/db.age" }}'
-- groups/base/base.yaml --
- file: /base
  content: '{{ secret "secrets/db.age" }}'
- file: /base-source
  source: secrets/db.age
-- groups/web/group.yaml --
include: [groups/base]
vars:
  db: {user: app, password: '{{ secret "secrets/db.age" }}'}
  users: [{name: ann, password: '{{ secret "secrets/db.age" }}'}, {name: bob, password: none}]
-- groups/web/web.yaml --
- file: /direct
  content: 'a {{ secret "secrets/db.age" }} b'
- file: /source
  source: secrets/db.age
- file: /raw
  source: secrets/db.age
  raw: true
- file: /var
  content: '{{ vars.db.password }}'
- file: /other-var
  content: '{{ vars.db.user }}'
- file: /get
  content: '{{ get "vars.db.password" "x" }}'
- file: /computed
  content: '{{ get (print "vars.db." "password") "x" }}'
- file: /above
  content: '{{ vars.db | toJson }}'
- file: /dot
  content: '{{ range $k, $v := .vars.db }}{{ $v }} {{ end }}'
- file: /all
  content: '{{ define "t" }}{{ .vars.db.password }}{{ end }}{{ template "t" . }}'
- file: /dollar
  content: '{{ with vars.db.user }}{{ $.vars.db.password }}{{ end }}'
- file: /template
  template: templates/t
- file: /changed
  content: '{{ secret "secrets/db.age" | upper }}'
- file: /included
  content: '{{ vars.base }}'
- file: /hosts
  content: '{{ vars.root }}'
- file: '/user/{{ each.value.name }}'
  for_each: vars.users
  content: '{{ each.value.password }}'
- file: '/name/{{ each.value.name }}'
  for_each: vars.users
  content: '{{ each.value.name }}'
- file: '/literal/{{ each.key }}'
  for_each: {one: '{{ secret "secrets/db.age" }}', two: plain}
  content: '{{ each.value }}'
- shell: input
  run: 'true'
  stdin: '{{ vars.db.password }}'
-- groups/web/templates/t --
{{ vars.db.user }}:{{ vars.db.password }}
`))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"/base": "base-" + marked, "/base-source": "base-" + marked + "\n",
		"/direct": "a " + marked + " b", "/source": marked + "\n", "/var": marked, "/get": marked, "/computed": marked,
		"/above": `{"password":"` + marked + `","user":"app"}`, "/dot": marked + " app ", "/all": marked, "/dollar": marked,
		"/template": "app:" + marked + "\n", "/changed": strings.ToUpper(marked),
		"/included": "base-" + marked, "/hosts": "root-" + marked,
		"/user/ann": marked, "/literal/one": marked,
	} {
		if got, sensitive := body(t, c, name); got != want || !sensitive {
			t.Errorf("%s is %q, sensitive %t; want %q", name, got, sensitive, want)
		}
	}
	for name, want := range map[string]string{"/other-var": "app", "/user/bob": "none", "/name/ann": "ann", "/literal/two": "plain"} {
		if got, sensitive := body(t, c, name); got != want || sensitive {
			t.Errorf("%s is %q, sensitive %t; want %q and not", name, got, sensitive, want)
		}
	}
	if got, sensitive := body(t, c, "/raw"); !strings.HasPrefix(got, "-----BEGIN AGE") || sensitive {
		t.Errorf("/raw is %q, sensitive %t", got, sensitive)
	}
	e, _ := c.Find(resource.Address{Kind: "shell", Name: "input"})
	if r := e.Resource.(*shell); r.Stdin != marked || !r.Sensitive {
		t.Errorf("the input is %q, sensitive %t", r.Stdin, r.Sensitive)
	}
	for _, e := range c.Entries {
		for _, u := range e.Uses {
			if strings.Contains(u.Path, marked) {
				t.Errorf("%s uses %s", e.Address, u.Path)
			}
		}
	}
}

func TestAMistakeWithASecretSaysNothingOfIt(t *testing.T) {
	v := newVault(t, "root@web-1")
	for name, c := range map[string]struct{ item, want string }{
		"a number":          {"- shell: x\n  count: '{{ secret \"secrets/db.age\" }}'", "a value where a whole number is wanted"},
		"a list":            {"- shell: x\n  list: '{{ secret \"secrets/db.age\" }}'", "a value, which the template makes, is not a list"},
		"arithmetic":        {"- shell: x\n  stdin: '{{ secret \"secrets/db.age\" | int }}'", "is not shown"},
		"a message":         {"- shell: x\n  stdin: '{{ required (secret \"secrets/db.age\") \"\" }}'", "is not shown"},
		"a pattern":         {"- shell: x\n  stdin: '{{ regexMatch (print \"(\" vars.pw) \"x\" }}'", "is not shown"},
		"a path":            {"- shell: x\n  stdin: '{{ get vars.pw \"x\" }}'", "is not shown"},
		"a missing key":     {"- shell: x\n  stdin: '{{ index vars.map vars.pw }}'", "is not shown"},
		"a wrong value":     {"- shell: x\n  stdin: 'bad {{ vars.pw }}'", `"…" is bad`},
		"a name":            {"- shell: 'x {{ vars.pw }}'", "a name cannot be made of a secret"},
		"a list of names":   {"- shell: ['x {{ vars.pw }}']", "a name cannot be made of a secret"},
		"what is exposed":   {"- shell: x\n  run: 'echo {{ vars.pw }}'", "shell:x: run: it cannot hold a secret: everybody sees it"},
		"what is told":      {"- shell: x\n  requires: ['{{ vars.pw }}']", "requires: it cannot hold a secret"},
		"not sensitive":     {"- shell: x\n  sensitive: false\n  stdin: '{{ vars.pw }}'", "it is sensitive in any case"},
		"when":              {"- shell: x\n  when: vars.pw == \"" + marked[:2] + "\"", "an expression cannot look at"},
		"when by get":       {"- shell: x\n  when: get(\"vars.pw\", \"\") == \"x\"", "an expression cannot look at"},
		"when it is one":    {"- shell: x\n  when: vars.pw", "a secret, not true or false"},
		"for_each":          {"- shell: x\n  for_each: 'map(vars.list, # + \"x\")'", "an expression cannot look at"},
		"for_each of one":   {"- shell: x\n  for_each: vars.pw", "a secret, not a list"},
		"when of each":      {"- shell: x\n  for_each: vars.list\n  when: each.value != \"\"", "an expression cannot look at"},
		"literal for_each":  {"- shell: x\n  for_each: ['a{{ vars.pw }}']", "must be a value as a whole"},
		"no such file":      {"- shell: x\n  stdin: '{{ secret \"secrets/dbx.age\" }}'", "no such file"},
		"not encrypted":     {"- shell: x\n  stdin: '{{ secret \"web.yaml\" }}'", "not a file encrypted with age"},
		"out of the tree":   {"- shell: x\n  stdin: '{{ secret \"../../../etc/passwd\" }}'", "leads out of the repository"},
		"bytes":             {"- shell: x\n  stdin: '{{ secret \"secrets/bytes.age\" }}'", "is not text"},
		"a template":        {"- file: /x\n  template: secrets/db.age", "a template is not encrypted itself"},
		"a source":          {"- file: /x\n  source: secrets/plain.age", "not a file encrypted with age"},
		"a template's line": {"- file: /x\n  template: templates/t", "groups/web/templates/t:2:"},
	} {
		tree := v.repository("-- groups/web/group.yaml --\nvars: {pw: '{{ secret \"secrets/db.age\" }}', map: {a: b}, list: ['{{ secret \"secrets/db.age\" }}']}\n" +
			"-- groups/web/templates/t --\nfirst\n{{ vars.pw | int }}\n-- groups/web/secrets/plain.age --\n" + marked + "\n-- groups/web/web.yaml --\n" + c.item + "\n")
		tree["groups/web/secrets/bytes.age"] = seal(t, marked+"\xff\x00", v)
		_, err := v.load(tree)
		var all *catalog.Errors
		if !errors.As(err, &all) {
			t.Errorf("%s: loaded, error %v", name, err)
			continue
		}
		said := err.Error()
		if !strings.Contains(said, c.want) {
			t.Errorf("%s: %q does not say %q", name, said, c.want)
		}
		for _, part := range []string{marked, marked[:6], marked[6:], strings.ToUpper(marked)} {
			if strings.Contains(said, part) {
				t.Errorf("%s: %q tells of the secret", name, said)
			}
		}
	}
}

func TestAVarIsASecretAsAWhole(t *testing.T) {
	v := newVault(t, "root@web-1")
	_, err := v.load(v.repository(`
-- groups/web/group.yaml --
vars: {dsn: 'postgres://app:{{ secret "secrets/db.age" }}@db'}
-- groups/web/web.yaml --
- shell: x
`))
	if err == nil || !strings.Contains(err.Error(), "a var is a secret as a whole") {
		t.Errorf("returned %v", err)
	}
}

func TestAHostWithoutTheKeyIsToldWhichRecipientIsMissing(t *testing.T) {
	web, other := newVault(t, "root@web-1"), newVault(t, "root@web-2")
	tree := web.repository("-- .trued/recipients --\ngroups/web " + web.public + "\n-- groups/web/web.yaml --\n- file: /x\n  source: secrets/db.age\n")
	_, err := other.load(tree)
	if err == nil {
		t.Fatal("it was loaded")
	}
	for _, want := range []string{
		`groups/web/web.yaml:2:11: file:/x: "secrets/db.age": it is not encrypted for your key`,
		strings.Fields(other.public)[1], "it is for root@web-1", "trued secret rekey",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

// A probe is told of when it fails, and a command's arguments are for all to see.
func TestAProbeHoldsNoSecret(t *testing.T) {
	v := newVault(t, "root@web-1")
	for name, probe := range map[string]string{
		"a command":      `{command: 'check --password {{ secret "secrets/db.age" }}'}`,
		"a command, var": `{command: 'check --password {{ vars.pw }}'}`,
		"a URL":          `{http: 'https://localhost/{{ vars.pw }}'}`,
		"a text":         `{file: /run/ready, contains: '{{ vars.pw }}'}`,
		"a text, above":  `{file: /run/ready, contains: '{{ vars.all | toJson }}'}`,
	} {
		_, err := v.load(v.repository("-- groups/web/group.yaml --\nallow_empty: true\nvars: {pw: '{{ secret \"secrets/db.age\" }}', all: {pw: '{{ secret \"secrets/db.age\" }}'}}\n" +
			"health:\n  db: " + probe + "\n"))
		if err == nil || !strings.Contains(err.Error(), `groups/web/group.yaml:4:7: health "db": it cannot hold a secret`) || strings.Contains(err.Error(), marked) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// without validates a repository, with no key.
func without(t *testing.T, tree fstest.MapFS) (catalog.Validation, string) {
	t.Helper()
	v, err := catalog.Validate("", tree, append(modules(), shellKind{kind{"shell", func() resource.Resource { return &shell{} }}}), "1.4.0")
	if err == nil {
		return v, ""
	}
	return v, err.Error()
}

func TestValidationNeedsNoKeyToSeeWhoCannotReadASecret(t *testing.T) {
	web, db, gone := newVault(t, "root@web-1"), newVault(t, "root@db-1"), newVault(t, "root@old")
	manifest := `
-- hosts.yaml --
web-1: {group: groups/web}
db-1: {group: groups/db}
-- groups/base/base.yaml --
- file: /base
  source: secrets/b.age
-- groups/web/group.yaml --
include: [groups/base]
-- groups/web/web.yaml --
- shell: web
  stdin: '{{ secret "secrets/w.age" }}'
-- groups/db/group.yaml --
include: [groups/base]
-- groups/db/db.yaml --
- shell: db
`
	both := ".trued/recipients"
	lines := "-- " + both + " --\ngroups/web " + web.public + "\ngroups/db " + db.public + "\n"
	for name, c := range map[string]struct {
		lines string
		base  []vault
		web   []vault
		more  string
		want  []string
	}{
		"right":                    {lines: lines, base: []vault{web, db}, web: []vault{web}},
		"a group that includes":    {lines: lines, base: []vault{web}, web: []vault{web}, want: []string{"groups/base/secrets/b.age: it is not encrypted for root@db-1"}},
		"its own group":            {lines: lines, base: []vault{web, db}, web: []vault{db}, want: []string{"w.age: it is not encrypted for root@web-1", "w.age: it is still encrypted for root@db-1"}},
		"somebody who left":        {lines: lines, base: []vault{web, db, gone}, web: []vault{web}, want: []string{"b.age: it is still encrypted for an SSH key with tag"}},
		"a group without a line":   {lines: "-- " + both + " --\ngroups/web " + web.public + "\n", base: []vault{web}, web: []vault{web}, want: []string{"b.age: group groups/db uses it, and no line"}},
		"a line that is none":      {lines: "-- " + both + " --\ngroups/web ssh-ed25519 x\n", base: []vault{web}, web: []vault{web}, want: []string{".trued/recipients:1:1: "}},
		"a host left out":          {lines: lines + "groups/web/secrets/w.age " + db.public + "\n", base: []vault{web, db}, web: []vault{db}, want: []string{"w.age: host web-1 uses it, and its key in line 1"}},
		"what cannot hold it":      {lines: lines, base: []vault{web, db}, web: []vault{web}, more: "- shell: y\n  run: '{{ secret \"secrets/w.age\" }}'\n", want: []string{"shell:y: run: it cannot hold a secret"}},
		"what is not encrypted":    {lines: lines, base: []vault{web, db}, web: []vault{web}, more: "- shell: y\n  stdin: '{{ secret \"web.yaml\" }}'\n", want: []string{"not a file encrypted with age"}},
		"a file that is not there": {lines: lines, base: []vault{web, db}, web: []vault{web}, more: "- file: /y\n  source: secrets/y.age\n", want: []string{"no such file"}},
	} {
		tree := repository(t, c.lines+manifest)
		tree["groups/web/web.yaml"].Data = append(tree["groups/web/web.yaml"].Data, c.more...)
		tree["groups/base/secrets/b.age"] = seal(t, marked, c.base...)
		tree["groups/web/secrets/w.age"] = seal(t, marked, c.web...)
		v, said := without(t, tree)
		if (said == "") != (c.want == nil) {
			t.Errorf("%s: %s", name, said)
		}
		for _, want := range c.want {
			if !strings.Contains(said, want) {
				t.Errorf("%s: %q does not say %q", name, said, want)
			}
		}
		if c.want == nil && (len(v.Warnings) > 0 || v.Loads[0].Sealed != 2 || v.Loads[1].Pending != 0) {
			t.Errorf("%s: warnings %v, loads %+v", name, v.Warnings, v.Loads)
		}
	}
}

func TestWithoutARecipientsFileNothingSaysWhoReadsASecret(t *testing.T) {
	v := newVault(t, "root@web-1")
	tree := v.repository("-- groups/web/web.yaml --\n- shell: x\n  stdin: '{{ secret \"secrets/db.age\" }}'\n")
	out, said := without(t, tree)
	if said != "" || len(out.Warnings) != 1 || !strings.Contains(out.Warnings[0], "there is no .trued/recipients") {
		t.Errorf("errors %q, warnings %q", said, out.Warnings)
	}
}
