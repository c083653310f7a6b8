package key

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

const (
	blobA = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB5wQl8VbC9zD5x7dMoT4mEdpBqgmhmM4X7TttD4jhCo"
	blobB = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIotVzzXXGWZZ5Bk6XoRk1C8lbVvyg9jJBxp0zMVKQ7H"
	blobC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE1wCGmYEn7TVUXDfOKlcTXNIRCO4W0oOt9Wld6eQMmX"
)

// machine returns a tree with a user; had is what is in the file of its keys,
// "" for no file.
func machine(t *testing.T, had string) (h *host.Host, home string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: keys belong to the user that they let in")
	}
	root := filepath.Join(t.TempDir(), "root")
	home = filepath.Join(root, "home/deploy")
	err := errors.Join(os.MkdirAll(filepath.Join(root, "etc"), 0o755), os.MkdirAll(home, 0o755),
		os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\ndeploy:x:1000:1000::/home/deploy:/bin/sh\n"), 0o600),
		os.Chown(home, 1000, 1000))
	if had != "" {
		ssh := filepath.Join(home, ".ssh")
		err = errors.Join(err, os.Mkdir(ssh, 0o755), os.WriteFile(filepath.Join(ssh, "authorized_keys"), []byte(had), 0o644),
			os.Chown(ssh, 1000, 1000), os.Chown(filepath.Join(ssh, "authorized_keys"), 1000, 1000))
	}
	if err != nil {
		t.Fatal(err)
	}
	return host.New(root, host.Options{Backups: host.OpenBackups(t.TempDir())}), home
}

func filled(m resource.Module, fill Resource) *Resource {
	r := m.New().(*Resource)
	fill.host = r.host
	*r = fill
	if r.Title == "" {
		r.Title = "deploy"
	}
	return r
}

var files = fstest.MapFS{"files/keys.pub": {Data: []byte("# the team\n" + blobA + " ann@example.com\n\n" + blobB + " bob\r\n")}}

// made returns the file after a resource was applied to what was there.
func converged(t *testing.T, had string, fill Resource) (string, error) {
	t.Helper()
	h, home := machine(t, had)
	m := New(h)
	r := filled(m, fill)
	e := &resourcetest.Engine{Offline: true, Tree: files}
	if err := e.Load(r); err != nil {
		t.Fatal(err)
	}
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	err := e.Converge(t.Context(), m, r)
	text, readErr := os.ReadFile(filepath.Join(home, ".ssh/authorized_keys"))
	if readErr != nil && !errors.Is(readErr, os.ErrNotExist) {
		t.Fatal(readErr)
	}
	return string(text), err
}

func TestKeysArePutWhereTheyBelong(t *testing.T) {
	for name, c := range map[string]struct {
		had  string
		fill Resource
		want string
	}{
		"no file":               {"", Resource{Key: blobA + " a@b"}, blobA + " a@b\n"},
		"keys of a file":        {"", Resource{Source: "files/keys.pub"}, blobA + " ann@example.com\n" + blobB + " bob\n"},
		"another's stays":       {blobB + " b\n", Resource{Key: blobA}, blobB + " b\n" + blobA + "\n"},
		"a missing newline":     {blobB + " b", Resource{Key: blobA}, blobB + " b\n" + blobA + "\n"},
		"carriage returns":      {blobB + " b\r\n", Resource{Key: blobA}, blobB + " b\r\n" + blobA + "\r\n"},
		"options":               {"", Resource{Key: blobA + " a", Options: `restrict,command="a b, \"c\""`}, `restrict,command="a b, \"c\"" ` + blobA + " a\n"},
		"other options":         {"no-pty " + blobA + " old\n# x\n", Resource{Key: blobA + " new", Options: "restrict"}, "restrict " + blobA + " new\n# x\n"},
		"a key twice":           {blobA + "\n" + blobB + "\n" + `command="x" ` + blobA + "\n", Resource{Key: blobA}, blobA + "\n" + blobB + "\n"},
		"exclusive":             {"# remark\n" + blobB + "\nrubbish\n" + blobC + "\n", Resource{Key: blobA, Exclusive: true}, "# remark\n" + blobA + "\n"},
		"exclusive of none":     {blobB + "\n", Resource{Keys: []string{}, Exclusive: true}, ""},
		"a key that goes":       {blobB + "\n" + blobA + "\n" + blobC, Resource{Key: blobA, State: "absent"}, blobB + "\n" + blobC},
		"a key that is not it":  {blobB + "\n", Resource{Key: blobA, State: "absent"}, blobB + "\n"},
		"a user by another key": {"", Resource{Title: "release key", User: "deploy", Key: blobA}, blobA + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := converged(t, c.had, c.fill)
			if err != nil || got != c.want {
				t.Errorf("the keys are\n%swant\n%serror %v", got, c.want, err)
			}
		})
	}
}

func TestKeysKeepThePromisesOfAModule(t *testing.T) {
	for name, c := range map[string]struct {
		had  string
		fill Resource
	}{
		"no file":            {"", Resource{Key: blobA}},
		"a file":             {blobB + "\n", Resource{Source: "files/keys.pub", Options: "restrict"}},
		"a missing newline":  {"# x\n" + blobB, Resource{Key: blobA}},
		"exclusive":          {"# x\n" + blobB + "\n" + blobC, Resource{Key: blobA, Exclusive: true}},
		"exclusive and new":  {"", Resource{Key: blobA, Exclusive: true}},
		"other options":      {"no-pty " + blobA + "\n", Resource{Key: blobA}},
		"one that goes":      {blobB + "\n" + blobA + " a\n", Resource{Key: blobA, State: "absent"}},
		"only wrong modes":   {blobA + "\n", Resource{Key: blobA}},
		"a sensitive option": {"", Resource{Key: blobA, Options: `environment="X=s3cr3t"`, Meta: resource.Meta{Sensitive: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			h, home := machine(t, c.had)
			secret := ""
			if c.fill.Sensitive {
				secret = "s3cr3t"
			}
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return filled(m, c.fill) },
				Dirs:     []string{home}, Offline: true, Tree: files, Secret: secret,
			})
		})
	}
}

func TestFileAndDirectoryAreTheUsersAlone(t *testing.T) {
	h, home := machine(t, blobB+"\n")
	m := New(h)
	r := filled(m, Resource{Key: blobA})
	e := &resourcetest.Engine{Offline: true}
	if err := errors.Join(os.Chmod(filepath.Join(home, ".ssh"), 0o777), os.Chown(filepath.Join(home, ".ssh"), 0, 0),
		e.Load(r), e.Converge(t.Context(), m, r)); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]string{".ssh": "0700", ".ssh/authorized_keys": "0600"} {
		if i, err := h.Lstat("/home/deploy/" + name); err != nil || i.Mode().String() != mode || i.UID() != 1000 {
			t.Errorf("%s has mode %s and owner %d, error %v", name, i.Mode(), i.UID(), err)
		}
	}
}

func TestAHomeThatOthersCanChangeIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(home string) error
		want   string
	}{
		"the group may write": {func(home string) error { return os.Chmod(home, 0o770) },
			`/home/deploy can be written to by others than user "deploy" (its mode is 0770)`},
		"everyone may write": {func(home string) error { return os.Chmod(home, 0o757) }, "can be written to by others"},
		"it is somebody's":   {func(home string) error { return os.Chown(home, 1234, 0) }, "/home/deploy belongs to 1234"},
		"it is missing":      {os.Remove, `home directory /home/deploy of user "deploy" is missing`},
		"it is a link": {func(home string) error { return errors.Join(os.Remove(home), os.Symlink("/tmp", home)) },
			"/home/deploy is a symbolic link"},
		"its .ssh is a link": {func(home string) error { return os.Symlink("/etc", filepath.Join(home, ".ssh")) },
			""},
	} {
		t.Run(name, func(t *testing.T) {
			h, home := machine(t, "")
			if err := c.change(home); err != nil {
				t.Fatal(err)
			}
			m := New(h)
			r := filled(m, Resource{Key: blobA})
			e := &resourcetest.Engine{Offline: true}
			if err := e.Load(r); err != nil {
				t.Fatal(err)
			}
			if _, err := e.Check(t.Context(), m, r); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("returned %v, want %q", err, c.want)
			}
			if _, err := os.Lstat(filepath.Join(h.Root(), "etc/authorized_keys")); err == nil {
				t.Error("a link led the keys elsewhere")
			}
		})
	}
}

func TestAUserThatComesLaterIsAwaited(t *testing.T) {
	h, home := machine(t, "")
	m := New(h)
	for name, c := range map[string]struct {
		owner func(resource.Claim) (resource.Address, bool)
		user  string
		want  string
		fails string
	}{
		"a user that is made":    {owns("user"), "later", "user:later is made", ""},
		"a user of nobody":       {nil, "later", "", `user "later" is unknown`},
		"a home that is made":    {owns("user"), "deploy", "user:deploy makes the home directory", ""},
		"a file that is managed": {owns("path"), "deploy", "", "path:deploy declares all of /home/deploy/.ssh/authorized_keys"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.RemoveAll(home); err != nil {
				t.Fatal(err)
			}
			r := filled(m, Resource{Title: c.user, Key: blobA})
			e := &resourcetest.Engine{Offline: true, Owner: c.owner}
			if err := e.Load(r); err != nil {
				t.Fatal(err)
			}
			found, err := e.Check(t.Context(), m, r)
			if found.Unknown != c.want || (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("found %+v, error %v", found, err)
			}
		})
	}
}

func owns(space string) func(resource.Claim) (resource.Address, bool) {
	return func(c resource.Claim) (resource.Address, bool) {
		name := c.Name
		if space == "path" {
			name = "deploy"
		}
		return resource.Address{Kind: space, Name: name}, c.Space == space
	}
}

func TestAKeyThatLeavesTheListLeavesTheFile(t *testing.T) {
	h, home := machine(t, "no-pty "+blobB+"\n")
	e := &resourcetest.Engine{Offline: true}
	for _, keys := range [][]string{{blobA, blobB, blobC}, {blobC}} {
		m := New(h)
		r := filled(m, Resource{Keys: keys})
		if err := errors.Join(e.Load(r), e.Converge(t.Context(), m, r)); err != nil {
			t.Fatal(err)
		}
	}
	want := "no-pty " + blobB + "\n" + blobC + "\n" // B was there before
	if text, err := os.ReadFile(filepath.Join(home, ".ssh/authorized_keys")); err != nil || string(text) != want {
		t.Errorf("the keys are\n%s, error %v", text, err)
	}
}

// leave takes a resource back, and returns the file; "" where there is none.
func leave(t *testing.T, e *resourcetest.Engine, m resource.Module, r *Resource, home string) string {
	t.Helper()
	gone, err := e.Absent(m, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Leave(t.Context(), m, r, gone); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(home, ".ssh/authorized_keys"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

func TestKeysThatWereOnceTheOnlyOnesLetNobodyInOnceTheyLeave(t *testing.T) {
	both := []string{blobA, blobC}
	for name, steps := range map[string][]Resource{
		"they became the only ones":   {{Key: blobA}, {Keys: []string{blobC, blobA}}, {Keys: both, Exclusive: true}},
		"they were the only ones":     {{Keys: both, Exclusive: true}, {Keys: both}, {Keys: []string{blobC}}},
		"they were so for some time":  {{Key: blobA}, {Keys: both, Exclusive: true}, {Keys: both}},
		"they became so twice":        {{Keys: both, Exclusive: true}, {Key: blobA}, {Keys: both, Exclusive: true}},
		"nobody was to get in at all": {{Keys: both}, {Keys: []string{}, Exclusive: true}},
	} {
		for _, had := range []string{"", blobB + "\n", "no-pty " + blobA + "\n"} {
			h, home := machine(t, had)
			e := &resourcetest.Engine{Offline: true}
			var m resource.Module
			var r *Resource
			for _, fill := range steps {
				m = New(h)
				r = filled(m, fill)
				if err := errors.Join(e.Load(r), e.Converge(t.Context(), m, r)); err != nil {
					t.Fatal(err)
				}
			}
			got := leave(t, e, m, r, home)
			for line := range strings.Lines(got) {
				if !strings.Contains(had, line) {
					t.Errorf("%s: of %q there is still %q", name, had, line)
				}
			}
			want := had
			if name == "they became so twice" && had == blobB+"\n" {
				want = "" // it went for good when they were the only ones no more
			}
			if r.Exclusive && got != want {
				t.Errorf("%s: of %q there is %q, want %q", name, had, got, want)
			}
			if _, err := os.Lstat(filepath.Join(home, ".ssh")); (err == nil) != (had != "") {
				t.Errorf("%s: of %q the directory is left: %v", name, had, err)
			}
		}
	}
}

func TestAKeyOfTheOnlyOnesLetsNobodyInOnceTheyAreNot(t *testing.T) {
	h, home := machine(t, blobB+"\n")
	e := &resourcetest.Engine{Offline: true}
	for _, fill := range []Resource{{Keys: []string{blobA, blobC}, Exclusive: true}, {Key: blobA}} {
		m := New(h)
		r := filled(m, fill)
		if err := errors.Join(e.Load(r), e.Converge(t.Context(), m, r)); err != nil {
			t.Fatal(err)
		}
	}
	want := blobA + "\n"
	if text, err := os.ReadFile(filepath.Join(home, ".ssh/authorized_keys")); err != nil || string(text) != want {
		t.Errorf("the keys are\n%s, error %v, want\n%s", text, err, want)
	}
}

func TestWhatTheOnlyKeysLeaveBehindIsAnothers(t *testing.T) {
	h, home := machine(t, blobB+"\n")
	m, e := New(h), &resourcetest.Engine{Offline: true}
	only, other := filled(m, Resource{Key: blobA, Exclusive: true}), filled(m, Resource{Title: "team", User: "deploy", Keys: []string{blobA, blobC}})
	if err := errors.Join(e.Load(only), e.Converge(t.Context(), m, only), e.Load(other), e.Converge(t.Context(), m, other)); err != nil {
		t.Fatal(err)
	}
	e.Owner = func(c resource.Claim) (resource.Address, bool) {
		return resource.Address{Kind: "authorized_key", Name: "team"}, slices.Contains(other.Claims(), c)
	}
	want := blobB + "\n" + blobA + "\n" + blobC + "\n"
	if got := leave(t, e, m, only, home); got != want {
		t.Errorf("the keys are\n%swant\n%s", got, want)
	}
	if i, err := h.Lstat("/home/deploy/.ssh/authorized_keys"); err != nil || i.Mode().String() != "0600" {
		t.Errorf("its mode is %s, error %v", i.Mode(), err)
	}
}

func TestAFileThatWasMadeGoesWithTheLastOfItsKeys(t *testing.T) {
	for _, keys := range [][]string{{blobA, blobB, blobC}, {blobC, blobB, blobA}} {
		h, home := machine(t, "")
		m, e := New(h), &resourcetest.Engine{Offline: true}
		var r *Resource
		for n := range keys {
			r = filled(m, Resource{Keys: keys[:n+1]})
			if err := errors.Join(e.Load(r), e.Converge(t.Context(), m, r)); err != nil {
				t.Fatal(err)
			}
		}
		leave(t, e, m, r, home)
		if _, err := os.Lstat(filepath.Join(home, ".ssh")); err == nil {
			t.Error("there is still a directory for keys")
		}
	}
}

func TestKeysThatAreForAnotherUserLetTheFirstOneInNoMore(t *testing.T) {
	h, home := machine(t, "no-pty "+blobA+"\n"+blobB+"\n")
	passwd, other := filepath.Join(h.Root(), "etc/passwd"), filepath.Join(h.Root(), "home/release")
	text, err := os.ReadFile(passwd)
	if err := errors.Join(err, os.WriteFile(passwd, append(text, "release:x:1001:1001::/home/release:/bin/sh\n"...), 0o600),
		os.Mkdir(other, 0o755), os.Chown(other, 1001, 1001)); err != nil {
		t.Fatal(err)
	}
	m, e := New(h), &resourcetest.Engine{Offline: true}
	for _, user := range []string{"deploy", "release"} {
		r := filled(m, Resource{Title: "team", User: user, Keys: []string{blobA, blobC}})
		if err := errors.Join(e.Load(r), e.Converge(t.Context(), m, r)); err != nil {
			t.Fatal(err)
		}
		if found, err := e.Check(t.Context(), m, r); err != nil || !found.InOrder() {
			t.Errorf("found %+v, error %v", found, err)
		}
	}
	for dir, want := range map[string]string{home: "no-pty " + blobA + "\n" + blobB + "\n", other: blobA + "\n" + blobC + "\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, ".ssh/authorized_keys")); err != nil || string(got) != want {
			t.Errorf("%s has\n%swant\n%serror %v", dir, got, want, err)
		}
	}
}

func TestWrongValuesAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		fill  Resource
		field string
	}{
		"no key":             {Resource{}, "key"},
		"two ways":           {Resource{Key: blobA, Keys: []string{blobB}}, "key"},
		"a private key":      {Resource{Key: "-----BEGIN OPENSSH PRIVATE KEY-----"}, "key"},
		"half a key":         {Resource{Keys: []string{blobA[:40]}}, "keys"},
		"the same key twice": {Resource{Keys: []string{blobA, "no-pty " + blobA}}, "keys"},
		"no user":            {Resource{Title: "a b", Key: blobA}, "authorized_key"},
		"a user of slashes":  {Resource{Title: "x", User: "../x", Key: blobA}, "user"},
		"an open quote":      {Resource{Key: blobA, Options: `command="x`}, "options"},
		"options of lines":   {Resource{Key: blobA, Options: "a\nb"}, "options"},
		"options with space": {Resource{Key: blobA, Options: "a b"}, "options"},
		"options twice":      {Resource{Key: "no-pty " + blobA, Options: "restrict"}, "options"},
		"an unknown state":   {Resource{Key: blobA, State: "gone"}, "state"},
		"the only absent":    {Resource{Key: blobA, State: "absent", Exclusive: true}, "exclusive"},
		"an empty file":      {Resource{Key: "# nothing"}, "key"},
	} {
		r := c.fill
		if r.Title == "" {
			r.Title = "deploy"
		}
		if err := r.Load(resourcetest.Loader{FS: files}); err != nil {
			t.Fatal(err)
		}
		var wrong *resource.FieldError
		if err := r.Validate(); !errors.As(err, &wrong) || wrong.Field != c.field {
			t.Errorf("%s: returned %v, want an error in %s", name, err, c.field)
		}
	}
}
