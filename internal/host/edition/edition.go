// Package edition is what kinds have in common whose resource is a directory that
// is put in place as a whole, one edition after another: the attributes, the
// comparison with what was put there, and the way it leaves.
//
// Where the content comes from is the kind's to know: it fills a tree.
package edition

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// A Directory is one, as a manifest declares it. It is embedded.
type Directory struct {
	Owner         string        `yaml:"owner" json:"owner,omitempty" doc:"name or number of the owner of all of it; the agent's own"`
	Group         string        `yaml:"group" json:"group,omitempty" doc:"name or number of the group of all of it; the agent's own"`
	Mode          resource.Mode `yaml:"mode" json:"mode,omitzero" doc:"octal mode of the directory itself; 0755"`
	FileMode      resource.Mode `yaml:"file_mode" json:"file_mode,omitzero" doc:"mode of each file; else its own, without setuid, setgid and what lets others than the owner write"`
	DirectoryMode resource.Mode `yaml:"directory_mode" json:"directory_mode,omitzero" doc:"mode of each directory below; as file_mode"`
	Purge         bool          `yaml:"purge" json:"purge,omitempty" doc:"true: what is in the directory and not of the tree is drift, and goes; else it stays, also when the tree is replaced"`
	Force         bool          `yaml:"force" json:"-" doc:"true: replace a file or a link, or files that were there before by the same names; when it leaves Git, remove what is not of the tree as well"`
	Restore       *bool         `yaml:"restore" json:"-" doc:"false: delete all that is of the tree when it leaves Git, whatever was there before"`
	Parents       bool          `yaml:"parents" json:"-" doc:"true: make missing directories above it"`
}

// Validate returns everything that is wrong with the attributes.
func (d *Directory) Validate(field, name string, sensitive bool) []error {
	problems := []error{host.CheckPath(field, name)}
	if host.CleanPath(name) == "/" {
		problems = append(problems, resource.Wrong(field, "\"/\" cannot be replaced"))
	}
	if sensitive && d.FileMode.Bits()&0o007 != 0 {
		problems = append(problems, resource.Wrong("file_mode", "%s lets everyone at sensitive files: write \"0600\" or \"0640\"", d.FileMode))
	}
	return problems
}

// Writes is a directory with all that is in it.
func (d *Directory) Writes(name string) []resource.Write {
	writes := []resource.Write{{Path: name, Directory: true, Owner: d.Owner, Group: d.Group, Mode: d.Mode, Tree: true}}
	for _, mode := range []resource.Mode{d.FileMode, d.DirectoryMode} {
		if mode.IsSet() {
			writes = append(writes, resource.Write{Path: name, Directory: true, Mode: mode, Tree: true})
		}
	}
	return writes
}

// Needs are the directories above, owner and group.
func (d *Directory) Needs(name string) []resource.Need {
	return append(resource.ParentNeeds(name), host.AccountNeeds(d.Owner, d.Group)...)
}

// File and Folder return the mode of a file and a directory of the tree that has
// the given one where it comes from.
func (d *Directory) File(own fs.FileMode, sensitive bool) resource.Mode {
	bits := uint32(own.Perm())&^0o022 | 0o600
	if sensitive {
		bits &= 0o700
	}
	return d.FileMode.Or(bits)
}

// Folder is File for a directory.
func (d *Directory) Folder(own fs.FileMode, sensitive bool) resource.Mode {
	bits := uint32(own.Perm())&^0o022 | 0o700
	if sensitive {
		bits &= 0o700
	}
	return d.DirectoryMode.Or(bits)
}

// An Edition is a directory with what is to be in it.
type Edition struct {
	*Directory
	Host      *host.Host
	Path      string // cleaned
	Sensitive bool
	// Version tells one content from another; Shown is how people read it.
	Version, Shown string
	// Fill writes the content.
	Fill func(ctx context.Context, to *host.Tree) error
}

// A note is what is remembered of the edition that is in place.
type note struct {
	Version string `json:"version"`
	Shown   string `json:"shown"`
	// Made is the word by which the backup store knows what it is made of.
	Made string `json:"made"`
}

// Claim is what a note is kept under.
func claimOf(name string) resource.Claim { return resource.Claim{Space: "edition", Name: name} }

// version has all that the content of a tree depends on.
func (r *Edition) version() string {
	return fmt.Sprintf("%s file %s directory %s sensitive %t", r.Version, r.FileMode, r.DirectoryMode, r.Sensitive)
}

// known returns what is remembered of the edition that is in place. Where what it
// was made of is lost, nothing is.
func known(h *host.Host, prior resource.Prior, name string) (n note, made []host.TreeEntry, err error) {
	ok, err := prior.Recall(claimOf(name), &n)
	if !ok || err != nil || n.Made == "" {
		return note{}, nil, err
	}
	made, err = h.KeptTree(n.Made)
	if errors.Is(err, fs.ErrNotExist) {
		return note{}, nil, nil
	}
	return n, made, err
}

// Check compares the directory with what was put there. It brings nothing.
func (r *Edition) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	if err := ctx.Err(); err != nil {
		return resource.Finding{}, err
	}
	n, made, err := known(r.Host, view.Prior, r.Path)
	if err != nil {
		return resource.Finding{}, err
	}
	s := &survey{r: r, view: view}
	if err := s.top(); err != nil {
		return resource.Finding{}, err
	}
	switch {
	case s.found.Creates || s.found.Diff.Has(host.FieldState):
		s.add(r.Path, resource.Diff{{Field: host.FieldContent, New: r.Shown}})
		s.unseen = true
	case n.Version != r.version():
		s.add(r.Path, resource.Diff{{Field: host.FieldContent, Old: n.Shown, New: r.Shown}})
		s.unseen = true
	default:
		if err := s.below(ctx, made); err != nil {
			return resource.Finding{}, err
		}
	}
	noted, added, err := host.Remember(view.Prior, r.Path, s.prior, host.Leaving{
		Discard: r.Restore != nil && !*r.Restore, NoBackup: true, Force: r.Force, Sensitive: r.Sensitive,
	})
	if added {
		s.found.Prior = noted
	}
	if !s.unseen && !r.Purge { // what came to it besides would not be seen
		s.found.Witness = s.witness
	}
	return s.found, err
}

func (r *Edition) ownership(mode resource.Mode) host.Ownership {
	return host.Ownership{Mode: mode, Owner: r.Owner, Group: r.Group}
}

// Apply puts a whole new tree in place; where owners and modes alone differ, it
// mends those.
func (r *Edition) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	if err := ctx.Err(); err != nil || len(found.Diff) == 0 {
		return resource.Result{}, err
	}
	noted := view.Prior
	if found.Prior != nil {
		noted = found.Prior
	}
	_, before, err := known(r.Host, noted, r.Path)
	if err != nil {
		return resource.Result{}, err
	}
	// A file with several names is not mended by one of them.
	if !content(found.Diff) && r.mend(found.Diff, before) == nil {
		return resource.Result{}, nil
	}
	top, _, err := host.NotedPath(noted, r.Path)
	if err != nil {
		return resource.Result{}, err
	}
	t, err := r.Host.StageTree(ctx, r.Path, host.TreeSpec{
		Before: top.Existed && top.Type == host.TypeDirectory,
		Mode:   r.Mode, Owner: r.Owner, Group: r.Group, Parents: r.Parents,
		Purge: r.Purge, Force: r.Force, Known: before,
		Held: func(name string) bool {
			_, held := view.Owner(resource.Path(name))
			return held
		},
	})
	if err != nil {
		return resource.Result{}, err
	}
	defer t.Abort()
	if err := r.Fill(ctx, t); err != nil {
		return resource.Result{}, err
	}
	made, replaced, err := t.Commit(ctx)
	if err != nil {
		return resource.Result{}, err
	}
	return r.remember(noted, made, replaced)
}

// mend gives paths the owner and mode that differ, in place.
func (r *Edition) mend(diff resource.Diff, made []host.TreeEntry) error {
	modes := map[string]resource.Mode{r.Path: r.Mode.Or(0o755)}
	for _, e := range made {
		modes[path.Join(r.Path, e.Path)] = e.Mode
	}
	byPath := map[string]resource.Diff{}
	for _, c := range diff {
		field, at, ok := strings.Cut(c.Field, ":")
		if !ok {
			at = r.Path
		}
		c.Field = field
		byPath[at] = append(byPath[at], c)
	}
	var failed []error
	for at, part := range byPath {
		failed = append(failed, r.Host.SetOwnership(at, r.ownership(modes[at]).Only(part), false))
	}
	return errors.Join(failed...)
}

func (r *Edition) remember(
	noted resource.Prior, made []host.TreeEntry, replaced map[string]host.PathPrior,
) (resource.Result, error) {
	word, err := r.Host.KeepTree(made)
	if err != nil {
		return resource.Result{}, err
	}
	next, err := noted.With(claimOf(r.Path), note{Version: r.version(), Shown: r.Shown, Made: word})
	if err != nil {
		return resource.Result{}, err
	}
	if next == nil {
		next = noted
	}
	for at, prior := range replaced {
		if _, ok := next[resource.Path(at)]; ok {
			continue
		}
		if err := prior.Note(next, at); err != nil {
			return resource.Result{}, err
		}
	}
	return resource.Result{Prior: next}, nil
}

// Copy is io.Copy that ends when the context is done.
func Copy(ctx context.Context, to io.Writer, from io.Reader) (int64, error) {
	return io.Copy(to, Reader(ctx, from))
}

// Reader returns one that ends when the context is done.
func Reader(ctx context.Context, from io.Reader) io.Reader { return &cancelled{ctx, from} }

type cancelled struct {
	ctx  context.Context
	from io.Reader
}

func (c *cancelled) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.from.Read(p)
}
