package policy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// A Host is what the rules must know of the machine. None is as good as one
// without links, mounts and users.
type Host interface {
	// KnownAs returns every name by which the machine knows a path: where links on
	// the way lead, and where else what is there is mounted. What a link at the
	// path itself leads to counts with follow.
	KnownAs(name string, follow bool) ([]string, error)
	// OwnerName and GroupName return the first name of the account that a name or
	// a number stands for.
	OwnerName(name string) string
	OwningGroupName(name string) string
}

// A Breach is a rule that a resource breaks.
type Breach struct {
	Rule     string
	Address  resource.Address
	Origin   resource.Origin
	Problem  string
	ruleFile string
}

func (b Breach) Error() string { return b.Origin.String() + ": " + b.Message() }

// Message is the error without the place.
func (b Breach) Message() string {
	return fmt.Sprintf("%s breaks the rule %q (%s): %s", b.Address, b.Rule, b.ruleFile, b.Problem)
}

// A Refusal is why a catalog is refused: all that it breaks.
type Refusal struct{ Breaches []Breach }

func (r *Refusal) Error() string {
	lines := make([]string, len(r.Breaches))
	for i, b := range r.Breaches {
		lines[i] = b.Error()
	}
	return strings.Join(lines, "\n")
}

// Judge holds a catalog against the rules. The error is a *Refusal. Without one,
// the resources are told as whom they run their programs, and the Judgement
// stands for the catalog until the next.
func (p *Policy) Judge(ctx context.Context, cat *catalog.Catalog, on Host) (*Judgement, error) {
	j := &Judgement{policy: p, source: cat.Source, host: on, byPath: map[string]int{}, holds: map[string]int{}}
	j.detours = detours(cat)
	if err := j.askOrigins(ctx, cat); err != nil {
		return nil, err
	}
	refusal := &Refusal{}
	for i := range cat.Entries {
		e := &cat.Entries[i]
		if e.Resource == nil {
			continue // it comes under the rules when its facts are known
		}
		s := j.subject(e)
		j.add(s)
		refusal.Breaches = append(refusal.Breaches, j.judge(s, on)...)
	}
	probes := make([]*subject, len(cat.Health))
	for i := range cat.Health {
		probes[i] = j.probe(&cat.Health[i])
		refusal.Breaches = append(refusal.Breaches, j.judgeProbe(probes[i])...)
	}
	if len(refusal.Breaches) > 0 {
		return nil, refusal
	}
	for i := range cat.Health {
		cat.Health[i].As = probes[i].user
	}
	for _, s := range j.subjects {
		if d, ok := s.entry.Resource.(resource.Deputy); ok {
			d.RunAs(s.user)
		}
		if d, ok := s.entry.Resource.(resource.Delivered); ok {
			d.Admit(j.delivery(s))
		}
	}
	return j, nil
}

// aboutOrigins reports whether a rule is about where packages come from.
func (r *rule) aboutOrigins() bool {
	return strings.Contains(r.When+r.Deny+r.Require+r.AllowRun, "origins")
}

// delivery judges what is about to be installed for a resource, by the rules about
// where packages come from; nil where there are none.
func (j *Judgement) delivery(s *subject) func(string, []string) error {
	if j.origins == nil {
		return nil
	}
	return func(name string, origins []string) error {
		names := s.names
		if names.Origins = origins; len(origins) == 0 {
			names.Origins = []string{unknownOrigin}
		}
		broken := j.broken(s, &names)
		if len(broken) == 0 {
			return nil
		}
		return fmt.Errorf("%s would come from %s, which breaks the rule %q (%s): %s",
			name, strings.Join(names.Origins, ", "), broken[0].Rule, broken[0].ruleFile, broken[0].Problem)
	}
}

// unknownOrigin is that of a package of which nobody knows where it would come
// from.
const unknownOrigin = "unknown"

// askOrigins asks where packages come from, if a rule is about that: it takes
// time.
func (j *Judgement) askOrigins(ctx context.Context, cat *catalog.Catalog) error {
	if j.host == nil || !slices.ContainsFunc(j.policy.rules, (*rule).aboutOrigins) {
		return nil
	}
	j.origins = map[string][]string{}
	names := map[resource.Originator][]string{}
	for _, e := range cat.Entries {
		o, ok := e.Module.(resource.Originator)
		if !ok || e.Resource == nil || !brings(e.Resource) {
			continue
		}
		for _, c := range e.Resource.Claims() {
			if c.Space == resource.SpacePackage {
				names[o] = append(names[o], c.Name)
			}
		}
	}
	for o, of := range names {
		origins, err := o.Origins(ctx, of)
		if err != nil {
			return fmt.Errorf("cannot tell where packages come from: %w", err)
		}
		maps.Copy(j.origins, origins)
	}
	return nil
}

// brings reports whether a resource may have packages installed.
func brings(r resource.Resource) bool {
	d, ok := r.(resource.Delivered)
	return !ok || d.Brings()
}

// A subject is a resource under the rules.
type subject struct {
	entry  *catalog.Entry
	names  Names
	writes []resource.Write
	// user is whom the rules have it run its programs as.
	user      string
	sensitive bool
}

func (j *Judgement) add(s *subject) {
	i := len(j.subjects)
	j.subjects = append(j.subjects, s)
	for _, w := range s.writes {
		if at, taken := j.byPath[w.Path]; !taken || j.subjects[at].implied(w.Path) {
			j.byPath[w.Path] = i
		}
		for dir := path.Dir(w.Path); dir != "/"; dir = path.Dir(dir) {
			if _, taken := j.holds[dir]; taken {
				break
			}
			j.holds[dir] = i
		}
	}
}

func (s *subject) implied(name string) bool {
	return slices.ContainsFunc(s.writes, func(w resource.Write) bool { return w.Path == name && w.Implied })
}

// writesOf is what a resource says that it writes, or the paths that it claims.
func writesOf(r resource.Resource) []resource.Write {
	if w, ok := r.(resource.Writer); ok {
		return w.Writes()
	}
	var list []resource.Write
	for _, c := range r.Claims() {
		if c.Space == resource.SpacePath {
			list = append(list, resource.Write{Path: c.Name, Tree: true, Follow: c.Part != ""})
		}
	}
	return list
}

// subject is a resource as far as it says itself.
func (j *Judgement) subject(e *catalog.Entry) *subject {
	s := &subject{entry: e, writes: writesOf(e.Resource)}
	n := &s.names
	n.Kind, n.Name, n.Address = e.Address.Kind, e.Address.Name, e.Address.String()
	n.Source, n.Group, n.File = j.source, e.Origin.Group, e.Origin.File
	for _, c := range e.Resource.Claims() {
		switch c.Space {
		case resource.SpaceUnit:
			n.Units = include(n.Units, c.Name)
		case resource.SpacePackage:
			n.Packages = include(n.Packages, c.Name)
		case resource.SpaceUser:
			n.Users = include(n.Users, c.Name)
		case resource.SpaceGroup:
			n.Groups = include(n.Groups, c.Name)
		case resource.SpaceMember:
			n.Groups = include(n.Groups, c.Name)
			if c.Part != "" {
				n.Users = include(n.Users, c.Part)
			}
		}
	}
	if joins, ok := e.Resource.(resource.Joiner); ok {
		for _, g := range joins.Joins() {
			if j.host != nil {
				g = j.host.OwningGroupName(g)
			}
			n.Groups = include(n.Groups, g)
		}
	}
	for _, name := range n.Packages {
		for _, at := range j.origins[name] {
			n.Origins = include(n.Origins, at)
		}
		if j.origins != nil && len(j.origins[name]) == 0 && brings(e.Resource) {
			n.Origins = include(n.Origins, unknownOrigin)
		}
	}
	if l, ok := e.Resource.(resource.Linked); ok {
		n.Locations = l.Locations()
	}
	if r, ok := e.Resource.(resource.Runner); ok {
		_, deputy := e.Resource.(resource.Deputy)
		for _, p := range r.Runs() {
			n.add(p, deputy)
		}
	}
	n.join()
	s.sensitive = e.Resource.Common().Sensitive
	return s
}

// probe is one of the looks at whether the host is healthy, as far as it has
// something run, or read: it changes nothing else.
func (j *Judgement) probe(p *catalog.Probe) *subject {
	s := &subject{entry: &catalog.Entry{Address: resource.Address{Kind: "health", Name: p.Name}, Origin: p.Origin}}
	n := &s.names
	n.Kind, n.Name, n.Address = s.entry.Address.Kind, s.entry.Address.Name, s.entry.Address.String()
	n.Source, n.Group, n.File = j.source, p.Origin.Group, p.Origin.File
	switch {
	case p.Command != "":
		args, err := host.SplitCommand(p.Command)
		if err != nil {
			args = nil // it is opaque, and fails
		}
		n.add(resource.Program{By: "health", Argv: args}, true)
	case p.File != "" && p.Contains != "":
		n.add(resource.Program{By: "contains", Reads: p.File}, true)
	}
	n.finish()
	return s
}

// judgeProbe returns the rules that a probe breaks by what it has run, or read. A
// rule about what must be so is about it where it speaks of that: another, such as
// one about kinds, is about resources.
func (j *Judgement) judgeProbe(s *subject) []Breach {
	if len(s.names.Runs) == 0 {
		return nil
	}
	breaches := j.brokenOf(s, &s.names, func(r *rule) bool { return r.deny != nil || r.aboutRuns() })
	return append(breaches, j.judgeRuns(s)...)
}

// aboutRuns reports whether a rule is about what is run or read.
func (r *rule) aboutRuns() bool {
	text := r.When + r.Require
	return strings.Contains(text, "runs") || strings.Contains(text, "reads")
}

// add adds what somebody says that it has run.
func (n *Names) add(p resource.Program, deputy bool) {
	run := stated(p)
	if run.deputed = deputy && p.Reads == ""; p.Reads != "" {
		n.Reads = include(n.Reads, p.Reads)
	}
	n.Runs = append(n.Runs, run)
}

func include(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// write makes what an expression sees of a write, with the names that it has.
func (n *Names) write(w resource.Write, names []string, on Host) {
	seen := Write{Path: w.Path, Names: names, Owner: w.Owner, Group: w.Group, Target: w.Target, Tree: w.Tree, Absent: w.Absent}
	if on != nil {
		seen.Owner, seen.Group = on.OwnerName(w.Owner), on.OwningGroupName(w.Group)
	}
	if seen.Owner != "" {
		n.Owners = include(n.Owners, seen.Owner)
	}
	if seen.Group != "" {
		n.FileGroups = include(n.FileGroups, seen.Group)
	}
	if w.Mode.IsSet() {
		bits := int(w.Mode.Bits())
		seen.Mode = bits
		if !slices.Contains(n.Modes, bits) {
			n.Modes = append(n.Modes, bits)
		}
		const setuid, setgid, sticky, others = 0o4000, 0o2000, 0o1000, 0o002
		n.Setuid = n.Setuid || bits&setuid != 0
		n.Setgid = n.Setgid || bits&setgid != 0
		n.Writable = n.Writable || bits&others != 0 && bits&sticky == 0
	}
	n.Writes = append(n.Writes, seen)
}

// judge completes the names of a subject by what the host knows, and returns the
// rules that it breaks.
func (j *Judgement) judge(s *subject, on Host) []Breach {
	todo := slices.Clone(s.writes)
	for i := 0; i < len(todo); i++ {
		w := todo[i]
		if w.Implied {
			continue
		}
		names, err := j.named(w)
		if err != nil {
			return []Breach{{
				Rule: "every path can be looked at", Address: s.entry.Address, Origin: s.entry.Origin, Problem: err.Error(),
			}}
		}
		s.names.write(w, names, on)
		todo = append(todo, s.names.launch(w, names)...)
	}
	s.names.finish()
	breaches := j.broken(s, &s.names)
	return append(breaches, j.judgeRuns(s)...)
}

// broken returns the rules about resources that names break.
func (j *Judgement) broken(s *subject, n *Names) []Breach {
	return j.brokenOf(s, n, func(*rule) bool { return true })
}

// brokenOf is the same for some of the rules.
func (j *Judgement) brokenOf(s *subject, n *Names, some func(*rule) bool) []Breach {
	var list []Breach
	for _, r := range j.policy.rules {
		if !some(r) {
			continue
		}
		about, err := r.about(n)
		broken := err != nil
		if r.aboutOrigins() && slices.Contains(n.Origins, unknownOrigin) && r.concerns(n.Source) && (about || r.When != "") &&
			(r.Kinds == nil || slices.Contains(r.Kinds, n.Kind)) {
			err = errors.New("nobody can tell where the package comes from: its manager does not say, or no index that is there has it")
		}
		if about && err == nil && r.deny != nil {
			broken, err = r.deny.eval(*n)
		} else if about && err == nil && r.require != nil {
			broken, err = r.require.eval(*n)
			broken = !broken
		}
		if broken || err != nil {
			list = append(list, s.breach(r, err))
		}
	}
	return list
}

// about reports whether a rule is about a resource.
func (r *rule) about(n *Names) (bool, error) {
	if !r.concerns(n.Source) || r.Kinds != nil && !slices.Contains(r.Kinds, n.Kind) {
		return false, nil
	}
	if r.when == nil {
		return true, nil
	}
	return r.when.eval(*n)
}

func (s *subject) breach(r *rule, err error) Breach {
	problem := r.Message
	switch {
	case err != nil:
		problem = fmt.Sprintf("it cannot be judged: %v", err)
	case problem == "" && r.Deny != "":
		problem = "denied: " + r.Deny
	case problem == "":
		problem = "required: " + r.Require
	}
	return Breach{Rule: r.Name, Address: s.entry.Address, Origin: s.entry.Origin, Problem: problem, ruleFile: r.at}
}

// judgeRuns holds what a resource has run against what the rules allow, where its
// source is confined, and finds as whom.
func (j *Judgement) judgeRuns(s *subject) []Breach {
	if !j.policy.confines(j.source) {
		return nil
	}
	if len(s.names.Runs) == 0 {
		return nil
	}
	var list []Breach
	for _, run := range s.names.Runs {
		fixed := run.User
		if !run.deputed { // somebody else runs it, who knows nothing of rules
			fixed = orRoot(fixed)
		}
		rule, err := j.allows(s, run, fixed)
		switch {
		case rule == nil:
			list = append(list, s.refused(run, err))
		case !run.deputed:
		case s.user != "" && !j.same(s.user, rule.As):
			list = append(list, Breach{Rule: rule.Name, Address: s.entry.Address, Origin: s.entry.Origin, ruleFile: rule.at,
				Problem: fmt.Sprintf("%s is run as %q, and what else it has run as %q", run.By, rule.As, s.user)})
		default:
			s.user = rule.As
		}
	}
	return list
}

const root = "root"

func orRoot(user string) string {
	if user == "" {
		return root
	}
	return user
}

// allows returns a rule that allows a run, as the user that is fixed already, if
// it is. The error is the last of what could not be evaluated.
func (j *Judgement) allows(s *subject, run Run, fixed string) (*rule, error) {
	var last error
	for _, r := range j.policy.rules {
		if r.allow == nil {
			continue
		}
		about, err := r.about(&s.names)
		if err == nil && about && (fixed == "" || j.same(fixed, r.As)) {
			about, err = r.allow.eval(RunNames{Names: s.names, Run: run})
			if err == nil && about && len(run.With) > 0 && j.same(r.As, root) && !strings.Contains(r.AllowRun, "run.with") {
				last = fmt.Errorf("rule %q would have root run it, and says nothing of run.with: the environment, directory or input that it is given", r.Name)
				continue
			}
			if err == nil && about {
				return r, nil
			}
		}
		if err != nil {
			last = fmt.Errorf("rule %q cannot be judged: %w", r.Name, err)
		}
	}
	return nil, last
}

// same reports whether two names are of one user.
func (j *Judgement) same(a, b string) bool {
	if j.host == nil {
		return a == b
	}
	return j.host.OwnerName(a) == j.host.OwnerName(b)
}

func (s *subject) refused(run Run, err error) Breach {
	what := run.Line
	if what == "" {
		what = "what cannot be told"
	}
	if s.sensitive {
		what = "a sensitive text"
	}
	problem := fmt.Sprintf("no rule allows that %s has run, as %s: %s", run.By, orAny(run.User), what)
	if err != nil {
		problem += "; " + err.Error()
	}
	return Breach{Rule: "a confined source runs what a rule allows", Address: s.entry.Address, Origin: s.entry.Origin,
		Problem: problem, ruleFile: "built in"}
}

func orAny(user string) string {
	if user == "" {
		return "a user that a rule names"
	}
	return user
}
