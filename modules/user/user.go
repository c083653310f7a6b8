// Package user is the kind `user`: one account, its groups, home directory,
// password and expiry.
//
// What there is is read from the passwd, shadow and group files; changes are
// made by the system's own programs, so that subordinate ids and caches of
// names stay right.
package user

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module { return module{host: h} }

type module struct{ host *host.Host }

func (module) Kind() string { return "user" }

func (m module) New() resource.Resource { return &Resource{host: m.host} }

// Example is what the reference shows.
func (module) Example() string {
	return `- user: deploy
  comment: Deployments
  groups: [www-data]
  append: true
  shell: /bin/bash
  remove_home: true
`
}

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	d := &departure{host: m.host, name: held.Address.Name, held: held.Claims}
	return d, d.read(held.Prior)
}

// Holds implements resource.Examiner.
func (m module) Holds(_ context.Context, _ string, w resource.Witness) bool {
	home, holds := m.host.HoldsNamed(w)
	return holds && m.host.HoldsOnly(home)
}

// A Resource is a user as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`

	User       string   `yaml:"user" json:"user" doc:"the user's name"`
	UID        *int     `yaml:"uid" json:"uid,omitempty" doc:"the user's number; a new user gets a free one where it is not given"`
	Group      string   `yaml:"group" json:"group,omitempty" doc:"name or number of the primary group; a new user gets one of its own name"`
	Groups     []string `yaml:"groups" json:"groups,omitzero" doc:"the other groups that the user is in; not given: they are left alone"`
	Append     bool     `yaml:"append" json:"append,omitempty" doc:"true: other groups than these are left alone"`
	Comment    *string  `yaml:"comment" json:"comment,omitempty" doc:"the full name, or what the account is for"`
	Home       string   `yaml:"home" json:"home,omitempty" doc:"the home directory's path"`
	CreateHome *bool    `yaml:"create_home" json:"create_home,omitempty" doc:"true: make the home directory where it is missing; a new user gets one unless it is false, or the user a system's"`
	MoveHome   bool     `yaml:"move_home" json:"-" doc:"true: what is in the old home directory moves along to another"`
	Shell      string   `yaml:"shell" json:"shell,omitempty" doc:"the login shell's path"`
	System     bool     `yaml:"system" json:"-" doc:"true: a new user gets a number of the system's range and no home directory"`
	Password   string   `yaml:"password" json:"password,omitempty" doc:"the password's hash, as mkpasswd prints it; never shown"`
	Lock       *bool    `yaml:"lock" json:"lock,omitempty" doc:"true: no password lets the user in; keys still do (see expires)"`
	Expires    string   `yaml:"expires" json:"expires,omitempty" doc:"the day from which nobody can log in, such as 2027-01-31, or never"`
	RemoveHome bool     `yaml:"remove_home" json:"-" doc:"true: the home directory goes with the user; one that was there before the user was managed goes by state: absent alone"`
	State      string   `yaml:"state" json:"state,omitempty" words:"present,absent" doc:"present (default) or absent"`

	host *host.Host
	// target is the groups that the last comparison found to be right.
	target []string
}

// Name returns the user's name.
func (r *Resource) Name() string { return r.User }

func (r *Resource) absent() bool { return r.State == host.Absent }

const (
	// maxID is the last number that every tool takes.
	maxID = 1<<31 - 2
	never = "never"
)

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	var problems []error
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if p := host.CheckAccountName(r.User); p != "" {
		wrong("user", "%s", p)
	}
	if r.UID != nil && (*r.UID < 0 || *r.UID > maxID) {
		wrong("uid", "%d is not the number of a user", *r.UID)
	}
	if r.Group != "" && !isNumber(r.Group) {
		if p := host.CheckAccountName(r.Group); p != "" {
			wrong("group", "%s", p)
		}
	}
	for i, g := range r.Groups {
		if p := host.CheckAccountName(g); p != "" {
			wrong("groups", "%s", p)
		}
		if slices.Contains(r.Groups[:i], g) {
			wrong("groups", "%q is there twice", g)
		}
	}
	if r.Append && r.Groups == nil {
		wrong("append", "there are no groups to append")
	}
	problems = append(problems, r.validateText(), r.validateState())
	return errors.Join(problems...)
}

func (r *Resource) validateText() error {
	var problems []error
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if r.Comment != nil && strings.ContainsAny(*r.Comment, ":\n\x00") {
		wrong("comment", "has a colon or a newline in it")
	}
	for _, p := range []struct{ field, value string }{{"home", r.Home}, {"shell", r.Shell}} {
		if p.value == "" {
			continue
		}
		if err := host.CheckPath(p.field, p.value); err != nil {
			problems = append(problems, err)
		} else if strings.Contains(p.value, ":") {
			wrong(p.field, "%q has a colon in it", p.value)
		}
	}
	if r.Home == "/" && (r.CreateHome != nil || r.RemoveHome || r.MoveHome) {
		wrong("home", "\"/\" is nobody's to make, move or remove")
	}
	switch {
	case r.Password == "":
	case strings.ContainsAny(r.Password, ":\n\x00 \t"):
		wrong("password", "has a character that no hash has")
	case !strings.HasPrefix(r.Password, "$") && r.Password != "*":
		wrong("password", "is not a hash such as mkpasswd prints, which begins with '$': a password itself must not be in Git")
	}
	if r.Expires != "" && r.Expires != never {
		if _, err := time.Parse(time.DateOnly, r.Expires); err != nil {
			wrong("expires", "%q is not a day such as 2027-01-31, nor never", r.Expires)
		}
	}
	return errors.Join(problems...)
}

func (r *Resource) validateState() error {
	switch r.State {
	case "", "present":
		return nil
	case host.Absent:
	default:
		return resource.Wrong("state", "%q is neither present nor absent", r.State)
	}
	if r.UID != nil || r.Group != "" || r.Groups != nil || r.Comment != nil || r.Home != "" || r.Shell != "" ||
		r.Password != "" || r.Lock != nil || r.Expires != "" || r.CreateHome != nil {
		return resource.Wrong("state", "a user that is absent has no attributes but remove_home")
	}
	return nil
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 31)
	return err == nil
}

func claim(name string) resource.Claim {
	return resource.Claim{Space: resource.SpaceUser, Name: name}
}

func memberClaim(group, name string) resource.Claim {
	return resource.Claim{Space: resource.SpaceMember, Name: group, Part: name}
}

// Claims are the user, and being in each of the groups.
func (r *Resource) Claims() []resource.Claim {
	claims := []resource.Claim{claim(r.User)}
	for _, g := range r.Groups {
		claims = append(claims, memberClaim(g, r.User))
	}
	return claims
}

// Writes implements resource.Writer: the home directory, where it is made, moved or
// removed.
func (r *Resource) Writes() []resource.Write {
	if !r.makesHome(true) && !r.MoveHome && !r.RemoveHome {
		return nil
	}
	now := defaultHome(r.User)
	if u, ok, err := r.host.FindUser(r.User); err == nil && ok {
		now = u.Home
	}
	homes := []string{cmp.Or(r.Home, now)}
	if r.MoveHome && homes[0] != now {
		homes = append(homes, now) // it is taken from there
	}
	var writes []resource.Write
	for i, home := range homes {
		if host.CheckPath("", home) == nil {
			writes = append(writes, resource.Write{
				Path: host.CleanPath(home), Directory: true, Tree: true, Absent: i > 0 || r.RemoveHome && r.absent(),
			})
		}
	}
	return writes
}

// Joins implements resource.Joiner: the primary group is not claimed.
func (r *Resource) Joins() []string {
	if r.Group == "" {
		return nil
	}
	return []string{r.Group}
}

// Runs implements resource.Runner: who says by what password an account lets in, or
// into which shell and home an account leads that is there already, runs what he
// likes as the user.
func (r *Resource) Runs() []resource.Program {
	enters := r.Password != "" || r.Lock != nil && !*r.Lock
	if u, ok, err := r.host.FindUser(r.User); err != nil || ok {
		enters = enters || err != nil || r.leadsInto(u.Shell) || r.Home != "" && host.CleanPath(r.Home) != u.Home
	}
	if r.absent() || !enters {
		return nil
	}
	return []resource.Program{{By: "user", User: r.User}}
}

// leadsInto reports whether an account that has a shell gets into another that it
// would not get into by itself. Users may choose among the shells that the machine
// lists, where they have one of them: that they did so says nothing of the resource.
func (r *Resource) leadsInto(now string) bool {
	shell := host.CleanPath(r.Shell)
	if r.Shell == "" || shell == now || slices.Contains(noLogins(), shell) {
		return false
	}
	const most = 1 << 16
	list, err := r.host.ReadFile("/etc/shells", most)
	if err != nil {
		return true
	}
	chosen := func(shell string) bool {
		return (strings.HasPrefix(shell, "/bin/") || strings.HasPrefix(shell, "/usr/")) && !slices.Contains(noLogins(), shell) &&
			slices.Contains(strings.Split(string(list), "\n"), shell)
	}
	return !chosen(now) || !chosen(shell)
}

// noLogins are shells that let nobody in.
func noLogins() []string {
	return []string{"/usr/sbin/nologin", "/sbin/nologin", "/usr/bin/nologin", "/bin/nologin", "/bin/false", "/usr/bin/false"}
}

// Needs are the groups, the shell, and the directories above the home.
func (r *Resource) Needs() []resource.Need {
	var needs []resource.Need
	for _, g := range append([]string{r.Group}, r.Groups...) {
		needs = append(needs, host.AccountNeeds("", g)...)
	}
	if r.Shell != "" {
		needs = append(needs, resource.Need{Claim: resource.Path(host.CleanPath(r.Shell))})
	}
	if home := r.Home; home != "" || r.makesHome(true) {
		if home == "" {
			home = defaultHome(r.User)
		}
		needs = append(needs, resource.ParentNeeds(host.CleanPath(home))...)
	}
	return needs
}

func defaultHome(name string) string { return path.Join("/home", name) }

// makesHome reports whether a missing home directory is to be made, for a user
// that was made by this resource or not.
func (r *Resource) makesHome(made bool) bool {
	if r.CreateHome != nil {
		return *r.CreateHome
	}
	return made && !r.System && !r.absent()
}

// Check compares the user.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	if err := ctx.Err(); err != nil {
		return resource.Finding{}, err
	}
	files := r.host.WitnessNamed(append(host.UserFiles(), host.GroupFiles()...)...) // before they are read
	now, err := look(r.host, r.User)
	if err != nil {
		return resource.Finding{}, err
	}
	n, known, err := takeNoted(view.Prior, r.User)
	if err != nil {
		return resource.Finding{}, err
	}
	finding := resource.Finding{Creates: !now.exists}
	finding.Prior, err = r.note(view.Prior, n, known, now)
	if err != nil {
		return resource.Finding{}, err
	}
	made := known && !n.Existed || !known && !now.exists
	if finding.Diff, err = r.compare(now, made, r.leaveGroups(view, n)); err != nil {
		return resource.Finding{}, err
	}
	if len(finding.Diff) > 0 {
		finding.Pending = r.host.NoAccountTools()
	}
	if r.Sensitive {
		finding.Diff = finding.Diff.Redacted()
	}
	if finding.Note = r.remark(now, made); finding.Note == "" {
		finding.Witness = r.withHome(files, now)
	}
	return finding, nil
}

// withHome adds the home directory to what was seen of an account.
func (r *Resource) withHome(files resource.Witness, now seen) resource.Witness {
	home := r.host.WitnessOfAttributes(r.home(now))
	if files == nil || home == nil {
		return nil
	}
	return append(files, home...)
}

// remark tells of a login shell that is not there, and of a home directory that is
// and is not the user's.
func (r *Resource) remark(now seen, made bool) string {
	if r.noShell() {
		return fmt.Sprintf("there is no program %s: nobody can log in with it", r.Shell)
	}
	if !now.exists || !r.makesHome(made) {
		return ""
	}
	home := r.home(now)
	i, err := r.host.Lstat(home)
	if err != nil || i.UID() == now.user.UID {
		return ""
	}
	return fmt.Sprintf("home directory %s was there and belongs to %s", home, r.host.UserName(i.UID()))
}

// leaveGroups returns how groups that are not in the list are judged: whether
// one is left alone because it is somebody else's to say, or nobody's.
func (r *Resource) leaveGroups(view resource.View, n noted) func(group string) bool {
	return func(group string) bool {
		if _, managed := view.Owner(memberClaim(group, r.User)); managed {
			return true
		}
		if !r.Append {
			return false
		}
		// With append, only what this resource put the user into itself leaves.
		return !slices.Contains(view.Held, memberClaim(group, r.User)) ||
			slices.Contains(strings.Split(n.Fields[fieldGroups], ","), group)
	}
}

// day is a date as the shadow file has it.
func day(date string) string {
	if date == never || date == "" {
		return ""
	}
	t, err := time.Parse(time.DateOnly, date)
	if err != nil {
		return ""
	}
	return strconv.FormatInt(t.Unix()/secondsOfDay, 10)
}

const secondsOfDay = 24 * 60 * 60

// date is the reverse of day.
func date(day string) string {
	n, err := strconv.ParseInt(day, 10, 32)
	if err != nil || n < 0 {
		return never
	}
	return time.Unix(n*secondsOfDay, 0).UTC().Format(time.DateOnly)
}

func describe(list []string) string {
	sorted := slices.Sorted(slices.Values(list))
	return strings.Join(slices.Compact(sorted), ",")
}

// taken returns an error when a number is another user's.
func (r *Resource) taken() error {
	users, err := r.host.Users()
	for _, u := range users {
		if u.UID == *r.UID && u.Name != r.User {
			return fmt.Errorf("uid %d is taken by user %q", u.UID, u.Name)
		}
	}
	return err
}

// Watches are the files of accounts, and the home directory.
func (r *Resource) Watches() []resource.Watch {
	names := append(host.UserFiles(), host.GroupFiles()...)
	if r.makesHome(false) {
		home := r.Home
		if home == "" {
			home = defaultHome(r.User)
		}
		names = append(names, host.CleanPath(home))
	}
	return resource.WatchPaths(names...)
}
