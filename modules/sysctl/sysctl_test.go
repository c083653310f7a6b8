package sysctl

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

// machine returns a module over a scratch root, whose kernel is a directory.
func machine(t *testing.T, values map[string]string) (module, string) {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(filepath.Join(root, "etc/sysctl.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	proc := filepath.Join(dir, "proc")
	for key, value := range values {
		at := filepath.Join(proc, key)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h := host.New(root, host.Options{Backups: host.OpenBackups(filepath.Join(dir, "backups"))})
	return module{host: h, kernel: kernel(proc)}, dir
}

func TestSysctlKeepsThePromisesOfAModule(t *testing.T) {
	for name, c := range map[string]struct {
		offline bool
		secret  string
		key     string
		value   Value
	}{
		"live and kept":                      {key: "net.core.somaxconn", value: "8192"},
		"several numbers":                    {key: "net/ipv4/tcp_rmem", value: "4096  131072 8388608"},
		"a dot in a name":                    {key: "net.ipv4.conf.eth0/100.forwarding", value: "1"},
		"kept in a tree that is not running": {key: "net.core.somaxconn", value: "8192", offline: true},
		"a sensitive value":                  {key: "net.core.somaxconn", value: "718281828", secret: "718281828"},
	} {
		t.Run(name, func(t *testing.T) {
			m, dir := machine(t, map[string]string{
				"net/core/somaxconn":                "4096\n",
				"net/ipv4/tcp_rmem":                 "4096\t131072\t6291456\n",
				"net/ipv4/conf/eth0.100/forwarding": "0\n",
			})
			resourcetest.Run(t, resourcetest.Case{
				Module: func() resource.Module { return m },
				Resource: func(m resource.Module) resource.Resource {
					r := m.New().(*Resource)
					r.Key, r.Value = c.key, c.value
					return r
				},
				Dirs:    []string{filepath.Join(dir, "root")},
				State:   func(t testing.TB) string { return live(t, m, c.key) },
				Offline: c.offline, Secret: c.secret,
			})
		})
	}
}

func live(t testing.TB, m module, key string) string {
	t.Helper()
	value, err := m.kernel.read((&Resource{Key: key}).Name())
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestTabsAndSpacesAreTheSame(t *testing.T) {
	m, _ := machine(t, map[string]string{"net/ipv4/tcp_rmem": "4096\t131072\t6291456\n"})
	r := m.New().(*Resource)
	r.Key, r.Value = "net.ipv4.tcp_rmem", " 4096 131072   6291456"
	found, err := (&resourcetest.Engine{}).Check(t.Context(), m, r)
	if err != nil || found.Diff.Has(fieldLive) {
		t.Errorf("found %+v, error %v", found, err)
	}
}

func TestAKeyThatIsNotThereSaysSo(t *testing.T) {
	m, _ := machine(t, map[string]string{"net/core/somaxconn": "1"})
	r := m.New().(*Resource)
	r.Key, r.Value = "net.core.somaxcon", "1"
	var missing *MissingKeyError
	if _, err := (&resourcetest.Engine{}).Check(t.Context(), m, r); !errors.As(err, &missing) {
		t.Errorf("returned %v", err)
	}
}

func TestAReadOnlyKeySaysSo(t *testing.T) {
	// The kernel's own, which nobody can write: nothing on the machine changes.
	err := kernel("/proc/sys").write("kernel.ostype", "Linux", false)
	var readOnly *ReadOnlyError
	if !errors.As(err, &readOnly) {
		t.Errorf("returned %v", err)
	}
}

func TestWrongValuesAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		fill  Resource
		field string
	}{
		"no key":           {Resource{Value: "1"}, "sysctl"},
		"one name":         {Resource{Key: "net", Value: "1"}, "sysctl"},
		"an empty name":    {Resource{Key: "net..core", Value: "1"}, "sysctl"},
		"dots":             {Resource{Key: "net/../../etc", Value: "1"}, "sysctl"},
		"an assignment":    {Resource{Key: "net.core=1", Value: "1"}, "sysctl"},
		"no value":         {Resource{Key: "net.core.somaxconn"}, "value"},
		"a value of lines": {Resource{Key: "net.core.somaxconn", Value: "1\n2"}, "value"},
	} {
		var wrong *resource.FieldError
		if err := c.fill.Validate(); !errors.As(err, &wrong) || wrong.Field != c.field {
			t.Errorf("%s: returned %v, want an error in %s", name, err, c.field)
		}
	}
}

// TestARunningKernelIsSetAndGivenBack uses a network namespace of its own, so
// that nothing of the machine changes.
func TestARunningKernelIsSetAndGivenBack(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	scratched, _ := machine(t, nil)
	m := module{host: scratched.host, kernel: kernel("/proc/sys")}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // the thread ends with its namespace
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("cannot make a network namespace: %v", err)
			return
		}
		setAndGiveBack(t, m)
	}()
	<-done
}

func setAndGiveBack(t *testing.T, m module) {
	const key = "net.ipv4.tcp_rmem"
	before, err := m.kernel.read(key)
	if err != nil {
		t.Error(err)
		return
	}
	r := m.New().(*Resource)
	r.Key, r.Value = key, "4096 65536 1048576"
	engine := &resourcetest.Engine{}
	if err := engine.Converge(t.Context(), m, r); err != nil {
		t.Error(err)
		return
	}
	if now, err := m.kernel.read(key); err != nil || now != string(r.Value) {
		t.Errorf("the value is %q, error %v", now, err)
	}
	if found, err := engine.Check(t.Context(), m, r); err != nil || !found.InOrder() {
		t.Errorf("found %+v, error %v", found, err)
	}
	gone, err := engine.Absent(m, r)
	if err == nil {
		err = engine.Leave(t.Context(), m, r, gone)
	}
	if now, e := m.kernel.read(key); err != nil || e != nil || now != before {
		t.Errorf("the value is %q, was %q, errors %v, %v", now, before, err, e)
	}
}
