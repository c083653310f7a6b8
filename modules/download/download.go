// Package download is the kind `download`: one regular file whose content comes
// from a URL and is known by its checksum.
//
// A file that is right on disk is never asked for again, and nothing that came
// over the network takes the file's place before all of it was proven.
package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/fetch"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module { return module{host: h} }

type module struct{ host *host.Host }

func (module) Kind() string { return "download" }

func (m module) New() resource.Resource { return &Resource{host: m.host} }

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	return host.NewDeparture(m.host, held)
}

// Holds implements resource.Examiner.
func (m module) Holds(_ context.Context, name string, w resource.Witness) bool {
	return m.host.Holds(name, w)
}

// Example implements resource.Exemplar.
func (module) Example() string {
	return `- download: /usr/local/bin/caddy
  url: https://mirror.example.com/caddy/2.8.4/caddy-linux-amd64
  mirrors: [https://downloads.example.org/caddy-2.8.4-linux-amd64]
  checksum: sha256:e4a1c2f0a4bb2a3a5b6f0f5d0c6f8f4d3f2fd1b7d6a9c8e7f6a5b4c3d2e1f0a9
  mode: "0755"
`
}

// A Resource is a file as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`
	host.Deputed

	Path       string `yaml:"download" json:"download" doc:"the file's absolute path"`
	fetch.File `yaml:",inline"`
	Owner      string        `yaml:"owner" json:"owner,omitempty" doc:"name or number of the owner"`
	Group      string        `yaml:"group" json:"group,omitempty" doc:"name or number of the group"`
	Mode       resource.Mode `yaml:"mode" json:"mode,omitzero" doc:"octal mode with a leading zero; a new file gets 0644"`
	Accept     string        `yaml:"validate" json:"-" doc:"a command that must accept the new file; {path} stands for it"`
	Backup     *bool         `yaml:"backup" json:"-" doc:"true: keep a copy of whatever is replaced; else only of what was there before the first download"`
	Restore    *bool         `yaml:"restore" json:"-" doc:"false: delete the file when it leaves Git, whatever was there before"`
	Parents    bool          `yaml:"parents" json:"-" doc:"true: make missing directories above the file"`
	Force      bool          `yaml:"force" json:"-" doc:"true: replace a directory or a link"`

	host *host.Host
}

// Name returns the cleaned path.
func (r *Resource) Name() string { return host.CleanPath(r.Path) }

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	problems := append(r.File.Validate(), host.CheckPath("download", r.Path))
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if r.Name() == "/" {
		wrong("download", "\"/\" is a directory")
	}
	if r.Sensitive && r.Mode.Bits()&0o007 != 0 {
		wrong("mode", "%s lets everyone at a sensitive file: write \"0600\" or \"0640\"", r.Mode)
	}
	if r.Accept != "" {
		if _, err := host.SplitCommand(r.Accept); err != nil {
			wrong("validate", "%v", err)
		}
	}
	return errors.Join(problems...)
}

// Claims is the path.
func (r *Resource) Claims() []resource.Claim { return []resource.Claim{resource.Path(r.Name())} }

// Needs are the directories above, owner and group, and what opens the server.
func (r *Resource) Needs() []resource.Need {
	needs := append(resource.ParentNeeds(r.Name()), host.AccountNeeds(r.Owner, r.Group)...)
	return append(needs, r.File.Needs()...)
}

// Writes implements resource.Writer.
func (r *Resource) Writes() []resource.Write {
	return []resource.Write{{Path: r.Name(), Owner: r.Owner, Group: r.Group, Mode: r.Mode, Tree: r.Force}}
}

// Runs implements resource.Runner.
func (r *Resource) Runs() []resource.Program {
	return append(host.ValidateProgram(r.Accept), r.Reads()...)
}

// spec is the file with the content of a SHA-256, "" when that is not known.
func (r *Resource) spec(sum string) host.FileSpec {
	mode := r.Mode
	if r.Sensitive {
		mode = mode.Or(0o600)
	}
	return host.FileSpec{
		Content: resource.Lazy(-1, sum, false, func() (io.ReadCloser, error) {
			return nil, errors.New("it is on a server")
		}),
		Receive: func(ctx context.Context, to *os.File) error {
			_, err := r.Receive(ctx, r.host, to, r.Sensitive)
			return err
		},
		Mode: mode, Owner: r.Owner, Group: r.Group,
		Force: r.Force, Parents: r.Parents, Sensitive: r.Sensitive, Validate: r.Accept, ValidateAs: r.As(),
	}
}

func (r *Resource) leaving() host.Leaving {
	return host.Leaving{
		Discard:   r.Restore != nil && !*r.Restore,
		NoBackup:  r.Backup == nil || !*r.Backup,
		Sensitive: r.Sensitive,
	}
}

// Check compares the file. It asks no server.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	if err := ctx.Err(); err != nil {
		return resource.Finding{}, err
	}
	name, noted := r.Name(), view.Prior
	sum, learnt, err := r.expected(ctx, noted)
	if err != nil {
		return resource.Finding{}, err
	}
	found, err := r.host.CompareFile(ctx, name, r.spec(sum))
	if err != nil {
		return resource.Finding{}, err
	}
	finding := resource.Finding{Diff: found.Diff, Creates: found.Creates, Witness: found.Witness(r.Owner, r.Group)}
	for i, c := range finding.Diff {
		if c.Field == host.FieldContent && !c.Redacted {
			finding.Diff[i].New = r.Short()
		}
		if found.Creates && c.Field == host.FieldContent {
			finding.Diff[i].Old = ""
		}
	}
	if found.NoParent != "" {
		finding.Note = fmt.Sprintf("directory %s is not there yet", found.NoParent)
	}
	noted, added, err := host.Remember(noted, name, found.Prior, r.leaving())
	if err != nil {
		return finding, err
	}
	if learnt != nil {
		with, err := noted.With(r.claim(), learnt)
		if err != nil {
			return finding, err
		}
		if with != nil {
			noted, added = with, true
		}
	}
	if added {
		finding.Prior = noted
	}
	return finding, nil
}

// A lesson is which SHA-256 a file has that is known by another checksum, so
// that it need not be read to be compared.
type lesson struct {
	Checksum string `json:"checksum"`
	SHA256   string `json:"sha256"`
}

// claim is where a lesson is noted.
func (r *Resource) claim() resource.Claim {
	return resource.Claim{Space: "download", Name: r.Name()}
}

// expected returns the SHA-256 that the file is to have, as far as it is known or
// can be told from the file that is there, and what was learnt. Of a sensitive
// file nothing is noted.
func (r *Resource) expected(ctx context.Context, noted resource.Prior) (sum string, learnt *lesson, err error) {
	if sum = r.SHA256(); sum != "" {
		return sum, nil, nil
	}
	var known lesson
	if ok, err := noted.Recall(r.claim(), &known); err != nil {
		return "", nil, err
	} else if ok && known.Checksum == r.Checksum {
		return known.SHA256, nil, nil
	}
	sum, err = r.look(ctx)
	if sum == "" || r.Sensitive || err != nil {
		return sum, nil, err
	}
	return sum, &lesson{Checksum: r.Checksum, SHA256: sum}, nil
}

// look returns the SHA-256 of the file that is there, if it has the checksum.
func (r *Resource) look(ctx context.Context) (sum string, err error) {
	err = r.host.Read(r.Name(), func(f io.Reader) error {
		ok, is, err := r.Matches(ctx, f)
		if ok {
			sum = is
		}
		return err
	})
	var other *host.TypeError
	if errors.Is(err, fs.ErrNotExist) || errors.As(err, &other) {
		err = nil // comparing says so
	}
	return sum, err
}

// Apply brings about what the difference states.
func (r *Resource) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	if err := ctx.Err(); err != nil || len(found.Diff) == 0 {
		return resource.Result{}, err
	}
	name := r.Name()
	noted := view.Prior
	if found.Prior != nil {
		noted = found.Prior
	}
	spec := r.spec(r.SHA256()).Only(found.Diff)
	var err error
	if spec.Backup, err = r.keeps(noted, name); err != nil {
		return resource.Result{}, err
	}
	staged, err := r.host.Stage(ctx, name, spec)
	if err != nil {
		return resource.Result{}, err
	}
	return host.Finish(ctx, staged)
}

// keeps reports whether a copy of what is replaced is kept: always, when that is
// asked for, and of what must be given back when the resource leaves. What came
// from a server would come again, and may be large.
func (r *Resource) keeps(noted resource.Prior, name string) (bool, error) {
	if r.Backup != nil {
		return *r.Backup, nil
	}
	before, ok, err := host.NotedPath(noted, name)
	return ok && before.Existed && before.SHA256 != "" && !r.host.HasBackup(before.SHA256), err
}

// Watches are the path.
func (r *Resource) Watches() []resource.Watch { return resource.WatchPaths(r.Name()) }
