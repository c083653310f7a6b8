package catalog_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/resource"
)

func TestProbesOfIncludedGroupsComeFirstAndAreReplacedByName(t *testing.T) {
	c := load(t, `-- groups/base/group.yaml --
health:
  ssh: {tcp: "localhost:22"}
  disk: {command: "test -w /srv"}
  log: {unit: rsyslog.service, within: 1m}
-- groups/web/group.yaml --
include: [groups/base]
allow_empty: true
vars: {port: 8080}
health:
  disk: null
  web: {http: "http://localhost:{{ vars.port }}/", status: 204, contains: "ok", every: 500ms, times: 5}
  ssh: {tcp: "localhost:2222"}
`)
	want := []catalog.Probe{
		{Name: "ssh", TCP: "localhost:2222", Within: 30 * time.Second, Every: time.Second, Times: 3},
		{Name: "log", Unit: "rsyslog.service", Within: time.Minute, Every: time.Second, Times: 3},
		{Name: "web", HTTP: "http://localhost:8080/", Status: 204, Contains: "ok", Within: 30 * time.Second, Every: 500 * time.Millisecond, Times: 5},
	}
	for i := range c.Health {
		if at := c.Health[i].Origin; at.File == "" || at.Line == 0 {
			t.Errorf("%s is from nowhere", c.Health[i].Name)
		}
		c.Health[i].Origin = resource.Origin{}
	}
	if diff := cmp.Diff(want, c.Health); diff != "" {
		t.Error(diff)
	}
}
