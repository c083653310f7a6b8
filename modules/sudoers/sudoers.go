// Package sudoers is the kind `sudoers`: what some users may do as others, in a
// file of its own in /etc/sudoers.d.
//
// A fault in one such file can lock everybody out, so visudo must accept the file
// by itself before it is put in place, and all of them together after that: what
// was there before comes back otherwise.
package sudoers

import (
	"context"
	"errors"
	"os"
	"path"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/files"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module { return module{host: h} }

type module struct{ host *host.Host }

func (module) Kind() string { return "sudoers" }

func (m module) New() resource.Resource { return &Resource{host: m.host} }

// Example is what the reference shows.
func (module) Example() string {
	return `- sudoers: deploy
  user: deploy
  commands: [/usr/bin/systemctl restart app.service]
  nopasswd: true

- sudoers: admins
  content: |
    Defaults:%admins timestamp_timeout=5
    %admins ALL=(ALL:ALL) ALL
`
}

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	d, err := host.NewDeparture(m.host, held)
	if err != nil {
		return nil, err
	}
	return &departure{Departure: d, host: m.host}, nil
}

// Holds implements resource.Examiner.
func (m module) Holds(_ context.Context, name string, w resource.Witness) bool {
	rest, holds := m.host.HoldsAt(place(name), w)
	return holds && m.host.HoldsFiles(rest, top)
}

// A Resource is a file of /etc/sudoers.d as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`

	File     string   `yaml:"sudoers" json:"sudoers" doc:"the file's name in /etc/sudoers.d; sudo takes none with a '.' in it, or a '~' at its end"`
	User     string   `yaml:"user" json:"user,omitempty" doc:"the user who may run the commands"`
	Group    string   `yaml:"group" json:"group,omitempty" doc:"the group whose members may run them"`
	Commands []string `yaml:"commands" json:"commands,omitempty" doc:"what may be run: absolute paths with their arguments, in which * stands for anything, or ALL"`
	RunAs    string   `yaml:"run_as" json:"run_as,omitempty" doc:"as whom: a user (root by default), or user:group; ALL for anybody"`
	NoPasswd bool     `yaml:"nopasswd" json:"nopasswd,omitempty" doc:"true: without a password"`
	State    string   `yaml:"state" json:"state,omitempty" words:"present,absent" doc:"present (default) or absent"`

	files.Content `yaml:",inline"`

	host *host.Host
}

const (
	directory = "/etc/sudoers.d"
	top       = "/etc/sudoers"
)

func place(name string) string { return path.Join(directory, name) }

// Name returns the file's name.
func (r *Resource) Name() string { return r.File }

func (r *Resource) absent() bool { return r.State == host.Absent }

// Load reads the content, or makes it of what else is given.
func (r *Resource) Load(l resource.Loader) error {
	if r.Given() == 0 && !r.absent() {
		r.Wanted = resource.Bytes([]byte(r.rule()))
		return nil
	}
	return r.Content.Load(l)
}

// rule is the line that the short form stands for.
func (r *Resource) rule() string {
	who := special.Replace(r.User)
	if r.Group != "" {
		who = "%" + special.Replace(r.Group)
	}
	as := ""
	if r.RunAs != "" {
		user, group, both := strings.Cut(r.RunAs, ":")
		if as = "(" + special.Replace(user); both {
			as += ":" + special.Replace(group)
		}
		as += ") "
	}
	tag := ""
	if r.NoPasswd {
		tag = "NOPASSWD: "
	}
	commands := make([]string, len(r.Commands))
	for i, c := range r.Commands {
		commands[i] = argument.Replace(c)
	}
	return "# kept by trued\n" + who + " ALL=" + as + tag + strings.Join(commands, ", ") + "\n"
}

// What sudoers has a meaning for is taken as it is: in a name also the space, in
// a command not.
var (
	special  = strings.NewReplacer(`\`, `\\`, ",", `\,`, ":", `\:`, "=", `\=`, " ", `\ `, "!", `\!`, "(", `\(`, ")", `\)`, "#", `\#`, "%", `\%`, "@", `\@`, `"`, `\"`)
	argument = strings.NewReplacer(`\`, `\\`, ",", `\,`, ":", `\:`, "=", `\=`, "#", `\#`)
)

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	problems := []error{r.Content.Validate()}
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	switch {
	case r.File == "" || strings.ContainsAny(r.File, "/\r\n\x00"):
		wrong("sudoers", "%q is not the name of a file in %s", r.File, directory)
	case strings.ContainsAny(r.File, ".~"):
		wrong("sudoers", "sudo ignores a file that is called %q: write a name without '.' and '~'", r.File)
	}
	short := r.short()
	switch r.State {
	case "", "present":
		if short != "" && r.Given() > 0 {
			wrong(short, "give either the content, or who may run what")
		} else if r.Given() == 0 {
			problems = append(problems, r.validateRule()...)
		}
	case host.Absent:
		if short != "" || r.Given() > 0 {
			wrong("state", "a file that is absent has no content")
		}
	default:
		wrong("state", "%q is neither present nor absent", r.State)
	}
	return errors.Join(problems...)
}

// short is an attribute of the short form that is given.
func (r *Resource) short() string {
	switch {
	case r.User != "":
		return "user"
	case r.Group != "":
		return "group"
	case len(r.Commands) > 0:
		return "commands"
	case r.RunAs != "":
		return "run_as"
	case r.NoPasswd:
		return "nopasswd"
	}
	return ""
}

func (r *Resource) validateRule() []error {
	var problems []error
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if (r.User == "") == (r.Group == "") {
		wrong("user", "give a user or a group, or the content")
	}
	for field, value := range map[string]string{"user": r.User, "group": r.Group, "run_as": r.RunAs} {
		if strings.ContainsAny(value, "\r\n\t\x00") {
			wrong(field, "%q is not a name", value)
		}
	}
	if len(r.Commands) == 0 {
		wrong("commands", "is missing")
	}
	for _, c := range r.Commands {
		if c != "ALL" && !strings.HasPrefix(c, "/") || strings.ContainsAny(c, "\r\n\x00") {
			wrong("commands", "%q is not a command: write its absolute path, or ALL", c)
		}
	}
	return problems
}

// Claims is the path.
func (r *Resource) Claims() []resource.Claim { return files.Claims(r.files()) }

// Needs are the directories above the file, and the package that brings visudo.
// Whom a rule is about need not be there: sudo takes any name.
func (r *Resource) Needs() []resource.Need {
	needs := files.Needs(r.files())
	for _, c := range packages() {
		needs = append(needs, resource.Need{Claim: c})
	}
	return needs
}

// packages are those that bring sudo.
func packages() []resource.Claim {
	return []resource.Claim{
		{Space: resource.SpacePackage, Name: "sudo"},
		{Space: resource.SpacePackage, Name: "sudo-ldap"},
		{Space: resource.SpacePackage, Name: "sudo-rs"},
	}
}

// Writes implements resource.Writer.
func (r *Resource) Writes() []resource.Write { return files.Writes(r.files()) }

func (r *Resource) files() []files.File {
	return []files.File{{Path: place(r.File), Absent: r.absent(), Spec: host.FileSpec{
		Content: r.Wanted, Mode: resource.NewMode(0o440), Owner: owner(), Group: owner(),
		Backup: true, Sensitive: r.Sensitive,
	}}}
}

// owner is root's number where it can be given away: sudo takes no file of
// anybody else.
func owner() string {
	if os.Geteuid() != 0 {
		return ""
	}
	return "0"
}

// Check compares the file.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	finding, err := files.Check(ctx, r.host, view, r.files())
	if err != nil {
		return resource.Finding{}, err
	}
	if !r.absent() && len(finding.Diff) > 0 {
		if err := judgeable(newJudge(r.host, r.Sensitive), view, &finding); err != nil {
			return resource.Finding{}, err
		}
	}
	note, err := r.taken()
	if err != nil {
		return resource.Finding{}, err
	}
	finding.Note = note
	if seen := r.host.WitnessFiles(top); finding.Witness != nil && seen != nil && note == "" {
		finding.Witness = append(finding.Witness, seen...)
	} else {
		finding.Witness = nil
	}
	return finding, nil
}

// judgeable says so where there is nobody yet to judge a file.
func judgeable(j *judge, view resource.View, finding *resource.Finding) error {
	if j.able() {
		return nil
	}
	for _, c := range packages() {
		if by, managed := view.Owner(c); managed {
			finding.Unknown = by.String() + " brings visudo, which must accept the file"
			return nil
		}
	}
	if view.Offline {
		finding.Pending = "neither the tree nor this machine has a visudo that could accept the file"
		return nil
	}
	return errors.New("visudo, which must accept the file, is not installed: declare the package sudo")
}

const sizeLimit = 1 << 20

// taken remarks that sudo is not told to read the directory.
func (r *Resource) taken() (string, error) {
	text, err := r.host.ReadFile(top, sizeLimit)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		word := strings.Fields(line)
		if len(word) == 2 && (word[0] == "@includedir" || word[0] == "#includedir") && strings.Trim(path.Clean(word[1]), `"`) == directory {
			return "", nil
		}
	}
	return top + " does not include " + directory + ", so sudo does not read the file", nil
}

// Apply puts the file in place when it is accepted.
func (r *Resource) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	if err := ctx.Err(); err != nil {
		return resource.Result{}, err
	}
	all := r.files()
	if r.absent() || !found.Diff.Has(host.FieldContent) {
		return resource.Result{}, files.Apply(ctx, r.host, view, all, found)
	}
	j := newJudge(r.host, r.Sensitive)
	if err := j.alone(ctx, r.Wanted); err != nil {
		return resource.Result{}, err
	}
	j.before(ctx)
	all[0].Spec.Trial = j.together
	err := files.Apply(ctx, r.host, view, all, found)
	return resource.Result{Pending: j.open}, err
}

// Watches are the file; what others write beside it is for the next full run.
func (r *Resource) Watches() []resource.Watch { return files.Watches(r.files()) }
