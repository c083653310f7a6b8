package remote

import (
	"path"
	"sort"
	"strings"

	"github.com/hashicorp/go-version"

	"trued.dev/trued/internal/source/object"
)

// refs is what a repository offers.
type refs struct {
	ids    map[string]object.ID
	peeled map[string]object.ID
	// head is the name of the default branch.
	head string
	// anyCommit is true when the server gives commits that no reference names.
	anyCommit bool
}

func (r *refs) offer(name string) Offer {
	o := Offer{Ref: name, ID: r.ids[name], Commit: r.ids[name]}
	if p, ok := r.peeled[name]; ok {
		o.Commit = p
	}
	return o
}

func (r *refs) choose(w Want) (Offer, error) {
	switch {
	case w.Commit != "":
		return r.chooseCommit(w.Commit)
	case w.Tag != "":
		return r.chooseTag(w.Tag)
	case w.Branch != "":
		name := "refs/heads/" + w.Branch
		if _, ok := r.ids[name]; !ok {
			return Offer{}, failf(KindNotFound, "there is no branch %q: %s", w.Branch, r.list("refs/heads/"))
		}
		return r.offer(name), nil
	case r.head != "" && !r.ids[r.head].IsZero():
		return r.offer(r.head), nil
	case !r.ids["HEAD"].IsZero():
		return r.offer("HEAD"), nil
	default:
		return Offer{}, failf(KindNotFound, "there is no default branch, so name one with `branch:`: %s", r.list("refs/heads/"))
	}
}

func (r *refs) chooseCommit(s string) (Offer, error) {
	id, err := object.ParseID(s)
	if err != nil {
		return Offer{}, failf(KindNotFound, "%s", err)
	}
	for name, tip := range r.ids {
		if tip == id || r.peeled[name] == id {
			o := r.offer(name)
			o.Ref = ""
			return o, nil
		}
	}
	if !r.anyCommit {
		return Offer{}, failf(KindNotFound, "no branch or tag points to commit %s and the server gives no others: put a tag on it, or set uploadpack.allowReachableSHA1InWant there", s)
	}
	return Offer{ID: id, Commit: id}, nil
}

// chooseTag returns the tag with the highest version among those that match.
// A release comes before names that are no versions.
func (r *refs) chooseTag(pattern string) (Offer, error) {
	const prefix = "refs/tags/"
	var names []string
	for name := range r.ids {
		tag, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		if match, err := path.Match(pattern, tag); err != nil {
			return Offer{}, failf(KindNotFound, "tag pattern %q is malformed", pattern)
		} else if match {
			names = append(names, tag)
		}
	}
	if len(names) == 0 {
		return Offer{}, failf(KindNotFound, "no tag matches %q: %s", pattern, r.list(prefix))
	}
	sort.Slice(names, func(i, j int) bool { return tagLess(names[j], names[i]) })
	return r.offer(prefix + names[0]), nil
}

func tagLess(a, b string) bool {
	va, errA := version.NewVersion(a)
	vb, errB := version.NewVersion(b)
	switch {
	case errA == nil && errB == nil && !va.Equal(vb):
		return va.LessThan(vb)
	case (errA == nil) != (errB == nil):
		return errA != nil
	default:
		return a < b
	}
}

// list names what there is, for the message about what there is not.
func (r *refs) list(prefix string) string {
	var names []string
	for name := range r.ids {
		if short, ok := strings.CutPrefix(name, prefix); ok {
			names = append(names, short)
		}
	}
	if len(names) == 0 {
		return "the repository has none"
	}
	sort.Strings(names)
	const most = 8
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return "there are " + strings.Join(names, ", ")
}
