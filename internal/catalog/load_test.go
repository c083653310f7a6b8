package catalog_test

import "testing"

func TestAGroupComesAfterWhatItIncludesInTheOrderWritten(t *testing.T) {
	c := load(t, `
-- groups/base/group.yaml --
vars: {domain: example.org}
-- groups/base/10-b.yaml --
- file: /etc/b
- file: /etc/a
-- groups/base/05-a.yaml --
- package: [curl, vim]
-- groups/web/group.yaml --
include: [groups/base]
-- groups/web/nginx.yaml --
- package: nginx
  version: ">= 1.22, < 2"
- file: /etc/nginx//nginx.conf
  content: "host {{ vars.domain }} {{ .facts.os.family }}"
  mode: 0644
- unit: nginx
  enabled: true
  restart_on: [file:/etc/nginx/*]
  requires: [package:nginx]
  timeout: 90s
`)
	want := "package:curl package:vim file:/etc/b file:/etc/a package:nginx file:/etc/nginx/nginx.conf unit:nginx.service"
	if got := addresses(c); got != want {
		t.Errorf("entries\n got %s\nwant %s", got, want)
	}
	f := c.Entries[5].Resource.(*file)
	if *f.Content != "host example.org debian" || f.Mode.String() != "0644" {
		t.Errorf("content %q, mode %s", *f.Content, f.Mode)
	}
	if at := c.Entries[5].Origin.String(); at != "groups/web/nginx.yaml:3:3" {
		t.Errorf("origin %s", at)
	}
}
