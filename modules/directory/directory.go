// Package directory is the kind `directory`: a directory, and with a source a
// whole tree of directories, files and links.
//
// It removes only what it made itself or was told to purge, and nothing that
// another resource of the catalog holds.
package directory

import (
	"context"
	"errors"
	"path"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module { return module{host: h} }

type module struct{ host *host.Host }

func (module) Kind() string { return "directory" }

// Example implements resource.Exemplar.
func (module) Example() string {
	return `- directory: /srv/www
  source: files/www
  group: www-data
  file_mode: "0640"
  directory_mode: "0750"
  purge: true
`
}

func (m module) New() resource.Resource { return &Resource{host: m.host} }

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	return host.NewDeparture(m.host, held)
}

// Batch shares batches with the other kinds that write paths.
func (module) Batch() string { return "files" }

// A Resource is a directory as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`

	Path          string        `yaml:"directory" json:"directory" doc:"the directory's absolute path"`
	Owner         string        `yaml:"owner" json:"owner,omitempty" doc:"name or number of the owner, of the tree as well"`
	Group         string        `yaml:"group" json:"group,omitempty" doc:"name or number of the group, of the tree as well"`
	Mode          resource.Mode `yaml:"mode" json:"mode,omitzero" doc:"octal mode with a leading zero; a new directory gets 0755"`
	Source        string        `yaml:"source" json:"-" doc:"a directory of the group's directory whose tree is managed"`
	FileMode      resource.Mode `yaml:"file_mode" json:"file_mode,omitzero" doc:"mode of each file of the tree"`
	DirectoryMode resource.Mode `yaml:"directory_mode" json:"directory_mode,omitzero" doc:"mode of each directory of the tree"`
	Purge         bool          `yaml:"purge" json:"purge,omitempty" doc:"true: remove what is in the directory and not managed"`
	Recurse       bool          `yaml:"recurse" json:"recurse,omitempty" doc:"true: owner, group and mode hold for all below; directories get the execute bit where read is set"`
	State         string        `yaml:"state" json:"state,omitempty" words:"present,absent" doc:"present (default) or absent"`
	Force         bool          `yaml:"force" json:"-" doc:"true: replace a file or a link; when absent, remove what is not managed as well"`
	Backup        *bool         `yaml:"backup" json:"-" doc:"false: keep no copy of what is replaced or purged"`
	Restore       *bool         `yaml:"restore" json:"-" doc:"false: delete files of the tree when they leave Git, whatever was there before"`
	Parents       bool          `yaml:"parents" json:"-" doc:"true: make missing directories above it"`

	// Tree is what the source holds.
	Tree []resource.TreeEntry `yaml:"-" json:"tree,omitempty"`

	host *host.Host
}

// Name returns the cleaned path.
func (r *Resource) Name() string { return host.CleanPath(r.Path) }

// Load reads the tree.
func (r *Resource) Load(l resource.Loader) (err error) {
	if r.Source != "" {
		r.Tree, err = l.Tree(r.Source)
	}
	return err
}

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	problems := []error{host.CheckPath("directory", r.Path)}
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	switch r.State {
	case "", "present":
	case host.Absent:
		if r.Source != "" || r.Purge || r.Recurse {
			wrong("state", "a directory that is absent has no source, purge or recurse")
		}
		if r.Name() == "/" {
			wrong("state", "\"/\" cannot be absent")
		}
	default:
		wrong("state", "%q is neither present nor absent", r.State)
	}
	if r.Source == "" && !r.Recurse && (r.FileMode.IsSet() || r.DirectoryMode.IsSet()) {
		wrong("source", "file_mode and directory_mode are those of a tree: give its source, or recurse")
	}
	if r.Sensitive && r.Source != "" && r.FileMode.Bits()&0o007 != 0 {
		wrong("file_mode", "%s lets everyone at sensitive files: write \"0600\" or \"0640\"", r.FileMode)
	}
	for _, e := range r.Tree {
		if err := r.checkEntry(e); err != nil {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// checkEntry refuses names that lead out of the tree, and links that do.
func (r *Resource) checkEntry(e resource.TreeEntry) error {
	if err := host.CheckPath("source", path.Join("/", e.Path)); err != nil || path.Clean("/"+e.Path) != "/"+e.Path {
		return resource.Wrong("source", "%q is not a path of a tree", e.Path)
	}
	if !isLink(e) {
		return nil
	}
	inside := path.Join(path.Dir(e.Path), e.Target)
	if path.IsAbs(e.Target) || e.Target == "" || inside == ".." || strings.HasPrefix(inside, "../") {
		return resource.Wrong("source", "link %q points to %q, which is not in the tree", e.Path, e.Target)
	}
	return nil
}

// Claims are the directory and each path of the tree.
func (r *Resource) Claims() []resource.Claim {
	name := r.Name()
	claims := make([]resource.Claim, 0, len(r.Tree)+1)
	claims = append(claims, resource.Path(name))
	for _, e := range r.Tree {
		claims = append(claims, resource.Path(path.Join(name, e.Path)))
	}
	return claims
}

// Needs are the directories above, owner and group. A directory that is to go
// comes after what is declared in it, a few levels deep.
func (r *Resource) Needs() []resource.Need {
	needs := append(resource.ParentNeeds(r.Name()), host.AccountNeeds(r.Owner, r.Group)...)
	if r.State != host.Absent {
		return needs
	}
	below := globQuote(r.Name())
	for range 4 {
		below += "/*"
		needs = append(needs, resource.Need{Claim: resource.Path(below), Glob: true})
	}
	return needs
}

// Writes implements resource.Writer.
func (r *Resource) Writes() []resource.Write {
	name := r.Name()
	below := r.Purge || r.Recurse || r.Force || r.State == host.Absent
	writes := []resource.Write{{
		Path: name, Directory: true, Owner: r.Owner, Group: r.Group, Mode: r.Mode, Tree: below, Absent: r.State == host.Absent,
	}}
	for _, e := range r.Tree {
		w := resource.Write{
			Path: path.Join(name, e.Path), Directory: isDir(e), Content: e.Content, Target: e.Target,
			Owner: r.Owner, Group: r.Group,
		}
		if w.Mode = r.FileMode; w.Directory {
			w.Mode = r.DirectoryMode
		}
		writes = append(writes, w)
	}
	if r.Recurse && len(r.Tree) == 0 {
		writes = append(writes, resource.Write{Path: name, Directory: true, Mode: r.FileMode})
		writes = append(writes, resource.Write{Path: name, Directory: true, Mode: r.DirectoryMode})
	}
	return writes
}

func globQuote(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(s)
}

func (r *Resource) keepsBackup() bool { return r.Backup == nil || *r.Backup }

func (r *Resource) leaving() host.Leaving {
	return host.Leaving{
		Discard:   r.Restore != nil && !*r.Restore,
		NoBackup:  !r.keepsBackup(),
		Sensitive: r.Sensitive,
		Force:     r.Force,
	}
}

// Check compares the directory and all that it manages below.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	if err := ctx.Err(); err != nil {
		return resource.Finding{}, err
	}
	s := &survey{r: r, view: view, name: r.Name(), noted: view.Prior, gone: map[string]bool{}, replaced: map[string]bool{}}
	err := s.run(ctx)
	if err != nil {
		return resource.Finding{}, err
	}
	if s.added {
		s.found.Prior = s.noted
	}
	s.found.Note = strings.Join(s.notes, "; ")
	if !s.unseen {
		s.found.Witness = s.witness
	}
	return s.found, nil
}

func isLink(e resource.TreeEntry) bool { return host.TypeOf(e.Type) == host.TypeLink }
func isDir(e resource.TreeEntry) bool  { return host.TypeOf(e.Type) == host.TypeDirectory }

// field is a field of a path: its own for the directory, with the path for all
// below.
func field(of, name, at string) string {
	if name == at {
		return of
	}
	return of + ":" + at
}

// Watches is the directory, and where it says what is below, all of that.
func (r *Resource) Watches() []resource.Watch {
	if len(r.Tree) == 0 && !r.Purge && !r.Recurse {
		return resource.WatchPaths(r.Name())
	}
	return []resource.Watch{{Space: resource.WatchTree, Name: r.Name()}}
}
