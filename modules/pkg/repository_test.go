package pkg

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

const repository = "/srv/repository"

// A deb is a small package to be built.
type deb struct {
	name, version string
	arch          string            // all by default
	fields        string            // more lines for the control file
	files         map[string]string // absolute path to content
	conffiles     map[string]string
	scripts       map[string]string // postinst and the like to a line of shell
}

// build puts the package into the repository; publish makes it findable.
func (d deb) build(t *testing.T) string {
	t.Helper()
	if d.arch == "" {
		d.arch = "all"
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: Nobody <nobody@example.com>\nDescription: a test\n%s",
		d.name, d.version, d.arch, d.fields)
	write(t, dir+"/DEBIAN/control", strings.TrimRight(control, "\n")+"\n", 0o644)
	for name, line := range d.scripts {
		write(t, dir+"/DEBIAN/"+name, "#!/bin/sh\nset -e\n"+line+"\n", 0o755)
	}
	var conffiles string
	for name, content := range d.conffiles {
		conffiles += name + "\n"
		write(t, dir+name, content, 0o644)
	}
	if conffiles != "" {
		write(t, dir+"/DEBIAN/conffiles", conffiles, 0o644)
	}
	for name, content := range d.files {
		write(t, dir+name, content, 0o644)
	}
	file := filepath.Join(repository, fmt.Sprintf("%s_%s_%s.deb", d.name, strings.ReplaceAll(d.version, ":", "%3a"), d.arch))
	if err := os.MkdirAll(repository, 0o755); err != nil {
		t.Fatal(err)
	}
	shell(t, "dpkg-deb --root-owner-group -Znone -b "+dir+" '"+file+"'")
	return file
}

// publish builds packages and writes the index of the repository. What apt knows
// changes with its next refresh alone.
func publish(t *testing.T, debs ...deb) {
	t.Helper()
	for _, d := range debs {
		d.build(t)
	}
	files, err := filepath.Glob(repository + "/*.deb")
	if err != nil {
		t.Fatal(err)
	}
	var index strings.Builder
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&index, "%s\nFilename: ./%s\nSize: %d\nSHA256: %x\n\n",
			shell(t, "dpkg-deb -f '"+file+"'"), filepath.Base(file), len(data), sha256.Sum256(data))
	}
	write(t, repository+"/Packages", index.String(), 0o644)
}

// useRepository makes the repository the only one that apt knows.
func useRepository(t *testing.T) {
	t.Helper()
	publish(t)
	shell(t, "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*")
	write(t, "/etc/apt/sources.list.d/lab.list", "deb [trusted=yes] copy:"+repository+" ./\n", 0o644)
	refresh(t)
}

func refresh(t *testing.T) {
	t.Helper()
	shell(t, "apt-get -q update")
}

func write(t *testing.T, name, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// shell runs a line of shell and returns what it printed.
func shell(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return strings.TrimSpace(string(out))
}

// A world is a host with what is remembered of its packages between runs.
type world struct {
	t       *testing.T
	manager manager
	prior   map[string]resource.Prior
	// keepIn is where old packages are kept; empty for nowhere.
	keepIn string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t: t, manager: newApt(host.New("/", host.Options{})), prior: map[string]resource.Prior{}}
}

// A tale is what came of one package in a run.
type tale struct {
	found resource.Finding
	err   error
}

func (w *world) view(name string, declared []Resource) resource.View {
	return resource.View{Prior: w.prior[name], Owner: func(c resource.Claim) (resource.Address, bool) {
		for _, r := range declared {
			if claim(r.Package) == c {
				return resource.Address{Kind: "package", Name: r.Package}, true
			}
		}
		return resource.Address{}, false
	}}
}

// run checks all declared packages, brings about what differs in one
// transaction, and checks again. Names in leave have left Git.
func (w *world) run(ctx context.Context, declared []Resource, leave ...string) map[string]tale {
	w.t.Helper()
	m := newModule(w.manager)
	m.KeepIn(w.keepIn)
	var all []resource.Resource
	for _, d := range declared {
		r := m.New().(*Resource)
		d.m = m
		*r = d
		if err := r.Validate(); err != nil {
			w.t.Fatalf("Validate: %v", err)
		}
		all = append(all, r)
	}
	if err := m.Attach(ctx); err != nil {
		w.t.Fatalf("Attach: %v", err)
	}
	if err := m.Freshen(ctx, all); err != nil {
		w.t.Fatalf("Freshen: %v", err)
	}
	for _, name := range leave {
		gone, err := m.Absent(resource.Held{
			Address: resource.Address{Kind: "package", Name: name},
			Claims:  []resource.Claim{claim(name)}, Prior: w.prior[name],
		})
		if err != nil {
			w.t.Fatalf("Absent: %v", err)
		}
		all = append(all, gone)
	}
	outcomes := map[string]tale{}
	var items []resource.Item
	for _, r := range all {
		found, err := r.Check(ctx, w.view(r.Name(), declared))
		outcomes[r.Name()] = tale{found, err}
		if found.Prior != nil {
			w.prior[r.Name()] = found.Prior
		}
		if err == nil && len(found.Diff) > 0 && found.Pending == "" {
			items = append(items, resource.Item{Resource: r, View: w.view(r.Name(), declared), Found: found})
		}
	}
	for i, res := range m.Transact(ctx, items) {
		name := items[i].Resource.Name()
		o := outcomes[name]
		o.err = res.Err
		outcomes[name] = o
		if res.Result.Prior != nil {
			w.prior[name] = res.Result.Prior
		}
		if res.Err != nil {
			continue
		}
		after, err := items[i].Resource.Check(ctx, w.view(name, declared))
		if err != nil || !after.InOrder() {
			w.t.Errorf("package %s: after it was applied, Check found %+v, error %v", name, after, err)
		}
	}
	return outcomes
}

// converge is run for packages that must all come in order.
func (w *world) converge(declared ...Resource) map[string]tale {
	w.t.Helper()
	outcomes := w.run(w.t.Context(), declared)
	for name, o := range outcomes {
		if o.err != nil {
			w.t.Errorf("package %s: %v", name, o.err)
		}
		if o.found.Pending != "" {
			w.t.Errorf("package %s is pending: %s", name, o.found.Pending)
		}
	}
	return outcomes
}

// state is what dpkg itself says of a package: "ii 1.0", or "" for nothing.
func state(name string) string {
	out, err := exec.Command("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Version}", name).Output()
	if err != nil {
		return ""
	}
	return strings.Join(strings.Fields(string(out)), " ")
}

func expectState(t *testing.T, name, want string) {
	t.Helper()
	got := state(name)
	if strings.HasPrefix(got, "un") {
		got = ""
	}
	if got != want {
		t.Errorf("package %s is %q, want %q", name, got, want)
	}
}

func yes() *bool { b := true; return &b }
func no() *bool  { b := false; return &b }
