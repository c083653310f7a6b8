package user

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

const (
	oldHash = "$6$before$0123456789abcdef"
	newHash = "$6$after$fedcba9876543210"
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
		"etc/passwd":             "root:x:0:0:root:/root:/bin/bash\nold:x:1000:1000:Old:/home/old:/bin/sh\n",
		"etc/group":              "root:x:0:\nold:x:1000:\nadm:x:4:old\nwww:x:33:\nstaff:x:50:old\n",
		"etc/shadow":             "root:*:19000:0:99999:7:::\nold:" + oldHash + ":19000:0:99999:7:::\n",
		"etc/gshadow":            "root:*::\nold:!::\nadm:*::old\nwww:*::\nstaff:*::old\n",
		"etc/skel/.profile":      "# welcome\n",
		"etc/skel/.config/a":     "x",
		"home/old/.profile":      "",
		"var/mail/.keep":         "",
		"proc/.keep":             "",
		"srv/elsewhere/.profile": "",
	} {
		name = filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(filepath.Join(root, "home/old"), 1000, 1000); err != nil {
		t.Fatal(err)
	}
	return host.New(root, host.Options{Backups: host.OpenBackups(filepath.Join(dir, "backups"))}), root
}

// changed is the day of the last change of a password.
var changed = regexp.MustCompile(`(?m)^([^:]+:[^:]*):\d+:\d*:\d*:\d*:`)

// accounts describes the accounts of a machine. When a password was changed is
// left out.
func accounts(root string) func(t testing.TB) string {
	return func(t testing.TB) string {
		t.Helper()
		var all strings.Builder
		for _, name := range []string{"passwd", "group", "gshadow", "shadow"} {
			text, err := os.ReadFile(filepath.Join(root, "etc", name))
			if err != nil {
				t.Fatal(err)
			}
			all.WriteString(changed.ReplaceAllString(string(text), "$1:"))
		}
		return all.String()
	}
}

func ptr[T any](v T) *T { return &v }

// A kase is a user that is not as declared.
type kase struct {
	fill   Resource
	secret string
	leaves bool
}

var cases = map[string]kase{
	"a new user":          {fill: Resource{User: "fresh", RemoveHome: true}},
	"a user of a number":  {fill: Resource{User: "fresh", UID: ptr(2345), RemoveHome: true}},
	"a system's user":     {fill: Resource{User: "fresh", System: true}},
	"all attributes":      {fill: Resource{User: "fresh", UID: ptr(2345), Group: "www", Groups: []string{"adm", "staff"}, Comment: ptr("A B"), Home: "/srv/fresh", Shell: "/bin/sh", Password: newHash, Lock: ptr(true), Expires: "2030-01-31", RemoveHome: true}, secret: newHash},
	"no home":             {fill: Resource{User: "fresh", CreateHome: ptr(false)}},
	"another comment":     {fill: Resource{User: "old", Comment: ptr("New")}},
	"no comment":          {fill: Resource{User: "old", Comment: ptr("")}},
	"another number":      {fill: Resource{User: "old", UID: ptr(2222)}},
	"another shell":       {fill: Resource{User: "old", Shell: "/usr/sbin/nologin"}},
	"a shell's two names": {fill: Resource{User: "old", Shell: "/bin//bash"}},
	"another home":        {fill: Resource{User: "old", Home: "/srv/elsewhere"}},
	"a home that is made": {fill: Resource{User: "old", Home: "/srv/new", CreateHome: ptr(true)}, leaves: true},
	"a home that moves":   {fill: Resource{User: "old", Home: "/srv/moved", MoveHome: true}, leaves: true},
	"another primary":     {fill: Resource{User: "old", Group: "www"}},
	"groups":              {fill: Resource{User: "old", Groups: []string{"www", "adm"}}},
	"one group more":      {fill: Resource{User: "old", Groups: []string{"www"}, Append: true}},
	"no groups":           {fill: Resource{User: "old", Groups: []string{}}},
	"a password":          {fill: Resource{User: "old", Password: newHash}, secret: newHash},
	"a lock":              {fill: Resource{User: "old", Lock: ptr(true)}},
	"an expiry":           {fill: Resource{User: "old", Expires: "2030-01-31"}},
	"a user that goes":    {fill: Resource{User: "old", State: "absent"}},
	"a home that goes":    {fill: Resource{User: "old", State: "absent", RemoveHome: true}, leaves: true},
	"a sensitive user":    {fill: Resource{User: "old", Comment: ptr("s3cr3t")}, secret: "s3cr3t"},
}

func conform(t *testing.T, h *host.Host, root string, c kase) {
	t.Helper()
	resourcetest.Run(t, resourcetest.Case{
		Module: func() resource.Module { return New(h) },
		Resource: func(m resource.Module) resource.Resource {
			r := m.New().(*Resource)
			filled := c.fill
			filled.host = r.host
			*r = filled
			return r
		},
		Dirs:  []string{filepath.Join(root, "home"), filepath.Join(root, "srv")},
		State: accounts(root), Offline: h.Offline(), Secret: c.secret, Leaves: c.leaves,
	})
}

func TestUserKeepsThePromisesOfAModule(t *testing.T) {
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h, root := tree(t)
			conform(t, h, root, c)
		})
	}
}

func TestANumberThatIsTakenIsNamed(t *testing.T) {
	h, _ := tree(t)
	r := New(h).New().(*Resource)
	r.User, r.UID = "fresh", ptr(1000)
	_, err := (&resourcetest.Engine{Offline: true}).Check(t.Context(), New(h), r)
	if err == nil || err.Error() != `uid 1000 is taken by user "old"` {
		t.Errorf("returned %v", err)
	}
}

func TestANewHomeIsTheUsersOwn(t *testing.T) {
	h, root := tree(t)
	r := New(h).New().(*Resource)
	r.User, r.UID, r.Group = "fresh", ptr(2345), "www"
	if err := (&resourcetest.Engine{Offline: true}).Converge(t.Context(), New(h), r); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".profile", ".config", ".config/a"} {
		i, err := h.Lstat(filepath.Join("/home/fresh", name))
		if err != nil || i.UID() != 2345 || i.GID() != 33 {
			t.Errorf("%q is %d:%d, error %v", name, i.UID(), i.GID(), err)
		}
	}
	if info, err := os.Stat(filepath.Join(root, "home/fresh")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the home directory is %v, error %v", info, err)
	}
}

func TestAHomeOfSomebodyElseIsRemarked(t *testing.T) {
	h, root := tree(t)
	if err := os.Mkdir(filepath.Join(root, "home/fresh"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := New(h).New().(*Resource)
	r.User = "fresh"
	e := &resourcetest.Engine{Offline: true}
	if err := e.Converge(t.Context(), New(h), r); err != nil {
		t.Fatal(err)
	}
	found, err := e.Check(t.Context(), New(h), r)
	if err != nil || !found.InOrder() || found.Note != "home directory /home/fresh was there and belongs to root" {
		t.Errorf("found %+v, error %v", found, err)
	}
}

func TestALockedAccountStaysLockedWithANewPassword(t *testing.T) {
	h, root := tree(t)
	e := &resourcetest.Engine{Offline: true}
	r := New(h).New().(*Resource)
	r.User, r.Lock = "old", ptr(true)
	if err := e.Converge(t.Context(), New(h), r); err != nil {
		t.Fatal(err)
	}
	r.Lock, r.Password = nil, newHash
	if err := e.Converge(t.Context(), New(h), r); err != nil {
		t.Fatal(err)
	}
	if text := accounts(root)(t); !strings.Contains(text, "old:!"+newHash) {
		t.Errorf("the accounts are\n%s", text)
	}
}

func TestWhatLeavesTheListOfGroupsLeavesTheGroup(t *testing.T) {
	for name, c := range map[string]struct {
		first, then []string
		append      bool
		owner       func(resource.Claim) (resource.Address, bool)
		want        string
	}{
		"only these":                  {first: []string{"www", "adm"}, then: []string{"adm"}, want: "adm"},
		"appended":                    {first: []string{"www"}, then: []string{}, append: true, want: "adm,staff"},
		"appended what was there":     {first: []string{"www", "adm"}, then: []string{"www"}, append: true, want: "adm,staff,www"},
		"a group with its own member": {first: []string{"adm"}, then: []string{"adm"}, want: "adm,staff", owner: staffs},
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := tree(t)
			e := &resourcetest.Engine{Offline: true, Owner: c.owner}
			for _, groups := range [][]string{c.first, c.then} {
				r := New(h).New().(*Resource)
				r.User, r.Groups, r.Append = "old", groups, c.append
				if err := e.Converge(t.Context(), New(h), r); err != nil {
					t.Fatal(err)
				}
			}
			if s, err := look(h, "old"); err != nil || describe(s.groups) != c.want {
				t.Errorf("the groups are %q, want %q, error %v", describe(s.groups), c.want, err)
			}
		})
	}
}

// Where an account leads already, nobody is let in who was not.
func TestOnlyAnotherShellLetsSomebodyIn(t *testing.T) {
	h, _ := tree(t)
	for shell, lets := range map[string]bool{"/bin/sh": false, "/bin//sh": false, "/bin/bash": true} {
		r := New(h).New().(*Resource)
		r.User, r.Shell = "old", shell
		if got := len(r.Runs()) > 0; got != lets {
			t.Errorf("%s lets somebody in: %v", shell, got)
		}
	}
}

// staffs says that a `group: staff` declares its members.
func staffs(c resource.Claim) (resource.Address, bool) {
	return resource.Address{Kind: "group", Name: "staff"}, c.Space == resource.SpaceMember && c.Name == "staff"
}

func TestWrongValuesAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		fill  Resource
		field string
	}{
		"no name":              {Resource{}, "user"},
		"an option":            {Resource{User: "-r"}, "user"},
		"a colon":              {Resource{User: "a:b"}, "user"},
		"a negative number":    {Resource{User: "x", UID: ptr(-1)}, "uid"},
		"a group of spaces":    {Resource{User: "x", Group: "a b"}, "group"},
		"a group twice":        {Resource{User: "x", Groups: []string{"a", "a"}}, "groups"},
		"nothing to append":    {Resource{User: "x", Append: true}, "append"},
		"a comment of fields":  {Resource{User: "x", Comment: ptr("a:b")}, "comment"},
		"a relative home":      {Resource{User: "x", Home: "home"}, "home"},
		"the root as home":     {Resource{User: "x", Home: "/", RemoveHome: true}, "home"},
		"a relative shell":     {Resource{User: "x", Shell: "sh"}, "shell"},
		"a plain password":     {Resource{User: "x", Password: "secret"}, "password"},
		"two shadow entries":   {Resource{User: "x", Password: "$6$a\nroot:"}, "password"},
		"a day that is none":   {Resource{User: "x", Expires: "tomorrow"}, "expires"},
		"an unknown state":     {Resource{User: "x", State: "gone"}, "state"},
		"attributes of nobody": {Resource{User: "x", State: "absent", Shell: "/bin/sh"}, "state"},
	} {
		var wrong *resource.FieldError
		if err := c.fill.Validate(); !errors.As(err, &wrong) || wrong.Field != c.field {
			t.Errorf("%s: returned %v, want an error in %s", name, err, c.field)
		}
	}
	if err := (&Resource{User: "x", Password: "secret"}).Validate(); err == nil || strings.Contains(err.Error(), `"secret"`) {
		t.Errorf("the password is in %v", err)
	}
}

// Whose shell a user may have changed himself is no run, or he could have the
// resource refused.
func TestAShellThatUsersChooseThemselvesIsNoRun(t *testing.T) {
	h, root := tree(t)
	for name, text := range map[string]string{
		"etc/shells": "# shells\n/bin/sh\n/bin/bash\n/usr/sbin/nologin\n/srv/app/sh\n",
		"etc/passwd": "plain:x:1:1::/home/plain:/bin/sh\nclosed:x:2:2::/home/closed:/usr/sbin/nologin\nown:x:3:3::/home/own:/srv/app/sh\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		user, shell string
		runs        bool
	}{
		{"plain", "", false},
		{"plain", "/bin/sh", false},
		{"plain", "/bin/bash", false},
		{"plain", "/usr/sbin/nologin", false},
		{"plain", "/bin/false", false},
		{"plain", "/srv/app/sh", true}, // which others may write
		{"plain", "/srv/app/other", true},
		{"plain", "/bin/../srv/app/other", true},
		{"closed", "/bin/sh", true},
		{"closed", "/bin/false", false},
		{"own", "/bin/sh", true},
		{"new", "/srv/app/other", false},
	} {
		r := New(h).New().(*Resource)
		r.User, r.Shell = c.user, c.shell
		if got := len(r.Runs()) > 0; got != c.runs {
			t.Errorf("the shell %q of %s: run %v, want %v", c.shell, c.user, got, c.runs)
		}
	}
	if err := os.Remove(filepath.Join(root, "etc/shells")); err != nil {
		t.Fatal(err)
	}
	r := New(h).New().(*Resource)
	r.User, r.Shell = "plain", "/bin/bash"
	if len(r.Runs()) == 0 {
		t.Error("without a list of shells any may be another's")
	}
}
