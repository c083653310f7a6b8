package sudoers

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

// TestOnHost runs what follows as root of a booted host that has sudo.
func TestOnHost(t *testing.T) {
	const prepare = "useradd -m deploy; groupadd admins; useradd -m -G admins admin"
	if !hosttest.Inside(t, hosttest.Options{Name: "sudoers", Packages: []string{"sudo"}}, prepare) {
		return
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			file(t, "admins", c.had)
			h := running(t)
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return filled(m, c.fill) },
				Tree:     tree, Dirs: []string{directory}, Secret: c.secret,
			})
			file(t, "admins", "")
		})
	}
	t.Run("sudo does what a rule says", obeyed)
	t.Run("one that does not fit with another is taken back", together)
	t.Run("one of two that are broken is mended", mended)
	t.Run("an earlier file that does not fit any more stays away", earlier)
	t.Run("a directory that sudo does not read is remarked", unread)
	t.Run("a tree is judged by its own visudo", ofATree)
	t.Run("a machine without sudo says so", without)
}

func running(t *testing.T) *host.Host {
	t.Helper()
	return host.New("/", host.Options{Backups: host.OpenBackups(t.TempDir())})
}

// file makes a file of /etc/sudoers.d, or removes it when it is to be empty.
func file(t *testing.T, name, content string) {
	t.Helper()
	err := os.RemoveAll(place(name))
	if err == nil && content != "" {
		err = os.WriteFile(place(name), []byte(content), 0o440)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func sh(t *testing.T, line string) (string, error) {
	t.Helper()
	out, err := exec.Command("sh", "-ec", line).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func undo(t *testing.T, line string) {
	t.Helper()
	if out, err := sh(t, line); err != nil {
		t.Errorf("%s: %v: %s", line, err, out)
	}
}

type engine struct {
	resourcetest.Engine
	m resource.Module
}

func (e *engine) converge(t *testing.T, fill Resource) error {
	t.Helper()
	r := filled(e.m, fill)
	if err := e.Load(r); err != nil {
		t.Fatal(err)
	}
	return e.Converge(t.Context(), e.m, r)
}

func obeyed(t *testing.T) {
	e := engine{m: New(running(t))}
	const asDeploy = "setpriv --reuid deploy --regid deploy --init-groups sudo -n "
	if out, err := sh(t, asDeploy+"/usr/bin/id -u"); err == nil {
		t.Fatalf("it is allowed without a rule: %s", out)
	}
	if err := e.converge(t, Resource{File: "deploy", User: "deploy", Commands: []string{"/usr/bin/id -u"}, NoPasswd: true}); err != nil {
		t.Fatal(err)
	}
	if out, err := sh(t, asDeploy+"/usr/bin/id -u"); err != nil || out != "0" {
		t.Errorf("it says %q, %v", out, err)
	}
	if out, err := sh(t, asDeploy+"/usr/bin/id -g"); err == nil {
		t.Errorf("another argument is allowed: %s", out)
	}
	file(t, "deploy", "")
}

func together(t *testing.T) {
	e := engine{m: New(running(t))}
	file(t, "first", "User_Alias OPERATORS = admin\nOPERATORS ALL=ALL\n")
	file(t, "second", "root ALL=ALL\n")
	before := resourcetest.Fingerprint(t, directory, true)
	fill := text("User_Alias OPERATORS = deploy\nOPERATORS ALL=ALL\n")
	fill.File = "second"
	err := e.converge(t, fill)
	if err == nil || !strings.Contains(err.Error(), "together with the other files") || !strings.Contains(err.Error(), "already defined") {
		t.Errorf("returned %v", err)
	}
	after := resourcetest.Fingerprint(t, directory, false)
	if out, err := sh(t, "visudo -c && ls -A "+directory); err != nil || strings.Contains(out, ".trued") {
		t.Errorf("%v: %s", err, out)
	}
	if content, err := os.ReadFile(place("second")); err != nil || string(content) != "root ALL=ALL\n" || len(after) != len(before) {
		t.Errorf("the file is %q, error %v", content, err)
	}
	fill.File = "third"
	if err := e.converge(t, fill); err == nil {
		t.Error("a new file that does not fit is accepted")
	}
	if _, err := os.Lstat(place("third")); err == nil {
		t.Error("a new file that does not fit is there")
	}
	file(t, "first", "")
	file(t, "second", "")
}

func mended(t *testing.T) {
	e := engine{m: New(running(t))}
	file(t, "admins", "root ALL\n")
	file(t, "other", "root ALL\n")
	m, r := e.m, filled(e.m, text("root ALL=ALL\n"))
	if err := e.Load(r); err != nil {
		t.Fatal(err)
	}
	found, err := e.Check(t.Context(), m, r)
	if err != nil {
		t.Fatal(err)
	}
	result, err := e.Apply(t.Context(), m, r, found)
	if err != nil || !strings.Contains(result.Pending, "other files of sudo's were broken before") || !strings.Contains(result.Pending, place("other")) {
		t.Errorf("returned %+v, error %v", result, err)
	}
	fill := text("root ALL=ALL\n")
	fill.File = "other"
	if err := e.converge(t, fill); err != nil {
		t.Error(err)
	}
	if out, err := sh(t, "visudo -c"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	file(t, "admins", "")
	file(t, "other", "")
}

func earlier(t *testing.T) {
	e := engine{m: New(running(t))}
	const had = "User_Alias OPERATORS = admin\nOPERATORS ALL=ALL\n"
	file(t, "admins", had)
	r := filled(e.m, text("root ALL=ALL\n"))
	if err := errorsOf(e.Load(r), e.Converge(t.Context(), e.m, r)); err != nil {
		t.Fatal(err)
	}
	leave := func() error {
		gone, err := e.Absent(e.m, r)
		if err != nil {
			t.Fatal(err)
		}
		return e.Leave(t.Context(), e.m, r, gone)
	}
	file(t, "other", "User_Alias OPERATORS = deploy\nOPERATORS ALL=ALL\n")
	if err := leave(); err == nil || !strings.Contains(err.Error(), "already defined") {
		t.Errorf("returned %v", err)
	}
	if out, err := sh(t, "visudo -c"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	file(t, "other", "")
	if err := leave(); err != nil {
		t.Error(err)
	}
	if content, err := os.ReadFile(place("admins")); err != nil || string(content) != had {
		t.Errorf("what comes back is %q, error %v", content, err)
	}
	file(t, "admins", "")
}

func errorsOf(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}

func unread(t *testing.T) {
	if out, err := sh(t, "cp -p /etc/sudoers /etc/sudoers.kept; sed -i '/includedir/d' /etc/sudoers"); err != nil {
		t.Fatal(out)
	}
	defer undo(t, "mv /etc/sudoers.kept /etc/sudoers")
	e := engine{m: New(running(t))}
	r := filled(e.m, text("root ALL=ALL\n"))
	if err := errorsOf(e.Load(r), e.Converge(t.Context(), e.m, r)); err != nil {
		t.Fatal(err)
	}
	found, err := e.Check(t.Context(), e.m, r)
	if err != nil || !found.InOrder() || !strings.Contains(found.Note, "does not include") {
		t.Errorf("found %+v, error %v", found, err)
	}
	file(t, "admins", "")
}

func without(t *testing.T) {
	if out, err := sh(t, "mv /usr/sbin/visudo /usr/sbin/visudo.away"); err != nil {
		t.Fatal(out)
	}
	defer undo(t, "mv /usr/sbin/visudo.away /usr/sbin/visudo")
	e := engine{m: New(running(t))}
	if err := e.converge(t, text("root ALL=ALL\n")); err == nil || !strings.Contains(err.Error(), "declare the package sudo") {
		t.Errorf("returned %v", err)
	}
	if err := e.converge(t, Resource{State: "absent"}); err != nil {
		t.Errorf("to remove a file needs visudo: %v", err)
	}
	e.Owner = func(c resource.Claim) (resource.Address, bool) {
		return resource.Address{Kind: "package", Name: "sudo"}, c == packages()[0]
	}
	r := filled(e.m, text("root ALL=ALL\n"))
	if err := e.Load(r); err != nil {
		t.Fatal(err)
	}
	if found, err := e.Check(t.Context(), e.m, r); err != nil || found.Unknown == "" {
		t.Errorf("found %+v, error %v", found, err)
	}
}

// The machine itself, mounted elsewhere, is a tree that has a visudo.
func ofATree(t *testing.T) {
	if out, err := sh(t, "mkdir -p /srv/tree; mount --bind / /srv/tree"); err != nil {
		t.Fatal(out)
	}
	defer undo(t, "umount --lazy /srv/tree")
	file(t, "first", "User_Alias OPERATORS = admin\nOPERATORS ALL=ALL\n")
	defer file(t, "first", "")
	h := host.New("/srv/tree", host.Options{Backups: host.OpenBackups(t.TempDir())})
	e := engine{m: New(h)}
	e.Offline = true
	err := e.converge(t, text("User_Alias OPERATORS = deploy\nOPERATORS ALL=ALL\n"))
	if err == nil || !strings.Contains(err.Error(), "already defined") || !strings.Contains(err.Error(), "chroot /srv/tree") {
		t.Errorf("returned %v", err)
	}
	if _, err := os.Lstat(place("admins")); err == nil {
		t.Error("it is in place all the same")
	}
}
