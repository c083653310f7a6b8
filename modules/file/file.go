// Package file is the kind `file`: one regular file, its content, owner and
// mode.
//
// It says what a file should be; how one is compared, written and given back
// is the host's to know.
package file

import (
	"context"
	"errors"
	"fmt"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module { return module{host: h} }

type module struct{ host *host.Host }

func (module) Kind() string { return "file" }

// Example implements resource.Exemplar.
func (module) Example() string {
	return `- file: /etc/nginx/nginx.conf
  template: templates/nginx.conf.tmpl
  mode: "0644"
  validate: nginx -t -c {path}

- file: /etc/app/token
  content: '{{ vars.token }}'
  sensitive: true
  owner: app
  mode: "0600"
`
}

func (m module) New() resource.Resource { return &Resource{host: m.host} }

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	return host.NewDeparture(m.host, held)
}

// Batch shares batches with the other kinds that write paths.
func (module) Batch() string { return "files" }

// Holds implements resource.Examiner.
func (m module) Holds(_ context.Context, name string, w resource.Witness) bool {
	return m.host.Holds(name, w)
}

// A Resource is a file as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`
	host.Deputed

	Path       string        `yaml:"file" json:"file" doc:"the file's absolute path"`
	Content    *string       `yaml:"content" json:"-" doc:"the content as a string"`
	Source     string        `yaml:"source" json:"-" doc:"a file of the group's directory whose content is taken as it is"`
	Template   string        `yaml:"template" json:"-" doc:"a file of the group's directory that is executed as a template"`
	Owner      string        `yaml:"owner" json:"owner,omitempty" doc:"name or number of the owner"`
	Group      string        `yaml:"group" json:"group,omitempty" doc:"name or number of the group"`
	Mode       resource.Mode `yaml:"mode" json:"mode,omitzero" doc:"octal mode with a leading zero; a new file gets 0644, or 0755 where it is executable in Git"`
	State      string        `yaml:"state" json:"state,omitempty" words:"present,absent" doc:"present (default) or absent"`
	Accept     string        `yaml:"validate" json:"-" doc:"a command that must accept the new file; {path} stands for it"`
	Follow     bool          `yaml:"follow" json:"follow,omitempty" doc:"true: manage what a link at the path points to"`
	CreateOnly bool          `yaml:"create_only" json:"create_only,omitempty" doc:"true: leave the content alone once there is a file"`
	Backup     *bool         `yaml:"backup" json:"-" doc:"false: keep no copy of what is replaced"`
	Restore    *bool         `yaml:"restore" json:"-" doc:"false: delete the file when it leaves Git, whatever was there before"`
	Parents    bool          `yaml:"parents" json:"-" doc:"true: make missing directories above the file"`
	Force      bool          `yaml:"force" json:"-" doc:"true: replace a directory or a link"`

	// Wanted is the content, however it was given.
	Wanted *resource.Content `yaml:"-" json:"content,omitempty"`

	host *host.Host
}

// Name returns the cleaned path.
func (r *Resource) Name() string { return host.CleanPath(r.Path) }

// Load reads the content.
func (r *Resource) Load(l resource.Loader) (err error) {
	switch {
	case r.Content != nil:
		r.Wanted = resource.Bytes([]byte(*r.Content))
	case r.Source != "":
		r.Wanted, err = l.Source(r.Source)
	case r.Template != "":
		r.Wanted, err = l.Template(r.Template)
	}
	return err
}

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	problems := []error{host.CheckPath("file", r.Path)}
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if r.Name() == "/" {
		wrong("file", "\"/\" is a directory")
	}
	given := 0
	for _, set := range []bool{r.Content != nil, r.Source != "", r.Template != ""} {
		if set {
			given++
		}
	}
	if given > 1 {
		wrong("content", "give one of content, source and template")
	}
	switch r.State {
	case "", "present":
	case host.Absent:
		if given > 0 {
			wrong("state", "a file that is absent has no content")
		}
	default:
		wrong("state", "%q is neither present nor absent", r.State)
	}
	if r.Sensitive && r.Mode.Bits()&0o007 != 0 {
		wrong("mode", "%s lets everyone at a sensitive file: write \"0600\" or \"0640\"", r.Mode)
	}
	if r.Accept != "" {
		if _, err := host.SplitCommand(r.Accept); err != nil {
			wrong("validate", "%v", err)
		}
	}
	return errors.Join(problems...)
}

// Claims is the path.
func (r *Resource) Claims() []resource.Claim { return []resource.Claim{resource.Path(r.Name())} }

// Needs are the directories above, owner and group.
func (r *Resource) Needs() []resource.Need {
	return append(resource.ParentNeeds(r.Name()), host.AccountNeeds(r.Owner, r.Group)...)
}

// Writes implements resource.Writer.
func (r *Resource) Writes() []resource.Write {
	s := r.spec()
	return []resource.Write{{
		Path: r.Name(), Content: r.Wanted, Owner: s.Owner, Group: s.Group, Mode: s.Mode,
		Follow: r.Follow, Tree: r.Force, Absent: r.State == host.Absent,
	}}
}

// Runs implements resource.Runner.
func (r *Resource) Runs() []resource.Program { return host.ValidateProgram(r.Accept) }

func (r *Resource) spec() host.FileSpec {
	mode := r.Mode
	if r.Sensitive {
		mode = mode.Or(0o600)
	}
	return host.FileSpec{
		Content: r.Wanted, Mode: mode, Owner: r.Owner, Group: r.Group,
		Follow: r.Follow, Force: r.Force, Parents: r.Parents, CreateOnly: r.CreateOnly,
		Backup: r.keepsBackup(), Sensitive: r.Sensitive, Validate: r.Accept, ValidateAs: r.As(),
	}
}

func (r *Resource) keepsBackup() bool { return r.Backup == nil || *r.Backup }

func (r *Resource) leaving() host.Leaving {
	return host.Leaving{
		Discard:   r.Restore != nil && !*r.Restore,
		NoBackup:  !r.keepsBackup(),
		Sensitive: r.Sensitive,
		Follow:    r.Follow && r.State != host.Absent, // then it is the link that goes
	}
}

// Check compares the file.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	name := r.Name()
	found, err := r.compare(ctx, name)
	if err != nil {
		return resource.Finding{}, err
	}
	diff, err := found.Shown(view.Prior, name)
	if err != nil {
		return resource.Finding{}, err
	}
	finding := resource.Finding{Diff: diff, Creates: found.Creates, Witness: found.Witness(r.Owner, r.Group)}
	if found.NoParent != "" {
		finding.Note = fmt.Sprintf("directory %s is not there yet", found.NoParent)
	}
	noted, added, err := host.Remember(view.Prior, name, found.Prior, r.leaving())
	if added {
		finding.Prior = noted
	}
	return finding, err
}

func (r *Resource) compare(ctx context.Context, name string) (host.PathFinding, error) {
	if r.State == host.Absent {
		return r.host.CompareAbsent(ctx, name, host.TypeFile, r.Force)
	}
	return r.host.CompareFile(ctx, name, r.spec())
}

// Stage prepares what the difference states.
func (r *Resource) Stage(ctx context.Context, _ resource.View, found resource.Finding) (resource.Staged, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name := r.Name()
	switch {
	case len(found.Diff) == 0:
		return host.Step{Where: r.host.Exists(name)}, nil
	case r.State == host.Absent:
		return host.Step{Where: r.host.Exists(name), Do: func(context.Context) error {
			return r.host.Discard(name, r.Force, r.keepsBackup() && !r.Sensitive)
		}}, nil
	}
	return r.host.Stage(ctx, name, r.spec().Only(found.Diff))
}

// Apply is Stage and all that follows.
func (r *Resource) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	staged, err := r.Stage(ctx, view, found)
	if err != nil {
		return resource.Result{}, err
	}
	return host.Finish(ctx, staged)
}

// Watches is the path, and what it leads to.
func (r *Resource) Watches() []resource.Watch {
	names := []string{r.Name()}
	if r.Follow {
		names = append(names, r.host.Follow(r.Name())...)
	}
	return resource.WatchPaths(names...)
}
