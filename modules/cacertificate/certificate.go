// Package cacertificate is the kind `ca_certificate`: a certificate authority
// that the machine trusts beside those that its system comes with.
//
// The certificate is put where the system takes local ones from, and the system's
// own program makes the bundle of all that are trusted, which must hold it then.
package cacertificate

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/files"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module {
	return module{store: &store{host: h, layout: sync.OnceValue(func() layout { return layoutOf(h) })}}
}

type module struct{ store *store }

func (module) Kind() string { return "ca_certificate" }

func (m module) New() resource.Resource { return &Resource{store: m.store, now: time.Now} }

// Example is what the reference shows.
func (module) Example() string {
	return "- ca_certificate: example-root\n  source: files/example-root.pem\n"
}

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	d, err := host.NewDeparture(m.store.host, held)
	if err != nil {
		return nil, err
	}
	gone := &departure{Departure: d, store: m.store, claim: claim(held.Address.Name)}
	_, err = held.Prior.Recall(gone.claim, &gone.noted)
	return gone, err
}

// Holds implements resource.Examiner.
func (m module) Holds(_ context.Context, name string, w resource.Witness) bool {
	rest, holds := m.store.host.HoldsAt(m.store.file(name), w)
	if !holds || len(rest) < dateSize {
		return false
	}
	until, rest := binary.LittleEndian.Uint64(rest), rest[dateSize:]
	if uint64(time.Now().Unix()) >= until { //nolint:gosec // the time is not before 1970
		return false
	}
	if m.store.host.Offline() {
		return len(rest) == 0
	}
	return m.store.host.HoldsFiles(rest, m.store.layout().bundle)
}

const dateSize = 8

// A Resource is a certificate as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`

	Title string `yaml:"ca_certificate" json:"ca_certificate" doc:"what the certificate's file is called, without an ending"`
	State string `yaml:"state" json:"state,omitempty" words:"present,absent" doc:"present (default) or absent"`

	files.Content `yaml:",inline"`

	store  *store
	now    func() time.Time
	loaded *x509.Certificate
	fault  error
}

// Space is the space of claims on the names of certificates.
const Space = "ca certificate"

func claim(name string) resource.Claim { return resource.Claim{Space: Space, Name: name} }

// Name returns what the certificate is called.
func (r *Resource) Name() string { return r.Title }

func (r *Resource) absent() bool { return r.State == host.Absent }

// Load reads the certificate. It is written in one form, however it is in Git.
func (r *Resource) Load(l resource.Loader) error {
	if err := r.Content.Load(l); err != nil || r.Wanted == nil {
		return err
	}
	var text []byte
	if r.loaded, text, r.fault = readCertificate(r.Wanted); r.fault == nil {
		r.Wanted = resource.Bytes(text)
	}
	return nil
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

// named reports whether a text can be the name of a file, and of no hidden one.
func named(s string) bool {
	return s != "" && strings.Trim(s[:1], letters) == "" && strings.Trim(s, letters+".-") == ""
}

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	problems := []error{r.Content.Validate()}
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if !named(r.Title) {
		wrong("ca_certificate", "%q is not a name of letters, digits, '.', '_' and '-'", r.Title)
	}
	switch r.State {
	case "", "present":
		if r.Given() == 0 {
			wrong("content", "is missing: give one of content, source and template")
		} else if r.fault != nil {
			wrong(r.way(), "%v", r.fault)
		}
	case host.Absent:
		if r.Given() > 0 {
			wrong("state", "a certificate that is absent has no content")
		}
	default:
		wrong("state", "%q is neither present nor absent", r.State)
	}
	return errors.Join(problems...)
}

// way is the attribute that the content was given in.
func (r *Resource) way() string {
	switch {
	case r.Source != "":
		return "source"
	case r.Template != "":
		return "template"
	}
	return "content"
}

// Claims are the name and the file.
func (r *Resource) Claims() []resource.Claim {
	return append(files.Claims(r.files()), claim(r.Title))
}

// Needs are the directories above the file, and the package that makes bundles.
func (r *Resource) Needs() []resource.Need {
	return append(files.Needs(r.files()), resource.Need{Claim: r.store.brings()})
}

// Writes implements resource.Writer: the file, and where the host's own program
// puts what it makes of all of them.
func (r *Resource) Writes() []resource.Write {
	made := resource.Write{Path: path.Dir(r.store.layout().bundle), Directory: true, Tree: true, Implied: true}
	return append(files.Writes(r.files()), made)
}

func (r *Resource) files() []files.File {
	return []files.File{{Path: r.store.file(r.Title), Absent: r.absent(), Spec: host.FileSpec{
		Content: r.Wanted, Mode: resource.NewMode(0o644), Parents: true, Backup: true, Sensitive: r.Sensitive,
	}}}
}

// fieldTrusted tells whether the bundle holds the certificate.
const fieldTrusted = "trusted"

// A note is what is remembered of a certificate.
type note struct {
	// SHA256 is the digest of the certificate that was put in last.
	SHA256 string `json:"sha256"`
	// Before is true when the bundle held it already.
	Before bool `json:"before,omitempty"`
}

// Check compares the file and, on a running machine, the bundle.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	finding, err := files.Check(ctx, r.store.host, view, r.files())
	if err != nil {
		return resource.Finding{}, err
	}
	if !view.Offline {
		if err := r.checkBundle(view, &finding); err != nil {
			return resource.Finding{}, err
		}
	}
	if len(finding.Diff) > 0 {
		finding.Owes = []resource.Reaction{resource.Run}
	}
	finding.Note = r.remark()
	r.witness(&finding, view.Offline)
	return finding, nil
}

func (r *Resource) checkBundle(view resource.View, finding *resource.Finding) error {
	if !r.absent() {
		bundle, err := r.store.bundle()
		if err != nil {
			return err
		}
		sum := digest(r.loaded)
		trusted := bundle.has(sum)
		if !trusted {
			finding.Diff = append(finding.Diff, resource.Change{Field: fieldTrusted, Old: "false", New: "true"})
		}
		if err := r.remember(view, finding, sum, trusted); err != nil {
			return err
		}
	}
	if len(finding.Diff) == 0 || r.store.tool() != nil {
		return nil
	}
	if by, managed := view.Owner(r.store.brings()); managed {
		finding.Unknown = fmt.Sprintf("%s brings %s, which makes the bundle", by, r.store.layout().tool[0])
		return nil
	}
	return fmt.Errorf("%s, which makes the bundle of what is trusted, is not installed: declare the package %s",
		r.store.layout().tool[0], r.store.brings().Name)
}

// remember notes which certificate is put in, and whether it was in the bundle
// before.
func (r *Resource) remember(view resource.View, finding *resource.Finding, sum string, trusted bool) error {
	var noted note
	known, err := view.Prior.Recall(claim(r.Title), &noted)
	if err != nil || known && noted.SHA256 == sum {
		return err
	}
	prior := finding.Prior
	if prior == nil {
		prior = view.Prior
	}
	prior, err = prior.With(claim(r.Title), note{SHA256: sum, Before: trusted})
	if prior != nil {
		finding.Prior = prior
	}
	return err
}

// soon is how long before its end a certificate is remarked upon.
const soon = 30 * 24 * time.Hour

// remark tells what is the matter with the certificate's time. A host is not out
// of order because of it: nobody changed anything.
func (r *Resource) remark() string {
	if r.absent() || r.loaded == nil {
		return ""
	}
	now, from, until := r.now(), r.loaded.NotBefore, r.loaded.NotAfter
	switch {
	case now.After(until):
		return "the certificate expired on " + until.UTC().Format(time.DateOnly) + ": nothing that it signed is accepted"
	case now.Before(from):
		return "the certificate is not valid before " + from.UTC().Format(time.DateTime)
	case now.After(until.Add(-soon)):
		return "the certificate expires on " + until.UTC().Format(time.DateOnly)
	}
	return ""
}

// witness adds to that of the file until when there is nothing to remark, and the
// bundle.
func (r *Resource) witness(finding *resource.Finding, offline bool) {
	w := finding.Witness
	finding.Witness = nil
	if w == nil || r.absent() || finding.Note != "" {
		return
	}
	w = binary.LittleEndian.AppendUint64(w, uint64(max(0, r.loaded.NotAfter.Add(-soon).Unix())))
	if offline {
		finding.Witness = w
		return
	}
	if seen := r.store.host.WitnessFiles(r.store.layout().bundle); seen != nil {
		w = append(w, seen...)
		finding.Witness = w
	}
}

// Apply puts the file in place, or removes it, and has the bundle made.
func (r *Resource) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	if err := files.Apply(ctx, r.store.host, view, r.files(), found); err != nil {
		return resource.Result{}, err
	}
	if view.Offline {
		return resource.Result{Settled: true, Pending: offline(found)}, nil
	}
	if len(found.Diff) == 0 {
		return resource.Result{}, nil
	}
	err := r.store.update(ctx, found.Creates)
	return resource.Result{Settled: err == nil}, err
}

func offline(found resource.Finding) string {
	if len(found.Diff) == 0 {
		return ""
	}
	return "the bundle of what is trusted is made when the machine runs"
}

// Triggers lists nothing: the bundle is owed to changes of the file alone.
func (r *Resource) Triggers() []resource.Trigger { return nil }

// React has the bundle made, where a run was cut off before it was.
func (r *Resource) React(ctx context.Context, view resource.View, _ []resource.Reaction) (resource.Result, error) {
	if view.Offline {
		return resource.Result{}, nil
	}
	return resource.Result{}, r.store.update(ctx, false)
}

// Watches are the certificate and the bundle that is made of it.
func (r *Resource) Watches() []resource.Watch {
	return append(files.Watches(r.files()), resource.WatchPaths(r.store.layout().bundle)...)
}
