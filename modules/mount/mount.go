// Package mount is the kind `mount`: an entry of fstab, and whether what it tells
// of is mounted, or swapped to.
//
// It never makes a file system: what is on a device stays there.
package mount

import (
	"errors"
	"slices"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/shared"
	"trued.dev/trued/internal/host/units"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module { return module{&machine{host: h, proc: "/proc"}} }

type module struct{ *machine }

func (module) Kind() string { return "mount" }

func (m module) New() resource.Resource { return &Resource{machine: m.machine} }

// Example is what the reference shows.
func (module) Example() string {
	return `- mount: /srv/data
  device: UUID=0a3407de-014b-458b-b5c1-848e92a327a3
  fstype: ext4
  options: noatime,nofail
  parents: true

- mount: /srv/www
  device: /srv/data/www
  fstype: none
  options: bind,ro,nofail
  requires: [mount:/srv/data]

- mount: /swapfile
  fstype: swap
`
}

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	file, err := shared.NewDeparture(m.host, held, partMark, fieldFstab, func() shared.Record { return &noted{} })
	if err != nil {
		return nil, err
	}
	d := &departure{Departure: file, machine: m.machine, name: held.Address.Name}
	if _, err := held.Prior.Recall(liveClaim(d.name), &d.before); err != nil {
		return nil, err
	}
	return d, nil
}

// States of a mount, as a manifest has them.
const (
	stateMounted   = "mounted"
	statePresent   = "present"
	stateUnmounted = "unmounted"
)

// A Resource is a mount as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`

	Target  string `yaml:"mount" json:"mount" doc:"the directory to mount on; of swap, what is swapped to: a path, UUID=… or LABEL=…"`
	Device  string `yaml:"device" json:"device,omitempty" doc:"what is mounted: a path, UUID=…, LABEL=…, server:/export, or a word such as tmpfs; left out for swap"`
	FSType  string `yaml:"fstype" json:"fstype,omitempty" doc:"ext4, xfs, nfs, tmpfs, swap …; none for a bind mount. What is on a device and of another type is an error, and is never made anew"`
	Options string `yaml:"options" json:"options,omitempty" doc:"as in fstab, with commas between; not given: those that are there, or defaults"`
	Pass    *int   `yaml:"pass" json:"pass,omitempty" doc:"when it is checked at boot: 1 for /, 2 for others, 0 never; not given: as it is, or 0"`
	State   string `yaml:"state" json:"state,omitempty" words:"mounted,present,unmounted,absent" doc:"mounted (default), present: in fstab alone, unmounted: in fstab if a device is given, and not mounted; or absent: neither"`
	Parents bool   `yaml:"parents" json:"-" doc:"true: make the directory, and those above it, where they are missing"`
	Force   bool   `yaml:"force" json:"-" doc:"true: mount on a directory that is not empty, which hides what is in it"`

	machine *machine
}

// Name returns the cleaned path of the directory, or what is swapped to.
func (r *Resource) Name() string {
	if r.swaps() {
		return r.Target
	}
	return host.CleanPath(r.Target)
}

func (r *Resource) swaps() bool { return r.FSType == swap }

// Load makes what is swapped to the device, as fstab has it.
func (r *Resource) Load(resource.Loader) error {
	if r.swaps() && r.Device == "" && r.State != host.Absent {
		r.Device = r.Target
	}
	return nil
}

func (r *Resource) mounts() bool { return r.State == "" || r.State == stateMounted }

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	var problems []error
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if r.swaps() {
		if r.Target == "" || !strings.HasPrefix(r.Target, "/") && tagOf(r.Target) == "" {
			wrong("mount", "%q is nothing to swap to: give a path, UUID=… or LABEL=…", r.Target)
		}
		if r.Device != "" && r.Device != r.Target {
			wrong("device", "swap has none beside its name: give it there")
		}
	} else {
		problems = append(problems, host.CheckPath("mount", r.Target))
	}
	switch r.State {
	case "", stateMounted, statePresent:
		if r.Device == "" {
			wrong("device", "is missing: it is what is mounted")
		}
		if r.FSType == "" {
			wrong("fstype", "is missing: such as ext4, nfs, tmpfs, or none for a bind mount")
		}
	case stateUnmounted:
		if (r.Device == "") != (r.FSType == "") {
			wrong("device", "goes together with fstype: give both, or neither and leave fstab alone")
		}
	case host.Absent:
		if r.Device != "" || r.Options != "" || r.Pass != nil || r.FSType != "" && !r.swaps() {
			wrong("state", "a mount that is absent has a directory alone")
		}
	default:
		wrong("state", "%q is none of mounted, present, unmounted and absent", r.State)
	}
	return errors.Join(append(problems, r.validateWords())...)
}

func (r *Resource) validateWords() error {
	var problems []error
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if r.Name() == "/" && (r.State == stateUnmounted || r.State == host.Absent) {
		wrong("state", "the host runs from /: it stays")
	}
	for _, f := range []struct{ name, value string }{{"mount", r.Target}, {"device", r.Device}, {"options", r.Options}} {
		if strings.ContainsAny(f.value, "\n\x00") {
			wrong(f.name, "has a newline or a NUL in it")
		}
	}
	if strings.ContainsAny(r.FSType, " \t\n\x00\\,") {
		wrong("fstype", "%q is not a type of file system", r.FSType)
	}
	if r.Options != "" && slices.Contains(r.options(), "") || strings.Contains(r.Options, ", ") {
		wrong("options", "%q is not a list with commas, and no spaces, between", r.Options)
	}
	if slices.Contains(r.options(), "remount") {
		wrong("options", "remount is no option of an entry: it is remounted when its options change")
	}
	if r.bind() && !strings.HasPrefix(r.Device, "/") {
		wrong("device", "%q is not the path of what a bind mount shows", r.Device)
	}
	if r.Pass != nil && (*r.Pass < 0 || *r.Pass > 9) {
		wrong("pass", "%d is not a number from 0 to 9", *r.Pass)
	}
	if r.Sensitive {
		wrong("sensitive", "every user can read fstab: put a secret into a file of mode 0600, and name it with credentials=")
	}
	return errors.Join(problems...)
}

func (r *Resource) options() []string { return strings.Split(r.Options, ",") }

func (r *Resource) bind() bool {
	return slices.Contains(r.options(), "bind") || slices.Contains(r.options(), "rbind")
}

// Claims are the entry of fstab, and the mount.
func (r *Resource) Claims() []resource.Claim {
	return []resource.Claim{r.entryClaim(), liveClaim(r.Name())}
}

// Writes implements resource.Writer: the entry of fstab, and what is hidden by what
// is mounted there.
func (r *Resource) Writes() []resource.Write {
	writes := []resource.Write{{Path: fstab, Follow: true}}
	if r.swaps() {
		return writes
	}
	hides := resource.Write{Path: r.Name(), Directory: true, Follow: true, Tree: true}
	if r.bind() && r.State != host.Absent {
		hides.Target = r.Device
	}
	return append(writes, hides)
}

func (r *Resource) entryClaim() resource.Claim {
	return resource.Claim{Space: resource.SpacePath, Name: fstab, Part: partMark + r.Name()}
}

func liveClaim(name string) resource.Claim {
	return resource.Claim{Space: resource.SpaceMount, Name: name}
}

// Needs are the directory and those above it, and what is mounted where that is
// a file or a directory.
func (r *Resource) Needs() []resource.Need {
	needs := resource.ParentNeeds(fstab)
	var paths []string
	if !r.swaps() {
		paths = append(paths, r.Name())
	}
	if device := devicePath(r.Device); device != "" && !strings.HasPrefix(device, "/dev/") && host.CheckPath("", device) == nil {
		paths = append(paths, host.CleanPath(device))
	}
	for _, name := range paths {
		needs = append(append(needs, resource.Need{Claim: resource.Path(name)}), resource.ParentNeeds(name)...)
	}
	return needs
}

// Remark says what a boot waits for in vain, and is not told that it need not.
func (r *Resource) Remark() string {
	given := r.options()
	switch {
	case !r.listed() || slices.Contains(given, "nofail") || slices.Contains(given, "noauto"):
		return ""
	case r.network():
		return "a boot waits for " + r.Device + " while it cannot be reached: nofail, or x-systemd.automount, lets it go on"
	case slices.Contains([]string{"/", "/usr", "/var", "/boot", "/boot/efi"}, r.Name()):
		return ""
	case tagOf(r.Device) != "" || strings.HasPrefix(r.Device, "/dev/"):
		return "a boot without " + r.Device + " ends in the emergency shell: nofail lets it go on"
	}
	return ""
}

func (r *Resource) network() bool {
	return slices.Contains([]string{"nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "9p", "fuse.sshfs"}, r.FSType) ||
		slices.Contains(r.options(), "_netdev")
}

// Watches are fstab, and the unit that systemd has for what is mounted.
func (r *Resource) Watches() []resource.Watch {
	watches := resource.WatchPaths(fstab)
	at, suffix := r.Name(), ".mount"
	if r.swaps() {
		at, suffix = devicePath(r.Target), ".swap"
	}
	name := units.Escape(strings.Trim(host.CleanPath(at), "/"))
	if name == "" {
		name = "-"
	}
	return append(watches, resource.Watch{Space: resource.WatchUnit, Name: name + suffix})
}
