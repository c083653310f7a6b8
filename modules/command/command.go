// Package command is the kind `command`: a program that is run when a guard says
// that it has to be, or when something that it watches changed.
//
// It knows nothing of what the program does. That a run of it can be proven, and
// need not be repeated, is what the guards are for.
package command

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module { return module{host: h} }

type module struct{ host *host.Host }

func (module) Kind() string { return "command" }

func (m module) New() resource.Resource { return &Resource{host: m.host} }

// Example is what the reference shows.
func (module) Example() string {
	return `- command: initialise the database
  argv: [/usr/bin/app, init, --data, /var/lib/app]
  creates: /var/lib/app/db
  user: app

- file: /etc/aliases
  content: "root: ops@example.com\n"

- command: newaliases
  run_on: [file:/etc/aliases]
`
}

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	return &departure{held: held}, nil
}

// A Resource is a command as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`

	Title     string            `yaml:"command" json:"command" doc:"what the command is called; the line of shell itself where neither run nor argv is given"`
	Line      string            `yaml:"run" json:"run,omitempty" doc:"a line of shell"`
	Argv      []string          `yaml:"argv" json:"argv,omitempty" doc:"a program and its arguments, without a shell"`
	Creates   string            `yaml:"creates" json:"creates,omitempty" doc:"guard: a path that the command makes; where it is, there is nothing to do"`
	Removes   string            `yaml:"removes" json:"removes,omitempty" doc:"guard: a path that the command takes away; where it is not, there is nothing to do"`
	Unless    string            `yaml:"unless" json:"unless,omitempty" doc:"guard: a line of shell that succeeds where there is nothing to do; plan runs it as well, so it must change nothing"`
	OnlyIf    string            `yaml:"onlyif" json:"onlyif,omitempty" doc:"guard: a line of shell that fails where there is nothing to do; plan runs it as well, so it must change nothing"`
	RunOn     []string          `yaml:"run_on" json:"-" doc:"addresses, or globs of them, whose change runs the command"`
	Dir       string            `yaml:"cwd" json:"cwd,omitempty" doc:"the directory to run in; / where it is not given"`
	Env       map[string]string `yaml:"env" json:"env,omitempty" doc:"variables beside PATH, LANG and HOME"`
	Stdin     string            `yaml:"stdin" json:"stdin,omitempty" doc:"what the command reads at its standard input, and its guards do not; the place for a secret"`
	User      string            `yaml:"user" json:"user,omitempty" doc:"name or number of the user to run as"`
	ExitCodes []int             `yaml:"exit_codes" json:"exit_codes,omitempty" doc:"the exit codes of success; 0 alone where it is not given"`

	host *host.Host
	host.Deputed
}

// Name returns what the command is called.
func (r *Resource) Name() string { return r.Title }

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	var problems []error
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if strings.TrimSpace(r.Title) == "" || strings.ContainsAny(r.Title, "\n\x00") {
		wrong("command", "%q is not a name: give it one line, and a longer text to run", r.Title)
	}
	if r.Line != "" && r.Argv != nil {
		wrong("run", "give one of run and argv")
	}
	if r.Argv != nil && (len(r.Argv) == 0 || r.Argv[0] == "") {
		wrong("argv", "names no program")
	}
	if !r.guarded() && len(r.RunOn) == 0 {
		wrong("command", "nothing says when to run it, so it would run every time and never be in order: "+
			"give a guard (creates, removes, unless or onlyif), or run_on")
	}
	for _, p := range []struct{ field, value string }{{"creates", r.Creates}, {"removes", r.Removes}, {"cwd", r.Dir}} {
		if p.value != "" {
			problems = append(problems, host.CheckPath(p.field, p.value))
		}
	}
	if r.Creates != "" && host.CleanPath(r.Creates) == host.CleanPath(r.Removes) {
		wrong("removes", "the same path is in creates")
	}
	for _, name := range slices.Sorted(maps.Keys(r.Env)) {
		if name == "" || strings.ContainsAny(name, "=\x00\n") || strings.Contains(r.Env[name], "\x00") {
			wrong("env", "%q is not the name of a variable", name)
		}
	}
	for _, code := range r.ExitCodes {
		if code < 0 || code > 255 {
			wrong("exit_codes", "%d is not an exit code", code)
		}
	}
	return errors.Join(problems...)
}

func (r *Resource) guarded() bool {
	return r.Creates != "" || r.Removes != "" || r.Unless != "" || r.OnlyIf != ""
}

// Space is the space of claims on commands.
const Space = "command"

// Claims is the name alone: nobody knows what a command owns.
func (r *Resource) Claims() []resource.Claim {
	return []resource.Claim{{Space: Space, Name: r.Title}}
}

// Writes implements resource.Writer: what a command writes is not for it to say.
func (r *Resource) Writes() []resource.Write { return nil }

// Runs implements resource.Runner.
func (r *Resource) Runs() []resource.Program {
	what := resource.Program{By: "command", Argv: r.Argv, User: r.User, With: resource.Given(r.Env, r.Dir)}
	if r.Argv == nil {
		what.Shell = r.line()
	}
	given := what.With
	if r.Stdin != "" {
		what.With = append(slices.Clip(given), "stdin")
	}
	runs := []resource.Program{what}
	for _, guard := range []struct{ by, line string }{{"unless", r.Unless}, {"onlyif", r.OnlyIf}} {
		if guard.line != "" {
			runs = append(runs, resource.Program{By: guard.by, Shell: guard.line, User: r.User, With: given})
		}
	}
	return runs
}

// Needs are the user, the directory and the program.
func (r *Resource) Needs() []resource.Need {
	needs := host.AccountNeeds(r.User, "")
	paths := []string{r.Dir}
	if len(r.Argv) > 0 {
		paths = append(paths, r.Argv[0])
	} else if program, _, _ := strings.Cut(r.line(), " "); r.Argv == nil {
		paths = append(paths, program)
	}
	for _, p := range paths {
		if strings.HasPrefix(p, "/") && host.CheckPath("", p) == nil {
			p = host.CleanPath(p)
			needs = append(append(needs, resource.Need{Claim: resource.Path(p)}), resource.ParentNeeds(p)...)
		}
	}
	return needs
}

// Triggers are what the command is run for.
func (r *Resource) Triggers() []resource.Trigger {
	var triggers []resource.Trigger
	for _, on := range r.RunOn {
		triggers = append(triggers, resource.Trigger{On: on, Key: "run_on", Reaction: resource.Run})
	}
	return triggers
}

// Costly is true where a guard is a program.
func (r *Resource) Costly() bool { return r.Unless != "" || r.OnlyIf != "" }

// line is the line of shell.
func (r *Resource) line() string {
	if r.Line != "" {
		return r.Line
	}
	return r.Title
}

const fieldRun = "run"

// notBooted is why nothing is run in a tree.
const notBooted = "commands run on the booted host alone"

// Check asks the guards.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	if err := ctx.Err(); err != nil || !r.guarded() {
		return resource.Finding{}, err
	}
	if later, err := r.later(view); err != nil || later != "" {
		return resource.Finding{Unknown: later}, err
	}
	why, err := r.due(ctx)
	if err != nil || why == "" {
		return resource.Finding{}, err
	}
	if view.Offline {
		return resource.Finding{Pending: notBooted}, nil
	}
	if r.Sensitive {
		return resource.Finding{Diff: resource.Diff{{Field: fieldRun, Redacted: true}}, Note: "would run"}, nil
	}
	return resource.Finding{
		Diff: resource.Diff{{Field: fieldRun, New: r.shown()}},
		Note: "would run, since " + why,
	}, nil
}

// later says what must be made before a guard that is a program can be asked.
func (r *Resource) later(view resource.View) (string, error) {
	if !r.Costly() {
		return "", nil
	}
	if r.User != "" {
		_, err := r.host.UserID(r.User)
		var unknown *host.UnknownUserError
		owner, managed := view.Owner(resource.Claim{Space: resource.SpaceUser, Name: r.User})
		if errors.As(err, &unknown) && managed {
			return fmt.Sprintf("%s is made", owner), nil
		}
	}
	if r.Dir != "" {
		there, err := r.there(r.Dir)
		owner, managed := view.Owner(resource.Path(host.CleanPath(r.Dir)))
		if err != nil || !there && managed {
			return fmt.Sprintf("%s is made", owner), err
		}
	}
	return "", nil
}

// shown is the command as it is told.
func (r *Resource) shown() string {
	if r.Argv != nil {
		return strings.Join(r.Argv, " ")
	}
	return r.line()
}

// Apply runs the command, and demands that the guards are content then.
func (r *Resource) Apply(ctx context.Context, _ resource.View, found resource.Finding) (resource.Result, error) {
	if err := ctx.Err(); err != nil || len(found.Diff) == 0 {
		return resource.Result{}, err
	}
	result, err := r.run(ctx)
	if err != nil {
		return resource.Result{}, err
	}
	why, err := r.due(ctx)
	if err != nil {
		return result, fmt.Errorf("was run, and then its guard could not be asked: %w", err)
	}
	if why != "" {
		return result, fmt.Errorf("was run, and its guard would still have it run, since %s", why)
	}
	// What is owed was caused by what came before: it is done with this.
	result.Settled = true
	return result, nil
}

// React runs the command because something changed, unless a guard says that
// there is nothing to do.
func (r *Resource) React(ctx context.Context, view resource.View, owed []resource.Reaction) (resource.Result, error) {
	if err := ctx.Err(); err != nil || view.Offline || !slices.Contains(owed, resource.Run) {
		return resource.Result{}, err
	}
	if r.guarded() {
		if why, err := r.due(ctx); err != nil || why == "" {
			return resource.Result{}, err
		}
	}
	return r.run(ctx)
}

// A departure is what is left of a command that left: nothing to take back.
type departure struct {
	resource.Meta
	held resource.Held
}

func (d *departure) Name() string { return d.held.Address.Name }

func (d *departure) Validate() error { return nil }

func (d *departure) Claims() []resource.Claim { return d.held.Claims }

func (d *departure) Check(ctx context.Context, _ resource.View) (resource.Finding, error) {
	return resource.Finding{}, ctx.Err()
}

func (d *departure) Apply(ctx context.Context, _ resource.View, _ resource.Finding) (resource.Result, error) {
	return resource.Result{}, ctx.Err()
}
