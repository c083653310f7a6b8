// Package kernelmodule is the kind `kernel_module`: a part of the kernel that is
// loaded now and at each boot, with its options, or that is kept from being
// loaded.
package kernelmodule

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/files"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module {
	return module{host: h, kernel: kernel{
		sys: "/sys/module", proc: "/proc/modules", lib: "/lib/modules", host: h,
		modprobe: func() []string { return h.Program("modprobe") },
	}}
}

type module struct {
	host   *host.Host
	kernel kernel
}

func (module) Kind() string { return "kernel_module" }

func (m module) New() resource.Resource { return &Resource{host: m.host, kernel: m.kernel} }

// Example is what the reference shows.
func (module) Example() string {
	return `- kernel_module: br_netfilter

- kernel_module: nf_conntrack
  options: {hashsize: 131072}

- kernel_module: usb_storage
  blacklisted: true
`
}

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	d, err := host.NewDeparture(m.host, held)
	if err != nil {
		return nil, err
	}
	gone := &departure{Departure: d, kernel: m.kernel, name: normal(held.Address.Name)}
	gone.known, err = held.Prior.Recall(claim(gone.name), &gone.before)
	return gone, err
}

// A Resource is a kernel's module as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`

	Title       string            `yaml:"kernel_module" json:"kernel_module" doc:"the module's name, such as br_netfilter; - and _ are the same in it"`
	Options     map[string]Option `yaml:"options" json:"options,omitempty" doc:"its parameters, which count when it is loaded"`
	Blacklisted bool              `yaml:"blacklisted" json:"blacklisted,omitempty" doc:"true: it is not loaded, by nobody, and unloaded where it is"`
	State       string            `yaml:"state" json:"state,omitempty" words:"present,configured" doc:"present (default): loaded now and at boot; configured: its options or blacklisting are kept, nothing is loaded or unloaded"`

	host   *host.Host
	kernel kernel
}

// An Option is a number or a text.
type Option string

// UnmarshalText takes any scalar.
func (o *Option) UnmarshalText(text []byte) error {
	*o = Option(text)
	return nil
}

const (
	statePresent    = "present"
	stateConfigured = "configured"
)

// Name returns the module's name as the kernel spells it.
func (r *Resource) Name() string { return normal(r.Title) }

func normal(name string) string { return strings.ReplaceAll(name, "-", "_") }

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

// named reports whether a text is the name of a module, or of a parameter.
func named(s string) bool { return s != "" && strings.Trim(s, letters) == "" }

// oneWord reports whether a value means the same to all that read it.
func oneWord(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || strings.ContainsRune(`"'\#`, c) })
}

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	var problems []error
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if !named(r.Title) {
		wrong("kernel_module", "%q is not the name of a module, which has no path and no ending", r.Title)
	}
	for key, value := range r.Options {
		if !named(key) || !oneWord(string(value)) {
			wrong("options", "%s=%s is not a parameter", key, value)
		}
	}
	switch r.State {
	case "", statePresent:
	case stateConfigured:
		if len(r.Options) == 0 && !r.Blacklisted {
			wrong("state", "there is nothing to configure: give options, or blacklisted")
		}
	default:
		wrong("state", "%q is neither present nor configured; to keep a module away write `blacklisted: true`", r.State)
	}
	if r.Blacklisted && len(r.Options) > 0 {
		wrong("options", "a module that is not loaded has none")
	}
	return errors.Join(problems...)
}

// Space is the space of claims on modules.
const Space = "kernel module"

func claim(name string) resource.Claim { return resource.Claim{Space: Space, Name: name} }

// Claims are the module and the files.
func (r *Resource) Claims() []resource.Claim {
	return append(files.Claims(r.files()), claim(r.Name()))
}

// Needs are the directories above the files, and the package that brings modprobe.
func (r *Resource) Needs() []resource.Need {
	kmod := resource.Claim{Space: resource.SpacePackage, Name: "kmod"}
	return append(files.Needs(r.files()), resource.Need{Claim: kmod})
}

// Writes implements resource.Writer.
func (r *Resource) Writes() []resource.Write { return files.Writes(r.files()) }

// files are those that the boot reads: what is loaded, and how.
func (r *Resource) files() []files.File {
	var all []files.File
	add := func(path, part, text string) {
		mode := resource.NewMode(0o644)
		if r.Sensitive {
			mode = resource.NewMode(0o600)
		}
		all = append(all, files.File{Path: path, Part: part, Spec: host.FileSpec{
			Content: resource.Bytes([]byte("# kept by trued\n" + text)), Mode: mode,
			Parents: true, Backup: true, Sensitive: r.Sensitive,
		}})
	}
	name := r.Name()
	if !r.Blacklisted && r.State != stateConfigured {
		add("/etc/modules-load.d/trued-"+name+".conf", "load", name+"\n")
	}
	switch {
	case r.Blacklisted:
		// The first keeps it from being loaded for a device, the second by its name.
		add("/etc/modprobe.d/trued-"+name+".conf", "modprobe", "blacklist "+name+"\ninstall "+name+" /bin/false\n")
	case len(r.Options) > 0:
		add("/etc/modprobe.d/trued-"+name+".conf", "modprobe", "options "+name+" "+r.parameters()+"\n")
	}
	return all
}

func (r *Resource) parameters() string {
	var words []string
	for _, key := range slices.Sorted(maps.Keys(r.Options)) {
		words = append(words, key+"="+string(r.Options[key]))
	}
	return strings.Join(words, " ")
}

// Watches are the files, and the kernel, which tells nobody of a module that
// somebody unloads and must be asked.
func (r *Resource) Watches() []resource.Watch {
	return append(files.Watches(r.files()), resource.Watch{Space: resource.WatchPoll, Name: "kernel module " + r.Name()})
}

// fieldLoaded tells whether the kernel has the module now.
const fieldLoaded = "loaded"

// Check compares the files and, on a running machine, the kernel.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	seen := r.witness(view) // before anything is read
	finding, err := files.Check(ctx, r.host, view, r.files())
	finding.Witness = nil
	if err != nil || view.Offline {
		return finding, err
	}
	now, err := r.kernel.find(r.Name())
	if err != nil {
		return resource.Finding{}, err
	}
	if err := r.remember(view, &finding, now == loaded); err != nil {
		return resource.Finding{}, err
	}
	if r.State != stateConfigured {
		if err := r.checkLoaded(&finding, now); err != nil {
			return resource.Finding{}, err
		}
	}
	if now != missing && !r.Blacklisted {
		finding.Note, err = r.otherOptions(now)
	}
	if finding.InOrder() && finding.Note == "" {
		finding.Witness = seen
	}
	return finding, err
}

func (r *Resource) checkLoaded(finding *resource.Finding, now presence) error {
	switch {
	case r.Blacklisted && now == builtIn:
		return fmt.Errorf("the module %q is part of the kernel itself: it cannot be kept away", r.Name())
	case r.Blacklisted && now == loaded:
		finding.Diff = append(finding.Diff, resource.Change{Field: fieldLoaded, Old: "true", New: "false"})
	case !r.Blacklisted && now == missing:
		if err := r.kernel.has(r.Name()); err != nil {
			if len(r.Requires) == 0 {
				return err
			}
			// It may come with a package.
			finding.Unknown = fmt.Sprintf("%v; or %s brings it", err, strings.Join(r.Requires, ", "))
			return nil
		}
		finding.Diff = append(finding.Diff, resource.Change{Field: fieldLoaded, Old: "false", New: "true"})
	}
	return nil
}

// otherOptions remarks that a module was loaded with other options: they count
// from the next time on.
func (r *Resource) otherOptions(now presence) (string, error) {
	var others []string
	for _, key := range slices.Sorted(maps.Keys(r.Options)) {
		value, known, err := r.kernel.parameter(r.Name(), key)
		if err != nil {
			return "", err
		}
		if known && !sameParameter(value, string(r.Options[key])) {
			others = append(others, key)
		}
	}
	switch {
	case len(others) == 0:
		return "", nil
	case now == builtIn:
		return fmt.Sprintf("it is part of the kernel itself, which takes %s at its start only", strings.Join(others, ", ")), nil
	}
	return fmt.Sprintf("it is loaded with another %s, which changes when it is loaded anew", strings.Join(others, ", ")), nil
}

// A before is what is remembered of a module.
type before struct {
	Loaded bool `json:"loaded"`
}

func (r *Resource) remember(view resource.View, finding *resource.Finding, now bool) error {
	if _, known := view.Prior[claim(r.Name())]; known {
		return nil
	}
	prior := finding.Prior
	if prior == nil {
		prior = view.Prior
	}
	prior, err := prior.With(claim(r.Name()), before{Loaded: now})
	finding.Prior = prior
	return err
}

// Apply writes the files, and loads or unloads the module after that.
func (r *Resource) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	if err := files.Apply(ctx, r.host, view, r.files(), found); err != nil {
		return resource.Result{}, err
	}
	if !found.Diff.Has(fieldLoaded) {
		return resource.Result{}, nil
	}
	return resource.Result{}, r.kernel.set(ctx, r.Name(), !r.Blacklisted, r.Sensitive)
}

// A departure gives back the files, and whether the module was loaded.
type departure struct {
	*host.Departure
	kernel kernel
	name   string
	before before
	known  bool
	// used is true for a module that something uses by now: it stays.
	used bool
}

func (d *departure) Claims() []resource.Claim { return append(d.Departure.Claims(), claim(d.name)) }

func (d *departure) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	found, err := d.Departure.Check(ctx, view)
	if err != nil || view.Offline || !d.known {
		return found, err
	}
	if _, held := view.Owner(claim(d.name)); held {
		return found, nil
	}
	now, err := d.kernel.find(d.name)
	if err != nil || now == builtIn || (now == loaded) == d.before.Loaded {
		return found, err
	}
	if d.used {
		found.Note = fmt.Sprintf("the module %s is in use, and stays loaded until the next boot", d.name)
		return found, nil
	}
	found.Diff = append(found.Diff, resource.Change{
		Field: fieldLoaded, Old: fmt.Sprint(!d.before.Loaded), New: fmt.Sprint(d.before.Loaded),
	})
	return found, nil
}

func (d *departure) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	result, err := d.Departure.Apply(ctx, view, found)
	if err != nil || !found.Diff.Has(fieldLoaded) {
		return result, err
	}
	err = d.kernel.set(ctx, d.name, d.before.Loaded, d.Sensitive)
	var used *InUseError
	if errors.As(err, &used) {
		d.used, err = true, nil
	}
	return result, err
}
