// Package sysctl is the kind `sysctl`: one kernel parameter, set in the running
// kernel and kept across boots in a file of its own.
package sysctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module {
	return module{host: h, kernel: kernel("/proc/sys")}
}

type module struct {
	host   *host.Host
	kernel kernel
}

func (module) Kind() string { return "sysctl" }

// Example implements resource.Exemplar.
func (module) Example() string {
	return `- sysctl: net.core.somaxconn
  value: 4096

- sysctl: net.ipv4.ip_local_port_range
  value: 20000 60999
`
}

func (m module) New() resource.Resource { return &Resource{host: m.host, kernel: m.kernel} }

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	file, err := host.NewDeparture(m.host, held)
	if err != nil {
		return nil, err
	}
	key := held.Address.Name
	before, _, err := notedValue(held.Prior, key)
	if err != nil {
		return nil, err
	}
	return &departure{Departure: file, kernel: m.kernel, key: key, before: before}, nil
}

// Space is the space of claims on keys.
const Space = "sysctl"

// A Resource is a kernel parameter as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`

	Key   string `yaml:"sysctl" json:"sysctl" doc:"the key, such as net.core.somaxconn"`
	Value Value  `yaml:"value" json:"value" doc:"the value; spaces between several numbers do not matter"`

	host   *host.Host
	kernel kernel
}

// A Value is a number or a string, as sysctl takes both.
type Value string

// UnmarshalText takes any scalar.
func (v *Value) UnmarshalText(text []byte) error {
	*v = Value(text)
	return nil
}

// normal returns a value with single spaces, which is how values compare.
func normal(s string) string { return strings.Join(strings.Fields(s), " ") }

// Name returns the key with dots between its parts. A part that has a dot of
// its own, such as an interface's name, is written with a slash in its place,
// as sysctl does.
func (r *Resource) Name() string {
	if i := strings.IndexAny(r.Key, "./"); i >= 0 && r.Key[i] == '/' {
		return strings.Map(swap, r.Key)
	}
	return r.Key
}

func swap(c rune) rune {
	switch c {
	case '.':
		return '/'
	case '/':
		return '.'
	}
	return c
}

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	var problems []error
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	for part := range strings.SplitSeq(r.Name(), ".") {
		if part == "" || strings.Contains(part, "..") || strings.HasPrefix(part, "/") || strings.HasSuffix(part, "/") {
			wrong("sysctl", "%q is not a key: write names with dots between them", r.Key)
			break
		}
	}
	if strings.ContainsAny(r.Key, "=# \t\n\x00%") || !strings.Contains(r.Name(), ".") {
		wrong("sysctl", "%q is not a key such as net.core.somaxconn", r.Key)
	}
	if normal(string(r.Value)) == "" {
		wrong("value", "is missing")
	}
	if strings.ContainsAny(string(r.Value), "\n\x00") {
		wrong("value", "has more than one line")
	}
	return errors.Join(problems...)
}

// file is where the value is kept. A slash cannot be in its name.
func (r *Resource) file() string {
	return "/etc/sysctl.d/60-trued-" + strings.ReplaceAll(r.Name(), "/", "%") + ".conf"
}

// Claims are the key and the file.
func (r *Resource) Claims() []resource.Claim {
	return []resource.Claim{keyClaim(r.Name()), resource.Path(r.file())}
}

func keyClaim(key string) resource.Claim { return resource.Claim{Space: Space, Name: key} }

// Needs are the directories above the file.
func (r *Resource) Needs() []resource.Need { return resource.ParentNeeds(r.file()) }

func (r *Resource) spec() host.FileSpec {
	return host.FileSpec{
		Content: resource.Bytes([]byte("# kept by trued\n" + r.Name() + " = " + normal(string(r.Value)) + "\n")),
		Mode:    r.fileMode(), Parents: true, Backup: true, Sensitive: r.Sensitive,
	}
}

func (r *Resource) fileMode() resource.Mode {
	if r.Sensitive {
		return resource.NewMode(0o600)
	}
	return resource.NewMode(0o644)
}

// The fields of a difference.
const (
	fieldLive      = "value"
	fieldPersisted = "persisted"
)

// Check compares the file and, where there is a kernel, its value.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	found, err := r.host.CompareFile(ctx, r.file(), r.spec())
	if err != nil {
		return resource.Finding{}, err
	}
	finding := resource.Finding{Diff: persisted(found.Diff), Creates: found.Creates}
	if !r.Sensitive { // the value would be in it
		finding.Witness = found.Witness("", "")
	}
	noted, added, err := host.Remember(view.Prior, r.file(), found.Prior, host.Leaving{Sensitive: r.Sensitive})
	if err != nil {
		return resource.Finding{}, err
	}
	if !view.Offline {
		now, err := r.kernel.read(r.Name())
		if err != nil {
			return resource.Finding{}, err
		}
		if finding.Witness != nil {
			finding.Witness = append(finding.Witness, now...)
		}
		if want := normal(string(r.Value)); now != want {
			finding.Diff = append(finding.Diff, change(now, want, r.Sensitive))
		}
		if _, ok, err := notedValue(noted, r.Name()); err != nil {
			return resource.Finding{}, err
		} else if !ok {
			noted, added = noteValue(noted, r.Name(), now), true
		}
	}
	if added {
		finding.Prior = noted
	}
	return finding, nil
}

// Holds implements resource.Examiner.
func (m module) Holds(_ context.Context, name string, w resource.Witness) bool {
	r := &Resource{Key: name}
	value, holds := m.host.HoldsAt(r.file(), w)
	if !holds || m.host.Offline() && len(value) == 0 {
		return holds
	}
	now, err := m.kernel.read(name)
	return err == nil && now == string(value)
}

// persisted states the differences of the file under names that do not mix
// with the value's own.
func persisted(diff resource.Diff) resource.Diff {
	for i := range diff {
		diff[i].Field = fieldPersisted + "." + diff[i].Field
	}
	return diff
}

func change(now, want string, sensitive bool) resource.Change {
	if sensitive {
		return resource.Change{Field: fieldLive, Redacted: true}
	}
	return resource.Change{Field: fieldLive, Old: now, New: want}
}

// Apply sets the value and keeps it. The kernel comes first: a value that it
// refuses is not kept.
func (r *Resource) Apply(ctx context.Context, _ resource.View, found resource.Finding) (resource.Result, error) {
	if err := ctx.Err(); err != nil {
		return resource.Result{}, err
	}
	var file resource.Diff
	for _, c := range found.Diff {
		if field, ok := strings.CutPrefix(c.Field, fieldPersisted+"."); ok {
			c.Field = field
			file = append(file, c)
		}
	}
	if found.Diff.Has(fieldLive) {
		if err := r.kernel.write(r.Name(), normal(string(r.Value)), r.Sensitive); err != nil {
			return resource.Result{}, err
		}
	}
	if len(file) == 0 {
		return resource.Result{}, nil
	}
	return resource.Result{}, r.host.WriteFile(ctx, r.file(), r.spec().Only(file))
}

// departure gives back the file and the value that the kernel had.
type departure struct {
	*host.Departure
	kernel kernel
	key    string
	before *string
}

func (d *departure) Claims() []resource.Claim {
	return append(d.Departure.Claims(), keyClaim(d.key))
}

func (d *departure) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	found, err := d.Departure.Check(ctx, view)
	if err != nil || view.Offline || d.before == nil {
		return found, err
	}
	if _, held := view.Owner(keyClaim(d.key)); held {
		return found, nil
	}
	now, err := d.kernel.read(d.key)
	var missing *MissingKeyError
	if errors.As(err, &missing) {
		return found, nil // gone with its kernel module
	}
	if err == nil && now != *d.before {
		found.Diff = append(found.Diff, change(now, *d.before, d.Sensitive))
	}
	return found, err
}

func (d *departure) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	result, err := d.Departure.Apply(ctx, view, found)
	if err != nil || !found.Diff.Has(fieldLive) {
		return result, err
	}
	return result, d.kernel.write(d.key, *d.before, d.Sensitive)
}

func notedValue(noted resource.Prior, key string) (*string, bool, error) {
	raw, ok := noted[keyClaim(key)]
	if !ok {
		return nil, false, nil
	}
	var before struct {
		Value string `json:"value"`
	}
	if err := json.Unmarshal(raw, &before); err != nil {
		return nil, false, fmt.Errorf("cannot read what was noted about %q: %w", key, err)
	}
	return &before.Value, true, nil
}

func noteValue(noted resource.Prior, key, now string) resource.Prior {
	added := maps.Clone(noted)
	if added == nil {
		added = resource.Prior{}
	}
	raw, _ := json.Marshal(map[string]string{"value": now}) // strings always marshal
	added[keyClaim(key)] = raw
	return added
}

// Watches are the file, and the kernel, which must be asked.
func (r *Resource) Watches() []resource.Watch {
	return append(resource.WatchPaths(r.file()), resource.Watch{Space: resource.WatchPoll, Name: "kernel parameter " + r.Name()})
}
