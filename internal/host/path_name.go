package host

import (
	"path"
	"strconv"
	"strings"

	"trued.dev/trued/internal/resource"
)

// CleanPath returns a path in its shortest form. A path that CheckPath refuses
// stays as it is.
func CleanPath(name string) string {
	if !strings.HasPrefix(name, "/") || hasDots(name) {
		return name
	}
	return path.Clean(name)
}

// CheckPath reports what is wrong with a path as it was written in field.
func CheckPath(field, name string) error {
	switch {
	case name == "":
		return resource.Wrong(field, "is empty: write an absolute path")
	case !strings.HasPrefix(name, "/"):
		return resource.Wrong(field, "%q is not an absolute path", name)
	case hasDots(name):
		return resource.Wrong(field, "%q has \"..\" in it", name)
	case strings.ContainsAny(name, "\n\x00"):
		return resource.Wrong(field, "%q has a newline or a NUL in it", name)
	}
	if err := checkPath(path.Clean(name)); err != nil {
		return resource.Wrong(field, "%v", err)
	}
	return nil
}

func hasDots(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return true
		}
	}
	return false
}

func parent(name string) string { return path.Dir(name) }

// AccountNeeds puts a resource after the managed user and group that it names.
func AccountNeeds(owner, group string) []resource.Need {
	var needs []resource.Need
	for _, n := range []struct{ space, name string }{{resource.SpaceUser, owner}, {resource.SpaceGroup, group}} {
		if _, err := strconv.Atoi(n.name); n.name == "" || err == nil {
			continue
		}
		needs = append(needs, resource.Need{Claim: resource.Claim{Space: n.space, Name: n.name}})
	}
	return needs
}

// Awaited returns the account of an UnknownUserError as a claim, if a resource
// of the catalog will make it.
func (e *UnknownUserError) Awaited(view resource.View) (resource.Address, bool) {
	return view.Owner(resource.Claim{Space: e.Kind, Name: e.Name})
}
