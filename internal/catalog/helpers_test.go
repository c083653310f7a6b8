package catalog_test

import (
	"context"
	"errors"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/facts"
	"trued.dev/trued/internal/resource"
)

// kind is a module for tests, of a value that new makes.
type kind struct {
	name string
	make func() resource.Resource
}

func (k kind) Kind() string           { return k.name }
func (k kind) New() resource.Resource { return k.make() }
func (k kind) Absent(resource.Held) (resource.Resource, error) {
	return nil, errors.New("not in these tests")
}

// base is what the values of tests share.
type base struct {
	resource.Meta `yaml:",inline"`
}

func (b *base) Check(context.Context, resource.View) (resource.Finding, error) {
	return resource.Finding{}, nil
}

func (b *base) Apply(context.Context, resource.View, resource.Finding) (resource.Result, error) {
	return resource.Result{}, nil
}

type file struct {
	base     `yaml:",inline"`
	Path     string        `yaml:"file"`
	Content  *string       `yaml:"content"`
	Source   string        `yaml:"source"`
	Template string        `yaml:"template"`
	Owner    string        `yaml:"owner"`
	Group    string        `yaml:"group"`
	Mode     resource.Mode `yaml:"mode"`
	Backup   *bool         `yaml:"backup"`
	Body     *resource.Content
}

func (f *file) Name() string { return path.Clean(f.Path) }

func (f *file) Claims() []resource.Claim { return []resource.Claim{resource.Path(f.Name())} }

func (f *file) Validate() error {
	var errs []error
	if !strings.HasPrefix(f.Path, "/") {
		errs = append(errs, resource.Wrong("file", "path %q is not absolute", f.Path))
	}
	if strings.Contains(f.Path, "..") {
		errs = append(errs, resource.Wrong("file", "path %q holds ..", f.Path))
	}
	if f.Content != nil && f.Template != "" {
		errs = append(errs, resource.Wrong("template", "content and template exclude each other"))
	}
	return errors.Join(errs...)
}

func (f *file) Load(l resource.Loader) (err error) {
	switch {
	case f.Source != "":
		f.Body, err = l.Source(f.Source)
	case f.Template != "":
		f.Body, err = l.Template(f.Template)
	case f.Content != nil:
		f.Body = resource.Bytes([]byte(*f.Content))
	}
	return err
}

type directory struct {
	base   `yaml:",inline"`
	Path   string `yaml:"directory"`
	Source string `yaml:"source"`
	Tree   []resource.TreeEntry
}

func (d *directory) Name() string             { return path.Clean(d.Path) }
func (d *directory) Claims() []resource.Claim { return []resource.Claim{resource.Path(d.Name())} }
func (d *directory) Validate() error          { return nil }

func (d *directory) Load(l resource.Loader) (err error) {
	if d.Source != "" {
		d.Tree, err = l.Tree(d.Source)
	}
	return err
}

type unit struct {
	base      `yaml:",inline"`
	Unit      string            `yaml:"unit"`
	Enabled   *bool             `yaml:"enabled"`
	State     string            `yaml:"state"`
	Retries   int               `yaml:"retries"`
	DropIns   map[string]string `yaml:"drop_ins"`
	RestartOn []string          `yaml:"restart_on"`
}

func (u *unit) Name() string {
	if !strings.Contains(u.Unit, ".") {
		return u.Unit + ".service"
	}
	return u.Unit
}

func (u *unit) Claims() []resource.Claim {
	return []resource.Claim{{Space: resource.SpaceUnit, Name: u.Name()}}
}
func (u *unit) Validate() error { return nil }

func (u *unit) Triggers() []resource.Trigger {
	var list []resource.Trigger
	for _, on := range u.RestartOn {
		list = append(list, resource.Trigger{On: on, Key: "restart_on", Reaction: resource.Restart})
	}
	return list
}

func (u *unit) React(context.Context, resource.View, []resource.Reaction) (resource.Result, error) {
	return resource.Result{}, nil
}

type pkg struct {
	base    `yaml:",inline"`
	Package string `yaml:"package"`
	Version string `yaml:"version"`
}

func (p *pkg) Name() string { return p.Package }
func (p *pkg) Claims() []resource.Claim {
	return []resource.Claim{{Space: resource.SpacePackage, Name: p.Package}}
}
func (p *pkg) Validate() error { return nil }

func modules() []resource.Module {
	return []resource.Module{
		kind{"file", func() resource.Resource { return &file{} }},
		kind{"directory", func() resource.Resource { return &directory{} }},
		kind{"unit", func() resource.Resource { return &unit{} }},
		kind{"package", func() resource.Resource { return &pkg{} }},
	}
}

func testFacts() facts.Facts {
	return facts.Facts{
		Host:    facts.Host{Name: "web-1", FQDN: "web-1.example.com", ID: "0123"},
		OS:      facts.OS{Family: "debian", ID: "debian", Version: "12", Codename: "bookworm"},
		Kernel:  facts.Kernel{Version: "6.1.0"},
		Arch:    "amd64",
		CPU:     facts.CPU{Count: 2},
		Memory:  facts.Memory{Total: 4 << 30},
		Virtual: "kvm", Init: "systemd",
		Network: facts.Network{Address: "192.0.2.7"},
		Local:   map[string]any{"site": "ber", "rack": 7},
	}
}

// repository makes a tree from a text in which "-- path --" begins a file.
func repository(t testing.TB, text string) fstest.MapFS {
	t.Helper()
	tree := fstest.MapFS{}
	var name string
	for _, line := range strings.SplitAfter(text, "\n") {
		if rest, ok := strings.CutPrefix(line, "-- "); ok {
			name = strings.TrimSuffix(strings.TrimSpace(rest), " --")
			tree[name] = &fstest.MapFile{Mode: 0o644}
			continue
		}
		if name != "" {
			tree[name].Data = append(tree[name].Data, line...)
		}
	}
	return tree
}

func input(tree fstest.MapFS) catalog.Input {
	return catalog.Input{
		Name: "infra", Tree: tree, Group: "groups/web", HostName: "web-1",
		Facts: testFacts(), Modules: modules(), Version: "1.4.0",
	}
}

// load loads the group groups/web of a repository, which must succeed.
func load(t testing.TB, text string) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Load(input(repository(t, text)))
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return c
}

// refusal loads the group groups/web of a repository, which must fail.
func refusal(t testing.TB, text string) string {
	t.Helper()
	c, err := catalog.Load(input(repository(t, text)))
	if err == nil {
		t.Fatalf("loaded %d entries", len(c.Entries))
	}
	var all *catalog.Errors
	if !errors.As(err, &all) {
		t.Fatalf("error is a %T", err)
	}
	return err.Error()
}

func addresses(c *catalog.Catalog) string {
	var list []string
	for _, e := range c.Entries {
		s := e.Address.String()
		if e.Pending != "" {
			s += "?"
		}
		list = append(list, s)
	}
	return strings.Join(list, " ")
}
