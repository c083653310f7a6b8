package directory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// A ForeignError is a directory that should be absent and holds what nobody
// manages.
type ForeignError struct {
	Directory string
	Paths     []string
}

func (e *ForeignError) Error() string {
	const shown = 3
	list := strings.Join(e.Paths[:min(len(e.Paths), shown)], ", ")
	if more := len(e.Paths) - shown; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("directory %q holds what is not managed (%s): `force: true` removes it all the same", e.Directory, list)
}

const (
	// A batch holds a descriptor for each file.
	batchSize = 500
	// From so many files on one sync of the file system is cheaper.
	syncfsFrom = 64
)

// Apply brings about what the difference states: the directory, then its tree
// from the top, then what has to go from the bottom.
func (r *Resource) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	return r.apply(ctx, view, found, false)
}

// ApplyUnsealed is Apply that leaves it to the caller to make the directory
// itself durable.
func (r *Resource) ApplyUnsealed(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, string, error) {
	result, err := r.apply(ctx, view, found, true)
	return result, r.host.Exists(r.Name()), err
}

func (r *Resource) apply(ctx context.Context, view resource.View, found resource.Finding, unsealed bool) (resource.Result, error) {
	if err := ctx.Err(); err != nil {
		return resource.Result{}, err
	}
	if len(found.Diff) == 0 {
		return resource.Result{}, nil
	}
	w := &work{r: r, name: r.Name(), todo: byPath(found.Diff, r.Name()), noted: view.Prior, unsealed: unsealed}
	if found.Prior != nil {
		w.noted = found.Prior
	}
	if r.State == host.Absent {
		return resource.Result{}, r.host.Discard(w.name, r.Force, r.keepsBackup())
	}
	if err := w.top(); err != nil {
		return resource.Result{}, err
	}
	if len(w.todo) > 0 {
		w.tree(ctx)
		w.rest(ctx)
		w.fail(host.SyncFS([]string{r.host.Path(w.name)}))
	}
	return resource.Result{Prior: w.kept()}, errors.Join(w.failed...)
}

// byPath sorts a difference by the path that each change is about.
func byPath(diff resource.Diff, name string) map[string]resource.Diff {
	todo := map[string]resource.Diff{}
	for _, c := range diff {
		at := name
		if of, below, ok := strings.Cut(c.Field, ":"); ok {
			c.Field, at = of, below
		}
		todo[at] = append(todo[at], c)
	}
	return todo
}

// work is one Apply.
type work struct {
	r      *Resource
	name   string
	todo   map[string]resource.Diff
	noted  resource.Prior
	failed []error
	gone   []string
	// unsealed is true when somebody else makes the directory durable.
	unsealed bool
}

func (w *work) top() error {
	diff := w.todo[w.name]
	delete(w.todo, w.name)
	if len(diff) == 0 {
		return nil
	}
	want := host.Ownership{Mode: w.r.Mode, Owner: w.r.Owner, Group: w.r.Group}
	if w.r.Recurse && want.Mode.IsSet() {
		want.Mode = searchable(want.Mode)
	}
	if err := w.r.host.MakeDirectory(w.name, want, diff, w.r.Parents, w.r.keepsBackup()); err != nil {
		return err
	}
	if w.unsealed {
		return nil
	}
	if err := w.r.host.SyncDir(w.name); err != nil {
		return err
	}
	return w.r.host.SyncDir(path.Dir(w.name))
}

// tree makes the tree: directories at once, files in batches, links last.
func (w *work) tree(ctx context.Context) {
	var files []resource.TreeEntry
	var links []resource.TreeEntry
	for _, e := range w.r.Tree {
		at := path.Join(w.name, e.Path)
		diff := w.todo[at]
		switch {
		case len(diff) == 0:
		case isDir(e):
			w.fail(w.r.host.MakeDirectory(at, w.r.directory(), diff, false, w.r.keepsBackup()))
			delete(w.todo, at)
		case isLink(e):
			links = append(links, e)
		default:
			files = append(files, e)
		}
	}
	for batch := range slices.Chunk(files, batchSize) {
		w.files(ctx, batch)
	}
	for _, e := range links {
		at := path.Join(w.name, e.Path)
		w.fail(w.r.host.MakeLink(at, e.Target, w.r.link(), w.todo[at], false, w.r.keepsBackup()))
		delete(w.todo, at)
	}
}

// files writes one batch. All of it is durable before the first is put in
// place; the new names are so at the end of Apply.
func (w *work) files(ctx context.Context, batch []resource.TreeEntry) {
	var staged []*host.StagedFile
	var dirs []string
	for _, e := range batch {
		at := path.Join(w.name, e.Path)
		spec := w.r.file(e).Only(w.todo[at])
		spec.Force = w.todo[at].Has(host.FieldState) // found to be replaceable
		delete(w.todo, at)
		s, err := w.r.host.Stage(ctx, at, spec)
		if err != nil {
			w.fail(err)
			continue
		}
		staged = append(staged, s)
		dirs = append(dirs, s.Dir())
	}
	if err := durable(staged, dirs); err != nil {
		w.fail(err)
		for _, s := range staged {
			s.Abort()
		}
		return
	}
	for _, s := range staged {
		_, err := s.Commit(ctx)
		w.fail(err)
	}
}

// durable makes the content of staged files durable: one by one when they are
// few.
func durable(staged []*host.StagedFile, dirs []string) error {
	if len(staged) >= syncfsFrom {
		return host.SyncFS(dirs)
	}
	for _, s := range staged {
		if err := s.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// rest is what is not in the tree: what left it, what is purged, and what only
// gets other attributes.
func (w *work) rest(ctx context.Context) {
	paths := slices.SortedFunc(maps.Keys(w.todo), host.DeepestFirst)
	full := map[string]bool{} // what holds something that could not be removed
	leaves := func(at string, err error) {
		if err != nil {
			for dir := at; dir != w.name && dir != "/"; dir = path.Dir(dir) {
				full[dir] = true
			}
			w.fail(err)
			return
		}
		if !full[at] {
			w.gone = append(w.gone, at)
		}
	}
	for _, at := range paths {
		if err := ctx.Err(); err != nil {
			w.fail(err)
			return
		}
		diff := w.todo[at]
		prior, noted, err := host.NotedPath(w.noted, at)
		switch {
		case err != nil:
			w.fail(err)
		case noted && !w.r.Purge:
			leaves(at, w.r.host.RestorePath(ctx, at, prior))
		case diff.Has(host.FieldState):
			leaves(at, w.r.host.Discard(at, false, w.r.keepsBackup()))
		default:
			w.fail(w.attributes(ctx, at, diff))
		}
	}
}

// attributes gives owner, group and mode to what nobody manages by itself.
func (w *work) attributes(ctx context.Context, at string, diff resource.Diff) error {
	i, err := w.r.host.Lstat(at)
	if err != nil {
		return err
	}
	switch i.Type() {
	case host.TypeDirectory:
		return w.r.host.SetOwnership(at, w.r.directory().Only(diff), false)
	case host.TypeFile:
		spec := w.r.file(resource.TreeEntry{})
		spec.Force = false
		return w.r.host.WriteFile(ctx, at, spec.Only(diff))
	default:
		return w.r.host.SetOwnership(at, w.r.link().Only(diff), false)
	}
}

func (w *work) fail(err error) {
	if err != nil {
		w.failed = append(w.failed, err)
	}
}

// kept is what stays noted when some of it has left, nil when nothing has.
func (w *work) kept() resource.Prior {
	if len(w.gone) == 0 {
		return nil
	}
	kept := maps.Clone(w.noted)
	for _, at := range w.gone {
		delete(kept, resource.Path(at))
	}
	return kept
}
