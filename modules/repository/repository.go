// Package repository is the kind `repository`: where the package manager gets
// packages from, with the key that they are signed with and a preference for or
// against them.
//
// It writes the package manager's own files. That packages come after them, and
// that the index is fetched anew when one changes, follows from what they claim.
package repository

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/files"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module {
	return module{host: h, form: sync.OnceValue(func() form { return formOf(h) })}
}

type module struct {
	host *host.Host
	// form is what the package manager of the host reads.
	form func() form
}

func (module) Kind() string { return "repository" }

func (m module) New() resource.Resource {
	return &Resource{host: m.host, form: m.form, now: time.Now}
}

// Example is what the reference shows.
func (module) Example() string {
	return `- repository: docker
  uris: [https://download.docker.com/linux/debian]
  suites: [bookworm]
  components: [stable]
  signed_by: files/docker.asc
  fingerprint: 9DC8 5822 9FC7 DD38 854A E2D8 8D81 803C 0EBF CD88
  pin: {priority: 100}

- package: docker-ce
`
}

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	return host.NewDeparture(m.host, held)
}

// A Resource is a repository as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`

	Title         string            `yaml:"repository" json:"repository" doc:"what its files are called, without an ending; on rpm systems its id as well"`
	Description   string            `yaml:"description" json:"description,omitempty" doc:"what it is called for people"`
	URIs          []string          `yaml:"uris" json:"uris,omitempty" doc:"where it is; several are the same elsewhere"`
	Types         []string          `yaml:"types" json:"types,omitempty" doc:"apt: deb (default), deb-src"`
	Suites        []string          `yaml:"suites" json:"suites,omitempty" doc:"apt: the suites, such as bookworm; or one path that ends in / in a repository without suites"`
	Components    []string          `yaml:"components" json:"components,omitempty" doc:"apt: the components of the suites, such as main"`
	Architectures []string          `yaml:"architectures" json:"architectures,omitempty" doc:"apt: only these"`
	Enabled       *bool             `yaml:"enabled" json:"enabled,omitempty" doc:"false: it is known, and not used"`
	SignedBy      string            `yaml:"signed_by" json:"signed_by,omitempty" doc:"the key: a file of the group's directory, armored or not, or the absolute path of one that is on the host"`
	Key           string            `yaml:"key" json:"-" doc:"the armored key itself, in place of signed_by"`
	Fingerprint   string            `yaml:"fingerprint" json:"fingerprint,omitempty" doc:"the key's fingerprint, which it must have; with commas between those of several. A key in Git must have one"`
	Pin           *Pin              `yaml:"pin" json:"pin,omitempty" doc:"apt: how much its packages are preferred: priority, and packages (all by default)"`
	Options       map[string]string `yaml:"options" json:"options,omitempty" doc:"other fields of the package manager's own file"`
	State         string            `yaml:"state" json:"state,omitempty" words:"present,absent" doc:"present (default) or absent"`

	// Keyring is the key as it was read.
	Keyring *keyring `yaml:"-" json:"keyring,omitempty"`

	host  *host.Host
	form  func() form
	now   func() time.Time
	fault error
}

// A Pin is a preference of apt's for the packages of a repository.
type Pin struct {
	Priority int      `yaml:"priority" json:"priority" doc:"apt's priority: below 0 never, 100 only when there is no other, 500 like all, above 1000 even a downgrade"`
	Packages []string `yaml:"packages" json:"packages,omitempty" doc:"for these only"`
	On       string   `yaml:"on" json:"on,omitempty" doc:"what it is known by, such as release o=Docker; the server's name by default"`
}

// Name returns what its files are called.
func (r *Resource) Name() string { return r.Title }

func (r *Resource) absent() bool { return r.State == host.Absent }

// fromGit reports whether the key comes with the manifest.
func (r *Resource) fromGit() bool {
	return r.Key != "" || r.SignedBy != "" && !strings.HasPrefix(r.SignedBy, "/")
}

// Load reads the key.
func (r *Resource) Load(l resource.Loader) error {
	content := resource.Bytes([]byte(r.Key))
	switch {
	case !r.fromGit():
		return nil
	case r.Key == "":
		var err error
		if content, err = l.Source(r.SignedBy); err != nil {
			return err
		}
	}
	r.Keyring, r.fault = readKeyring(content)
	return nil
}

// named reports whether a text can be the name of a file, and of no hidden one.
func named(s string) bool {
	return s != "" && strings.Trim(s[:1], "._-") != "" && strings.Trim(s, letters+".") == ""
}

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	var problems []error
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if !named(r.Title) {
		wrong("repository", "%q is not a name of letters, digits, '.', '_' and '-'", r.Title)
	}
	switch r.State {
	case "", "present":
		problems = append(problems, r.validateURIs()...)
		problems = append(problems, r.validateKey()...)
		problems = append(problems, r.validateWords()...)
	case host.Absent:
		if len(r.URIs) > 0 || r.SignedBy != "" || r.Key != "" || r.Pin != nil {
			wrong("state", "a repository that is absent has nothing else")
		}
	default:
		wrong("state", "%q is neither present nor absent", r.State)
	}
	return errors.Join(problems...)
}

func (r *Resource) validateURIs() []error {
	var problems []error
	if len(r.URIs) == 0 {
		problems = append(problems, resource.Wrong("uris", "is missing"))
	}
	for _, s := range r.URIs {
		u, err := url.Parse(s)
		switch {
		case strings.ContainsFunc(s, space):
			problems = append(problems, resource.Wrong("uris", "there is a space in %q: write each by itself", s))
		case err != nil && !strings.Contains(s, "$"): // dnf has variables anywhere
			problems = append(problems, resource.Wrong("uris", "%q is not a URI", s))
		case err == nil && u.Scheme == "":
			problems = append(problems, resource.Wrong("uris", "%q does not begin with a scheme such as https:", s))
		case err == nil && u.User != nil && !r.Sensitive:
			problems = append(problems, resource.Wrong("uris", "there are credentials in one, which everybody could read: "+
				"put them into /etc/apt/auth.conf.d, or set `sensitive: true`"))
		}
	}
	return problems
}

func (r *Resource) validateKey() []error {
	var problems []error
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	field := "signed_by"
	if r.Key != "" {
		field = "key"
	}
	switch {
	case r.Key != "" && r.SignedBy != "":
		wrong("key", "give one of key and signed_by")
	case strings.HasPrefix(r.SignedBy, "/"):
		problems = append(problems, host.CheckPath("signed_by", r.SignedBy))
		if strings.ContainsFunc(r.SignedBy, space) {
			wrong("signed_by", "there is a space in %q", r.SignedBy)
		}
	case !r.fromGit() && r.Fingerprint != "":
		wrong("fingerprint", "there is no key that could have it: give signed_by or key")
	case !r.fromGit():
	case r.fault != nil:
		wrong(field, "%v", r.fault)
	case r.Keyring == nil: // not loaded yet
	case r.Fingerprint == "":
		wrong("fingerprint", "is missing: compare that of the key, %s, with what its owner publishes, and write it here",
			strings.Join(r.Keyring.Fingerprints, ", "))
	}
	want, err := parseFingerprints(r.Fingerprint)
	if err != nil {
		wrong("fingerprint", "%v", err)
	} else if r.Keyring != nil && r.Fingerprint != "" && !slices.Equal(want, r.Keyring.Fingerprints) {
		wrong("fingerprint", "it is %s, and the key has %s", strings.Join(want, ", "), strings.Join(r.Keyring.Fingerprints, ", "))
	}
	return problems
}

func space(c rune) bool { return c <= ' ' }

func (r *Resource) validateWords() []error {
	var problems []error
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	for field, words := range map[string][]string{
		"types": r.Types, "suites": r.Suites, "components": r.Components, "architectures": r.Architectures,
	} {
		for _, w := range words {
			if w == "" || strings.ContainsFunc(w, space) {
				wrong(field, "%q is not one word", w)
			}
		}
	}
	for _, w := range r.Types {
		if w != "deb" && w != "deb-src" {
			wrong("types", "%q is neither deb nor deb-src", w)
		}
	}
	if strings.ContainsFunc(r.Description, control) {
		wrong("description", "has more than one line")
	}
	if p := r.Pin; p != nil {
		if p.Priority == 0 {
			wrong("pin", "its priority is missing")
		}
		if slices.ContainsFunc(append([]string{p.On}, p.Packages...), func(s string) bool { return strings.ContainsFunc(s, control) }) {
			wrong("pin", "has more than one line")
		}
	}
	for key, value := range r.Options {
		if strings.Trim(key, letters) != "" || key == "" || strings.ContainsFunc(value, control) {
			wrong("options", "%q with the value %q is not a field", key, value)
		} else if own := r.attribute(key); own != "" {
			wrong("options", "%q has an attribute of its own: %s", key, own)
		}
	}
	return problems
}

func control(c rune) bool { return c < ' ' }

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

// attribute is the one that a field of a package manager's stands for.
func (r *Resource) attribute(field string) string {
	return map[string]string{
		"types": "types", "uris": "uris", "suites": "suites", "components": "components", "architectures": "architectures",
		"enabled": "enabled", "signed-by": "signed_by", "baseurl": "uris", "gpgkey": "signed_by", "name": "description",
	}[strings.ToLower(field)]
}

// Claims are the files, which say what the repository is to others as well.
func (r *Resource) Claims() []resource.Claim { return files.Claims(r.files()) }

// Needs are the directories above the files, and the key where it is another's.
func (r *Resource) Needs() []resource.Need {
	needs := files.Needs(r.files())
	if strings.HasPrefix(r.SignedBy, "/") {
		needs = append(needs, resource.Need{Claim: resource.Path(host.CleanPath(r.SignedBy))})
	}
	return needs
}

// Locations implements resource.Linked.
func (r *Resource) Locations() []string { return r.URIs }

// Writes implements resource.Writer.
func (r *Resource) Writes() []resource.Write { return files.Writes(r.files()) }

func (r *Resource) files() []files.File {
	all := r.form().files(r)
	for i := range all {
		all[i].Spec.Parents, all[i].Spec.Backup = true, true
		all[i].Spec.Mode = resource.NewMode(0o644)
	}
	if r.Sensitive {
		all[0].Spec.Sensitive, all[0].Spec.Mode = true, resource.NewMode(0o600)
	}
	return all
}

// Watches are the files.
func (r *Resource) Watches() []resource.Watch { return files.Watches(r.files()) }

// Check compares the files.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	if err := r.suits(); err != nil {
		return resource.Finding{}, err
	}
	now := r.now()
	seen, err := r.witness(now) // before anything is read
	if err != nil {
		return resource.Finding{}, err
	}
	finding, err := files.Check(ctx, r.host, view, r.files())
	finding.Witness = nil
	if err != nil || r.absent() {
		return finding, err
	}
	twice, err := r.form().twice(r)
	if err != nil {
		return resource.Finding{}, err
	}
	if err := r.judge(&finding, view, twice); err != nil {
		return resource.Finding{}, err
	}
	finding.Note = joined(r.Keyring.remarks(now), finding.Note)
	if finding.Note == "" && len(finding.Diff) == 0 {
		finding.Witness = seen
	}
	return finding, nil
}

// judge says what is to be done about other files that define the repository. One
// that breaks all goes at once where its resource has left: as long as both are
// there nothing can be installed, and what fails for that keeps it from leaving.
func (r *Resource) judge(finding *resource.Finding, view resource.View, twice []second) error {
	changes := len(finding.Diff) > 0
	var notes []string
	for _, t := range twice {
		_, managed := view.Owner(resource.Path(t.file))
		switch {
		case t.breaks && !managed && r.host.Departing(t.file):
			finding.Diff = append(finding.Diff, resource.Change{
				Field: host.FieldState + ":" + t.file, Old: host.TypeFile, New: host.Absent, Cause: resource.Prune,
			})
			continue
		case t.breaks && !managed && changes:
			return &ClashError{t.file}
		}
		notes = append(notes, t.String())
	}
	finding.Note = joined(notes, finding.Note)
	return nil
}

func joined(notes []string, more string) string {
	if more != "" {
		notes = append(notes, more)
	}
	return strings.Join(notes, "; ")
}

// A ClashError is another file that has the same repository with another key.
type ClashError struct{ File string }

func (e *ClashError) Error() string {
	return fmt.Sprintf("%s defines it as well, with another key, and apt would read no repository at all: "+
		"declare that file as well, with `state: absent`, or remove it", e.File)
}

// Remark tells what is the matter with the keys' time.
func (r *Resource) Remark() string { return strings.Join(r.Keyring.remarks(r.now()), "; ") }

// suits reports what the package manager of the host cannot do.
func (r *Resource) suits() error {
	if r.absent() {
		return nil
	}
	for _, a := range r.form().lacks(r) {
		return fmt.Errorf("%s: %s", a.field, a.why)
	}
	return nil
}

// Apply writes the files, and removes what leaves and would break them.
func (r *Resource) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	if err := files.Apply(ctx, r.host, view, r.files(), found); err != nil || r.absent() {
		return resource.Result{}, err
	}
	twice, err := r.form().twice(r)
	for _, t := range twice {
		if found.Diff.Has(host.FieldState+":"+t.file) && r.host.Departing(t.file) {
			err = errors.Join(err, r.host.Discard(t.file, false, true))
		}
	}
	return resource.Result{}, err
}
