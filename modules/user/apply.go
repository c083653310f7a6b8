package user

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// Apply makes, changes or removes the user.
func (r *Resource) Apply(ctx context.Context, _ resource.View, found resource.Finding) (resource.Result, error) {
	if found.Diff.Has(fieldShell) && !found.Diff.Has(fieldState) && r.noShell() {
		return resource.Result{}, fmt.Errorf("user %q would be locked out: there is no program %s, the login shell that is declared", r.User, r.Shell)
	}
	return resource.Result{}, r.apply(ctx, found.Diff)
}

// noShell reports whether the login shell is no program of the machine. A tree may
// get it later.
func (r *Resource) noShell() bool {
	return r.Shell != "" && !r.host.Offline() && !r.host.Executable(host.CleanPath(r.Shell))
}

func (r *Resource) apply(ctx context.Context, diff resource.Diff) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	now, err := look(r.host, r.User)
	if err != nil {
		return err
	}
	switch {
	case r.absent() && diff.Has(fieldState):
		return r.remove(ctx, now, r.RemoveHome)
	case r.absent():
		return nil
	case diff.Has(fieldState):
		err = r.create(ctx, now)
	default:
		if err = r.change(ctx, diff); err != nil && diff.Has(fieldHome) && r.MoveHome {
			err = errors.Join(err, r.stayHome(context.WithoutCancel(ctx), now))
		}
	}
	if err == nil && (diff.Has(fieldPassword) || diff.Has(fieldLock)) {
		err = r.setPassword(ctx, diff)
	}
	if err == nil && diff.Has(fieldHomeDir) {
		err = r.makeHome(ctx)
	}
	return err
}

func (r *Resource) run(ctx context.Context, args ...string) error {
	err := r.host.RunAccountTool(ctx, host.AccountTool{Args: args, Sensitive: r.Sensitive})
	var failed *host.CommandError
	if errors.As(err, &failed) && strings.Contains(failed.Output, "currently used by process") {
		return fmt.Errorf("user %q is logged in, or has processes that run: %w", r.User, err)
	}
	return err
}

func (r *Resource) create(ctx context.Context, now seen) error {
	args := []string{"useradd", "--no-create-home"}
	switch {
	case r.Group != "":
		args = append(args, "--no-user-group", "--gid", r.Group)
	case now.ownGroup:
		args = append(args, "--no-user-group", "--gid", r.User)
	default:
		args = append(args, "--user-group")
	}
	if r.UID != nil {
		args = append(args, "--uid", strconv.Itoa(*r.UID))
	}
	if r.System {
		args = append(args, "--system")
	}
	if r.Comment != nil {
		args = append(args, "--comment", *r.Comment)
	}
	args = append(args, "--home-dir", r.home(now))
	if r.Shell != "" {
		args = append(args, "--shell", host.CleanPath(r.Shell))
	}
	if len(r.Groups) > 0 {
		args = append(args, "--groups", describe(r.Groups))
	}
	if r.Expires != "" && r.Expires != never {
		args = append(args, "--expiredate", r.Expires)
	}
	return r.run(ctx, append(args, r.User)...)
}

// change brings about what the difference states: first what can be changed
// of somebody who is logged in, then what cannot.
func (r *Resource) change(ctx context.Context, diff resource.Diff) error {
	var args []string
	if diff.Has(fieldGroup) {
		args = append(args, "--gid", r.Group)
	}
	if diff.Has(fieldGroups) {
		args = append(args, "--groups", describe(r.target))
	}
	if diff.Has(fieldComment) {
		args = append(args, "--comment", *r.Comment)
	}
	if diff.Has(fieldShell) {
		args = append(args, "--shell", host.CleanPath(r.Shell))
	}
	if diff.Has(fieldExpires) {
		when := r.Expires
		if when == never {
			when = ""
		}
		args = append(args, "--expiredate", when)
	}
	if len(args) > 0 {
		if err := r.run(ctx, append(append([]string{"usermod"}, args...), r.User)...); err != nil {
			return err
		}
	}
	args = nil
	if diff.Has(fieldUID) {
		args = append(args, "--uid", strconv.Itoa(*r.UID))
	}
	if diff.Has(fieldHome) {
		args = append(args, "--home", host.CleanPath(r.Home))
		if r.MoveHome {
			args = append(args, "--move-home")
		}
	}
	if len(args) == 0 {
		return nil
	}
	return r.run(ctx, append(append([]string{"usermod"}, args...), r.User)...)
}

// stayHome gives a user back the home directory that could not be moved: usermod
// writes the new one down first, and the next run would find all in order.
func (r *Resource) stayHome(ctx context.Context, before seen) error {
	now, err := look(r.host, r.User)
	if err != nil || !now.exists || now.user.Home == before.user.Home {
		return err
	}
	if _, err := r.host.Lstat(host.CleanPath(before.user.Home)); err != nil {
		return nil //nolint:nilerr // it was moved, or is lost: there is nothing to go back to
	}
	return r.run(ctx, "usermod", "--home", before.user.Home, r.User)
}

// setPassword sets the hash, or locks or unlocks it alone. The hash goes
// through standard input: arguments are for all to see.
func (r *Resource) setPassword(ctx context.Context, diff resource.Diff) error {
	now, err := look(r.host, r.User)
	if err != nil {
		return err
	}
	hash, isLocked := locked(now.hash)
	if diff.Has(fieldLock) && !diff.Has(fieldPassword) {
		if *r.Lock {
			return r.run(ctx, "usermod", "--lock", r.User)
		}
		return r.run(ctx, "usermod", "--unlock", r.User)
	}
	if err := r.keepHash(now); err != nil {
		return err
	}
	lock := isLocked && opens(hash) // somebody locked it, and nobody said otherwise
	if r.Lock != nil {
		lock = *r.Lock
	}
	mark := ""
	if lock && r.Password != none {
		mark = "!"
	}
	return r.host.RunAccountTool(ctx, host.AccountTool{
		Args: []string{"chpasswd", "--encrypted"}, Stdin: r.User + ":" + mark + r.Password + "\n", Sensitive: true,
	})
}

// makeHome makes the home directory with what /etc/skel has.
func (r *Resource) makeHome(ctx context.Context) error {
	now, err := look(r.host, r.User)
	if err != nil {
		return err
	}
	owner := host.Ownership{
		Mode: r.homeMode(), Owner: strconv.Itoa(now.user.UID), Group: strconv.Itoa(now.user.GID),
	}
	home := r.home(now)
	if err := r.host.Mkdir(home, owner); err != nil {
		return fmt.Errorf("cannot make the home directory of user %q: %w", r.User, err)
	}
	if err := r.host.SyncDir(path.Dir(home)); err != nil {
		return err
	}
	err = r.host.Walk(skeleton, func(name string, i host.Info) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return r.copySkeleton(ctx, name, path.Join(home, strings.TrimPrefix(name, skeleton)), i, owner)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

const (
	skeleton      = "/etc/skel"
	skeletonLimit = 16 << 20
	loginDefs     = "/etc/login.defs"
)

func (r *Resource) copySkeleton(ctx context.Context, from, to string, i host.Info, owner host.Ownership) error {
	owner.Mode = i.Mode()
	switch i.Type() {
	case host.TypeDirectory:
		return r.host.Mkdir(to, owner)
	case host.TypeLink:
		owner.Mode = resource.Mode{}
		return r.host.Symlink(i.Target, to, owner, false, false)
	case host.TypeFile:
		data, err := r.host.ReadFile(from, skeletonLimit)
		if err != nil {
			return err
		}
		return r.host.WriteFile(ctx, to, host.FileSpec{
			Content: resource.Bytes(data), Mode: owner.Mode, Owner: owner.Owner, Group: owner.Group,
		})
	default:
		return nil
	}
}

// homeMode is the mode of a new home directory: what the machine's login.defs
// says, or nobody else's.
func (r *Resource) homeMode() resource.Mode {
	data, err := r.host.ReadFile(loginDefs, skeletonLimit)
	if err != nil {
		return resource.NewMode(0o700)
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) >= 2 && f[0] == "HOME_MODE" {
			if bits, err := strconv.ParseUint(f[1], 8, 12); err == nil {
				return resource.NewMode(uint32(bits))
			}
		}
	}
	return resource.NewMode(0o700)
}
