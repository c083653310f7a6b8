package cacertificate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/release"
	"trued.dev/trued/internal/resource"
)

// A layout is where a family of systems keeps what it trusts.
type layout struct {
	// directory is where local certificates are taken from.
	directory string
	// tool makes the bundle, fresh does so leaving out what is no longer there.
	tool, fresh []string
	bundle      string
}

// layoutOf returns the layout of a machine. Where nothing says which it is, that
// of Debian, which others have taken over.
func layoutOf(h *host.Host) layout {
	r, _ := release.Read(os.DirFS(h.Root())) // what cannot be read says nothing
	switch r.Family() {
	case release.RHEL:
		return layout{
			directory: "/etc/pki/ca-trust/source/anchors",
			tool:      []string{"update-ca-trust", "extract"}, fresh: []string{"update-ca-trust", "extract"},
			bundle: "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
		}
	case release.Arch:
		return layout{
			directory: "/etc/ca-certificates/trust-source/anchors",
			tool:      []string{"update-ca-trust"}, fresh: []string{"update-ca-trust"},
			bundle: "/etc/ca-certificates/extracted/tls-ca-bundle.pem",
		}
	case release.SUSE:
		return layout{
			directory: "/etc/pki/trust/anchors",
			tool:      []string{"update-ca-certificates"}, fresh: []string{"update-ca-certificates", "--fresh"},
			bundle: "/var/lib/ca-certificates/ca-bundle.pem",
		}
	}
	return layout{
		directory: "/usr/local/share/ca-certificates",
		tool:      []string{"update-ca-certificates"}, fresh: []string{"update-ca-certificates", "--fresh"},
		bundle: "/etc/ssl/certs/ca-certificates.crt",
	}
}

// A store is what a machine trusts.
type store struct {
	host   *host.Host
	layout func() layout
	making sync.Mutex
}

func (s *store) file(name string) string { return path.Join(s.layout().directory, name+".crt") }

// brings is the package that brings the tool, everywhere.
func (s *store) brings() resource.Claim {
	return resource.Claim{Space: resource.SpacePackage, Name: "ca-certificates"}
}

func (s *store) tool() []string { return s.host.Program(s.layout().tool[0]) }

const bundleLimit = 16 << 20

// bundle reads what is trusted; nothing where there is no bundle.
func (s *store) bundle() (bundle, error) {
	data, err := s.host.ReadFile(s.layout().bundle, bundleLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return bundle{}, nil
	}
	return parseBundle(data), err
}

// update has the bundle made. Only for a file that is new does the quick way do:
// for others, links by the hashes of certificates would be left.
func (s *store) update(ctx context.Context, quick bool) error {
	s.making.Lock()
	defer s.making.Unlock()
	args := s.layout().fresh
	if quick {
		args = s.layout().tool
	}
	call := s.tool()
	if call == nil {
		return fmt.Errorf("%s is not installed", args[0])
	}
	if _, err := s.host.Run(ctx, host.Command{Args: slices.Concat(call, args[1:])}); err != nil {
		return fmt.Errorf("cannot make the bundle of what is trusted: %w", err)
	}
	return nil
}

// A departure gives back the file, and has the bundle made without the
// certificate.
type departure struct {
	*host.Departure
	store *store
	claim resource.Claim
	noted note
	// stays is true when the bundle holds it still, by the doing of others.
	stays bool
}

func (d *departure) Claims() []resource.Claim { return append(d.Departure.Claims(), d.claim) }

func (d *departure) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	found, err := d.Departure.Check(ctx, view)
	if err != nil || view.Offline || d.noted.SHA256 == "" || d.noted.Before {
		return found, err
	}
	if _, held := view.Owner(d.claim); held {
		return found, nil
	}
	bundle, err := d.store.bundle()
	switch {
	case err != nil || !bundle.has(d.noted.SHA256):
	case d.stays:
		found.Note = "the certificate stays trusted: the system, or another file, brings it as well"
	default:
		found.Diff = append(found.Diff, resource.Change{Field: fieldTrusted, Old: "true", New: "false"})
	}
	return found, err
}

func (d *departure) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	result, err := d.Departure.Apply(ctx, view, found)
	if err != nil || view.Offline || len(found.Diff) == 0 {
		return result, err
	}
	if d.store.tool() == nil && !found.Diff.Has(fieldTrusted) {
		return result, nil // nobody is there who would make a bundle
	}
	if err := d.store.update(ctx, false); err != nil {
		return result, err
	}
	bundle, err := d.store.bundle()
	d.stays = err == nil && bundle.has(d.noted.SHA256)
	return result, err
}
