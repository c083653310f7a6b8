// Package cron is the kind `cron`: a command that cron runs at certain times,
// from a file of its own in /etc/cron.d, or from its user's own crontab.
package cron

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/shared"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module { return module{host: h} }

type module struct{ host *host.Host }

func (module) Kind() string { return "cron" }

func (m module) New() resource.Resource { return &Resource{host: m.host} }

// Example is what the reference shows.
func (module) Example() string {
	return `- cron: reports
  schedule: 30 2 * * mon-fri
  run: /usr/local/bin/report --day "$(date +%F)"
  user: app
  env: {MAILTO: ops@example.com}

- cron: rotate-keys
  schedule: "@weekly"
  run: /usr/local/bin/rotate-keys
  user: app
  crontab: true
`
}

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	if slices.ContainsFunc(held.Claims, func(c resource.Claim) bool { return strings.HasPrefix(c.Part, partMark) }) {
		return shared.NewDeparture(m.host, held, partMark, fieldEntry, func() shared.Record { return &noted{} })
	}
	return host.NewDeparture(m.host, held)
}

// Batch shares batches with the other kinds that write paths.
func (module) Batch() string { return "files" }

// Holds implements resource.Examiner.
func (m module) Holds(_ context.Context, name string, w resource.Witness) bool {
	if len(w) > 0 && w[0] == ofCrontab {
		return m.host.HoldsOnly(w[1:])
	}
	return m.host.Holds(filePath(name), w)
}

// A Resource is an entry of cron as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`

	Title    string            `yaml:"cron" json:"cron" doc:"the name of its file in /etc/cron.d, of letters, digits, '-' and '_': cron reads no other"`
	Schedule string            `yaml:"schedule" json:"schedule,omitempty" doc:"minute, hour, day of the month, month and day of the week, such as 30 2 * * 1-5; or @reboot, @hourly, @daily, @weekly, @monthly, @yearly"`
	Line     string            `yaml:"run" json:"run,omitempty" doc:"what to run: a line of shell; a % is just that, and kept from what cron would make of it"`
	User     string            `yaml:"user" json:"user,omitempty" doc:"name of the user to run as; root where it is not given"`
	Env      map[string]string `yaml:"env" json:"env,omitempty" doc:"variables, such as PATH and SHELL; MAILTO says who gets what the command prints"`
	Crontab  bool              `yaml:"crontab" json:"crontab,omitempty" doc:"true: in the user's own crontab, beside what is there, in place of a file of its own"`
	State    string            `yaml:"state" json:"state,omitempty" words:"present,absent" doc:"present (default) or absent"`

	host *host.Host
}

// Name returns the name of the file.
func (r *Resource) Name() string { return r.Title }

func filePath(name string) string { return "/etc/cron.d/" + name }

func (r *Resource) path() string { return filePath(r.Title) }

const (
	nameLetters     = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
	variableLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
	// longestLine is what all crons take.
	longestLine = 998
)

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	var problems []error
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if r.Title == "" || strings.Trim(r.Title, nameLetters) != "" || len(r.Title) > 200 {
		wrong("cron", "%q is not a name that cron reads in /etc/cron.d: it takes letters, digits, '-' and '_'%s", r.Title, r.instead())
	}
	switch r.State {
	case "", "present":
		problems = append(problems, r.validateEntry())
	case host.Absent:
		if r.Schedule != "" || r.Line != "" || r.User != "" && !r.Crontab || r.Env != nil {
			wrong("state", "an entry that is absent has a name alone, and in a crontab its user")
		}
	default:
		wrong("state", "%q is neither present nor absent", r.State)
	}
	if r.Crontab && r.User == "" {
		wrong("user", "is missing: it is whose crontab it is")
	}
	if r.Crontab && r.Env != nil {
		wrong("env", "in a crontab a variable is one for all that follows: set it in the command, as A=b command")
	}
	return errors.Join(problems...)
}

// instead is a name that can be had.
func (r *Resource) instead() string {
	name := strings.Trim(strings.Map(func(c rune) rune {
		if strings.ContainsRune(nameLetters, c) {
			return c
		}
		return '-'
	}, r.Title), "-")
	if name == "" {
		return ""
	}
	return fmt.Sprintf(", such as %q", name)
}

func (r *Resource) validateEntry() error {
	var problems []error
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if p := scheduleProblem(r.Schedule); p != "" {
		wrong("schedule", "%s", p)
	}
	switch line := strings.TrimRight(r.Line, "\n"); {
	case strings.TrimSpace(line) == "":
		wrong("run", "is missing: it is what to run")
	case strings.ContainsAny(line, "\r\n\x00"):
		wrong("run", "has more than one line, which cron cannot have: put it into a script, or join it with ; or &&")
	case strings.Contains(line, `\%`):
		wrong("run", `has \%% in it: write %% alone, it is kept from cron for you`)
	case len(r.entry()) > longestLine:
		wrong("run", "makes a line of more than %d characters, which cron cuts off: put it into a script", longestLine)
	}
	if strings.Trim(r.User, nameLetters+".$") != "" || strings.HasPrefix(r.User, "-") || r.User != "" && strings.Trim(r.User, "0123456789") == "" {
		wrong("user", "%q is not the name of a user", r.User)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Env)) {
		value := r.Env[name]
		if name == "" || strings.Trim(name, variableLetters) != "" || name[0] >= '0' && name[0] <= '9' {
			wrong("env", "%q is not the name of a variable", name)
		}
		if strings.ContainsAny(value, "\r\n\x00") || len(value) > longestLine/2 {
			wrong("env", "%s is longer than a line", name)
		} else if _, ok := quote(value); !ok {
			wrong("env", "cron cannot have the value of %s: it cuts spaces at the end off, and keeps those at the beginning, or quotes at the ends, "+
				"within quotes of the other kind alone", name)
		}
	}
	return errors.Join(problems...)
}

// quote returns a value as cron reads it back: what is not in quotes loses the
// spaces before it, and all lose those behind.
func quote(value string) (quoted string, ok bool) {
	switch {
	case strings.TrimRight(value, " \t") != value:
		return "", false
	case value != "" && strings.TrimSpace(value) == value && !strings.ContainsAny(value[:1]+value[len(value)-1:], `"'`):
		return value, true
	case !strings.Contains(value, `"`):
		return `"` + value + `"`, true
	case !strings.Contains(value, "'"):
		return "'" + value + "'", true
	}
	return "", false
}

func (r *Resource) user() string {
	if r.User == "" {
		return "root"
	}
	return r.User
}

// entry is the line of the schedule. In cron a percent sign ends the command,
// and what follows is given to it as input: unless a backslash is before it.
func (r *Resource) entry() string {
	line := strings.ReplaceAll(strings.TrimRight(r.Line, "\n"), "%", `\%`)
	words := strings.Fields(r.Schedule)
	if !r.Crontab {
		words = append(words, r.user())
	}
	return strings.Join(append(words, strings.TrimSpace(line)), " ")
}

func (r *Resource) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Kept by trued: cron:%s\n", r.Title)
	for _, name := range slices.Sorted(maps.Keys(r.Env)) {
		value, _ := quote(r.Env[name])
		fmt.Fprintf(&b, "%s=%s\n", name, value)
	}
	b.WriteString(r.entry() + "\n")
	return b.String()
}

// Claims is the file, or the entry of a crontab.
func (r *Resource) Claims() []resource.Claim {
	if r.Crontab {
		return []resource.Claim{r.entryClaim()}
	}
	return []resource.Claim{resource.Path(r.path())}
}

// Needs are the directories above the file, the user, and the program.
func (r *Resource) Needs() []resource.Need {
	needs := append(resource.ParentNeeds(r.path()), host.AccountNeeds(r.User, "")...)
	if r.Crontab {
		for _, name := range cronPackages() {
			needs = append(needs, resource.Need{Claim: resource.Claim{Space: resource.SpacePackage, Name: name}})
		}
	}
	program, _, _ := strings.Cut(r.Line, " ")
	if strings.HasPrefix(program, "/") && host.CheckPath("", program) == nil {
		program = host.CleanPath(program)
		needs = append(append(needs, resource.Need{Claim: resource.Path(program)}), resource.ParentNeeds(program)...)
	}
	return needs
}

// Writes implements resource.Writer.
func (r *Resource) Writes() []resource.Write {
	if r.Crontab {
		return shared.Writes(r)
	}
	if r.State == host.Absent {
		return []resource.Write{{Path: r.path(), Absent: true}}
	}
	s := r.spec()
	return []resource.Write{{Path: r.path(), Content: s.Content, Owner: s.Owner, Group: s.Group, Mode: s.Mode}}
}

// spec is the file as cron reads it: one that is not root's, or that others can
// write to, it leaves alone.
func (r *Resource) spec() host.FileSpec {
	s := host.FileSpec{
		Content: resource.Bytes([]byte(r.text())), Mode: resource.NewMode(0o644), Owner: owner(), Group: owner(),
		Parents: true, Backup: true, Sensitive: r.Sensitive,
	}
	if r.Sensitive {
		s.Mode = resource.NewMode(0o600)
	}
	return s
}

// owner is root, where that can be had: an ordinary user builds trees, too.
func owner() string {
	if os.Geteuid() != 0 {
		return ""
	}
	return "root"
}

// moved is what the entry was in another crontab, or in a file of its own.
func (r *Resource) moved(view resource.View) (shared.Moved, error) {
	return shared.MovedFrom(r, view, New(r.host).Absent, func(resource.Claim) bool { return false })
}

// Check compares the file, and where the entry was before.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	finding, err := r.check(ctx, view)
	if err != nil {
		return resource.Finding{}, err
	}
	return shared.CheckMoved(ctx, view, r.moved, finding)
}

func (r *Resource) check(ctx context.Context, view resource.View) (resource.Finding, error) {
	if err := ctx.Err(); err != nil {
		return resource.Finding{}, err
	}
	if later, err := r.withoutUser(view); err != nil || later != "" {
		return resource.Finding{Unknown: later}, err
	}
	if r.Crontab {
		return r.checkCrontab(ctx, view)
	}
	var found host.PathFinding
	var err error
	if r.State == host.Absent {
		found, err = r.host.CompareAbsent(ctx, r.path(), host.TypeFile, false)
	} else {
		found, err = r.host.CompareFile(ctx, r.path(), r.spec())
	}
	if err != nil {
		return resource.Finding{}, err
	}
	diff, err := found.Shown(view.Prior, r.path())
	if err != nil {
		return resource.Finding{}, err
	}
	finding := resource.Finding{Diff: diff, Creates: found.Creates, Witness: found.Witness(owner(), owner())}
	if r.State != host.Absent && !r.installed() {
		finding.Note = "no cron is installed that would run it"
		finding.Witness = nil
	}
	noted, added, err := host.Remember(view.Prior, r.path(), found.Prior, host.Leaving{Sensitive: r.Sensitive})
	if added {
		finding.Prior = noted
	}
	return finding, err
}

// installed reports whether some cron is there.
func (r *Resource) installed() bool {
	return slices.ContainsFunc([]string{"/usr/sbin/cron", "/usr/sbin/crond"}, func(name string) bool {
		_, err := r.host.Lstat(name)
		return err == nil
	})
}

// withoutUser says what makes the user, where it is not there yet. Cron would
// leave the entry of an unknown user out, and tell nobody but its log.
func (r *Resource) withoutUser(view resource.View) (later string, err error) {
	if r.User == "" || r.State == host.Absent {
		return "", nil
	}
	_, err = r.host.UserID(r.User)
	var unknown *host.UnknownUserError
	if owner, ok := view.Owner(resource.Claim{Space: resource.SpaceUser, Name: r.User}); ok && errors.As(err, &unknown) {
		return fmt.Sprintf("%s is made", owner), nil
	}
	return "", err
}

// Apply writes the file, or removes it, and then the entry where it was before.
func (r *Resource) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	if err := ctx.Err(); err != nil || len(found.Diff) == 0 {
		return resource.Result{}, err
	}
	own, other := shared.Split(found.Diff)
	if len(own) > 0 {
		if err := r.apply(ctx, view, own); err != nil {
			return resource.Result{}, err
		}
	}
	moved, err := r.moved(view)
	if err == nil {
		err = moved.Apply(ctx, view, other)
	}
	return resource.Result{}, err
}

func (r *Resource) apply(ctx context.Context, view resource.View, diff resource.Diff) error {
	if r.Crontab {
		return r.applyCrontab(ctx, view, diff)
	}
	if r.State == host.Absent {
		return r.host.Discard(r.path(), false, !r.Sensitive)
	}
	return r.host.WriteFile(ctx, r.path(), r.spec().Only(diff))
}

// Watches are the file.
func (r *Resource) Watches() []resource.Watch {
	if r.Crontab {
		return resource.WatchPaths(r.crontab())
	}
	return resource.WatchPaths(r.path())
}
