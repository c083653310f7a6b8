package group

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

// tree returns a machine that is a tree with a few accounts.
func tree(t *testing.T) (*host.Host, string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the accounts of a tree are changed by a program that changes its root")
	}
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	for name, text := range map[string]string{
		"passwd":  "root:x:0:0:root:/root:/bin/bash\nalice:x:1000:1000::/home/alice:/bin/sh\nbob:x:1001:1001::/home/bob:/bin/sh\n",
		"group":   "root:x:0:\nalice:x:1000:\nbob:x:1001:\nold:x:3000:alice\n",
		"shadow":  "root:*:19000:0:99999:7:::\nalice:!:19000::::::\nbob:!:19000::::::\n",
		"gshadow": "root:*::\nalice:!::\nbob:!::\nold:!::alice\n",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Join(root, "etc"), 0o755),
			os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return host.New(root, host.Options{Backups: host.OpenBackups(filepath.Join(dir, "backups"))}), root
}

// accounts describes the groups of a machine.
func accounts(root string) func(t testing.TB) string {
	return func(t testing.TB) string {
		t.Helper()
		var all strings.Builder
		for _, name := range []string{"group", "gshadow"} {
			text, err := os.ReadFile(filepath.Join(root, "etc", name))
			if err != nil {
				t.Fatal(err)
			}
			all.Write(text)
		}
		return all.String()
	}
}

func id(n int) *int { return &n }

var cases = map[string]Resource{
	"a new group":       {Group: "fresh"},
	"a number":          {Group: "fresh", GID: id(2345)},
	"a system's":        {Group: "fresh", System: true},
	"members":           {Group: "fresh", Members: []string{"bob", "alice"}},
	"other members":     {Group: "old", Members: []string{"bob"}},
	"no members":        {Group: "old", Members: []string{}},
	"another number":    {Group: "old", GID: id(3001)},
	"one that leaves":   {Group: "old", State: "absent"},
	"a sensitive group": {Group: "s3cr3t-new", Members: []string{"alice"}, Meta: resource.Meta{Sensitive: true}},
}

func conform(t *testing.T, h *host.Host, root string, fill Resource) {
	t.Helper()
	resourcetest.Run(t, resourcetest.Case{
		Module: func() resource.Module { return New(h) },
		Resource: func(m resource.Module) resource.Resource {
			r := m.New().(*Resource)
			fill.host = r.host
			*r = fill
			return r
		},
		State: accounts(root), Offline: h.Offline(),
	})
}

func TestGroupKeepsThePromisesOfAModule(t *testing.T) {
	for name, fill := range cases {
		t.Run(name, func(t *testing.T) {
			h, root := tree(t)
			conform(t, h, root, fill)
		})
	}
}

// TestOnHost runs the same cases against the accounts of a booted host.
func TestOnHost(t *testing.T) {
	const prepare = "useradd alice && useradd bob && groupadd -g 3000 old && gpasswd -M alice old"
	if !hosttest.Inside(t, hosttest.Options{Name: "group"}, prepare) {
		return
	}
	for name, fill := range cases {
		t.Run(name, func(t *testing.T) {
			conform(t, host.New("/", host.Options{Backups: host.OpenBackups(t.TempDir())}), "/", fill)
		})
	}
}

func TestANumberThatIsTakenIsNamed(t *testing.T) {
	h, _ := tree(t)
	r := New(h).New().(*Resource)
	r.Group, r.GID = "fresh", id(1000)
	_, err := (&resourcetest.Engine{Offline: true}).Check(t.Context(), New(h), r)
	if err == nil || err.Error() != `gid 1000 is taken by group "alice"` {
		t.Errorf("returned %v", err)
	}
}

func TestOnlyStatedDifferencesAreApplied(t *testing.T) {
	h, root := tree(t)
	r := New(h).New().(*Resource)
	r.Group, r.GID, r.Members = "old", id(3001), []string{"bob"}
	e := &resourcetest.Engine{Offline: true}
	found, err := e.Check(t.Context(), New(h), r)
	if err != nil {
		t.Fatal(err)
	}
	found.Diff = found.Diff.Without([]string{"gid"})
	if _, err := e.Apply(t.Context(), New(h), r, found); err != nil {
		t.Fatal(err)
	}
	if text := accounts(root)(t); !strings.Contains(text, "old:x:3000:bob\n") {
		t.Errorf("the groups are\n%s", text)
	}
}

func TestWrongValuesAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		fill  Resource
		field string
	}{
		"no name":            {Resource{}, "group"},
		"a name with spaces": {Resource{Group: "a b"}, "group"},
		"an option":          {Resource{Group: "-r"}, "group"},
		"a negative number":  {Resource{Group: "x", GID: id(-1)}, "gid"},
		"a member twice":     {Resource{Group: "x", Members: []string{"a", "a"}}, "members"},
		"a list in a member": {Resource{Group: "x", Members: []string{"a,b"}}, "members"},
		"an unknown state":   {Resource{Group: "x", State: "gone"}, "state"},
		"members of none":    {Resource{Group: "x", State: "absent", Members: []string{}}, "state"},
	} {
		var wrong *resource.FieldError
		if err := c.fill.Validate(); !errors.As(err, &wrong) || wrong.Field != c.field {
			t.Errorf("%s: returned %v, want an error in %s", name, err, c.field)
		}
	}
}
