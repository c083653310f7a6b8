package sudoers

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

var tree = fstest.MapFS{
	"files/admins":    {Data: []byte("%admins ALL=(ALL:ALL) ALL\n")},
	"templates/admin": {Data: []byte("%admins ALL=(ALL:ALL) NOPASSWD: ALL\n")},
}

func text(s string) Resource {
	var r Resource
	r.Content.Content = &s
	return r
}

func source(s string) Resource {
	var r Resource
	r.Source = s
	return r
}

func template(s string) Resource {
	var r Resource
	r.Template = s
	return r
}

func filled(m resource.Module, fill Resource) *Resource {
	r := m.New().(*Resource)
	fill.host = r.host
	*r = fill
	if r.File == "" {
		r.File = "admins"
	}
	return r
}

// cases are what conforms on trees and on booted hosts.
var cases = map[string]struct {
	fill   Resource
	had    string
	secret string
}{
	"a rule":          {fill: Resource{User: "deploy", Commands: []string{"/usr/bin/systemctl restart app.service"}, NoPasswd: true}},
	"a rule in place": {fill: Resource{Group: "admins", Commands: []string{"ALL"}, RunAs: "ALL:ALL"}, had: "%admins ALL=ALL\n"},
	"content":         {fill: text("Defaults:%admins timestamp_timeout=5\n%admins ALL=(ALL:ALL) ALL\n")},
	"a source":        {fill: source("files/admins"), had: "root ALL=ALL\n"},
	"a template":      {fill: template("templates/admin")},
	"one to go":       {fill: Resource{State: "absent"}, had: "root ALL=ALL\n"},
	"a sensitive one": {fill: text("zaphod ALL=(ALL:ALL) ALL\n"), secret: "zaphod"},
}

func newTree(t *testing.T, had string) (*host.Host, string) {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, directory)
	err := os.MkdirAll(dir, 0o750)
	if had != "" {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, "admins"), []byte(had), 0o640))
	}
	if err != nil {
		t.Fatal(err)
	}
	return host.New(root, host.Options{Backups: host.OpenBackups(t.TempDir())}), root
}

func TestSudoersKeepsThePromisesOfAModule(t *testing.T) {
	needsVisudo(t)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h, root := newTree(t, c.had)
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return filled(m, c.fill) },
				Tree:     tree, Dirs: []string{root}, Offline: true, Secret: c.secret,
			})
		})
	}
}

func needsVisudo(t *testing.T) {
	t.Helper()
	if host.LocalProgram("visudo") == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("visudo is not installed")
		}
		t.Skip("needs visudo")
	}
}

func TestABrokenFileIsNotPutInPlace(t *testing.T) {
	needsVisudo(t)
	h, root := newTree(t, "root ALL=ALL\n")
	before := resourcetest.Fingerprint(t, root, true)
	m, e := New(h), resourcetest.Engine{Offline: true}
	r := filled(m, text("deploy ALL=(root NOPASSWD: ALL\n"))
	if err := e.Load(r); err != nil {
		t.Fatal(err)
	}
	err := e.Converge(t.Context(), m, r)
	if err == nil || !strings.Contains(err.Error(), "visudo does not accept it: ") || !strings.Contains(err.Error(), "syntax error") {
		t.Errorf("returned %v", err)
	}
	if after := resourcetest.Fingerprint(t, root, true); strings.Join(after, "\n") != strings.Join(before, "\n") {
		t.Errorf("the tree is\n%s\nand was\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
}

// What a rule says is what sudo understands of it.
func TestAShortFormSaysWhatItMeans(t *testing.T) {
	for want, fill := range map[string]Resource{
		"deploy ALL=NOPASSWD: /usr/bin/systemctl restart app.service, /usr/bin/id": {User: "deploy", NoPasswd: true,
			Commands: []string{"/usr/bin/systemctl restart app.service", "/usr/bin/id"}},
		"%admins ALL=(ALL:ALL) ALL":                     {Group: "admins", RunAs: "ALL:ALL", Commands: []string{"ALL"}},
		`%domain\ users ALL=(www-data) /bin/a -o k\=v,`: {Group: "domain users", RunAs: "www-data", Commands: []string{"/bin/a -o k=v,"}},
	} {
		if fill.File = "a"; fill.Validate() != nil {
			t.Errorf("%+v: %v", fill, fill.Validate())
		}
		want = strings.Replace(want, `v,`, `v\,`, 1)
		if got := fill.rule(); got != "# kept by trued\n"+want+"\n" {
			t.Errorf("it is %q, want %q", got, want)
		}
		if visudo := host.LocalProgram("visudo"); visudo != "" {
			cmd := exec.Command(visudo, "-c", "-f", "-")
			cmd.Stdin = strings.NewReader(fill.rule())
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%q: %v: %s", want, err, out)
			}
		}
	}
}

func TestWithoutVisudoNothingIsGuessed(t *testing.T) {
	h := host.New("/", host.Options{})
	brings := func(c resource.Claim) (resource.Address, bool) {
		return resource.Address{Kind: "package", Name: "sudo"}, c == packages()[0]
	}
	none := func(resource.Claim) (resource.Address, bool) { return resource.Address{}, false }
	for name, c := range map[string]struct {
		view resource.View
		want string
	}{
		"a package that is to bring it": {resource.View{Owner: brings}, "unknown: package:sudo brings visudo"},
		"nobody brings it":              {resource.View{Owner: none}, "error: visudo, which must accept the file, is not installed: declare the package sudo"},
		"a tree":                        {resource.View{Owner: none, Offline: true}, "pending: neither the tree nor this machine has a visudo"},
	} {
		var found resource.Finding
		said := ""
		switch err := judgeable(&judge{host: h}, c.view, &found); {
		case err != nil:
			said = "error: " + err.Error()
		case found.Unknown != "":
			said = "unknown: " + found.Unknown
		default:
			said = "pending: " + found.Pending
		}
		if !strings.HasPrefix(said, c.want) {
			t.Errorf("%s: says %q, want %q", name, said, c.want)
		}
	}
}

func TestWrongValuesAreNamed(t *testing.T) {
	both := text("root ALL=ALL\n")
	both.User = "deploy"
	two := text("root ALL=ALL\n")
	two.Source = "files/admins"
	gone := text("root ALL=ALL\n")
	gone.State = "absent"
	named := func(name string) Resource {
		r := text("root ALL=ALL\n")
		r.File = name
		return r
	}
	for name, c := range map[string]struct {
		fill  Resource
		field string
	}{
		"a dot":                {named("a.conf"), "sudoers"},
		"a tilde":              {named("a~"), "sudoers"},
		"a path":               {named("/etc/sudoers.d/a"), "sudoers"},
		"nothing":              {Resource{}, "user"},
		"no command":           {Resource{User: "a"}, "commands"},
		"a command of no path": {Resource{User: "a", Commands: []string{"id"}}, "commands"},
		"two lines":            {Resource{User: "a", Commands: []string{"/bin/id\nALL"}}, "commands"},
		"a name of two lines":  {Resource{User: "a\nb", Commands: []string{"ALL"}}, "user"},
		"both forms":           {both, "user"},
		"two contents":         {two, "content"},
		"absent with content":  {gone, "state"},
		"another state":        {Resource{State: "gone"}, "state"},
	} {
		if c.fill.File == "" {
			c.fill.File = "a"
		}
		var wrong *resource.FieldError
		if err := c.fill.Validate(); !errors.As(err, &wrong) || wrong.Field != c.field {
			t.Errorf("%s: returned %v, want an error in %s", name, err, c.field)
		}
	}
}
