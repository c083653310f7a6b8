// Package group is the kind `group`: one group of accounts, its number and its
// members.
//
// What there is is read from the group file; changes are made by the system's
// own programs.
package group

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module { return module{host: h} }

type module struct{ host *host.Host }

func (module) Kind() string { return "group" }

func (m module) New() resource.Resource { return &Resource{host: m.host} }

// Example is what the reference shows.
func (module) Example() string {
	return `- group: deploy
  gid: 2000
  members: [alice, bob]
`
}

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	d := &departure{host: m.host, name: held.Address.Name}
	return d, d.read(held.Prior)
}

// Holds implements resource.Examiner.
func (m module) Holds(_ context.Context, _ string, w resource.Witness) bool {
	return m.host.HoldsOnly(w)
}

// A Resource is a group as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`

	Group   string   `yaml:"group" json:"group" doc:"the group's name"`
	GID     *int     `yaml:"gid" json:"gid,omitempty" doc:"the group's number; a new group gets a free one where it is not given"`
	System  bool     `yaml:"system" json:"-" doc:"true: a new group gets a number of the system's range"`
	Members []string `yaml:"members" json:"members,omitzero" doc:"the names of all members, those apart whose primary group it is; not given: they are left alone"`
	State   string   `yaml:"state" json:"state,omitempty" words:"present,absent" doc:"present (default) or absent"`

	host *host.Host
}

// Name returns the group's name.
func (r *Resource) Name() string { return r.Group }

// maxID is the last number that every tool takes.
const maxID = 1<<31 - 2

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	var problems []error
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if p := host.CheckAccountName(r.Group); p != "" {
		wrong("group", "%s", p)
	}
	if r.GID != nil && (*r.GID < 0 || *r.GID > maxID) {
		wrong("gid", "%d is not the number of a group", *r.GID)
	}
	for i, m := range r.Members {
		if p := host.CheckAccountName(m); p != "" {
			wrong("members", "%s", p)
		}
		if slices.Contains(r.Members[:i], m) {
			wrong("members", "%q is there twice", m)
		}
	}
	switch r.State {
	case "", "present":
	case host.Absent:
		if r.GID != nil || r.Members != nil {
			wrong("state", "a group that is absent has neither gid nor members")
		}
	default:
		wrong("state", "%q is neither present nor absent", r.State)
	}
	return errors.Join(problems...)
}

func claim(name string) resource.Claim {
	return resource.Claim{Space: resource.SpaceGroup, Name: name}
}

// Claims are the group and, where members are given, who is in it.
func (r *Resource) Claims() []resource.Claim {
	claims := []resource.Claim{claim(r.Group)}
	if r.Members != nil {
		claims = append(claims, resource.Claim{Space: resource.SpaceMember, Name: r.Group})
	}
	return claims
}

// Needs are the members, unless one of them needs the group: then it is a member
// before it is there.
func (r *Resource) Needs() []resource.Need {
	var needs []resource.Need
	for _, m := range r.Members {
		needs = append(needs, resource.Need{Claim: resource.Claim{Space: resource.SpaceUser, Name: m}, Glob: true})
	}
	return needs
}

const (
	fieldState   = "state"
	fieldGID     = "gid"
	fieldMembers = "members"
)

// A noted is what the group was before it was managed.
type noted struct {
	Existed bool `json:"existed"`
	// GID and Members are noted where they are managed, or the group is removed.
	GID     *int     `json:"gid,omitempty"`
	Members []string `json:"members,omitzero"`
	Removed bool     `json:"removed,omitempty"`
	// Sensitive keeps values out of what is said when it is given back.
	Sensitive bool `json:"sensitive,omitempty"`
}

func takeNoted(prior resource.Prior, name string) (n noted, ok bool, err error) {
	ok, err = prior.Recall(claim(name), &n)
	return n, ok, err
}

// Check compares the group.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	if err := ctx.Err(); err != nil {
		return resource.Finding{}, err
	}
	seen := r.host.WitnessNamed(append(host.UserFiles(), host.GroupFiles()...)...) // before they are read
	have, ok, err := r.host.FindGroup(r.Group)
	if err != nil {
		return resource.Finding{}, err
	}
	finding := resource.Finding{Creates: !ok, Witness: seen}
	if finding.Diff, err = r.compare(have, ok); err != nil {
		return resource.Finding{}, err
	}
	if finding.Prior, err = r.note(view.Prior, have, ok); err != nil {
		return resource.Finding{}, err
	}
	if len(finding.Diff) > 0 {
		finding.Pending = r.host.NoAccountTools()
	}
	if r.Sensitive {
		finding.Diff = finding.Diff.Redacted()
	}
	return finding, nil
}

// note returns the prior with what is new to it, or nil.
func (r *Resource) note(prior resource.Prior, have host.GroupEntry, exists bool) (resource.Prior, error) {
	n, known, err := takeNoted(prior, r.Group)
	if err != nil {
		return nil, err
	}
	if !known {
		n.Existed = exists
	}
	n.Removed, n.Sensitive = r.State == host.Absent, r.Sensitive
	if exists && n.Existed {
		if (r.GID != nil || n.Removed) && n.GID == nil {
			n.GID = &have.GID
		}
		if (r.Members != nil || n.Removed) && n.Members == nil {
			n.Members = append([]string{}, have.Members...)
		}
	}
	return prior.With(claim(r.Group), n)
}

func (r *Resource) compare(have host.GroupEntry, exists bool) (resource.Diff, error) {
	if r.State == host.Absent {
		if !exists {
			return nil, nil
		}
		return resource.Diff{{Field: fieldState, Old: "present", New: host.Absent}}, nil
	}
	var diff resource.Diff
	if !exists {
		diff = append(diff, resource.Change{Field: fieldState, Old: host.Absent, New: "present"})
	}
	if r.GID != nil && (!exists || have.GID != *r.GID) {
		if err := r.free(*r.GID); err != nil {
			return nil, err
		}
		diff = append(diff, resource.Change{Field: fieldGID, Old: number(have.GID, exists), New: strconv.Itoa(*r.GID)})
	}
	if now, want := list(have.Members), list(r.Members); r.Members != nil && now != want {
		diff = append(diff, resource.Change{Field: fieldMembers, Old: now, New: want})
	}
	return diff, nil
}

// free returns an error when a number is another group's.
func (r *Resource) free(gid int) error {
	groups, err := r.host.Groups()
	for _, g := range groups {
		if g.GID == gid && g.Name != r.Group {
			return fmt.Errorf("gid %d is taken by group %q", gid, g.Name)
		}
	}
	return err
}

func number(n int, known bool) string {
	if !known {
		return ""
	}
	return strconv.Itoa(n)
}

// list returns names in one order, each once.
func list(names []string) string {
	sorted := slices.Sorted(slices.Values(names))
	return strings.Join(slices.Compact(sorted), ",")
}

// Apply makes, changes or removes the group.
func (r *Resource) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	return resource.Result{}, r.apply(ctx, found.Diff, func() (bool, error) { return r.early(view) })
}

// early reports whether a member is not there yet and will be: a user that is
// made with this very group comes after it.
func (r *Resource) early(view resource.View) (bool, error) {
	early := false
	for _, m := range r.Members {
		_, exists, err := r.host.FindUser(m)
		if err != nil {
			return false, err
		}
		if _, managed := view.Owner(resource.Claim{Space: resource.SpaceUser, Name: m}); !exists && !managed {
			return false, nil // the system's own program says so
		}
		early = early || !exists
	}
	return early, nil
}

// apply brings about what the difference states. early is asked when members
// are.
func (r *Resource) apply(ctx context.Context, diff resource.Diff, early func() (bool, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	run := func(args ...string) error {
		return r.host.RunAccountTool(ctx, host.AccountTool{Args: args, Sensitive: r.Sensitive})
	}
	if r.State == host.Absent {
		if diff.Has(fieldState) {
			return run("groupdel", r.Group)
		}
		return nil
	}
	if diff.Has(fieldState) {
		args := []string{"groupadd"}
		if r.GID != nil {
			args = append(args, "--gid", strconv.Itoa(*r.GID))
		}
		if r.System {
			args = append(args, "--system")
		}
		if err := run(append(args, r.Group)...); err != nil {
			return err
		}
	} else if diff.Has(fieldGID) {
		if err := run("groupmod", "--gid", strconv.Itoa(*r.GID), r.Group); err != nil {
			return err
		}
	}
	if diff.Has(fieldMembers) {
		some, err := early()
		if err != nil {
			return err
		}
		if some {
			return r.host.SetMembers(ctx, r.Group, slices.Sorted(slices.Values(r.Members)))
		}
		return run("gpasswd", "--members", list(r.Members), r.Group)
	}
	return nil
}

// Watches are the files of accounts that have groups.
func (r *Resource) Watches() []resource.Watch { return resource.WatchPaths(host.GroupFiles()...) }
