package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/resource"
)

// A Judgement is what a catalog was found to do. Until the next one it answers,
// for each path that is about to be written, whether the rules hold where the
// path leads by then.
type Judgement struct {
	policy   *Policy
	source   string
	host     Host
	subjects []*subject
	// byPath and holds are the subjects that write a path, or something below it.
	byPath, holds map[string]int
	// origins are where packages come from; nil where nobody asks.
	origins map[string][]string
	// detours are where links and mounts of the catalog itself will lead.
	detours map[string]string
	// leaving are resources of the source that are being taken back.
	leaving bool
}

// Leaving says that resources of the source leave the host: what they wrote is
// given back where it was written, if that is still the same place.
func (j *Judgement) Leaving() { j.leaving = true }

// A ForbiddenError is a path that leads to where the rules do not let it.
type ForbiddenError struct {
	Path string
	// Leads is where the path leads.
	Leads []string
	Why   string
}

func (e *ForbiddenError) Error() string {
	where := ""
	if len(e.Leads) > 1 || len(e.Leads) == 1 && e.Leads[0] != e.Path {
		where = fmt.Sprintf(", which leads to %q", strings.Join(e.Leads, `", "`))
	}
	return fmt.Sprintf("may not write %q%s: %s", e.Path, where, e.Why)
}

// Permit reports whether a path may be written that the machine knows by some
// names, as a *ForbiddenError.
func (j *Judgement) Permit(name string, known []string) error {
	s := j.writer(name)
	if s == nil {
		if j.leaving && len(known) == 1 && known[0] == name {
			return nil
		}
		return &ForbiddenError{name, known, "no resource of the source says that it writes there"}
	}
	if s.impliedBelow(name) || !slices.ContainsFunc(known, func(k string) bool { return !slices.Contains(s.names.Paths, k) }) {
		return nil
	}
	names := s.names
	names.Paths, names.Writes = nil, nil
	names.Writes = []Write{{Path: name, Names: append([]string{name}, known...), Tree: s.tree(name)}}
	names.finish()
	if broken := j.broken(s, &names); len(broken) > 0 {
		return &ForbiddenError{name, known, fmt.Sprintf("it breaks the rule %q: %s", broken[0].Rule, broken[0].Problem)}
	}
	if j.policy.confines(j.source) {
		for _, k := range known {
			if launches(k) && !slices.Contains(s.names.Paths, k) && !slices.ContainsFunc(s.writes, func(w resource.Write) bool { return w.Path != k && below(k, w.Path) && launches(w.Path) }) {
				return &ForbiddenError{name, known, "what is there is run, and no rule was asked whether it may be"}
			}
		}
	}
	return nil
}

// writer returns the subject that writes a path: the path itself, what is below
// one that it writes as a whole, or a directory above one.
func (j *Judgement) writer(name string) *subject {
	if i, ok := j.byPath[name]; ok {
		return j.subjects[i]
	}
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		if i, ok := j.byPath[dir]; ok && j.subjects[i].tree(name) {
			return j.subjects[i]
		}
		if dir == "/" {
			break
		}
	}
	if i, ok := j.holds[name]; ok {
		return j.subjects[i]
	}
	return nil
}

// tree reports whether a subject writes a path with all that is below it.
func (s *subject) tree(name string) bool {
	return slices.ContainsFunc(s.writes, func(w resource.Write) bool { return w.Tree && below(name, w.Path) })
}

func (s *subject) impliedBelow(name string) bool {
	return slices.ContainsFunc(s.writes, func(w resource.Write) bool {
		return w.Implied && (w.Path == name || w.Tree && below(name, w.Path))
	})
}

// detours are the links and mounts that a catalog will make.
func detours(cat *catalog.Catalog) map[string]string {
	all := map[string]string{}
	for _, e := range cat.Entries {
		if e.Resource == nil {
			continue
		}
		for _, w := range writesOf(e.Resource) {
			if w.Target == "" || w.Absent {
				continue
			}
			target := w.Target
			if !path.IsAbs(target) {
				target = path.Join(path.Dir(w.Path), target)
			}
			all[w.Path] = path.Clean(target)
		}
	}
	return all
}

// most is how many links one path may lead over.
const most = 40

// named returns every name of a write: the one that it is written by, those that
// the machine knows, and those that it will have by the catalog's own links.
func (j *Judgement) named(w resource.Write) ([]string, error) {
	var names []string
	todo := []string{w.Path}
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		if slices.Contains(names, name) {
			continue
		}
		if len(names) > most {
			return nil, fmt.Errorf("%q leads over too many links", w.Path)
		}
		names = append(names, name)
		if to, ok := j.detour(name, w.Follow); ok {
			todo = append(todo, to)
		}
		if j.host == nil {
			continue
		}
		known, err := j.host.KnownAs(name, w.Follow)
		if err != nil {
			return nil, err
		}
		todo = append(todo, known...)
	}
	return names, nil
}

// detour returns where the first link of the catalog on a path leads it.
func (j *Judgement) detour(name string, follow bool) (string, bool) {
	if len(j.detours) == 0 {
		return "", false
	}
	at := "/"
	for part := range strings.SplitSeq(strings.TrimPrefix(name, "/"), "/") {
		at = path.Join(at, part)
		if to, ok := j.detours[at]; ok && (at != name || follow) {
			return path.Join(to, strings.TrimPrefix(name, at)), true
		}
	}
	return "", false
}
