// Package hostname is the kind `hostname`: the name that the machine has, in the
// running kernel and in the file that it is read from at boot.
package hostname

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module { return module{host: h} }

type module struct{ host *host.Host }

func (module) Kind() string { return "hostname" }

func (m module) New() resource.Resource { return &Resource{host: m.host} }

// Example is what the reference shows.
func (module) Example() string { return "- hostname: web-1\n" }

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	file, err := host.NewDeparture(m.host, held)
	if err != nil {
		return nil, err
	}
	d := &departure{Departure: file}
	_, err = held.Prior.Recall(claim(), &d.before)
	return d, err
}

// Holds implements resource.Examiner.
func (m module) Holds(_ context.Context, _ string, w resource.Witness) bool {
	name, holds := m.host.HoldsNamed(w)
	if !holds || m.host.Offline() {
		return holds && len(name) == 0
	}
	now, err := live()
	return err == nil && now == string(name)
}

// A Resource is the name as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`

	Host string `yaml:"hostname" json:"hostname" doc:"the machine's name; the group that hosts.yaml gives it may be another from the next run on"`

	host *host.Host
}

const (
	file = "/etc/hostname"
	// longest is what the kernel takes.
	longest = 64
)

// Name returns the name.
func (r *Resource) Name() string { return r.Host }

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	if len(r.Host) > longest {
		return resource.Wrong("hostname", "%q is longer than %d characters", r.Host, longest)
	}
	for label := range strings.SplitSeq(r.Host, ".") {
		if label == "" || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") || strings.Trim(label, letters) != "" {
			return resource.Wrong("hostname", "%q is not a name: it takes letters, digits and '-', with dots between", r.Host)
		}
	}
	return nil
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"

// claim is on the name itself: a machine has one.
func claim() resource.Claim { return resource.Claim{Space: "hostname", Name: "static"} }

// Claims are the name and the file.
func (r *Resource) Claims() []resource.Claim {
	return []resource.Claim{claim(), resource.Path(file)}
}

// Needs are the directories above the file.
func (r *Resource) Needs() []resource.Need { return resource.ParentNeeds(file) }

func (r *Resource) spec() host.FileSpec {
	return host.FileSpec{Content: resource.Bytes([]byte(r.Host + "\n")), Backup: true, Sensitive: r.Sensitive}
}

// The fields of a difference.
const (
	fieldLive = "hostname"
	fieldFile = "persisted"
)

// Check compares the file and, where there is a kernel, its name.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	seen := r.host.WitnessNamed(file) // before it is read
	found, err := r.host.CompareFile(ctx, file, r.spec())
	if err != nil {
		return resource.Finding{}, err
	}
	finding := resource.Finding{Creates: found.Creates, Witness: seen}
	if found.Diff.Has(host.FieldContent) {
		finding.Diff = append(finding.Diff, r.change(fieldFile, ""))
	}
	noted, added, err := host.Remember(view.Prior, file, found.Prior, host.Leaving{Sensitive: r.Sensitive})
	if err != nil {
		return resource.Finding{}, err
	}
	if !view.Offline {
		now, err := live()
		if err != nil {
			return resource.Finding{}, err
		}
		if r.Sensitive || seen == nil {
			finding.Witness = nil
		} else {
			finding.Witness = slices.Concat(seen, resource.Witness(now))
		}
		if now != r.Host {
			finding.Diff = append(finding.Diff, r.change(fieldLive, now))
		}
		if _, known := noted[claim()]; !known {
			if noted, err = noted.With(claim(), now); err != nil {
				return resource.Finding{}, err
			}
			added = true
		}
	}
	if added {
		finding.Prior = noted
	}
	return finding, nil
}

func (r *Resource) change(field, now string) resource.Change {
	if r.Sensitive {
		return resource.Change{Field: field, Redacted: true}
	}
	return resource.Change{Field: field, Old: now, New: r.Host}
}

// Apply sets what the difference states.
func (r *Resource) Apply(ctx context.Context, _ resource.View, found resource.Finding) (resource.Result, error) {
	if err := ctx.Err(); err != nil {
		return resource.Result{}, err
	}
	if found.Diff.Has(fieldFile) {
		if err := r.host.WriteFile(ctx, file, r.spec()); err != nil {
			return resource.Result{}, err
		}
	}
	if found.Diff.Has(fieldLive) {
		return resource.Result{}, set(r.Host)
	}
	return resource.Result{}, nil
}

// live returns the name that the running kernel has.
func live() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("cannot read the hostname: %w", err)
	}
	return unix.ByteSliceToString(u.Nodename[:]), nil
}

func set(name string) error {
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("cannot set the hostname: %w", err)
	}
	return nil
}

// A departure gives back the file, and the name that the kernel had.
type departure struct {
	*host.Departure
	before string
}

func (d *departure) Claims() []resource.Claim { return append(d.Departure.Claims(), claim()) }

func (d *departure) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	found, err := d.Departure.Check(ctx, view)
	if err != nil || view.Offline || d.before == "" {
		return found, err
	}
	if _, held := view.Owner(claim()); held {
		return found, nil
	}
	now, err := live()
	if err == nil && now != d.before {
		c := resource.Change{Field: fieldLive, Old: now, New: d.before}
		if d.Sensitive {
			c = resource.Change{Field: fieldLive, Redacted: true}
		}
		found.Diff = append(found.Diff, c)
	}
	return found, err
}

func (d *departure) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	result, err := d.Departure.Apply(ctx, view, found)
	if err != nil || !found.Diff.Has(fieldLive) {
		return result, err
	}
	return result, set(d.before)
}

// Watches are the file, and the kernel, which must be asked.
func (r *Resource) Watches() []resource.Watch {
	return append(resource.WatchPaths(file), resource.Watch{Space: resource.WatchPoll, Name: "the kernel's host name"})
}
