package unit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

func ptr[T any](v T) *T { return &v }

// loaded returns a unit of a module whose host is the tree at root.
// sources is what units are loaded from.
var sources = fstest.MapFS{"x": {}}

func filled(m resource.Module, fill Unit) *Unit {
	u := m.New().(*Unit)
	fill.own = u.own
	*u = fill
	return u
}

func loaded(t *testing.T, m resource.Module, fill Unit) *Unit {
	t.Helper()
	u := filled(m, fill)
	if err := u.Load(resourcetest.Loader{FS: sources}); err != nil {
		t.Fatal(err)
	}
	return u
}

const plainService = `[Unit]
Description=A service of the test
[Service]
Type=exec
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
`

func TestValidateSaysWhatIsWrong(t *testing.T) {
	tests := []struct {
		name string
		unit Unit
		want string
	}{
		{"no suffix", Unit{Unit: "nginx"}, `unit: "nginx" does not say`},
		{"unknown state", Unit{Unit: "a.service", State: "started"}, "state: \"started\" is not a state"},
		{"masked and running", Unit{Unit: "a.service", Masked: ptr(true), State: "running"}, "state: a masked unit"},
		{"masked and enabled", Unit{Unit: "a.service", Masked: ptr(true), Enabled: ptr(true)}, "enabled: a masked unit"},
		{"masked with a file", Unit{Unit: "a.service", Masked: ptr(true), Content: ptr(plainService)}, "content: the mask"},
		{"a template that runs", Unit{Unit: "a@.service", State: "running"}, `such as "a@INSTANCE.service"`},
		{"two contents", Unit{Unit: "a.service", Content: ptr(plainService), Template: "x"}, "keep one"},
		{"sensitive text", Unit{Unit: "a.service", Meta: resource.Meta{Sensitive: true}, Content: ptr(plainService)}, "LoadCredential="},
		{"sensitive drop-in", Unit{Unit: "a.service", Meta: resource.Meta{Sensitive: true}, DropIns: map[string]string{"a": ""}}, "LoadCredential="},
		{"enabled without [Install]", Unit{Unit: "a.service", Enabled: ptr(true), Content: ptr("[Service]\nExecStart=/bin/true\n")}, "enabled: the unit file has no [Install]"},
		{"a misspelled section", Unit{Unit: "a.service", Content: ptr("[Sevice]\nExecStart=/bin/true\n")}, "content: line 2: a service has no section [Sevice]"},
		{"another type's section", Unit{Unit: "a.timer", Content: ptr("[Service]\nExecStart=/bin/true\n")}, "a timer has no section [Service]"},
		{"no section", Unit{Unit: "a.service", Content: ptr("Description=x\n")}, "line 1: \"Description=x\" stands before"},
		{"no assignment", Unit{Unit: "a.service", Content: ptr("[Unit]\nDescription\n")}, "line 2: \"Description\" is not an assignment"},
		{"a drop-in's text", Unit{Unit: "a.service", DropIns: map[string]string{"10-x.conf": "oops"}}, "drop_ins: 10-x.conf: line 1"},
		{"a drop-in that is a path", Unit{Unit: "a.service", DropIns: map[string]string{"../x": ""}}, "is not a file name"},
		{"one drop-in twice", Unit{Unit: "a.service", DropIns: map[string]string{"x": "", "x.conf": ""}}, "are the same file"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			u := loaded(t, New(host.New(t.TempDir(), host.Options{})), test.unit)
			err := u.Validate()
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Validate says %v, want %q", err, test.want)
			}
		})
	}
}

func TestValidateTakesAGoodUnit(t *testing.T) {
	u := loaded(t, New(host.New(t.TempDir(), host.Options{})), Unit{
		Unit: "app@.service", Enabled: ptr(true),
		Content: ptr("\ufeff# comment\n[Unit]\nDescription=a \\\n  b\n[Service]\nExecStart=/bin/app %i\n[X-Ours]\na=b\n[Install]\nDefaultInstance=one\nWantedBy=multi-user.target\n"),
		DropIns: map[string]string{"10-limits": "[Service]\nLimitNOFILE=4096\n"},
	})
	if err := u.Validate(); err != nil {
		t.Errorf("Validate says %v", err)
	}
}

func TestUnitInATreeKeepsThePromisesOfAModule(t *testing.T) {
	tests := map[string]Unit{
		"unit file":       {Unit: "new.service", Enabled: ptr(true), Content: ptr(plainService)},
		"replaced file":   {Unit: "local.service", Enabled: ptr(true), Content: ptr(plainService)},
		"enabled":         {Unit: "off.service", Enabled: ptr(true)},
		"disabled":        {Unit: "on.service", Enabled: ptr(false)},
		"masked":          {Unit: "off.service", Masked: ptr(true)},
		"masked, missing": {Unit: "later.service", Masked: ptr(true)},
		"unmasked":        {Unit: "masked.service", Masked: ptr(false), Enabled: ptr(true)},
		"unmasked file":   {Unit: "masked.service", Masked: ptr(false), Enabled: ptr(true), Content: ptr(plainService)},
		"drop-in":         {Unit: "off.service", DropIns: map[string]string{"10-a.conf": "[Service]\nNice=5\n"}},
	}
	for name, fill := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := tree(t)
			h := host.New(root, host.Options{Backups: host.OpenBackups(t.TempDir())})
			resourcetest.Run(t, resourcetest.Case{
				Module: func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource {
					return loaded(t, m, fill)
				},
				Dirs:    []string{root},
				Offline: true,
			})
		})
	}
}

func TestADropInThatOthersMayNotReadIsTakenOverUnseen(t *testing.T) {
	root := tree(t)
	at := filepath.Join(root, "etc/systemd/system/off.service.d/10-a.conf")
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte("[Service]\nEnvironment=P=s3cr3t\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	m := New(host.New(root, host.Options{}))
	u := loaded(t, m, Unit{Unit: "off.service", DropIns: map[string]string{"10-a.conf": "[Service]\nNice=5\n"}})
	engine := resourcetest.Engine{Offline: true}
	found, err := engine.Check(t.Context(), m, u)
	if err != nil || !found.Diff.Has("drop_ins:10-a.conf") || strings.Contains(fmt.Sprint(found.Diff), "s3cr3t") {
		t.Errorf("found %+v, error %v", found.Diff, err)
	}
}

func TestALinkInThePlaceOfTheUnitFileIsNotWrittenThrough(t *testing.T) {
	h := host.New(tree(t), host.Options{})
	if err := h.Symlink("/srv/linked.service", "/etc/systemd/system/linked.service", host.Ownership{}, true, false); err != nil {
		t.Fatal(err)
	}
	m := New(h)
	u := loaded(t, m, Unit{Unit: "linked.service", Content: ptr(plainService)})
	var engine resourcetest.Engine
	_, err := engine.Check(t.Context(), m, u)
	if err == nil || !strings.Contains(err.Error(), "is a link to /srv/linked.service: remove the link") {
		t.Errorf("Check says %v", err)
	}
}

func TestStateInATreeWaitsForItsBoot(t *testing.T) {
	m := New(host.New(tree(t), host.Options{}))
	u := loaded(t, m, Unit{Unit: "off.service", Enabled: ptr(true), State: running})
	engine := resourcetest.Engine{Offline: true}
	found, err := engine.Check(t.Context(), m, u)
	if err != nil || len(found.Diff) != 1 || !found.Diff.Has("enabled") {
		t.Fatalf("Check found %+v, %v", found, err)
	}
	res, err := engine.Apply(t.Context(), m, u, found)
	if err != nil || res.Pending == "" {
		t.Errorf("Apply left %+v, %v", res, err)
	}
	if found, err := engine.Check(t.Context(), m, u); err != nil || len(found.Diff) > 0 || found.Pending == "" {
		t.Errorf("afterwards Check found %+v, %v", found, err)
	}
}

// tree returns a root with some units in it.
func tree(t *testing.T) string {
	t.Helper()
	h := host.New(t.TempDir(), host.Options{})
	write := func(name, text string) {
		spec := host.FileSpec{Content: resource.Bytes([]byte(text)), Parents: true}
		if err := h.WriteFile(t.Context(), name, spec); err != nil {
			t.Fatal(err)
		}
	}
	link := func(name, target string) {
		if err := h.Symlink(target, name, host.Ownership{}, true, false); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"off.service", "on.service", "masked.service"} {
		write("/usr/lib/systemd/system/"+name, plainService)
	}
	write("/etc/systemd/system/local.service", "[Service]\nExecStart=/bin/local\n")
	link("/etc/systemd/system/multi-user.target.wants/on.service", "/usr/lib/systemd/system/on.service")
	link("/etc/systemd/system/masked.service", "/dev/null")
	return h.Root()
}
