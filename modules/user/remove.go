package user

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// remove removes the user and, if that is wanted, the home directory.
func (r *Resource) remove(ctx context.Context, now seen, home bool) error {
	if err := r.keepHash(now); err != nil {
		return err
	}
	if err := r.run(ctx, "userdel", r.User); err != nil {
		return err
	}
	if !home {
		return nil
	}
	if stays, err := homeStays(r.host, now); err != nil || stays != "" {
		return err
	}
	if err := r.host.RemoveAll(host.CleanPath(now.user.Home)); err != nil {
		return err
	}
	return r.removeMail(now)
}

// removeMail removes the mail of a user that is gone.
func (r *Resource) removeMail(now seen) error {
	box := path.Join("/var/mail", r.User)
	i, err := r.host.Lstat(box)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || i.Type() != host.TypeFile || i.UID() != now.user.UID {
		return err
	}
	return r.host.Remove(box)
}

// homeStays says why the home directory is not to be removed, or "".
func homeStays(h *host.Host, s seen) (string, error) {
	home := host.CleanPath(s.user.Home)
	if host.CheckPath("home", home) != nil || home == "/" {
		return fmt.Sprintf("%q is no home directory to remove", s.user.Home), nil
	}
	i, err := h.Lstat(home)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	above, err := h.Lstat(path.Dir(home))
	switch {
	case err != nil:
		return "", err
	case i.Type() != host.TypeDirectory:
		return fmt.Sprintf("home directory %s stays: it is a %s", home, i.Type()), nil
	case i.UID() != s.user.UID:
		return fmt.Sprintf("home directory %s stays: it is not the user's own", home), nil
	case !i.SameFileSystem(above):
		return fmt.Sprintf("home directory %s stays: a file system is mounted on it", home), nil
	}
	return "", nil
}

// A departure gives back the account as it was, or removes one that was made.
type departure struct {
	resource.Meta

	host *host.Host
	name string
	held []resource.Claim

	noted   noted
	earlier *Resource // nil when nothing was noted
}

func (d *departure) read(prior resource.Prior) error {
	n, ok, err := takeNoted(prior, d.name)
	if err != nil || !ok {
		return err
	}
	d.noted, d.Sensitive = n, n.Sensitive
	d.earlier = &Resource{User: d.name, State: host.Absent, host: d.host, Meta: resource.Meta{Sensitive: n.Sensitive}}
	if !n.Existed {
		return nil
	}
	off := false
	e := d.earlier
	e.State, e.CreateHome = "", &off
	for field, value := range n.Fields {
		if err := e.take(field, value); err != nil {
			return err
		}
	}
	return nil
}

// take sets an attribute to its earlier value.
func (r *Resource) take(field, value string) error {
	switch field {
	case fieldUID:
		uid, err := strconv.Atoi(value)
		r.UID = &uid
		return err
	case fieldGroup:
		r.Group = value
	case fieldGroups:
		r.Groups = []string{}
		if value != "" {
			r.Groups = strings.Split(value, ",")
		}
	case fieldComment:
		r.Comment = &value
	case fieldHome:
		r.Home = value
	case fieldShell:
		r.Shell = value
	case fieldExpires:
		r.Expires = value
	case fieldPassword:
		hash, err := keptHash(r.host, value)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it was never replaced
		}
		if hash == "" {
			hash = none
		}
		r.Password = hash
		return err
	case fieldLock:
		lock := value == "true"
		r.Lock = &lock
	}
	return nil
}

func (d *departure) Name() string { return d.name }

func (d *departure) Validate() error { return nil }

func (d *departure) Claims() []resource.Claim { return d.held }

// Needs are the groups that the user was put into: they go after it.
func (d *departure) Needs() []resource.Need {
	var needs []resource.Need
	for _, c := range d.held {
		if c.Space == resource.SpaceMember {
			needs = append(needs, host.AccountNeeds("", c.Name)...)
		}
	}
	return needs
}

// leave tells which groups are left alone when the user leaves: those that it
// was not put into, where only that is taken back.
func (d *departure) leave(view resource.View) func(string) bool {
	return func(group string) bool {
		c := memberClaim(group, d.name)
		if _, managed := view.Owner(c); managed {
			return true
		}
		return d.noted.Append && !slices.Contains(d.held, c)
	}
}

// regroup takes those groups out of the earlier ones that the user cannot go back
// to: what is gone, and what another resource says the members of.
func (d *departure) regroup(now seen, view resource.View) error {
	if d.earlier.Groups == nil {
		return nil
	}
	if err := d.earlier.take(fieldGroups, d.noted.Fields[fieldGroups]); err != nil {
		return err
	}
	groups, err := d.host.Groups()
	d.earlier.Groups = slices.DeleteFunc(d.earlier.Groups, func(name string) bool {
		_, managed := view.Owner(memberClaim(name, d.name))
		return !slices.Contains(now.groups, name) && managed ||
			!slices.ContainsFunc(groups, func(g host.GroupEntry) bool { return g.Name == name })
	})
	return err
}

// Check tells what is to be given back.
func (d *departure) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	var found resource.Finding
	if err := ctx.Err(); err != nil || d.earlier == nil {
		return found, err
	}
	if _, held := view.Owner(claim(d.name)); held {
		return found, nil
	}
	now, err := look(d.host, d.name)
	if err != nil || !now.exists && !d.noted.Removed {
		return found, err
	}
	if err := d.regroup(now, view); err != nil {
		return found, err
	}
	if found.Diff, err = d.earlier.compare(now, false, d.leave(view)); err != nil {
		return found, err
	}
	if len(found.Diff) > 0 {
		found.Pending = d.host.NoAccountTools()
	}
	if now.exists && d.removesHome() {
		if found.Note, err = homeStays(d.host, now); err != nil {
			return found, err
		}
	}
	if d.Sensitive {
		found.Diff = found.Diff.Redacted()
	}
	return found, nil
}

// removesHome reports whether a home directory goes: one that was made.
func (d *departure) removesHome() bool {
	return !d.noted.Existed && d.noted.RemoveHome && !d.noted.HadHome
}

// Apply gives it back.
func (d *departure) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	if err := ctx.Err(); err != nil || d.earlier == nil {
		return resource.Result{}, err
	}
	if d.noted.Existed {
		if err := d.returnGroup(ctx, found.Diff); err != nil {
			return resource.Result{}, err
		}
		return resource.Result{}, d.earlier.apply(ctx, found.Diff)
	}
	if !found.Diff.Has(fieldState) {
		return resource.Result{}, nil
	}
	now, err := look(d.host, d.name)
	if err != nil {
		return resource.Result{}, err
	}
	if err := d.earlier.remove(ctx, now, d.removesHome()); err != nil {
		return resource.Result{}, err
	}
	return resource.Result{}, d.removeGroup(ctx, view, now)
}

// returnGroup makes the primary group of a user that comes back, where userdel
// took it along.
func (d *departure) returnGroup(ctx context.Context, diff resource.Diff) error {
	gid, err := strconv.Atoi(d.earlier.Group)
	if err != nil || !diff.Has(fieldState) {
		return nil //nolint:nilerr // a group that was not noted
	}
	groups, err := d.host.Groups()
	if err != nil || slices.ContainsFunc(groups, func(g host.GroupEntry) bool { return g.GID == gid || g.Name == d.name }) {
		return err
	}
	return d.host.RunAccountTool(ctx, host.AccountTool{Args: []string{"groupadd", "--gid", d.earlier.Group, d.name}})
}

// removeGroup removes the group that came with the user, where userdel left it
// and nobody else is in it.
func (d *departure) removeGroup(ctx context.Context, view resource.View, now seen) error {
	groupClaim := resource.Claim{Space: resource.SpaceGroup, Name: d.name}
	if _, managed := view.Owner(groupClaim); managed || d.noted.HadGroup {
		return nil
	}
	g, ok, err := d.host.FindGroup(d.name)
	if err != nil || !ok || len(g.Members) > 0 || g.GID != now.user.GID {
		return err
	}
	users, err := d.host.Users()
	if err != nil || slices.ContainsFunc(users, func(u host.UserEntry) bool { return u.GID == g.GID }) {
		return err
	}
	return d.host.RunAccountTool(ctx, host.AccountTool{Args: []string{"groupdel", d.name}})
}
