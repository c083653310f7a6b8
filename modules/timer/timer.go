// Package timer is the kind `timer`: a command that systemd runs at certain
// times. It is made of two units, NAME.timer and NAME.service, of which the first
// is enabled and started.
package timer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"trued.dev/trued/internal/calendar"
	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/units"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module { return &module{Manager: units.New(h), host: h} }

type module struct {
	*units.Manager
	host *host.Host
}

func (*module) Kind() string { return "timer" }

func (m *module) New() resource.Resource {
	return &Resource{host: m.host, timer: m.Manager.New(), service: m.Manager.New()}
}

// Example is what the reference shows.
func (*module) Example() string {
	return `- timer: backup
  on_calendar: Mon..Fri 02:30
  random_delay: 15m
  persistent: true
  argv: [/usr/local/bin/backup, --target, /srv/backup]
  user: backup

- timer: clean-scratch
  on_calendar: hourly
  run: find /srv/scratch -mindepth 1 -mtime +7 -delete
`
}

// A Resource is a timer as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`

	Title       string            `yaml:"timer" json:"timer" doc:"what the two units are called, without a suffix"`
	OnCalendar  string            `yaml:"on_calendar" json:"on_calendar" doc:"when to run, as systemd writes it: daily, Mon..Fri 02:30, *-*-01 04:00:00; several stand on lines of their own"`
	RandomDelay time.Duration     `yaml:"random_delay" json:"random_delay,omitempty" doc:"each run is put off by some time of up to this, so that a fleet does not run at once"`
	Persistent  bool              `yaml:"persistent" json:"persistent,omitempty" doc:"true: a run that was missed while the host was off is made up for at once"`
	Line        string            `yaml:"run" json:"run,omitempty" doc:"what to run: a text of shell"`
	Argv        []string          `yaml:"argv" json:"argv,omitempty" doc:"what to run: a program and its arguments, without a shell"`
	User        string            `yaml:"user" json:"user,omitempty" doc:"name or number of the user to run as; root where it is not given"`
	Dir         string            `yaml:"cwd" json:"cwd,omitempty" doc:"the directory to run in; / where it is not given"`
	Env         map[string]string `yaml:"env" json:"env,omitempty" doc:"variables beside those of systemd; every user can read them"`
	Description string            `yaml:"description" json:"description,omitempty" doc:"one line about it, which systemctl shows"`

	host *host.Host
	// timer and service are the units as they are brought about; Load fills them.
	timer, service *units.Unit
}

// Name returns what the units are called.
func (r *Resource) Name() string { return r.Title }

// Load makes the texts of the two units.
func (r *Resource) Load(resource.Loader) error {
	yes, no := true, false
	r.timer.Name, r.service.Name = r.Title+timerSuffix, r.Title+serviceSuffix
	r.timer.File = resource.Bytes([]byte(r.timerText()))
	r.service.File = resource.Bytes([]byte(r.serviceText()))
	r.timer.Enabled, r.timer.Masked, r.service.Masked = &yes, &no, &no
	if !r.host.Offline() { // a tree's is started when it is booted
		r.timer.State = units.Running
	}
	return nil
}

const (
	timerSuffix   = ".timer"
	serviceSuffix = ".service"
)

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	var problems []error
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	stem := strings.TrimSuffix(strings.TrimSuffix(r.Title, timerSuffix), serviceSuffix)
	switch p := units.NameProblem(r.Title + serviceSuffix); {
	case stem != r.Title:
		wrong("timer", "%q has the suffix of a unit: write %q", r.Title, stem)
	case strings.Contains(r.Title, "@"):
		wrong("timer", "%q is a template or an instance of one, which a timer is not", r.Title)
	case p != "":
		wrong("timer", "%s", strings.ReplaceAll(p, serviceSuffix, ""))
	}
	if calendars := r.calendars(); len(calendars) == 0 {
		_, err := calendar.Parse("")
		wrong("on_calendar", "%v", err)
	} else {
		for _, c := range calendars {
			if _, err := calendar.Parse(c); err != nil {
				wrong("on_calendar", "%v", err)
			}
		}
	}
	if r.RandomDelay < 0 {
		wrong("random_delay", "%s is less than nothing", r.RandomDelay)
	}
	if strings.ContainsAny(r.Description, "\r\n\x00") {
		wrong("description", "has more than one line")
	}
	if r.Sensitive {
		wrong("sensitive", "systemd shows the text of a unit to every user: put the secret into a file of mode 0600 that the command reads")
	}
	return errors.Join(append(problems, r.validateCommand())...)
}

func (r *Resource) validateCommand() error {
	var problems []error
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	switch {
	case r.Line != "" && r.Argv != nil:
		wrong("run", "give one of run and argv")
	case r.Argv == nil && strings.TrimSpace(r.Line) == "":
		wrong("run", "nothing says what to run: give run or argv")
	case r.Argv != nil && (len(r.Argv) == 0 || !strings.HasPrefix(r.Argv[0], "/")):
		wrong("argv", "the program is to be told by its absolute path")
	}
	for _, text := range append([]string{r.Line}, r.Argv...) {
		if strings.Contains(text, "\x00") {
			wrong("run", "has a NUL in it")
		}
	}
	if strings.ContainsAny(r.User, " \t\r\n\x00:/%") {
		wrong("user", "%q is not the name of a user", r.User)
	}
	if r.Dir != "" {
		problems = append(problems, host.CheckPath("cwd", r.Dir))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Env)) {
		if name == "" || strings.Trim(name, variableLetters) != "" || name[0] >= '0' && name[0] <= '9' {
			wrong("env", "%q is not the name of a variable", name)
		}
		if strings.Contains(r.Env[name], "\x00") {
			wrong("env", "%s has a NUL in it", name)
		}
	}
	return errors.Join(problems...)
}

const variableLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

// Claims are the two units and their files.
func (r *Resource) Claims() []resource.Claim {
	return append(r.timer.Claims(), r.service.Claims()...)
}

// Writes implements resource.Writer.
func (r *Resource) Writes() []resource.Write {
	writes := append(r.timer.Writes(), r.service.Writes()...)
	for i := range writes {
		writes[i].Stated = true
	}
	return writes
}

// Runs implements resource.Runner.
func (r *Resource) Runs() []resource.Program {
	given := resource.Given(r.Env, r.Dir)
	if len(r.Argv) > 0 {
		return []resource.Program{{By: "timer", Argv: r.Argv, User: r.User, With: given}}
	}
	return []resource.Program{{By: "timer", Shell: r.Line, User: r.User, With: given}}
}

// Needs are the units' files elsewhere, the user, the directory and the program.
func (r *Resource) Needs() []resource.Need {
	needs := append(r.timer.Needs(), r.service.Needs()...)
	needs = append(needs, host.AccountNeeds(r.User, "")...)
	paths := []string{r.Dir}
	if len(r.Argv) > 0 {
		paths = append(paths, r.Argv[0])
	}
	for _, p := range paths {
		if p != "" && host.CheckPath("", p) == nil {
			p = host.CleanPath(p)
			needs = append(append(needs, resource.Need{Claim: resource.Path(p)}), resource.ParentNeeds(p)...)
		}
	}
	return needs
}

// Triggers are none: what the timer depends on are files of its units alone.
func (r *Resource) Triggers() []resource.Trigger { return nil }

// The fields of a difference begin with the unit that differs.
const (
	ofTimer   = "timer."
	ofService = "service."
)

func named(mark string, diff resource.Diff) resource.Diff {
	marked := slices.Clone(diff)
	for i := range marked {
		marked[i].Field = mark + marked[i].Field
	}
	return marked
}

func only(mark string, diff resource.Diff) resource.Diff {
	var part resource.Diff
	for _, c := range diff {
		if field, ok := strings.CutPrefix(c.Field, mark); ok {
			c.Field = field
			part = append(part, c)
		}
	}
	return part
}

// Check compares the two units. That the service's file changes is no reason to
// restart anything: the next run has it.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	if later, err := r.withoutUser(view); err != nil || later != "" {
		return resource.Finding{Unknown: later}, err
	}
	service, err := r.service.Check(ctx, view)
	if err != nil {
		return resource.Finding{}, err
	}
	if service.Prior != nil {
		view.Prior = service.Prior
	}
	found, err := r.timer.Check(ctx, view)
	if err != nil {
		return resource.Finding{}, err
	}
	found.Diff = append(named(ofService, service.Diff), named(ofTimer, found.Diff)...)
	if found.Prior == nil {
		found.Prior = service.Prior
	}
	found.Witness = sight{r.User, found.Witness, service.Witness}.witness()
	return found, nil
}

// withoutUser says what makes the user, where it is not there yet.
func (r *Resource) withoutUser(view resource.View) (later string, err error) {
	if r.User == "" {
		return "", nil
	}
	_, err = r.host.UserID(r.User)
	var unknown *host.UnknownUserError
	if owner, ok := view.Owner(resource.Claim{Space: resource.SpaceUser, Name: r.User}); ok && errors.As(err, &unknown) {
		return fmt.Sprintf("%s is made", owner), nil
	}
	return "", err
}

// Apply brings about the service and then what starts it.
func (r *Resource) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	if err := ctx.Err(); err != nil {
		return resource.Result{}, err
	}
	if found.Diff.Has(ofTimer + units.FieldContent) {
		if err := r.accepted(ctx); err != nil {
			return resource.Result{}, err
		}
	}
	first, err := r.service.Apply(ctx, view, resource.Finding{Diff: only(ofService, found.Diff), Prior: found.Prior})
	if err != nil {
		return first, err
	}
	prior := found.Prior
	if first.Prior != nil {
		prior = first.Prior
	}
	result, err := r.timer.Apply(ctx, view, resource.Finding{Diff: only(ofTimer, found.Diff), Prior: prior})
	if result.Prior == nil {
		result.Prior = first.Prior
	}
	return result, err
}

// accepted asks systemd whether the host knows what on_calendar says, such as
// the time zone.
func (r *Resource) accepted(ctx context.Context) error {
	if r.host.Offline() {
		return nil
	}
	for _, c := range r.calendars() {
		_, err := r.host.Run(ctx, host.Command{Args: []string{"systemd-analyze", "calendar", "--", c}})
		var failed *host.CommandError
		if errors.As(err, &failed) && failed.Output != "" {
			return fmt.Errorf("systemd does not take the calendar expression %q of timer %q: %w", c, r.Title, err)
		}
	}
	return ctx.Err()
}

// Due leaves out what a start of the timer since the last cause has settled.
func (r *Resource) Due(ctx context.Context, view resource.View, debts []resource.Debt) ([]resource.Debt, error) {
	return r.timer.Due(ctx, view, debts)
}

// React restarts the timer. A run of the service that is under way goes on.
func (r *Resource) React(ctx context.Context, view resource.View, owed []resource.Reaction) (resource.Result, error) {
	if len(owed) == 0 {
		return resource.Result{}, nil
	}
	if err := r.service.Reread(ctx); err != nil {
		return resource.Result{}, err
	}
	return r.timer.React(ctx, view, owed)
}

// Confirm looks once more at a timer that was started.
func (r *Resource) Confirm(ctx context.Context) error { return r.timer.Confirm(ctx) }

// Watches are the two units, and where their files are.
func (r *Resource) Watches() []resource.Watch {
	return append(r.timer.Watches(), r.service.Watches()...)
}
