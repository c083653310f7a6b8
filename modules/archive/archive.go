// Package archive is the kind `archive`: a directory with what an archive holds,
// put in place as a whole.
//
// An archive is proven before it is read, and read with care all the same: it
// may name no path and no link out of the directory, make no device, and not
// grow beyond bounds. Nothing of it is to be seen before all of it was unpacked.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/edition"
	"trued.dev/trued/internal/host/fetch"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module { return module{host: h} }

type module struct{ host *host.Host }

func (module) Kind() string { return "archive" }

func (m module) New() resource.Resource { return &Resource{host: m.host} }

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	return edition.Absent(m.host, held)
}

// Holds implements resource.Examiner.
func (m module) Holds(ctx context.Context, name string, w resource.Witness) bool {
	return edition.Holds(ctx, m.host, name, w)
}

// Example implements resource.Exemplar.
func (module) Example() string {
	return `- archive: /opt/prometheus
  url: https://mirror.example.com/prometheus-2.53.0.linux-amd64.tar.gz
  checksum: sha256:4a1c2f0a4bb2a3a5b6f0f5d0c6f8f4d3f2fd1b7d6a9c8e7f6a5b4c3d2e1f0a9e
  strip: 1
  purge: true
`
}

// A Resource is an archive's directory as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`

	Path              string `yaml:"archive" json:"archive" doc:"the directory's absolute path; it is put in place as a whole, by an exchange of directories. The archive is a tar, plain or packed as gz, bz2, xz or zst (by the program zstd), or a zip"`
	fetch.File        `yaml:",inline"`
	Source            string `yaml:"source" json:"-" doc:"an archive of the group's directory, in place of a URL"`
	Strip             int    `yaml:"strip" json:"strip,omitempty" doc:"how many directories of each name in the archive are left out; what has no more is left out, too"`
	Creates           string `yaml:"creates" json:"creates,omitempty" doc:"guard: a path that the archive brings, absolute or below the directory; where it is, nothing is unpacked, and what was is left alone, whatever became of it"`
	UnpackedLimit     int64  `yaml:"unpacked_limit" json:"-" doc:"the most bytes that it may unpack to; 8 GiB. More than 300 times its size is refused in any case"`
	EntriesLimit      int    `yaml:"entries_limit" json:"-" doc:"the most files, directories and links that it may have; 200000"`
	edition.Directory `yaml:",inline"`

	// Wanted is an archive of the group's directory.
	Wanted *resource.Content `yaml:"-" json:"content,omitempty"`

	host *host.Host
}

// Name returns the cleaned path.
func (r *Resource) Name() string { return host.CleanPath(r.Path) }

// Load reads where the archive is, if it is in the group.
func (r *Resource) Load(l resource.Loader) (err error) {
	if r.Source != "" {
		r.Wanted, err = l.Source(r.Source)
	}
	return err
}

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	problems := r.Directory.Validate("archive", r.Path, r.Sensitive)
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	switch {
	case r.Source != "" && !r.Empty():
		wrong("source", "give a source of the group's directory or a url with its checksum")
	case r.Source == "" && r.Empty():
		wrong("url", "is missing: say where the archive is, or give a source of the group's directory")
	case r.Source == "":
		problems = append(problems, r.File.Validate()...)
	}
	if r.Creates != "" {
		problems = append(problems, host.CheckPath("creates", r.created()))
	}
	if r.Strip < 0 {
		wrong("strip", "%d is less than none", r.Strip)
	}
	if r.UnpackedLimit < 0 {
		wrong("unpacked_limit", "%d is less than nothing", r.UnpackedLimit)
	}
	if r.EntriesLimit < 0 {
		wrong("entries_limit", "%d is less than none", r.EntriesLimit)
	}
	return errors.Join(problems...)
}

// created is the path that says that the archive was unpacked.
func (r *Resource) created() string {
	if path.IsAbs(r.Creates) {
		return r.Creates
	}
	return r.Name() + "/" + r.Creates
}

// Claims is the directory.
func (r *Resource) Claims() []resource.Claim { return []resource.Claim{resource.Path(r.Name())} }

// Writes implements resource.Writer.
func (r *Resource) Writes() []resource.Write { return r.Directory.Writes(r.Name()) }

// Runs implements resource.Runner: it has nothing run, and a token read.
func (r *Resource) Runs() []resource.Program { return r.Reads() }

// Needs are the directories above, owner and group, and what opens the server.
func (r *Resource) Needs() []resource.Need {
	return slices.Concat(r.Directory.Needs(r.Name()), r.File.Needs(), r.unpackers())
}

func (r *Resource) edition() *edition.Edition {
	rel := &edition.Edition{
		Directory: &r.Directory, Host: r.host, Path: r.Name(), Sensitive: r.Sensitive,
		Version: strings.ToLower(r.Checksum), Shown: r.Short(), Fill: r.fill,
	}
	if r.Wanted != nil {
		rel.Version = "sha256:" + r.Wanted.SHA256
		rel.Shown = fmt.Sprintf("sha256 %.16s", r.Wanted.SHA256)
	}
	if r.Strip > 0 {
		rel.Version += fmt.Sprintf(" without %d directories", r.Strip)
	}
	return rel
}

// Check compares the directory with what was unpacked. It asks no server.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	if err := ctx.Err(); err != nil {
		return resource.Finding{}, err
	}
	if r.Creates == "" {
		return r.edition().Check(ctx, view)
	}
	_, err := r.host.Lstat(host.CleanPath(r.created()))
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return resource.Finding{}, err
	}
	found, err := r.edition().Check(ctx, view)
	if err == nil && found.InOrder() {
		err = fmt.Errorf("the archive was unpacked and did not bring %q (creates)", r.created())
	}
	return found, err
}

// Apply unpacks the archive beside the directory and exchanges the two.
func (r *Resource) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	return r.edition().Apply(ctx, view, found)
}

// fill has the archive whole and proven before it reads any of it.
func (r *Resource) fill(ctx context.Context, to *host.Tree) error {
	f, err := to.Scratch()
	if err != nil {
		return err
	}
	defer f.Close()
	if r.Wanted != nil {
		err = r.copySource(ctx, f)
	} else {
		_, err = r.Receive(ctx, r.host, f, r.Sensitive)
	}
	if err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	u := &unpacking{
		ctx: ctx, to: to, strip: r.Strip,
		file:      func(m fs.FileMode) resource.Mode { return r.Directory.File(m, r.Sensitive) },
		directory: func(m fs.FileMode) resource.Mode { return r.Folder(m, r.Sensitive) },
		limits:    limits{bytes: r.UnpackedLimit, entries: r.EntriesLimit},
	}
	if u.limits.bytes == 0 {
		u.limits.bytes = defaultBytes
	}
	if u.limits.entries == 0 {
		u.limits.entries = defaultEntries
	}
	if err := u.run(f, size); err != nil {
		return fmt.Errorf("cannot unpack the archive of %q: %w", r.Name(), err)
	}
	return nil
}

func (r *Resource) copySource(ctx context.Context, to io.Writer) error {
	from, err := r.Wanted.Open()
	if err != nil {
		return fmt.Errorf("cannot read source %q: %w", r.Source, err)
	}
	defer from.Close()
	n, err := edition.Copy(ctx, to, from)
	if err == nil && n != r.Wanted.Size {
		err = errors.New("it is not what it was when it was loaded")
	}
	if err != nil {
		return fmt.Errorf("cannot read source %q: %w", r.Source, err)
	}
	return nil
}

// Watches are the directory and all that is below it, and what says that there is
// nothing to do.
func (r *Resource) Watches() []resource.Watch {
	watches := []resource.Watch{{Space: resource.WatchTree, Name: r.Name()}}
	if path.IsAbs(r.Creates) {
		watches = append(watches, resource.Watch{Space: resource.WatchPath, Name: host.CleanPath(r.Creates)})
	}
	return watches
}
