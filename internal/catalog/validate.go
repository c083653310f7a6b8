package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"trued.dev/trued/internal/facts"
	"trued.dev/trued/internal/resource"
)

const (
	// factsDir holds facts to validate with. A file that is called like a host is
	// for that host, the others for all.
	factsDir = ".trued/facts"
	notGiven = "no facts are given to validate with"
	// groupsDir is where groups are looked for that no host is in.
	groupsDir     = "groups"
	maxGroupDepth = 8
)

// A Validation is what was loaded to validate a repository.
type Validation struct {
	Loads    []Validated
	Warnings []string
}

// A Validated is one group as one host, with one set of facts.
type Validated struct {
	Group string `json:"group"`
	Host  string `json:"host,omitempty"`  // or a glob of hosts.yaml; empty for any
	Facts string `json:"facts,omitempty"` // the file; empty for none
	// Resources counts entries, Pending those of them that hang on facts that
	// were not given.
	Resources int `json:"resources"`
	Pending   int `json:"pending"`
	// Sealed counts those that hang on a secret, which nobody decrypts here.
	Sealed int `json:"sealed"`
}

// A subject is a group and host to validate.
type subject struct {
	group, host string
	member      *membership
}

func (s subject) String() string {
	if s.host == "" {
		return "no host"
	}
	return "host " + s.host
}

// A factSet is a file of facts.
type factSet struct {
	file  string
	facts facts.Facts
}

// Validate loads every group of a repository, as every host that it names, and
// returns all errors at once, with those that each catalog is further found to
// have. It needs no host: facts that the repository does not give are not known.
func Validate(
	name string, fsys fs.FS, modules []resource.Module, version string, further ...func(*Catalog) []Error,
) (Validation, error) {
	v := &validation{in: Input{Name: name, Tree: fsys, Modules: modules, Version: version}, tree: openTree(name, fsys), further: further}
	v.run()
	return v.out, v.faults.err()
}

type validation struct {
	in     Input
	tree   *tree
	faults faults
	out    Validation
	sets   []factSet
	// seen says in how many loads of a group an error came up, and where.
	seen  map[Error]map[string][]subject
	loads map[string]int
	hosts map[string]bool
	// further are asked about each catalog that loads.
	further []func(*Catalog) []Error
	// readers are the loads, secrets the encrypted files of the repository, and
	// extra the names of such that are yet to be written.
	readers []reader
	secrets []*SecretFile
	extra   []string
}

func (v *validation) run() {
	v.seen, v.loads = map[Error]map[string][]subject{}, map[string]int{}
	v.readFacts()
	first := newLoader(v.in, v.tree)
	members := first.memberships()
	for _, e := range first.faults.list {
		v.faults.add(e)
	}
	groups := v.findGroups()
	covered := map[string]bool{}
	subjects := v.subjects(members, groups)
	v.hosts = map[string]bool{}
	for _, s := range subjects {
		v.hosts[s.host] = true
	}
	for _, s := range subjects {
		v.validate(s, covered)
	}
	// A group that only others include is checked with the vars of those.
	for _, g := range groups {
		if !covered[g] {
			v.validate(subject{group: g}, covered)
		}
	}
	v.checkSecrets(groups)
	v.report()
}

// subjects are all hosts that the repository names.
func (v *validation) subjects(members []membership, groups []string) []subject {
	var list []subject
	inGroup := map[string]string{}
	for i := range members {
		m := &members[i]
		if m.group == "" {
			v.faults.at(m.origin, "no group for %q", m.pattern)
			continue
		}
		list = append(list, subject{group: m.group, host: m.pattern, member: m})
		inGroup[m.pattern] = path.Clean(m.group)
	}
	l := newLoader(v.in, v.tree)
	for _, g := range groups {
		for _, name := range v.tree.yamlFiles(path.Join(g, "hosts")) {
			host := strings.TrimSuffix(path.Base(name), ".yaml")
			if inGroup[host] == g {
				continue
			}
			s := subject{group: g, host: host}
			if inGroup[host] == "" {
				s.member = l.member(members, host)
			}
			list = append(list, s)
		}
	}
	return list
}

// yamlFiles lists the YAML files in a directory; none when it is not there.
func (t *tree) yamlFiles(dir string) []string {
	entries, err := t.readDir(dir)
	if err != nil {
		return nil
	}
	var list []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".yaml") && !strings.HasPrefix(e.Name(), ".") && !e.IsDir() {
			list = append(list, path.Join(dir, e.Name()))
		}
	}
	return list
}

// findGroups lists the directories below groups/ that are groups.
func (v *validation) findGroups() []string {
	var list []string
	var walk func(dir string, inGroup bool, depth int)
	walk = func(dir string, inGroup bool, depth int) {
		isGroup := len(v.tree.yamlFiles(dir)) > 0
		if isGroup {
			list = append(list, dir)
		}
		entries, err := v.tree.readDir(dir)
		if err != nil || depth > maxGroupDepth {
			return
		}
		for _, e := range entries {
			if !e.IsDir() || strings.HasPrefix(e.Name(), ".") || isGroup && slices.Contains(contentDirs, e.Name()) {
				continue
			}
			walk(path.Join(dir, e.Name()), isGroup || inGroup, depth+1)
		}
	}
	walk(groupsDir, false, 0)
	return list
}

func (v *validation) readFacts() {
	for _, name := range v.tree.yamlFiles(factsDir) {
		f, err := v.tree.yaml(name)
		if err != nil {
			continue
		}
		l := newLoader(v.in, v.tree)
		if doc := l.oneMap(f, ""); doc != nil {
			set, problems := facts.Read(doc, "not in "+name)
			l.faults.problems(v.tree.origin("", name, 1, 1), problems)
			v.sets = append(v.sets, factSet{file: name, facts: set})
		}
		for _, e := range l.faults.list {
			v.faults.add(e)
		}
	}
}

// factsFor returns the sets that a host is validated with: its own, else those
// that are nobody's, else none.
func (v *validation) factsFor(host string) []factSet {
	var own, shared []factSet
	for _, s := range v.sets {
		switch name := strings.TrimSuffix(path.Base(s.file), ".yaml"); {
		case name == host:
			own = append(own, s)
		case !v.hosts[name]:
			shared = append(shared, s)
		}
	}
	switch {
	case len(own) > 0:
		return own
	case len(shared) > 0:
		return shared
	}
	return []factSet{{facts: facts.Nothing(notGiven)}}
}

func (v *validation) validate(s subject, covered map[string]bool) {
	for _, set := range v.factsFor(s.host) {
		in := v.in
		in.Group, in.Facts = s.group, set.facts
		if !isGlob(s.host) && s.host != "" {
			in.HostName = s.host
			in.Facts.Host.Name = s.host
			in.Facts.Unknown = maps.Clone(in.Facts.Unknown)
			delete(in.Facts.Unknown, "host.name")
		}
		l := newLoader(in, v.tree)
		at := resource.Origin{Source: v.in.Name, File: s.group}
		if s.member != nil {
			at = s.member.origin
		}
		c, err := l.loadGroup(l.cleanGroup(s.group, at), at, s.member)
		for name := range l.byPath {
			covered[name] = true
		}
		v.noteSecrets(s, l)
		v.loads[s.group]++
		v.note(s, err)
		if err == nil {
			v.count(s, set, c)
			for _, ask := range v.further {
				v.note(s, &Errors{List: ask(c)})
			}
		}
		for _, w := range l.warnings {
			if !slices.Contains(v.out.Warnings, w) {
				v.out.Warnings = append(v.out.Warnings, w)
			}
		}
	}
}

func (v *validation) count(s subject, set factSet, c *Catalog) {
	done := Validated{Group: c.Group, Host: s.host, Facts: set.file, Resources: len(c.Entries)}
	for i := range c.Entries {
		switch pending := c.Entries[i].Pending; {
		case strings.HasPrefix(pending, "secret "):
			done.Sealed++
		case pending != "":
			done.Pending++
		}
	}
	v.out.Loads = append(v.out.Loads, done)
}

func (v *validation) note(s subject, err error) {
	var all *Errors
	if !errors.As(err, &all) {
		return
	}
	for _, e := range all.List {
		if len(v.seen) >= kept && v.seen[e] == nil {
			continue
		}
		if v.seen[e] == nil {
			v.seen[e] = map[string][]subject{}
		}
		v.seen[e][s.group] = append(v.seen[e][s.group], s)
	}
}

// report gathers the errors. One that some hosts of a group have and others do
// not names a host.
func (v *validation) report() {
	for e, groups := range v.seen {
		for _, g := range sortedKeys(groups) {
			if hosts := groups[g]; len(hosts) < v.loads[g] {
				e.Message += fmt.Sprintf(" (%s", hosts[0])
				if len(hosts) > 1 {
					e.Message += fmt.Sprintf(" and %d more", len(hosts)-1)
				}
				e.Message += ")"
				break
			}
		}
		v.faults.add(e)
	}
	slices.Sort(v.out.Warnings)
}
