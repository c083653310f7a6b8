package policy

import (
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"
)

// Names are what an expression sees of a resource. Lists are empty where a
// resource has nothing of the sort.
type Names struct {
	Kind    string `expr:"kind" doc:"the kind, such as file"`
	Name    string `expr:"name" doc:"the name of the resource"`
	Address string `expr:"address" doc:"both: file:/etc/motd"`
	Source  string `expr:"source" doc:"the source that it is from"`
	Group   string `expr:"group" doc:"the group's directory, such as groups/web"`
	File    string `expr:"file" doc:"the manifest that it is written in"`

	Paths      []string `expr:"paths" doc:"every path that it writes or removes, by every name that it has: as it is written, where links lead, and where else it is mounted"`
	Writes     []Write  `expr:"writes" doc:"the same one by one: path, names, owner, group, mode, target, tree, absent"`
	Owners     []string `expr:"owners" doc:"the owners that it gives, by name"`
	FileGroups []string `expr:"file_groups" doc:"the groups of files that it gives, by name"`
	Modes      []int    `expr:"modes" doc:"the modes that it gives: 0o644"`
	Setuid     bool     `expr:"setuid" doc:"true: it makes a file setuid"`
	Setgid     bool     `expr:"setgid" doc:"true: it makes a file or directory setgid"`
	Writable   bool     `expr:"world_writable" doc:"true: it lets everyone write to something, sticky directories excepted"`

	Units     []string `expr:"units" doc:"units of systemd, by name"`
	Settings  []string `expr:"settings" doc:"what unit files and drop-ins set: Service.User=root"`
	Packages  []string `expr:"packages" doc:"packages, by name"`
	Origins   []string `expr:"origins" doc:"where the packages can come from: URL suite/component by apt's index, the repository's name by dnf's and zypper's; unknown where nobody knows"`
	Locations []string `expr:"locations" doc:"URLs that it lets packages come from"`
	Reads     []string `expr:"reads" doc:"files of the host that it has read and shown to a server: token_file, ssh_key_file"`
	Users     []string `expr:"users" doc:"users that it makes or changes"`
	Groups    []string `expr:"groups" doc:"groups that it makes or changes, or puts somebody into"`
	Runs      []Run    `expr:"runs" doc:"what it has run: by, argv, shell, line, program, user, opaque, with"`

	Touches func(...string) (bool, error) `expr:"touches" doc:"touches(DIR, …): it writes something at or in one of the directories, or replaces what holds one"`
	Within  func(...string) (bool, error) `expr:"within" doc:"within(DIR, …): all its paths are at or in one of the directories"`
}

// RunNames are what allow_run sees: the same, and one of the runs.
type RunNames struct {
	Names
	Run Run `expr:"run" doc:"the run that is judged"`
}

// A Write is one path in an expression.
type Write struct {
	Path   string   `expr:"path"`
	Names  []string `expr:"names"`
	Owner  string   `expr:"owner"`
	Group  string   `expr:"group"`
	Mode   int      `expr:"mode"`
	Target string   `expr:"target"`
	Tree   bool     `expr:"tree"`
	Absent bool     `expr:"absent"`
}

// A Run is one program in an expression. One that cannot be told, such as a unit
// file that comes from elsewhere, is opaque.
type Run struct {
	By      string   `expr:"by"`
	Argv    []string `expr:"argv"`
	Shell   string   `expr:"shell"`
	Line    string   `expr:"line"`
	Program string   `expr:"program"`
	User    string   `expr:"user"`
	Opaque  bool     `expr:"opaque"`
	With    []string `expr:"with"`

	// deputed is true where it is run by the resource itself, as whom a rule says.
	deputed bool
}

// A Name is one word of the language, for the reference.
type Name struct{ Name, Type, Doc string }

// Language lists what expressions see, in order.
func Language() []Name {
	var list []Name
	for _, t := range []reflect.Type{reflect.TypeFor[Names](), reflect.TypeFor[RunNames]()} {
		for i := range t.NumField() {
			f := t.Field(i)
			if name := f.Tag.Get("expr"); name != "" {
				list = append(list, Name{name, typeName(f.Type), f.Tag.Get("doc")})
			}
		}
	}
	return append(list, Name{"under", "true, false", "under(PATH, DIR): the path is the directory or in it"})
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice:
		return "list"
	case reflect.Bool, reflect.Func:
		return "true, false"
	case reflect.Struct:
		return "run"
	default:
		return "text"
	}
}

func nameList() []string {
	var list []string
	for _, n := range Language() {
		list = append(list, n.Name)
	}
	return list
}

// finish makes the names that follow from the others.
func (n *Names) finish() {
	for _, w := range n.Writes {
		for _, name := range w.Names {
			if !slices.Contains(n.Paths, name) {
				n.Paths = append(n.Paths, name)
			}
		}
	}
	writes := n.Writes
	n.Touches = func(dirs ...string) (bool, error) {
		return slices.ContainsFunc(writes, func(w Write) bool {
			return slices.ContainsFunc(w.Names, func(name string) bool {
				return slices.ContainsFunc(dirs, func(dir string) bool {
					return below(name, dir) || w.Tree && below(dir, name)
				})
			})
		}), absolute(dirs)
	}
	paths := n.Paths
	n.Within = func(dirs ...string) (bool, error) {
		return !slices.ContainsFunc(paths, func(name string) bool {
			return !slices.ContainsFunc(dirs, func(dir string) bool { return below(name, dir) })
		}), absolute(dirs)
	}
}

// absolute refuses a directory that no path can be in.
func absolute(dirs []string) error {
	for _, dir := range dirs {
		if !strings.HasPrefix(dir, "/") || path.Clean(dir) != dir {
			return fmt.Errorf("%q is not a directory's absolute path in its shortest form", dir)
		}
	}
	return nil
}
