package pkg

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"trued.dev/trued/internal/resource"
)

// States that a package may be declared to be in.
const (
	statePresent = "present"
	stateAbsent  = "absent"
	statePurged  = "purged"
	stateLatest  = "latest"
)

const (
	keepConffiles    = "keep"
	replaceConffiles = "replace"
)

// A Resource is a package as it should be on the host.
type Resource struct {
	resource.Meta `yaml:",inline"`

	Package        string `yaml:"package" json:"package" doc:"the package's name, or name:architecture for another than the host's"`
	State          string `yaml:"state" json:"state,omitempty" words:"present,absent,purged,latest" doc:"present (default), absent, purged (its configuration, too, where the package manager can), or latest"`
	Version        string `yaml:"version" json:"version,omitempty" doc:"conditions on the version, such as \">= 1.22, < 2\""`
	Hold           *bool  `yaml:"hold" json:"hold,omitempty" doc:"whether the package manager may move it on its own"`
	Recommends     *bool  `yaml:"recommends" json:"recommends,omitempty" doc:"false: install it without what it recommends"`
	AllowDowngrade bool   `yaml:"allow_downgrade" json:"allow_downgrade,omitempty" doc:"whether it may go to an older version to meet its constraint"`
	Conffiles      string `yaml:"conffiles" json:"conffiles,omitempty" words:"keep,replace" doc:"what becomes of changed configuration files at an upgrade: keep (default) or replace"`

	m *Module
	// admit is asked about what is about to be installed; nil lets in all.
	admit func(name string, origins []string) error
}

var packageName = pattern(`^[A-Za-z0-9][A-Za-z0-9+._-]*(:[a-z0-9][a-z0-9-]*)?$`)

// Name returns the package's name.
func (r *Resource) Name() string { return r.Package }

// Claims returns the package.
func (r *Resource) Claims() []resource.Claim { return []resource.Claim{claim(r.Package)} }

func claim(name string) resource.Claim {
	return resource.Claim{Space: resource.SpacePackage, Name: name}
}

// Needs puts the package after all files that the package manager is configured
// by; a change of one makes the index stale.
func (r *Resource) Needs() []resource.Need { return r.m.needs() }

// Costly reports whether the index must be asked at each check.
func (r *Resource) Costly() bool { return r.State == stateLatest }

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	var errs []error
	wrong := func(field, format string, args ...any) {
		errs = append(errs, resource.Wrong(field, format, args...))
	}
	if !packageName().MatchString(r.Package) {
		wrong("package", "%q is not the name of a package", r.Package)
	}
	switch r.State {
	case "", statePresent, stateAbsent, statePurged, stateLatest:
	default:
		wrong("state", "%q is not a state of a package: write present, absent, purged or latest", r.State)
	}
	if _, err := parseConstraint(r.Version); err != nil {
		wrong("version", "%v", err)
	}
	if r.gone() {
		if r.Version != "" {
			wrong("version", "a package that is %s has no version", r.State)
		}
		if r.Hold != nil && *r.Hold {
			wrong("hold", "a package that is %s cannot be held", r.State)
		}
	}
	switch r.Conffiles {
	case "", keepConffiles, replaceConffiles:
	default:
		wrong("conffiles", "%q is not an answer: write keep or replace", r.Conffiles)
	}
	return errors.Join(errs...)
}

// gone reports whether the package should not be there.
func (r *Resource) gone() bool { return r.State == stateAbsent || r.State == statePurged }

func (r *Resource) constraint() constraint {
	c, _ := parseConstraint(r.Version) // Validate has refused what does not parse
	return c
}

// Triggers returns nothing: what makes the index stale is said by Needs.
func (r *Resource) Triggers() []resource.Trigger { return nil }

// React refreshes the index for what is owed because the package manager's own
// configuration changed.
func (r *Resource) React(ctx context.Context, _ resource.View, owed []resource.Reaction) (resource.Result, error) {
	for _, reaction := range owed {
		if reaction == resource.Refresh {
			return resource.Result{}, r.m.refreshAfterChange(ctx)
		}
	}
	return resource.Result{}, nil
}

// Check compares what is installed with the value.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	found, err := r.m.check(ctx, view, r.Package, r.difference)
	if r.Sensitive {
		found = redacted(found)
	}
	if r.State == stateLatest {
		found.Witness = nil // it rests on the index, which ages
	}
	return found, err
}

// Apply changes this one package, in a transaction of its own.
func (r *Resource) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	out := r.m.Transact(ctx, []resource.Item{{Resource: r, View: view, Found: found}})
	return out[0].Result, out[0].Err
}

func redacted(f resource.Finding) resource.Finding {
	f.Diff = f.Diff.Redacted()
	f.Note = ""
	return f
}

// A note is what is remembered of a package from before trued changed it.
type note struct {
	// Installed is true when trued found the package there.
	Installed bool   `json:"installed"`
	Version   string `json:"version,omitempty"`
	Held      bool   `json:"held,omitempty"`
	// Auto is true when it was there as a dependency of another package.
	Auto bool `json:"auto,omitempty"`
	// SetHold is true once trued changed whether the package is held.
	SetHold bool `json:"set_hold,omitempty"`
	// Real is the package that was installed for a virtual name.
	Real string `json:"real,omitempty"`
	// Brought are the packages that came with it as dependencies.
	Brought []string `json:"brought,omitempty"`
}

// readNote returns what was noted under a package's claim, and whether anything
// was.
func readNote(p resource.Prior, name string) (note, bool, error) {
	raw, ok := p[claim(name)]
	if !ok {
		return note{}, false, nil
	}
	var n note
	if err := json.Unmarshal(raw, &n); err != nil {
		return note{}, true, fmt.Errorf("cannot read what was noted of package %q: %w", name, err)
	}
	return n, true, nil
}

func (n note) prior(name string) resource.Prior {
	raw, err := json.Marshal(n)
	if err != nil {
		return nil // a note has nothing that cannot be marshalled
	}
	return resource.Prior{claim(name): raw}
}

// Watches is the manager's own database, where it is a file.
func (r *Resource) Watches() []resource.Watch {
	if w, ok := r.m.manager.(resource.Watched); ok {
		return w.Watches()
	}
	return nil
}
