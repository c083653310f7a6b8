// Package block is the kind `block`: some lines of a file that others own too,
// between two lines that mark them.
package block

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/shared"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module { return module{shared.Writer{Host: h}} }

type module struct{ shared.Writer }

func (module) Kind() string { return "block" }

func (m module) New() resource.Resource { return &Resource{host: m.Host} }

// Example is what the reference shows.
func (module) Example() string {
	return `- block: cluster
  path: /etc/hosts
  content: |
    10.0.0.5 db
    10.0.0.6 cache
`
}

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	return shared.NewDeparture(m.Host, held, partMark, "content", func() shared.Record { return &noted{} })
}

// A Resource is a block as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`
	host.Deputed

	Title    string  `yaml:"block" json:"block" doc:"what the block is called; the lines that mark it have this name"`
	Path     string  `yaml:"path" json:"path" doc:"the file's absolute path"`
	Content  *string `yaml:"content" json:"-" doc:"the lines as a string"`
	Source   string  `yaml:"source" json:"-" doc:"a file of the group's directory with the lines"`
	Template string  `yaml:"template" json:"-" doc:"a file of the group's directory that is executed as a template"`
	Comment  *string `yaml:"comment" json:"comment,omitempty" doc:"what a comment begins with, in the lines that mark the block; # where it is not given"`
	Top      bool    `yaml:"top" json:"-" doc:"true: a new block goes to the beginning of the file, in place of the end"`
	Create   bool    `yaml:"create" json:"-" doc:"true: make the file where it is missing"`
	State    string  `yaml:"state" json:"state,omitempty" words:"present,absent" doc:"present (default) or absent"`
	Accept   string  `yaml:"validate" json:"-" doc:"a command that must accept the new file; {path} stands for it"`

	// Wanted is the content, however it was given.
	Wanted *resource.Content `yaml:"-" json:"content,omitempty"`
	lines  []string

	host *host.Host
}

// Name returns what the block is called.
func (r *Resource) Name() string { return r.Title }

const contentLimit = 1 << 20

// Load reads the content.
func (r *Resource) Load(l resource.Loader) (err error) {
	switch {
	case r.Content != nil:
		r.Wanted = resource.Bytes([]byte(*r.Content))
	case r.Source != "":
		r.Wanted, err = l.Source(r.Source)
	case r.Template != "":
		r.Wanted, err = l.Template(r.Template)
	}
	if err != nil || r.Wanted == nil {
		return err
	}
	reader, err := r.Wanted.Open()
	if err != nil {
		return err
	}
	defer reader.Close()
	data, err := io.ReadAll(io.LimitReader(reader, contentLimit))
	r.lines = nil
	for line := range strings.Lines(string(data)) {
		r.lines = append(r.lines, strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"))
	}
	return err
}

func (r *Resource) absent() bool { return r.State == host.Absent }

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	problems := []error{host.CheckPath("path", r.Path)}
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if strings.ContainsAny(r.Title, "\r\n\x00") || strings.TrimSpace(r.Title) == "" || r.Title != strings.TrimSpace(r.Title) {
		wrong("block", "%q is not a name", r.Title)
	}
	if r.Comment != nil && strings.ContainsAny(*r.Comment, "\r\n\x00") {
		wrong("comment", "has a newline in it")
	}
	given := 0
	for _, set := range []bool{r.Content != nil, r.Source != "", r.Template != ""} {
		if set {
			given++
		}
	}
	switch {
	case given > 1:
		wrong("content", "give one of content, source and template")
	case given == 0 && !r.absent():
		wrong("content", "is missing: give content, source or template")
	}
	m := r.marks()
	for _, line := range r.lines {
		if line == m.begin || line == m.end {
			wrong("content", "has a line that marks the block itself")
		}
	}
	if r.Accept != "" {
		if _, err := host.SplitCommand(r.Accept); err != nil {
			wrong("validate", "%v", err)
		}
	}
	switch r.State {
	case "", "present":
	case host.Absent:
		if given > 0 || r.Create || r.Top {
			wrong("state", "a block that is absent has neither content nor place")
		}
	default:
		wrong("state", "%q is neither present nor absent", r.State)
	}
	return errors.Join(problems...)
}

// marks are the lines that a block is between.
type marks struct{ begin, end string }

func (r *Resource) marks() marks {
	comment := "#"
	if r.Comment != nil {
		comment = *r.Comment
	}
	return marks{
		begin: strings.TrimSpace(comment + " BEGIN " + r.Title + ", kept by trued"),
		end:   strings.TrimSpace(comment + " END " + r.Title),
	}
}

// find returns the lines from the mark that begins the block to the one that
// ends it, both included; -1 where there is none.
func (m marks) find(text *shared.Text) (from, to int, err error) {
	begins := text.Find(func(line string) bool { return line == m.begin })
	ends := text.Find(func(line string) bool { return line == m.end })
	switch {
	case len(begins) == 0 && len(ends) == 0:
		return -1, -1, nil
	case len(begins) == 1 && len(ends) == 1 && begins[0] < ends[0]:
		return begins[0], ends[0], nil
	}
	return -1, -1, fmt.Errorf("the lines %q and %q do not mark one block: the first is there %d times, the second %d times",
		m.begin, m.end, len(begins), len(ends))
}

const partMark = "block "

// Claims is the block of the file.
func (r *Resource) Claims() []resource.Claim { return []resource.Claim{r.claim()} }

func (r *Resource) claim() resource.Claim {
	return resource.Claim{Space: resource.SpacePath, Name: host.CleanPath(r.Path), Part: partMark + r.Title}
}

// Needs are the directories above the file.
func (r *Resource) Needs() []resource.Need { return resource.ParentNeeds(host.CleanPath(r.Path)) }

// Place is the file.
func (r *Resource) Place() shared.Place {
	return shared.Place{
		Path: host.CleanPath(r.Path), Field: "content", Create: r.Create, Absent: r.absent(),
		Validate: r.Accept, ValidateAs: r.As(), Sensitive: r.Sensitive, Private: r.Sensitive && !r.absent(),
	}
}

// Writes implements resource.Writer.
func (r *Resource) Writes() []resource.Write { return shared.Writes(r) }

// Runs implements resource.Runner.
func (r *Resource) Runs() []resource.Program { return host.ValidateProgram(r.Accept) }

// Check compares the file.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	return shared.Check(ctx, r.host, r, view, r.note)
}

// Apply brings the block about.
func (r *Resource) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	return shared.Apply(ctx, r.host, r, view, found)
}

// Edit brings the block about in a text.
func (r *Resource) Edit(text *shared.Text, view resource.View) error {
	var n noted
	if _, err := view.Prior.Recall(r.claim(), &n); err != nil {
		return err
	}
	if n.Marks != nil && *n.Marks != [2]string{r.marks().begin, r.marks().end} {
		// Written with another comment before: it moves to the new marks.
		if from, to, err := (marks{n.Marks[0], n.Marks[1]}).find(text); err == nil && from >= 0 && !r.absent() {
			text.Set(from, r.marks().begin)
			text.Set(to, r.marks().end)
		}
	}
	from, to, err := r.marks().find(text)
	if err != nil {
		return err
	}
	switch {
	case r.absent() && from < 0:
		return nil
	case r.absent():
		text.Delete(from, to+1)
		return nil
	case from >= 0:
		return r.replace(text, from, to)
	}
	at := text.Len()
	if r.Top {
		at = 0
	}
	text.Insert(at, append(append([]string{r.marks().begin}, r.lines...), r.marks().end)...)
	return nil
}

// replace makes what is between the marks the lines, where it is something else.
func (r *Resource) replace(text *shared.Text, from, to int) error {
	same := to-from-1 == len(r.lines)
	for i := 0; same && i < len(r.lines); i++ {
		same = text.Line(from+1+i) == r.lines[i]
	}
	if !same {
		text.Delete(from+1, to)
		text.Insert(from+1, r.lines...)
	}
	return nil
}

// Moved implements shared.Mover.
func (r *Resource) Moved(view resource.View) (shared.Moved, error) {
	return shared.MovedFrom(r, view, New(r.host).Absent, func(c resource.Claim) bool { return c.Name == host.CleanPath(r.Path) })
}

// Watches is the file.
func (r *Resource) Watches() []resource.Watch { return resource.WatchPaths(host.CleanPath(r.Path)) }
