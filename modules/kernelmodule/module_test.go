package kernelmodule

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

// program stands for modprobe over a kernel that is a directory: no test machine
// lets a module be loaded.
const program = `#!/bin/sh
echo "$*" >>"$0.said"
case $1 in
--remove) [ ! -e "$SYS/$3/busy" ] || { echo "modprobe: FATAL: Module $3 is in use." >&2; exit 1; }; rm -r "$SYS/$3" ;;
*) mkdir -p "$SYS/$2/parameters" && echo live >"$SYS/$2/initstate" && echo 0 >"$SYS/$2/parameters/hashsize" ;;
esac
`

// machine returns a module over a scratch root whose kernel is a directory, in
// which "dummy" and "nf_conntrack" can be loaded, and "ext4" is built in.
func machine(t *testing.T, isLoaded ...string) (module, string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) {
		at := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(content), mode)); err != nil {
			t.Fatal(err)
		}
	}
	write("modprobe", strings.ReplaceAll(program, "$SYS", filepath.Join(dir, "sys")), 0o755)
	write("lib/"+running()+"/modules.dep", "kernel/drivers/net/dummy.ko.xz:\nkernel/net/nf-conntrack.ko: kernel/lib/crc.ko\n", 0o644)
	write("lib/"+running()+"/modules.builtin", "kernel/fs/ext4/ext4.ko\n", 0o644)
	write("sys/kernel/parameters/panic", "0\n", 0o644)
	write("root/etc/os-release", "ID=debian\n", 0o644)
	for _, name := range isLoaded {
		write("sys/"+name+"/initstate", "live\n", 0o644)
		write("sys/"+name+"/parameters/hashsize", "16384\n", 0o644)
	}
	h := host.New(filepath.Join(dir, "root"), host.Options{Backups: host.OpenBackups(filepath.Join(dir, "backups"))})
	return module{host: h, kernel: kernel{
		sys: filepath.Join(dir, "sys"), proc: filepath.Join(dir, "proc"), lib: filepath.Join(dir, "lib"), host: h,
		modprobe: func() []string { return []string{filepath.Join(dir, "modprobe")} },
	}}, dir
}

func filled(m resource.Module, fill Resource) *Resource {
	r := m.New().(*Resource)
	fill.host, fill.kernel = r.host, r.kernel
	*r = fill
	return r
}

func TestKernelModuleKeepsThePromisesOfAModule(t *testing.T) {
	for name, c := range map[string]struct {
		fill    Resource
		loaded  []string
		offline bool
		secret  string
	}{
		"loaded":                      {fill: Resource{Title: "dummy"}},
		"loaded already":              {fill: Resource{Title: "dummy"}, loaded: []string{"dummy"}},
		"spelled otherwise":           {fill: Resource{Title: "nf-conntrack"}},
		"with options":                {fill: Resource{Title: "nf_conntrack", Options: map[string]Option{"hashsize": "131072", "acct": "1"}}},
		"options alone":               {fill: Resource{Title: "nf_conntrack", State: "configured", Options: map[string]Option{"hashsize": "131072"}}},
		"kept away":                   {fill: Resource{Title: "dummy", Blacklisted: true}},
		"kept away, loaded":           {fill: Resource{Title: "dummy", Blacklisted: true}, loaded: []string{"dummy"}},
		"kept away, unknown":          {fill: Resource{Title: "cramfs", Blacklisted: true}},
		"built in":                    {fill: Resource{Title: "ext4"}},
		"built in, shows":             {fill: Resource{Title: "kernel"}},
		"in a tree":                   {fill: Resource{Title: "wireguard", Options: map[string]Option{"a": "b"}}, offline: true},
		"kept away in a tree":         {fill: Resource{Title: "ext4", Blacklisted: true}, offline: true},
		"an option that is not shown": {fill: Resource{Title: "dummy", Options: map[string]Option{"key": "718281828"}}, secret: "718281828"},
	} {
		t.Run(name, func(t *testing.T) {
			m, dir := machine(t, c.loaded...)
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return m },
				Resource: func(m resource.Module) resource.Resource { return filled(m, c.fill) },
				Dirs:     []string{filepath.Join(dir, "root")},
				State: func(t testing.TB) string {
					var all []string
					entries, err := os.ReadDir(filepath.Join(dir, "sys"))
					if err != nil {
						t.Fatal(err)
					}
					for _, e := range entries {
						all = append(all, e.Name())
					}
					return strings.Join(all, " ")
				},
				Offline: c.offline, Secret: c.secret,
			})
		})
	}
}

func converge(t *testing.T, m module, fill Resource) (*resourcetest.Engine, *Resource) {
	t.Helper()
	e, r := &resourcetest.Engine{}, filled(m, fill)
	if err := e.Converge(t.Context(), m, r); err != nil {
		t.Fatal(err)
	}
	return e, r
}

func TestTheBootReadsWhatIsLoadedAndHow(t *testing.T) {
	m, dir := machine(t)
	converge(t, m, Resource{Title: "nf-conntrack", Options: map[string]Option{"hashsize": "131072", "acct": "1"}})
	converge(t, m, Resource{Title: "dummy", Blacklisted: true})
	for name, want := range map[string]string{
		"root/etc/modules-load.d/trued-nf_conntrack.conf": "# kept by trued\nnf_conntrack\n",
		"root/etc/modprobe.d/trued-nf_conntrack.conf":     "# kept by trued\noptions nf_conntrack acct=1 hashsize=131072\n",
		"root/etc/modprobe.d/trued-dummy.conf":            "# kept by trued\nblacklist dummy\ninstall dummy /bin/false\n",
		"modprobe.said":                                   "-- nf_conntrack\n",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q, error %v", name, got, err)
		}
	}
}

func TestAModuleThatTheKernelDoesNotHaveSaysWhy(t *testing.T) {
	m, dir := machine(t)
	check := func(fill Resource) (resource.Finding, error) {
		return (&resourcetest.Engine{}).Check(t.Context(), m, filled(m, fill))
	}
	var none *MissingError
	if _, err := check(Resource{Title: "dumy"}); !errors.As(err, &none) || !strings.Contains(err.Error(), "misspelled, or its package is missing") {
		t.Errorf("returned %v", err)
	}
	later := Resource{Title: "zfs"}
	later.Requires = []string{"package:zfs-dkms"}
	if found, err := check(later); err != nil || !strings.Contains(found.Unknown, "package:zfs-dkms brings it") {
		t.Errorf("found %+v, error %v", found, err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "lib")); err != nil {
		t.Fatal(err)
	}
	if _, err := check(Resource{Title: "dummy"}); !errors.As(err, &none) || !strings.Contains(err.Error(), "container") {
		t.Errorf("returned %v", err)
	}
	if _, err := check(Resource{Title: "ext4", Blacklisted: true}); err != nil {
		t.Errorf("what is not there is not kept away: %v", err)
	}
	if _, err := check(Resource{Title: "kernel", Blacklisted: true}); err == nil || !strings.Contains(err.Error(), "part of the kernel itself") {
		t.Errorf("returned %v", err)
	}
}

func TestAModuleInUseStays(t *testing.T) {
	m, dir := machine(t, "dummy")
	busy := func(name string) {
		if err := os.WriteFile(filepath.Join(dir, "sys", name, "busy"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	busy("dummy")
	e := &resourcetest.Engine{}
	var used *InUseError
	if err := e.Converge(t.Context(), m, filled(m, Resource{Title: "dummy", Blacklisted: true})); !errors.As(err, &used) {
		t.Errorf("returned %v", err)
	}

	// One that leaves Git is no error then: the next boot is without it.
	e, r := converge(t, m, Resource{Title: "nf_conntrack"})
	busy("nf_conntrack")
	gone, err := e.Absent(m, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Leave(t.Context(), m, r, gone); err != nil {
		t.Error(err)
	}
	if found, err := e.CheckAbsent(t.Context(), m, r, gone); err != nil || !found.InOrder() || !strings.Contains(found.Note, "in use") {
		t.Errorf("found %+v, error %v", found, err)
	}
}

func TestOptionsOfAModuleThatIsLoadedAreRemarked(t *testing.T) {
	for value, want := range map[Option]string{"16384": "", "131072": "loaded with another hashsize"} {
		m, _ := machine(t, "nf_conntrack")
		e, r := converge(t, m, Resource{Title: "nf_conntrack", Options: map[string]Option{"hashsize": value, "unseen": "1"}})
		found, err := e.Check(t.Context(), m, r)
		if err != nil || !found.InOrder() || !strings.Contains(found.Note, want) || (want == "") != (found.Note == "") {
			t.Errorf("found %+v, error %v", found, err)
		}
	}
	for _, same := range [][2]string{{"Y", "1"}, {"N", "off"}, {"true", "yes"}, {"7", "7"}} {
		if !sameParameter(same[0], same[1]) {
			t.Errorf("%q is not %q", same[0], same[1])
		}
	}
}

func TestAContainerThatSeesNoSysReadsProc(t *testing.T) {
	m, dir := machine(t)
	if err := os.WriteFile(filepath.Join(dir, "proc"), []byte("dummy 16384 0 - Live 0x0000000000000000\ndum 1 0 - Live 0x0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]presence{"dummy": loaded, "dum": loaded, "du": missing} {
		if got, err := m.kernel.find(name); got != want || err != nil {
			t.Errorf("%s is %d, error %v", name, got, err)
		}
	}
}

func TestWithoutModprobeSaysSo(t *testing.T) {
	m, _ := machine(t)
	m.kernel.modprobe = func() []string { return nil }
	if err := (&resourcetest.Engine{}).Converge(t.Context(), m, filled(m, Resource{Title: "dummy"})); err == nil || !strings.Contains(err.Error(), "declare the package kmod") {
		t.Errorf("returned %v", err)
	}
}

// TestOnHost is about a booted host, which as a container can load nothing: what
// it can only keep in files is kept, and what would have to be loaded says why not.
func TestOnHost(t *testing.T) {
	if !hosttest.Inside(t, hosttest.Options{Name: "kernelmodule"}, "mkdir -p /etc/modprobe.d") {
		return
	}
	h := host.New("/", host.Options{Backups: host.OpenBackups(t.TempDir())})
	for name, fill := range map[string]Resource{
		"kept away": {Title: "no-such-module", Blacklisted: true},
		"options":   {Title: "no_such_module", State: "configured", Options: map[string]Option{"a": "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return filled(m, fill) },
				Dirs:     []string{"/etc/modprobe.d", "/etc/modules-load.d"},
			})
		})
	}
	m, e := New(h), &resourcetest.Engine{}
	var none *MissingError
	if _, err := e.Check(t.Context(), m, filled(m, Resource{Title: "no_such_module"})); !errors.As(err, &none) || !strings.Contains(err.Error(), "In a container the machine must load it") {
		t.Errorf("returned %v", err)
	}
}

func TestWrongValuesAreNamed(t *testing.T) {
	options := map[string]Option{"a": "1"}
	for name, c := range map[string]struct {
		fill  Resource
		field string
	}{
		"nothing":                  {Resource{}, "kernel_module"},
		"a file":                   {Resource{Title: "dummy.ko"}, "kernel_module"},
		"a path":                   {Resource{Title: "net/dummy"}, "kernel_module"},
		"two words":                {Resource{Title: "dummy", Options: map[string]Option{"a": "1 b=2"}}, "options"},
		"a parameter of two lines": {Resource{Title: "dummy", Options: map[string]Option{"a\nb": "1"}}, "options"},
		"kept away with options":   {Resource{Title: "dummy", Blacklisted: true, Options: options}, "options"},
		"nothing to be configured": {Resource{Title: "dummy", State: "configured"}, "state"},
		"absent":                   {Resource{Title: "dummy", State: "absent"}, "state"},
	} {
		var wrong *resource.FieldError
		if err := c.fill.Validate(); !errors.As(err, &wrong) || wrong.Field != c.field {
			t.Errorf("%s: returned %v, want an error in %s", name, err, c.field)
		}
	}
}
