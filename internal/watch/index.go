package watch

import (
	"path"
	"slices"
	"strings"

	"trued.dev/trued/internal/resource"
)

// An index leads from what is watched to the resources that it concerns. It
// stays in memory for as long as the daemon lives, so it is small: a resource is
// a number, and a name that one resource has, which is nearly every one, costs
// no list.
type index struct {
	addresses []resource.Address
	ids       map[resource.Address]int32
	// dirs are the directories to be watched: the parents of paths, and trees.
	dirs map[string]*names
	// above are all directories above those.
	above map[string]bool
	// trees are directories of which everything below is watched.
	trees map[string]ref
	units map[string]ref
	// polled are those that nothing tells of.
	polled []int32
	// locks are of those that wait for their keeper, all of them together in
	// keepers.
	locks   map[int32][]string
	keepers []string
	lists   [][]int32
}

// names are those of one directory that matter.
type names map[string]ref

// A ref is the number of a resource, or below zero that of a list of them.
type ref int32

func newIndex(targets []Target) *index {
	x := &index{
		addresses: make([]resource.Address, 0, len(targets)),
		ids:       make(map[resource.Address]int32, len(targets)),
		dirs:      map[string]*names{}, above: map[string]bool{}, trees: map[string]ref{}, units: map[string]ref{},
		locks: map[int32][]string{},
	}
	for _, t := range targets {
		// What holds the names now may be much larger.
		a := resource.Address{Kind: t.Address.Kind, Name: strings.Clone(t.Address.Name)}
		id := int32(len(x.addresses)) //nolint:gosec // there are not so many resources
		x.addresses = append(x.addresses, a)
		x.ids[a] = id
		for _, watch := range t.Watches {
			x.add(id, watch)
		}
	}
	return x
}

func (x *index) add(id int32, w resource.Watch) {
	switch w.Space {
	case resource.WatchPath:
		x.addPath(id, w.Name)
	case resource.WatchTree:
		x.addPath(id, w.Name)
		x.trees[w.Name] = x.with(x.trees, w.Name, id)
		x.dir(w.Name)
	case resource.WatchDatabase:
		x.addPath(id, w.Name)
		for _, lock := range w.Locks {
			if !slices.Contains(x.locks[id], lock) {
				x.locks[id] = append(x.locks[id], lock)
			}
			if !slices.Contains(x.keepers, lock) {
				x.keepers = append(x.keepers, lock)
			}
		}
	case resource.WatchUnit:
		x.units[w.Name] = x.with(x.units, w.Name, id)
	case resource.WatchPoll:
		if !slices.Contains(x.polled, id) {
			x.polled = append(x.polled, id)
		}
	}
}

func (x *index) addPath(id int32, name string) {
	if name == "/" {
		return
	}
	d := x.dir(path.Dir(name))
	base := path.Base(name)
	if a := x.addresses[id].Name; strings.HasSuffix(a, base) {
		base = a[len(a)-len(base):] // the same bytes once
	}
	(*d)[base] = x.with(*d, base, id)
}

func (x *index) dir(name string) *names {
	d := x.dirs[name]
	if d == nil {
		d = &names{}
		name = strings.Clone(name)
		x.dirs[name] = d
		for up := name; up != "/"; {
			up = path.Dir(up)
			if x.above[up] {
				break
			}
			x.above[up] = true
		}
	}
	return d
}

// with returns what stands for a resource and those that are under the name.
func (x *index) with(m map[string]ref, name string, id int32) ref {
	have, ok := m[name]
	switch {
	case !ok || have == ref(id):
		return ref(id)
	case have >= 0:
		x.lists = append(x.lists, []int32{int32(have), id})
		return ref(-len(x.lists)) //nolint:gosec // there are not so many resources
	}
	if list := &x.lists[-have-1]; !slices.Contains(*list, id) {
		*list = append(*list, id)
	}
	return have
}

func (x *index) list(r ref) []int32 {
	if r >= 0 {
		return []int32{int32(r)}
	}
	return x.lists[-r-1]
}

// treesOver returns the resources whose trees a path lies in.
func (x *index) treesOver(name string) []int32 {
	if len(x.trees) == 0 {
		return nil
	}
	var ids []int32
	for dir := name; ; dir = path.Dir(dir) {
		if r, ok := x.trees[dir]; ok {
			ids = append(ids, x.list(r)...)
		}
		if dir == "/" {
			return ids
		}
	}
}

// inTree reports whether all below a directory is watched.
func (x *index) inTree(dir string) bool { return len(x.treesOver(dir)) > 0 }

// below returns the resources of all names in a directory and below it.
func (x *index) below(dir string) []int32 {
	var ids []int32
	for _, d := range x.dirsFrom(dir) {
		for _, r := range *x.dirs[d] {
			ids = append(ids, x.list(r)...)
		}
	}
	return append(ids, x.treesOver(dir)...)
}

// dirsFrom returns a directory that is to be watched and those below it.
func (x *index) dirsFrom(dir string) []string {
	if !x.above[dir] {
		if x.dirs[dir] == nil {
			return nil
		}
		return []string{dir}
	}
	var list []string
	for d := range x.dirs {
		if within(d, dir) {
			list = append(list, d)
		}
	}
	return list
}

// within reports whether a path is a directory or lies below it.
func within(name, dir string) bool {
	return dir == "/" || name == dir || strings.HasPrefix(name, dir) && name[len(dir)] == '/'
}
