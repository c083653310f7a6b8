package main

import (
	"testing"
	"testing/fstest"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/modules"
)

func TestTheExampleOfEveryKindLoads(t *testing.T) {
	all := modules.All(host.New("/", host.Options{}))
	for _, m := range all {
		e, ok := m.(resource.Exemplar)
		if !ok {
			continue
		}
		t.Run(m.Kind(), func(t *testing.T) {
			tree := fstest.MapFS{
				"groups/web/web.yaml":            {Data: []byte(e.Example())},
				"groups/web/files/deploy.pub":    {Data: []byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB5wQl8VbC9zD5x7dMoT4mEdpBqgmhmM4X7TttD4jhCo deploy@ci\n")},
				"groups/web/files/ssh_banner.in": {Data: []byte("x\n")},
			}
			v, err := catalog.Validate("", tree, all, "")
			if err != nil {
				t.Fatal(err)
			}
			if len(v.Loads) != 1 || v.Loads[0].Resources == 0 {
				t.Errorf("loaded %+v", v.Loads)
			}
		})
	}
}
