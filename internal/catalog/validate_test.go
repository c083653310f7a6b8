package catalog_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"trued.dev/trued/internal/catalog"
)

func validate(t *testing.T, text string) (catalog.Validation, error) {
	t.Helper()
	return catalog.Validate("infra", repository(t, text), modules(), "1.4.0")
}

func TestValidateLoadsEveryGroupAsEveryHost(t *testing.T) {
	v, err := validate(t, `
-- hosts.yaml --
web-1: {group: groups/web, vars: {site: a}}
"web-*": {group: groups/web, vars: {site: b}}
-- .trued/facts/debian.yaml --
os: {family: debian}
-- .trued/facts/web-1.yaml --
os: {family: rhel}
network: {address: 192.0.2.1}
-- groups/base/a.yaml --
- file: /etc/site
  content: "{{ vars.site }}"
-- groups/web/group.yaml --
include: [groups/base]
-- groups/web/a.yaml --
- file: /etc/debian
  when: facts.os.family == "debian"
- file: /etc/address
  content: "{{ facts.host.name }} {{ facts.network.address }}"
-- groups/web/hosts/web-2.yaml --
site: c
-- groups/lone/deep/a.yaml --
- file: /etc/lone
-- groups/web/files/not.yaml --
not: [a manifest
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []catalog.Validated{
		{Group: "groups/web", Host: "web-1", Facts: ".trued/facts/web-1.yaml", Resources: 2},
		{Group: "groups/web", Host: "web-*", Facts: ".trued/facts/debian.yaml", Resources: 3, Pending: 1},
		{Group: "groups/web", Host: "web-2", Facts: ".trued/facts/debian.yaml", Resources: 3, Pending: 1},
		{Group: "groups/lone/deep", Facts: ".trued/facts/debian.yaml", Resources: 1},
	}
	if diff := cmp.Diff(want, v.Loads); diff != "" {
		t.Error(diff)
	}
}

func TestValidateReportsAllErrorsOfAllGroupsAtOnce(t *testing.T) {
	_, err := validate(t, `
-- hosts.yaml --
web-1: {group: groups/web, vars: {site: a}}
web-2: {group: groups/web}
db-1: {group: groups/bd}
db-2: {vars: {a: 1}}
-- .trued/facts/x.yaml --
os: {famly: debian}
-- groups/db/a.yaml --
- fiel: /etc/a
-- groups/web/a.yaml --
- file: /etc/site
  content: "{{ vars.site }} {{ facts.network.address }}"
- file: /etc/b
  mode: "644"
  when: facts.os.famly == "debian"
`)
	if err == nil {
		t.Fatal("valid")
	}
	golden(t, "validate.golden", err.Error())
}

func TestOnlyTheGateIsReportedWhenTheAgentIsTooOld(t *testing.T) {
	for version, fails := range map[string]bool{"1.9.9": true, "2.0.0-rc1": false, "2.1": false, "dev": false} {
		in := input(repository(t, "-- groups/web/group.yaml --\nrequires_trued: \">= 2\"\n-- groups/web/a.yaml --\n- file: /a\n"))
		in.Version = version
		if _, err := catalog.Load(in); (err != nil) != fails {
			t.Errorf("version %s: %v", version, err)
		}
	}
}

func TestSettingsOfTheGroupReachTheCatalog(t *testing.T) {
	c := load(t, "-- groups/web/group.yaml --\nallow_empty: true\nprune_limit: 0\n")
	if !c.AllowEmpty || c.PruneLimit == nil || *c.PruneLimit != 0 || c.Group != "groups/web" || c.Source != "infra" {
		t.Errorf("%+v", c)
	}
}

func TestTheDigestOfAnInputChangesWithWhatTheCatalogIsMadeOf(t *testing.T) {
	digest := func(in catalog.Input) string {
		t.Helper()
		d, err := in.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	base := input(nil)
	seen := map[string]string{digest(base): "the input itself"}
	for what, change := range map[string]func(*catalog.Input){
		"facts":   func(in *catalog.Input) { in.Facts.CPU.Count++ },
		"unknown": func(in *catalog.Input) { in.Facts = in.Facts.Without("os.id", "x") },
		"version": func(in *catalog.Input) { in.Version = "2" },
		"host":    func(in *catalog.Input) { in.HostName = "x" },
		"group":   func(in *catalog.Input) { in.Group = "x" },
	} {
		in := input(nil)
		change(&in)
		d := digest(in)
		if other := seen[d]; other != "" {
			t.Errorf("a change of %s has the digest of %s", what, other)
		}
		seen[d] = what
	}
	if digest(base) != digest(input(nil)) {
		t.Error("the same input has another digest")
	}
}

func TestAGroupNamedOnTheHostKeepsTheVarsThatHostsGives(t *testing.T) {
	c := load(t, `
-- hosts.yaml --
web-1: {group: groups/other, vars: {x: from hosts}}
-- groups/web/a.yaml --
- file: /a
  content: "{{ vars.x }}"
`)
	if got := contents(t, c)["/a"]; got != "from hosts" || !strings.HasPrefix(c.Group, "groups/web") {
		t.Errorf("%q in %s", got, c.Group)
	}
}
