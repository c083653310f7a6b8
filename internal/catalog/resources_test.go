package catalog_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/resource"
)

// contents loads and returns the content of each file by path.
func contents(t *testing.T, c *catalog.Catalog) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, e := range c.Entries {
		if f, ok := e.Resource.(*file); ok && f.Content != nil {
			all[f.Name()] = *f.Content
		}
	}
	return all
}

func TestTheHostsOwnVarsComeBeforeThoseOfItsGroupAndItsIncludes(t *testing.T) {
	tree := repository(t, `
-- hosts.yaml --
web-1: {group: groups/web, vars: {d: host, deep: {d: host}}}
"web-*": {group: groups/web, vars: {d: glob, e: glob}}
-- groups/base/group.yaml --
vars: {a: base, b: base, c: base, d: base, deep: {a: base, b: base}, list: [1, 2]}
-- groups/mid/group.yaml --
include: [groups/base]
vars: {b: mid, c: mid, d: mid, list: [3]}
-- groups/web/group.yaml --
include: [groups/mid, groups/base]
vars: {c: web, d: web, deep: {b: web}}
-- groups/web/hosts/web-1.yaml --
deep: {e: own}
-- groups/base/a.yaml --
- file: /a
  content: "{{ vars.a }} {{ vars.b }} {{ vars.c }} {{ vars.d }} {{ vars.deep | toJson }} {{ vars.list | toJson }}"
`)
	in := input(tree)
	in.Group = ""
	c, err := catalog.Load(in)
	if err != nil {
		t.Fatal(err)
	}
	want := `base mid web host {"a":"base","b":"web","d":"host","e":"own"} [3]`
	if got := contents(t, c)["/a"]; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	uses := c.Entries[0].Uses
	if len(uses) != 6 || uses[3].Path != "vars.d" || uses[3].Origin.String() != "hosts.yaml:1:35" {
		t.Errorf("uses %v", uses)
	}
}

func TestANameInHostsComesBeforeAGlobAndALongGlobBeforeAShort(t *testing.T) {
	hosts := `
-- hosts.yaml --
"*": {group: groups/any}
"web-*": {group: groups/web}
"web-1*": {group: groups/ones}
web-12: {group: groups/twelve}
"db?": {group: groups/db}
"?b1": {group: groups/b1}
-- groups/any/a.yaml --
- file: /any
-- groups/web/a.yaml --
- file: /web
-- groups/ones/a.yaml --
- file: /ones
-- groups/twelve/a.yaml --
- file: /twelve
`
	for host, want := range map[string]string{"mail": "/any", "web-2": "/web", "web-11": "/ones", "web-12": "/twelve"} {
		in := input(repository(t, hosts))
		in.Group, in.HostName = "", host
		c, err := catalog.Load(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Entries[0].Address.Name; got != want {
			t.Errorf("%s is in the group of %s, want %s", host, got, want)
		}
	}
	in := input(repository(t, hosts))
	in.Group, in.HostName = "", "db1"
	if _, err := catalog.Load(in); err == nil || !strings.Contains(err.Error(), "equally well") {
		t.Errorf("two globs of one length: %v", err)
	}
}

func TestAHostInNoGroupIsAnErrorThatNamesTheNearest(t *testing.T) {
	in := input(repository(t, "-- hosts.yaml --\nweb-01: {group: groups/web}\n"))
	in.Group = ""
	_, err := catalog.Load(in)
	if err == nil || err.Error() != `hosts.yaml: host "web-1" is in no group: did you mean "web-01"?` {
		t.Error(err)
	}
}

func TestForEachMakesAResourceOfEachItem(t *testing.T) {
	c := load(t, `
-- groups/web/group.yaml --
vars:
  sites: [{name: a, port: 80}, {name: b, port: 81}]
  limits: {z: 1, y: 2}
-- groups/web/templates/site.tmpl --
{{ each.value.name }} on {{ each.value.port }}
-- groups/web/a.yaml --
- file: /sites/{{ each.value.name }}
  for_each: vars.sites
  template: templates/site.tmpl
- file: /limits/{{ each.key }}
  for_each: vars.limits
  content: "{{ each.value }}"
  when: each.value > 1
- file: /literal/{{ each.key }}-{{ each.value }}
  for_each: ["{{ facts.host.name }}", x]
  content: ""
- file: /map/{{ each.key }}
  for_each: {b: 1, a: 2}
- file: /filtered/{{ each.value.name }}
  for_each: filter(vars.sites, .port > 80)
- file: [/l/1, /l/2]
  mode: "0600"
- package: "{{ vars.sites | toJson | sha256sum }}"
  requires: [file:/sites/*]
`)
	want := "file:/sites/a file:/sites/b file:/limits/y file:/literal/0-web-1 file:/literal/1-x " +
		"file:/map/b file:/map/a file:/filtered/b file:/l/1 file:/l/2 package:"
	if got := addresses(c); !strings.HasPrefix(got, want) {
		t.Errorf("entries\n got %s\nwant %s", got, want)
	}
	body := c.Entries[1].Resource.(*file).Body
	if body.Size != int64(len("b on 81\n")) || c.Entries[1].Each != "1" {
		t.Errorf("template made %d bytes, each %q", body.Size, c.Entries[1].Each)
	}
}

func TestATemplatedStringTakesTheTypeOfItsAttribute(t *testing.T) {
	c := load(t, `
-- groups/web/group.yaml --
vars: {on: true, tries: 3, deps: [package:nginx], limits: {10-a.conf: "[Service]"}, mode: 0640, version: 1.10, after: 2m}
-- groups/web/a.yaml --
- package: nginx
  version: "{{ vars.version }}"
- file: /etc/a
  mode: "{{ vars.mode }}"
- unit: nginx
  enabled: "{{ vars.on }}"
  retries: "{{ vars.tries }}"
  requires: "{{ vars.deps }}"
  drop_ins: "{{ vars.limits }}"
  restart_on: '{{ list "file:/etc/a" | toJson }}'
  timeout: "{{ vars.after }}"
`)
	u := c.Entries[2].Resource.(*unit)
	if !*u.Enabled || u.Retries != 3 || u.DropIns["10-a.conf"] != "[Service]" || u.RestartOn[0] != "file:/etc/a" || u.Timeout.String() != "2m0s" {
		t.Errorf("unit %+v", u)
	}
	if diff := cmp.Diff([]string{"package:nginx"}, u.Requires); diff != "" {
		t.Error(diff)
	}
	if mode := c.Entries[1].Resource.(*file).Mode.String(); mode != "0640" {
		t.Errorf("mode %s", mode)
	}
	if v := c.Entries[0].Resource.(*pkg).Version; v != "1.10" {
		t.Errorf("version %s", v)
	}
}

func TestRawStringsAndSourceFilesAreNoTemplates(t *testing.T) {
	c := load(t, `
-- groups/web/files/a --
{{ nothing }}
-- groups/web/a.yaml --
- file: /etc/{{x}}
  raw: true
  content: "{{ .Values.x }}"
- file: /etc/b
  source: files/a
`)
	if got := contents(t, c)["/etc/{{x}}"]; got != "{{ .Values.x }}" {
		t.Errorf("content %q", got)
	}
	if got := c.Entries[1].Resource.(*file).Body.Size; got != 14 {
		t.Errorf("source of %d bytes", got)
	}
}

func TestWhatIsOptionalIsReadWithGet(t *testing.T) {
	c := load(t, `
-- groups/web/group.yaml --
vars: {set: yes it is, none: null}
-- groups/web/a.yaml --
- file: /a
  when: get("vars.absent.deep", true) && get("facts.local.site", "") == "ber"
  content: '{{ get "vars.set" 1 }} {{ get "vars.absent" "d" }} {{ get "vars.none" nil | default "n" }}'
- file: /b
  when: get("vars.absent", false)
`)
	if diff := cmp.Diff(map[string]string{"/a": "yes it is d n"}, contents(t, c)); diff != "" {
		t.Error(diff)
	}
	want := []catalog.Absence{{
		Address: resource.Address{Kind: "file", Name: "/b"},
		Origin:  resource.Origin{Source: "infra", Group: "groups/web", File: "groups/web/a.yaml", Line: 4, Column: 3},
		Why:     `when: get("vars.absent", false)`,
	}}
	if diff := cmp.Diff(want, c.Absences); diff != "" {
		t.Error(diff)
	}
}

func TestAGroupChangesAndLeavesOutWhatItIncludes(t *testing.T) {
	c := load(t, `
-- groups/base/group.yaml --
vars: {who: base}
-- groups/base/templates/a.tmpl --
from base
-- groups/base/a.yaml --
- file: /etc/a
  template: templates/a.tmpl
  mode: "0644"
  owner: root
- file: /etc/b
  content: b
- file: [/etc/x/1, /etc/x/2]
- unit: cron
-- groups/web/group.yaml --
include: [groups/base]
exclude: [file:/etc/x/*, unit:cron]
-- groups/web/files/b --
own b
-- groups/web/a.yaml --
- file: /etc/a
  override: true
  mode: "0600"
  owner: "{{ facts.os.id }}"
- file: /etc/b
  override: true
  content: null
  source: files/b
- file: /etc/c
`)
	if got := addresses(c); got != "file:/etc/a file:/etc/b file:/etc/c" {
		t.Fatal(got)
	}
	a, b := c.Entries[0].Resource.(*file), c.Entries[1].Resource.(*file)
	if a.Mode.String() != "0600" || a.Owner != "debian" || a.Body.Size != 10 {
		t.Errorf("a: %+v", a)
	}
	if b.Content != nil || b.Body.Size != 6 {
		t.Errorf("b: %+v", b)
	}
	if got := c.Entries[0].Overrides; len(got) != 1 || got[0].String() != "groups/web/a.yaml:1:3" {
		t.Errorf("overrides %v", got)
	}
	if got := c.Entries[0].Origin.String(); got != "groups/base/a.yaml:1:3" {
		t.Errorf("origin %s", got)
	}
	if got := c.Absences[0].Why; got != "excluded in groups/web/group.yaml:2:11" {
		t.Errorf("absence: %s", got)
	}
}

func TestAnOverrideThatIsNotForTheHostChangesNothing(t *testing.T) {
	c := load(t, `
-- groups/base/a.yaml --
- file: /etc/a
  content: base
- file: /etc/b
  when: "false"
-- groups/web/group.yaml --
include: [groups/base]
-- groups/web/a.yaml --
- file: /etc/a
  override: true
  when: facts.os.family == "rhel"
  content: web
- file: /etc/b
  override: true
  content: web
`)
	if diff := cmp.Diff(map[string]string{"/etc/a": "base"}, contents(t, c)); diff != "" {
		t.Error(diff)
	}
}

func TestWhatAnOverrideOfUnknownNameMayBeAboutWaits(t *testing.T) {
	in := input(repository(t, `
-- groups/base/a.yaml --
- file: /etc/a
- package: b
-- groups/web/group.yaml --
include: [groups/base]
-- groups/web/a.yaml --
- file: /etc/{{ facts.network.address }}
  override: true
  mode: "0600"
- file: /etc/c
  when: true
- file: /etc/d
  when: false
`))
	in.Facts = in.Facts.Without("network.address", "no default route")
	c, err := catalog.Load(in)
	if err != nil {
		t.Fatal(err)
	}
	if got := addresses(c); got != "file:/etc/a? package:b file:/etc/c" {
		t.Error(got)
	}
}

func TestRequiringWhatIsNotForThisHostIsNoDependency(t *testing.T) {
	c := load(t, `
-- groups/web/a.yaml --
- file: /etc/rhel
  when: facts.os.family == "rhel"
- unit: nginx
- file: /etc//a
  requires: [file:/etc/rhel, unit:nginx, "unit:*"]
`)
	want := []string{"unit:nginx.service", "unit:*"}
	if diff := cmp.Diff(want, c.Entries[1].Resource.Common().Requires); diff != "" {
		t.Error(diff)
	}
}

func TestWhatHangsOnAnUnknownFactIsPending(t *testing.T) {
	in := input(repository(t, `
-- groups/web/templates/t.tmpl --
{{ facts.network.address }}
-- groups/web/a.yaml --
- file: /etc/known
  content: "{{ facts.host.name }}"
- file: /etc/content
  content: "listen {{ facts.network.address }}"
- file: /etc/template
  template: templates/t.tmpl
- file: /etc/when
  when: facts.network.address startsWith "10."
  content: x
- file: /etc/above
  content: "{{ facts.network | toJson }}"
- file: /etc/get
  content: '{{ get "facts.network.address" "none" }}'
- file: /etc/named/{{ facts.network.address }}
- package: ok
  requires: [file:/etc/content]
- package: waits
  requires: [file:/etc/named/192.0.2.7]
- file: /etc/if/{{ each.key }}
  for_each: facts.network.interfaces
- file: /etc/alternative
  when: facts.network.address == "a"
- file: /etc/alternative
  when: facts.network.address == "b"
`))
	in.Facts = in.Facts.Without("network.address", "no default route").Without("network.interfaces", "no default route")
	c, err := catalog.Load(in)
	if err != nil {
		t.Fatal(err)
	}
	want := "file:/etc/known file:/etc/content? file:/etc/template? file:/etc/when? file:/etc/above? file:/etc/get? " +
		"file:? package:ok package:waits? file:? file:/etc/alternative? file:/etc/alternative?"
	if got := addresses(c); got != want {
		t.Errorf("entries\n got %s\nwant %s", got, want)
	}
	if got := c.Entries[1].Pending; got != "facts.network.address is not known: no default route" {
		t.Error(got)
	}
}

func TestWhatIsWrongWithAPendingResourceIsStillAnError(t *testing.T) {
	in := input(repository(t, `
-- groups/web/a.yaml --
- file: /etc/a
  when: facts.network.address == "a"
  contnt: x
- file: /etc/b
  content: "{{ facts.network.address }} {{ vars.typo }}"
- file: /etc/c
  when: facts.network.address == "a"
  source: files/none
- file: /etc/d
  when: get("vars.tls", false) && facts.network.address == "a"
  content: "{{ vars.tls.cert }}"
`))
	in.Facts = in.Facts.Without("network.address", "no default route")
	_, err := catalog.Load(in)
	if err == nil {
		t.Fatal("loaded")
	}
	golden(t, "pending-errors.golden", err.Error())
}

// id is what a tree knows a file by.
type id string

func (i id) String() string { return string(i) }

// remembered is a Digests that lasts for a test.
type remembered map[string]string

func (r remembered) Digest(id string) (string, bool) { s, ok := r[id]; return s, ok }
func (r remembered) Remember(id, sha256 string)      { r[id] = sha256 }

func TestAFileThatIsKnownIsNotReadAgain(t *testing.T) {
	known := remembered{}
	digest := func(text string, name id) string {
		t.Helper()
		tree := repository(t, "-- groups/web/a.yaml --\n- file: /etc/a\n  source: a\n-- groups/web/a --\n"+text)
		tree["groups/web/a"].Sys = name
		in := input(tree)
		in.Digests = known
		c, err := catalog.Load(in)
		if err != nil {
			t.Fatal(err)
		}
		return c.Entries[0].Resource.(*file).Body.SHA256
	}
	first := digest("one", "1")
	if other := digest("two", "2"); other == first {
		t.Error("another file has the same digest")
	}
	// The text is another to see that it is not read.
	if again := digest("changed", "1"); again != first {
		t.Error("a file that is known was read again")
	}
}
