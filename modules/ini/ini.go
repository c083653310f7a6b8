// Package ini is the kind `ini`: one key of a section of a file in the form that
// is called INI, which others own too.
package ini

import (
	"context"
	"errors"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/shared"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module { return module{shared.Writer{Host: h}} }

type module struct{ shared.Writer }

func (module) Kind() string { return "ini" }

func (m module) New() resource.Resource { return &Resource{host: m.Host} }

// Example is what the reference shows.
func (module) Example() string {
	return `- ini: memory of a script
  path: /etc/php/8.2/fpm/php.ini
  section: PHP
  key: memory_limit
  value: 256M
`
}

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	return shared.NewDeparture(m.Host, held, partMark, "value", func() shared.Record { return &noted{} })
}

// A Resource is a key as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`
	host.Deputed

	Title   string  `yaml:"ini" json:"ini" doc:"what the setting is called"`
	Path    string  `yaml:"path" json:"path" doc:"the file's absolute path"`
	Section string  `yaml:"section" json:"section,omitempty" doc:"the section's name; not given: what is before the first section"`
	Key     string  `yaml:"key" json:"key" doc:"the key"`
	Value   *string `yaml:"value" json:"value,omitempty" doc:"the value, which may be empty"`
	Tight   bool    `yaml:"tight" json:"-" doc:"true: a new key has no spaces around its ="`
	Create  bool    `yaml:"create" json:"-" doc:"true: make the file where it is missing"`
	State   string  `yaml:"state" json:"state,omitempty" words:"present,absent" doc:"present (default); or absent: the key is not in the section"`
	Accept  string  `yaml:"validate" json:"-" doc:"a command that must accept the new file; {path} stands for it"`

	host *host.Host
}

// Name returns what the setting is called.
func (r *Resource) Name() string { return r.Title }

func (r *Resource) absent() bool { return r.State == host.Absent }

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	problems := []error{host.CheckPath("path", r.Path)}
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if strings.TrimSpace(r.Title) == "" {
		wrong("ini", "is missing: give the setting a name")
	}
	if strings.ContainsAny(r.Section, "]\r\n\x00") || strings.TrimSpace(r.Section) != r.Section {
		wrong("section", "%q is not the name of a section, which is written without its brackets", r.Section)
	}
	if r.Key == "" || strings.ContainsAny(r.Key, "=\r\n\x00") || strings.ContainsAny(r.Key[:1], "[#;") || strings.TrimSpace(r.Key) != r.Key {
		wrong("key", "%q is not a key", r.Key)
	}
	if r.Value != nil && (strings.ContainsAny(*r.Value, "\r\n\x00") || strings.TrimSpace(*r.Value) != *r.Value) {
		wrong("value", "begins or ends with a space, or has a newline in it")
	}
	if r.Accept != "" {
		if _, err := host.SplitCommand(r.Accept); err != nil {
			wrong("validate", "%v", err)
		}
	}
	switch r.State {
	case "", "present":
		if r.Value == nil {
			wrong("value", "is missing")
		}
	case host.Absent:
		if r.Value != nil || r.Create {
			wrong("state", "a key that is absent has no value")
		}
	default:
		wrong("state", "%q is neither present nor absent", r.State)
	}
	return errors.Join(problems...)
}

const partMark = "ini "

// Claims is the key of the file.
func (r *Resource) Claims() []resource.Claim { return []resource.Claim{r.claim()} }

func (r *Resource) claim() resource.Claim { return r.claimOf(r.Key) }

func (r *Resource) claimOf(key string) resource.Claim {
	return resource.Claim{
		Space: resource.SpacePath, Name: host.CleanPath(r.Path), Part: partMark + "[" + r.Section + "]" + key,
	}
}

// cutPart is the reverse of what makes the part of a claim.
func cutPart(part string) (section, key string) {
	section, key, _ = strings.Cut(strings.TrimPrefix(part, partMark+"["), "]")
	return section, key
}

// Needs are the directories above the file.
func (r *Resource) Needs() []resource.Need { return resource.ParentNeeds(host.CleanPath(r.Path)) }

// Place is the file.
func (r *Resource) Place() shared.Place {
	return shared.Place{
		Path: host.CleanPath(r.Path), Field: "value", Create: r.Create, Absent: r.absent(),
		Validate: r.Accept, ValidateAs: r.As(), Sensitive: r.Sensitive, Private: r.Sensitive && !r.absent(),
	}
}

// Writes implements resource.Writer.
func (r *Resource) Writes() []resource.Write { return shared.Writes(r) }

// Runs implements resource.Runner.
func (r *Resource) Runs() []resource.Program { return host.ValidateProgram(r.Accept) }

// Check compares the file.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	return shared.Check(ctx, r.host, r, view, func(prior resource.Prior, text *shared.Text, exists bool) (resource.Prior, error) {
		return r.note(prior, text, exists, view)
	})
}

// Apply brings the key about.
func (r *Resource) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	return shared.Apply(ctx, r.host, r, view, found)
}

// Edit brings the key about in a text.
func (r *Resource) Edit(text *shared.Text, _ resource.View) error {
	at, err := find(text, r.Section, r.Key)
	if err != nil {
		return err
	}
	if r.absent() {
		if at.line >= 0 {
			text.Delete(at.line, at.line+1)
		}
		return nil
	}
	if at.line >= 0 {
		if at.value != *r.Value {
			text.Set(at.line, withValue(text.Line(at.line), *r.Value))
		}
		return nil
	}
	equals := " = "
	if r.Tight {
		equals = "="
	}
	at.add(text, r.Section, strings.TrimRight(r.Key+equals+*r.Value, " "))
	return nil
}

// Moved implements shared.Mover: also another key of the same file is given back.
func (r *Resource) Moved(view resource.View) (shared.Moved, error) {
	return shared.MovedFrom(r, view, New(r.host).Absent, func(_ resource.Claim) bool { return false })
}

// Watches is the file.
func (r *Resource) Watches() []resource.Watch { return resource.WatchPaths(host.CleanPath(r.Path)) }
