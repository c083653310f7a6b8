// Package timezone is the kind `timezone`: the time zone of the machine.
//
// It is a link and, where the system keeps one, a file with the zone's name; no
// program is needed to change either.
package timezone

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module { return module{host: h} }

type module struct{ host *host.Host }

func (module) Kind() string { return "timezone" }

func (m module) New() resource.Resource { return &Resource{host: m.host} }

// Example is what the reference shows.
func (module) Example() string { return "- timezone: Europe/Berlin\n" }

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	return host.NewDeparture(m.host, held)
}

// Holds implements resource.Examiner.
func (m module) Holds(_ context.Context, _ string, w resource.Witness) bool {
	return m.host.HoldsOnly(w)
}

// A Resource is the time zone as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`

	Zone string `yaml:"timezone" json:"timezone" doc:"the zone's name, such as Europe/Berlin or Etc/UTC; a machine has one"`

	host *host.Host
}

const (
	link  = "/etc/localtime"
	named = "/etc/timezone"
	zones = "/usr/share/zoneinfo"
)

// Name returns the zone.
func (r *Resource) Name() string { return r.Zone }

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	if r.Zone == "" || path.Clean("/"+r.Zone) != "/"+r.Zone || strings.ContainsAny(r.Zone, " \r\n\x00") {
		return resource.Wrong("timezone", "%q is not a zone such as Europe/Berlin", r.Zone)
	}
	return nil
}

// Claims are the link and the file.
func (r *Resource) Claims() []resource.Claim {
	return []resource.Claim{resource.Path(link), resource.Path(named)}
}

// Needs are the directories above, and the zones, which may come with a package.
func (r *Resource) Needs() []resource.Need {
	zones := resource.Claim{Space: resource.SpacePackage, Name: "tzdata"}
	return append(resource.ParentNeeds(link), resource.Need{Claim: zones})
}

func (r *Resource) target() string { return path.Join(zones, r.Zone) }

// relative is the target as systemd writes it.
func (r *Resource) relative() string { return ".." + r.target() }

const (
	fieldZone = "timezone"
	fieldName = "name"
)

// Check compares the link and the file.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	if err := ctx.Err(); err != nil {
		return resource.Finding{}, err
	}
	if err := r.known(view); err != nil {
		return resource.Finding{}, err
	}
	seen := r.host.WitnessNamed(link, named) // before they are read
	before, err := r.host.NotePath(link)
	if err != nil {
		return resource.Finding{}, err
	}
	finding := resource.Finding{Creates: !before.Existed, Witness: seen}
	if before.Target != r.relative() && before.Target != r.target() {
		finding.Diff = append(finding.Diff, resource.Change{Field: fieldZone, Old: zoneOf(before), New: r.Zone})
	}
	noted, changed, err := host.Remember(view.Prior, link, before, host.Leaving{})
	if err != nil {
		return resource.Finding{}, err
	}
	now, file, err := r.name()
	if err != nil {
		return resource.Finding{}, err
	}
	if file.Existed {
		more := false
		if noted, more, err = host.Remember(noted, named, file, host.Leaving{}); err != nil {
			return resource.Finding{}, err
		}
		changed = changed || more
		if now != r.Zone {
			finding.Diff = append(finding.Diff, resource.Change{Field: fieldName, Old: now, New: r.Zone})
		}
	}
	if changed {
		finding.Prior = noted
	}
	if r.Sensitive {
		finding.Witness = nil // the zone is in it
		finding.Diff = finding.Diff.Redacted()
	}
	return finding, nil
}

// known returns an error for a zone that the machine does not have.
func (r *Resource) known(view resource.View) error {
	_, err := r.host.Lstat(r.target())
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := r.host.Lstat(zones); errors.Is(err, fs.ErrNotExist) && view.Offline {
		return nil // a tree may get its zones later
	}
	return fmt.Errorf("the machine has no time zone %q: it is misspelled, or the package tzdata is missing", r.Zone)
}

// zoneOf is the name of the zone that a link leads to.
func zoneOf(p host.PathPrior) string {
	if _, zone, ok := strings.Cut(p.Target, "zoneinfo/"); ok {
		return zone
	}
	if p.Target != "" {
		return p.Target
	}
	return p.Type
}

const nameLimit = 1 << 10

// name returns what the file says, and what there is of it: Debian keeps one,
// and where there is none it is not made.
func (r *Resource) name() (string, host.PathPrior, error) {
	file, err := r.host.NotePath(named)
	if err != nil || !file.Existed {
		return "", file, err
	}
	data, err := r.host.ReadFile(named, nameLimit)
	return strings.TrimSpace(string(data)), file, err
}

// Apply sets what the difference states.
func (r *Resource) Apply(ctx context.Context, _ resource.View, found resource.Finding) (resource.Result, error) {
	if err := ctx.Err(); err != nil {
		return resource.Result{}, err
	}
	if found.Diff.Has(fieldZone) {
		diff := resource.Diff{{Field: host.FieldState}, {Field: host.FieldTarget}}
		if err := r.host.MakeLink(link, r.relative(), host.Ownership{}, diff, false, true); err != nil {
			return resource.Result{}, err
		}
	}
	if !found.Diff.Has(fieldName) {
		return resource.Result{}, nil
	}
	return resource.Result{}, r.host.WriteFile(ctx, named, host.FileSpec{
		Content: resource.Bytes([]byte(r.Zone + "\n")), Backup: true,
	})
}

// Watches are the link and the file.
func (r *Resource) Watches() []resource.Watch { return resource.WatchPaths(link, named) }
