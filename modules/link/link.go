// Package link is the kind `link`: one symbolic link and its target.
package link

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module { return module{host: h} }

type module struct{ host *host.Host }

func (module) Kind() string { return "link" }

// Example implements resource.Exemplar.
func (module) Example() string {
	return `- link: /etc/nginx/sites-enabled/site
  target: ../sites-available/site
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

// A Resource is a link as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`

	Path    string `yaml:"link" json:"link" doc:"the link's absolute path"`
	Target  string `yaml:"target" json:"target,omitempty" doc:"what the link points to; it need not be there"`
	Owner   string `yaml:"owner" json:"owner,omitempty" doc:"name or number of the link's owner"`
	Group   string `yaml:"group" json:"group,omitempty" doc:"name or number of the link's group"`
	State   string `yaml:"state" json:"state,omitempty" words:"present,absent" doc:"present (default) or absent"`
	Force   bool   `yaml:"force" json:"-" doc:"true: replace a file, or a directory with all that is in it"`
	Backup  *bool  `yaml:"backup" json:"-" doc:"false: keep no copy of a file that is replaced"`
	Restore *bool  `yaml:"restore" json:"-" doc:"false: delete the link when it leaves Git, whatever was there before"`
	Parents bool   `yaml:"parents" json:"-" doc:"true: make missing directories above the link"`

	host *host.Host
}

// Name returns the cleaned path.
func (r *Resource) Name() string { return host.CleanPath(r.Path) }

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	problems := []error{host.CheckPath("link", r.Path)}
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if r.Name() == "/" {
		wrong("link", "\"/\" is a directory")
	}
	switch r.State {
	case "", "present":
		if r.Target == "" {
			wrong("target", "is missing: say what the link points to")
		}
	case host.Absent:
		if r.Target != "" {
			wrong("state", "a link that is absent has no target")
		}
	default:
		wrong("state", "%q is neither present nor absent", r.State)
	}
	if strings.ContainsAny(r.Target, "\n\x00") {
		wrong("target", "%q has a newline or a NUL in it", r.Target)
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
	return []resource.Write{{
		Path: r.Name(), Target: r.Target, Owner: r.Owner, Group: r.Group, Tree: r.Force, Absent: r.State == host.Absent,
	}}
}

func (r *Resource) keepsBackup() bool { return r.Backup == nil || *r.Backup }

func (r *Resource) ownership() host.Ownership {
	return host.Ownership{Owner: r.Owner, Group: r.Group}
}

// Check compares the link.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	if err := ctx.Err(); err != nil {
		return resource.Finding{}, err
	}
	name := r.Name()
	found, err := r.compare(ctx, name)
	if err != nil {
		return resource.Finding{}, err
	}
	finding := resource.Finding{Diff: found.Diff, Creates: found.Creates, Witness: found.Witness(r.Owner, r.Group)}
	if found.NoParent != "" {
		finding.Note = fmt.Sprintf("directory %s is not there yet", found.NoParent)
	}
	if r.Sensitive {
		for i, c := range finding.Diff {
			finding.Diff[i] = resource.Change{Field: c.Field, Redacted: true}
		}
	}
	noted, added, err := host.Remember(view.Prior, name, found.Prior, host.Leaving{
		Discard:   r.Restore != nil && !*r.Restore,
		NoBackup:  !r.keepsBackup(),
		Sensitive: r.Sensitive,
	})
	if added {
		finding.Prior = noted
	}
	return finding, err
}

func (r *Resource) compare(ctx context.Context, name string) (host.PathFinding, error) {
	if r.State == host.Absent {
		return r.host.CompareAbsent(ctx, name, host.TypeLink, r.Force)
	}
	return r.host.CompareLink(name, r.Target, r.ownership(), r.Force, r.Parents)
}

// Stage leaves all to Commit: a link is made in one step. It is staged so that
// it keeps its turn among files, since it may be what makes them visible.
func (r *Resource) Stage(ctx context.Context, _ resource.View, found resource.Finding) (resource.Staged, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name := r.Name()
	step := host.Step{Where: r.host.Exists(name)}
	switch {
	case len(found.Diff) == 0:
	case r.State == host.Absent:
		step.Do = func(context.Context) error { return r.host.Discard(name, r.Force, r.keepsBackup()) }
	default:
		step.Do = func(context.Context) error {
			return r.host.MakeLink(name, r.Target, r.ownership(), found.Diff, r.Parents, r.keepsBackup())
		}
	}
	return step, nil
}

// Apply is Stage and all that follows.
func (r *Resource) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	staged, err := r.Stage(ctx, view, found)
	if err != nil {
		return resource.Result{}, err
	}
	return host.Finish(ctx, staged)
}

// Watches is the path.
func (r *Resource) Watches() []resource.Watch { return resource.WatchPaths(r.Name()) }
