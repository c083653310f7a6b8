package mount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/shared"
	"trued.dev/trued/internal/resource"
)

// Apply takes away what is mounted and should not be, writes fstab, and mounts.
// An entry that cannot be mounted does not stay in fstab, where the next boot
// would meet it.
func (r *Resource) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	if err := ctx.Err(); err != nil || len(found.Diff) == 0 {
		return resource.Result{}, err
	}
	if view.Offline {
		return resource.Result{}, r.write(ctx, view, found.Diff)
	}
	m := r.machine
	mounts := found.Diff.Has(fieldDevice) || found.Diff.Has(fieldState) && r.mounts()
	if mounts {
		if err := r.preflight(ctx); err != nil {
			return resource.Result{}, err
		}
	}
	if found.Diff.Has(fieldDevice) || found.Diff.Has(fieldState) && !r.mounts() {
		if err := m.unmount(ctx, r.Name(), r.swaps()); err != nil {
			return resource.Result{}, err
		}
	}
	before, err := m.readFstab()
	if err != nil {
		return resource.Result{}, err
	}
	if err := r.write(ctx, view, found.Diff); err != nil {
		return resource.Result{}, err
	}
	if mounts {
		err = r.mount(ctx)
	} else if found.Diff.Has(fieldOptions) || r.optionsChanged(before, found.Diff) {
		err = r.remount(ctx)
	}
	if err == nil || !found.Diff.Has(fieldFstab) {
		return resource.Result{}, err
	}
	ctx = context.WithoutCancel(ctx)
	err = errors.Join(err, m.giveBack(ctx, before))
	if found.Diff.Has(fieldDevice) {
		err = errors.Join(err, r.mountAgain(ctx, before))
	}
	return resource.Result{}, err
}

// mountAgain mounts what an entry says that came back: it was unmounted for what
// could not be mounted in its place.
func (r *Resource) mountAgain(ctx context.Context, text []byte) error {
	now, err := r.lookAt()
	if err != nil || now.Mounted || len(find(shared.Parse(string(text)), r.Name(), false)) != 1 {
		return err
	}
	if _, err := r.machine.host.Run(ctx, host.Command{Args: []string{"mount", "--", r.Name()}}); err != nil {
		return fmt.Errorf("cannot mount on %q again what was there: %w", r.Name(), err)
	}
	return nil
}

// write brings about the entry, and tells systemd, which makes units of fstab: one
// of an earlier entry would unmount what is mounted in its place.
func (r *Resource) write(ctx context.Context, view resource.View, diff resource.Diff) error {
	if !diff.Has(fieldFstab) {
		return nil
	}
	if _, err := shared.Apply(ctx, r.machine.host, r, view, resource.Finding{Diff: diff}); err != nil {
		return err
	}
	return r.machine.reload(ctx)
}

func (m *machine) reload(ctx context.Context) error {
	if _, err := m.host.Lstat("/run/systemd/system"); m.host.Offline() || err != nil {
		return nil
	}
	return m.host.Systemd().Reload(ctx)
}

const fstabLimit = 16 << 20

// readFstab returns the text of fstab; nil when there is none.
func (m *machine) readFstab() ([]byte, error) {
	text, err := m.host.ReadFile(fstab, fstabLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

func (m *machine) giveBack(ctx context.Context, text []byte) error {
	var err error
	if text == nil {
		err = m.host.Discard(fstab, false, true)
	} else {
		err = m.host.WriteFile(ctx, fstab, host.FileSpec{Content: resource.Bytes(text), Follow: true})
	}
	return errors.Join(err, m.reload(ctx))
}

// preflight demands that what is to be mounted is there, and is what it is said
// to be, while nothing has changed yet.
func (r *Resource) preflight(ctx context.Context) error {
	m, device := r.machine, devicePath(r.Device)
	if device != "" && m.missing(device) {
		return fmt.Errorf("cannot mount %q: there is no %s", r.Name(), r.Device)
	}
	if r.swaps() {
		return nil
	}
	if r.Parents {
		if err := m.host.MakeParents(r.Name() + "/x"); err != nil {
			return err
		}
	}
	if device == "" || r.bind() || r.FSType == "auto" || r.FSType == "none" {
		return nil
	}
	out, err := m.host.Run(ctx, host.Command{Args: []string{"blkid", "-p", "-o", "value", "-s", "TYPE", "--", device}})
	is := strings.TrimSpace(out.Text)
	if err != nil || is == "" || is == r.FSType || strings.HasPrefix(r.FSType, "fuse") || is == "ntfs" {
		return ctx.Err() // mount has the last word
	}
	return fmt.Errorf("cannot mount %q: %s holds %s, and the manifest says %s", r.Name(), r.Device, is, r.FSType)
}

func (r *Resource) mount(ctx context.Context) error {
	args := []string{"mount", "--", r.Name()}
	if r.swaps() {
		args = []string{"swapon", "--", r.Target}
		if r.Options != "" {
			args = []string{"swapon", "-o", r.Options, "--", r.Target}
		}
	}
	if _, err := r.machine.host.Run(ctx, host.Command{Args: args}); err != nil {
		return fmt.Errorf("cannot mount %s on %q: %w", r.Device, r.Name(), err)
	}
	now, err := r.lookAt()
	if err != nil || r.swaps() || r.sameType(now) && r.shows(now) {
		return err
	}
	err = fmt.Errorf("%q shows %s of type %s, and not %s of type %s", r.Name(), now.Source, now.FSType, r.Device, r.FSType)
	return errors.Join(err, r.machine.unmount(ctx, r.Name(), false))
}

// optionsChanged reports whether the entry had other options before.
func (r *Resource) optionsChanged(before []byte, diff resource.Diff) bool {
	if !diff.Has(fieldFstab) || r.Options == "" || !r.mounts() || r.swaps() {
		return false
	}
	text := shared.Parse(string(before))
	at := find(text, r.Name(), false)
	if len(at) != 1 {
		return false
	}
	e, _ := parseEntry(text.Line(at[0]))
	return ofKernel(e.options) != ofKernel(r.Options)
}

// ofKernel are the options but for those that only a boot looks at.
func ofKernel(options string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(options, ","), func(o string) bool {
		return o == "nofail" || o == "auto" || o == "noauto" || o == "defaults" || o == "_netdev" || strings.HasPrefix(o, "x-") || strings.HasPrefix(o, "comment=")
	}), ",")
}

// remount changes the options of what is mounted.
func (r *Resource) remount(ctx context.Context) error {
	options := []string{"remount"}
	now, err := r.lookAt()
	if err != nil || !now.Mounted {
		return err
	}
	if r.bind() {
		options = append(options, "bind")
	}
	// Flags that are not named stay as they are.
	_, should := r.offFlags(now)
	for _, o := range append(strings.Split(ofKernel(r.Options), ","), should...) {
		if o != "" && o != "bind" && o != "rbind" && o != "loop" && !strings.HasPrefix(o, "loop=") && !slices.Contains(options, o) {
			options = append(options, o)
		}
	}
	args := []string{"mount", "-o", strings.Join(options, ","), "--", r.Name()}
	if _, err := r.machine.host.Run(ctx, host.Command{Args: args}); err != nil {
		return fmt.Errorf("cannot change the options of %q while it is mounted: unmount it, and they are right from then on: %w", r.Name(), err)
	}
	return nil
}

// unmount takes away what is mounted, never lazily: what somebody has open would
// be written on for ever where nobody sees it.
func (m *machine) unmount(ctx context.Context, name string, swaps bool) error {
	if name == "/" {
		return errors.New("what the host runs from is not unmounted: the kernel would make it read-only") // and say that all went well
	}
	args := []string{"umount", "--", name}
	if swaps {
		args = []string{"swapoff", "--", name}
	}
	_, err := m.host.Run(ctx, host.Command{Args: args})
	if err == nil {
		return nil
	}
	if swaps {
		return fmt.Errorf("cannot stop swapping to %q: %w", name, err)
	}
	if who := m.holders(name); who != "" {
		return fmt.Errorf("cannot unmount %q, which is in use: %s: %w", name, who, err)
	}
	return fmt.Errorf("cannot unmount %q: %w", name, err)
}
