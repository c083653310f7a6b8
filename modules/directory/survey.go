package directory

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// A survey is one check of a directory and what is below it.
type survey struct {
	r    *Resource
	view resource.View
	name string

	found resource.Finding
	noted resource.Prior
	added bool
	notes []string
	// replaced are directories of the tree where something else is now.
	replaced map[string]bool
	gone     map[string]bool // what left the tree and is purged
	witness  resource.Witness
	unseen   bool // something was looked at that the witness does not tell of
}

func (s *survey) run(ctx context.Context) error {
	if s.r.State == host.Absent {
		return s.absent(ctx)
	}
	if err := s.top(); err != nil {
		return err
	}
	for _, e := range s.r.Tree {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.entry(ctx, e); err != nil {
			return err
		}
	}
	if err := s.left(ctx); err != nil {
		return err
	}
	if s.found.Creates || s.replaced[s.name] || !s.r.Recurse && !s.r.Purge {
		return nil
	}
	s.unseen = true
	return s.below(ctx)
}

// see adds what was seen at a path to the witness.
func (s *survey) see(at string, found host.PathFinding) {
	if s.unseen {
		return
	}
	below := strings.TrimPrefix(at[len(s.name):], "/")
	if s.witness == nil {
		const each = 80 // or so
		s.witness = make(resource.Witness, 0, each*(len(s.r.Tree)+1))
	}
	w := binary.AppendUvarint(s.witness, uint64(len(below)))
	w = found.AppendWitness(append(w, below...), s.r.Owner, s.r.Group)
	s.witness, s.unseen = w, w == nil
}

// Holds implements resource.Examiner.
func (m module) Holds(ctx context.Context, name string, w resource.Witness) bool {
	for len(w) > 0 {
		n, used := binary.Uvarint(w)
		if used <= 0 || n > uint64(len(w)-used) || ctx.Err() != nil { //nolint:gosec // no more was used than there is
			return false
		}
		end := used + int(n) //nolint:gosec // held against what there is
		rest, holds := m.host.HoldsAt(path.Join(name, string(w[used:end])), w[end:])
		if !holds {
			return false
		}
		w = rest
	}
	return true
}

// add puts the differences of a path among the rest.
func (s *survey) add(at string, diff resource.Diff, cause resource.Cause) {
	for _, c := range diff {
		c.Field = field(c.Field, s.name, at)
		c.Cause = cause
		if s.r.Sensitive {
			c = resource.Change{Field: c.Field, Redacted: true, Cause: cause}
		}
		s.found.Diff = append(s.found.Diff, c)
	}
}

func (s *survey) note(at string, prior host.PathPrior) error {
	raw, changed, err := host.RememberIn(s.noted, at, prior, s.r.leaving())
	if changed {
		s.own()
		s.noted[resource.Path(at)] = raw
	}
	return err
}

// own makes the map of what is noted the survey's, so it can be written to.
func (s *survey) own() {
	if s.added {
		return
	}
	s.added = true
	if s.noted = maps.Clone(s.noted); s.noted == nil {
		s.noted = resource.Prior{}
	}
}

func (s *survey) absent(ctx context.Context) error {
	found, err := s.r.host.CompareAbsent(ctx, s.name, host.TypeDirectory, s.r.Force)
	if err != nil {
		return err
	}
	if err := s.note(s.name, found.Prior); err != nil {
		return err
	}
	s.see(s.name, found)
	if len(found.Diff) > 0 && found.Prior.Type == host.TypeDirectory && !s.r.Force {
		if err := s.refuseForeign(); err != nil {
			return err
		}
	}
	s.add(s.name, found.Diff, "")
	return nil
}

// refuseForeign reports what is in the directory and in no resource's hands.
func (s *survey) refuseForeign() error {
	var foreign []string
	err := s.r.host.Walk(s.name, func(at string, _ host.Info) error {
		if _, held := s.view.Owner(resource.Path(at)); !held {
			foreign = append(foreign, at)
		}
		return nil
	})
	if err != nil || len(foreign) == 0 {
		return err
	}
	return &ForeignError{Directory: s.name, Paths: foreign}
}

// top compares the directory itself.
func (s *survey) top() error {
	want := host.Ownership{Mode: s.r.Mode, Owner: s.r.Owner, Group: s.r.Group}
	if s.r.Recurse && want.Mode.IsSet() {
		want.Mode = searchable(want.Mode)
	}
	found, err := s.r.host.CompareDirectory(s.name, want, s.r.Force, s.r.Parents)
	if err != nil {
		return err
	}
	s.found.Creates = found.Creates
	s.replaced[s.name] = found.Prior.Existed && found.Diff.Has(host.FieldState)
	if found.NoParent != "" {
		s.notes = append(s.notes, "directory "+found.NoParent+" is not there yet")
	}
	s.see(s.name, found)
	s.add(s.name, found.Diff, "")
	return s.note(s.name, found.Prior)
}

// entry compares one path of the tree.
func (s *survey) entry(ctx context.Context, e resource.TreeEntry) error {
	at := path.Join(s.name, e.Path)
	var found host.PathFinding
	var err error
	if s.replaced[path.Dir(at)] {
		return s.fresh(at, e)
	}
	switch {
	case isDir(e):
		found, err = s.r.host.CompareDirectory(at, s.r.directory(), s.mayReplace(at), false)
	case isLink(e):
		found, err = s.r.host.CompareLink(at, e.Target, s.r.link(), s.mayReplace(at), false)
	default:
		found, err = s.file(ctx, at, e)
	}
	if err != nil {
		return err
	}
	if isDir(e) && found.Prior.Existed && found.Diff.Has(host.FieldState) {
		s.replaced[at] = true
	}
	s.see(at, found)
	s.add(at, found.Diff, "")
	return s.note(at, found.Prior)
}

// fresh is entry below what will be replaced by a directory: a link there now
// could lead anywhere.
func (s *survey) fresh(at string, e resource.TreeEntry) error {
	s.unseen = true
	var found host.PathFinding
	var err error
	switch {
	case isDir(e):
		s.replaced[at] = true
		found = s.r.host.NewDirectory(s.r.directory())
	case isLink(e):
		found = s.r.host.NewLink(e.Target, s.r.link())
	default:
		found, err = s.r.host.NewFile(at, s.r.file(e))
	}
	if err != nil {
		return err
	}
	s.add(at, found.Diff, "")
	return s.note(at, found.Prior)
}

// file compares a file. Only when something else is there is it asked whether
// that may be replaced: a file that is in order must cost no more.
func (s *survey) file(ctx context.Context, at string, e resource.TreeEntry) (host.PathFinding, error) {
	spec := s.r.file(e)
	found, err := s.r.host.CompareFile(ctx, at, spec)
	var other *host.TypeError
	if errors.As(err, &other) && s.mayReplace(at) {
		spec.Force = true
		found, err = s.r.host.CompareFile(ctx, at, spec)
	}
	if err == nil {
		found.Diff, err = found.Shown(s.view.Prior, at)
	}
	return found, err
}

// mayReplace reports whether something of another type may be replaced: when
// it is to be forced, or was made here when the tree had another type there.
// A directory could hold what others put there.
func (s *survey) mayReplace(at string) bool {
	if s.r.Force {
		return true
	}
	prior, ok, err := host.NotedPath(s.view.Prior, at)
	if err != nil || !ok || prior.Existed {
		return false
	}
	i, err := s.r.host.Lstat(at)
	return err == nil && i.Type() != host.TypeDirectory
}

func (r *Resource) link() host.Ownership { return host.Ownership{Owner: r.Owner, Group: r.Group} }

func (r *Resource) directory() host.Ownership {
	mode := r.DirectoryMode
	if r.Recurse && !mode.IsSet() && r.Mode.IsSet() {
		mode = searchable(r.Mode)
	}
	return host.Ownership{Mode: mode, Owner: r.Owner, Group: r.Group}
}

func (r *Resource) file(e resource.TreeEntry) host.FileSpec {
	mode := r.FileMode
	if r.Recurse && !mode.IsSet() {
		mode = r.Mode
	}
	if r.Sensitive {
		mode = mode.Or(0o600)
	}
	return host.FileSpec{
		Content: e.Content, Mode: mode, Owner: r.Owner, Group: r.Group,
		Force: r.Force, Backup: r.keepsBackup(), Sensitive: r.Sensitive,
	}
}

// searchable adds the execute bits where there are read bits.
func searchable(m resource.Mode) resource.Mode {
	return resource.NewMode(m.Bits() | m.Bits()&0o444>>2)
}

// left compares what was held and is in the tree no more.
func (s *survey) left(ctx context.Context) error {
	if len(s.view.Held) == 0 {
		return nil
	}
	claimed := make(map[string]bool, len(s.r.Tree)+1)
	for _, c := range s.r.Claims() {
		claimed[c.Name] = true
	}
	var gone []string
	for _, c := range s.view.Held {
		if c.Space != resource.SpacePath || claimed[c.Name] {
			continue
		}
		if _, held := s.view.Owner(c); !held {
			gone = append(gone, c.Name)
		}
	}
	s.unseen = s.unseen || len(gone) > 0
	slices.SortFunc(gone, host.DeepestFirst)
	if s.r.Purge { // nothing comes back: purge removes it
		for _, at := range gone {
			s.gone[at] = true
		}
		return nil
	}
	going := map[string]bool{}
	for _, at := range gone {
		prior, ok, err := host.NotedPath(s.noted, at)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		diff, stays, err := s.r.host.CompareDeparture(ctx, at, prior, going)
		if err != nil {
			return err
		}
		if stays != "" {
			s.notes = append(s.notes, stays)
		}
		if len(diff) == 0 {
			s.forget(at)
		}
		s.add(at, diff, resource.Prune)
	}
	return nil
}

// forget drops what was noted about a path that has left.
func (s *survey) forget(at string) {
	s.own()
	delete(s.noted, resource.Path(at))
}

// below looks at all that is in the directory: for what is to be purged, and
// for owner, group and mode of what nobody else manages.
func (s *survey) below(ctx context.Context) error {
	own := make(map[string]bool, len(s.r.Tree))
	for _, e := range s.r.Tree {
		own[path.Join(s.name, e.Path)] = true
	}
	var foreign []foreigner
	err := s.r.host.Walk(s.name, func(at string, i host.Info) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if own[at] || strings.HasPrefix(path.Base(at), host.TemporaryPrefix) {
			return nil
		}
		if _, held := s.view.Owner(resource.Path(at)); held {
			if i.Type() == host.TypeDirectory && !s.r.Purge {
				return fs.SkipDir // what is below follows that resource
			}
			return nil
		}
		foreign = append(foreign, foreigner{at, i})
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if s.r.Purge {
		return s.purge(foreign, own)
	}
	return s.recurse(foreign)
}

type foreigner struct {
	at   string
	info host.Info
}

// purge states the removal of what is not managed. A directory goes when all
// that is in it goes.
func (s *survey) purge(foreign []foreigner, own map[string]bool) error {
	keep := map[string]bool{}
	for at := range own {
		keepAbove(keep, at, s.name)
	}
	for _, f := range foreign {
		err := s.keepHeldBelow(f, keep)
		if err != nil {
			return err
		}
	}
	slices.SortFunc(foreign, func(a, b foreigner) int { return host.DeepestFirst(a.at, b.at) })
	for _, f := range foreign {
		if keep[f.at] {
			continue
		}
		var cause resource.Cause
		if s.gone[f.at] {
			cause = resource.Prune
		}
		s.add(f.at, resource.Diff{{Field: host.FieldState, Old: f.info.Type(), New: host.Absent}}, cause)
	}
	return nil
}

// keepHeldBelow keeps the directories above what another resource holds.
func (s *survey) keepHeldBelow(f foreigner, keep map[string]bool) error {
	if f.info.Type() != host.TypeDirectory {
		return nil
	}
	entries, err := s.r.host.ReadDir(f.at)
	if err != nil {
		return err
	}
	for _, e := range entries {
		at := path.Join(f.at, e.Name)
		_, held := s.view.Owner(resource.Path(at))
		if held || strings.HasPrefix(e.Name, host.TemporaryPrefix) {
			keepAbove(keep, at, s.name)
		}
	}
	return nil
}

func keepAbove(keep map[string]bool, at, top string) {
	for dir := path.Dir(at); len(dir) > len(top); dir = path.Dir(dir) {
		keep[dir] = true
	}
}

func (s *survey) recurse(foreign []foreigner) error {
	for _, f := range foreign {
		want := host.Ownership{Owner: s.r.Owner, Group: s.r.Group}
		switch f.info.Type() {
		case host.TypeDirectory:
			want = s.r.directory()
		case host.TypeFile:
			want.Mode = s.r.file(resource.TreeEntry{}).Mode
		}
		diff, err := s.r.host.CompareOwnership(f.info, want)
		if err != nil {
			return err
		}
		s.add(f.at, diff, "")
	}
	return nil
}
