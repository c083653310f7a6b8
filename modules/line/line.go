// Package line is the kind `line`: one line of a file that others own too.
package line

import (
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/shared"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module { return module{shared.Writer{Host: h}} }

type module struct{ shared.Writer }

func (module) Kind() string { return "line" }

func (m module) New() resource.Resource { return &Resource{host: m.Host} }

// Example is what the reference shows.
func (module) Example() string {
	return `- line: no root over SSH
  path: /etc/ssh/sshd_config
  match: '^#?PermitRootLogin\b'
  text: PermitRootLogin no
  validate: sshd -t -f {path}

- line: 10.0.0.5 db
  path: /etc/hosts
`
}

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	return shared.NewDeparture(m.Host, held, partMark, "text", func() shared.Record { return &noted{} })
}

// A Resource is a line as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`
	host.Deputed

	Title  string `yaml:"line" json:"line" doc:"what the line is called; the line itself where text is not given"`
	Path   string `yaml:"path" json:"path" doc:"the file's absolute path"`
	Text   string `yaml:"text" json:"text,omitempty" doc:"the line"`
	Match  string `yaml:"match" json:"match,omitempty" doc:"a regular expression for the line that this one takes the place of; it must not match two lines"`
	After  string `yaml:"after" json:"-" doc:"a regular expression: a new line goes after the last line that matches, in place of the end of the file"`
	Before string `yaml:"before" json:"-" doc:"a regular expression: a new line goes before the first line that matches"`
	Create bool   `yaml:"create" json:"-" doc:"true: make the file where it is missing"`
	State  string `yaml:"state" json:"state,omitempty" words:"present,absent" doc:"present (default); or absent: all lines that match, or are the line, are removed"`
	Accept string `yaml:"validate" json:"-" doc:"a command that must accept the new file; {path} stands for it"`

	match, after, before *regexp.Regexp
	// sealed stands for the line in its claim, once that was asked for.
	sealed string

	host *host.Host
	// replaces is what the last comparison found this line to take the place of,
	// and earlier what was noted then of a line that it was before.
	replaces []wrote
	earlier  *noted
}

// Name returns what the line is called.
func (r *Resource) Name() string { return r.Title }

func (r *Resource) text() string {
	if r.Text != "" {
		return r.Text
	}
	return r.Title
}

func (r *Resource) absent() bool { return r.State == host.Absent }

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	problems := []error{host.CheckPath("path", r.Path)}
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if strings.ContainsAny(r.Title, "\r\n\x00") || strings.TrimSpace(r.Title) == "" {
		wrong("line", "%q is not one line", r.Title)
	}
	if r.Sensitive && r.Text == "" {
		wrong("text", "is missing: the name of a line is shown, so a sensitive one needs a text beside it")
	}
	if strings.ContainsAny(r.Text, "\r\n\x00") {
		wrong("text", "is more than one line: the kind block is for several")
	}
	if r.After != "" && r.Before != "" {
		wrong("before", "give one of after and before")
	}
	problems = append(problems, r.compile())
	if r.match != nil && !r.absent() && !r.match.MatchString(r.text()) {
		wrong("match", "%q does not match the line itself, which would be added again and again", r.Match)
	}
	if r.Accept != "" {
		if _, err := host.SplitCommand(r.Accept); err != nil {
			wrong("validate", "%v", err)
		}
	}
	switch r.State {
	case "", "present":
	case host.Absent:
		if r.After != "" || r.Before != "" || r.Create {
			wrong("state", "a line that is absent has no place")
		}
	default:
		wrong("state", "%q is neither present nor absent", r.State)
	}
	return errors.Join(problems...)
}

// compile reads the regular expressions.
func (r *Resource) compile() error {
	var problems []error
	for _, e := range []struct {
		field, text string
		into        **regexp.Regexp
	}{{"match", r.Match, &r.match}, {"after", r.After, &r.after}, {"before", r.Before, &r.before}} {
		if e.text == "" || *e.into != nil {
			continue
		}
		made, err := regexp.Compile(e.text)
		if err != nil {
			problems = append(problems, resource.Wrong(e.field, "%q is not a regular expression: %v", e.text, err))
			continue
		}
		*e.into = made
	}
	return errors.Join(problems...)
}

const partMark = "line "

// Claims is the line of the file: what tells it from others there.
func (r *Resource) Claims() []resource.Claim { return []resource.Claim{r.claim()} }

func (r *Resource) claim() resource.Claim {
	part := r.text()
	switch {
	case r.Match != "":
		part = "like " + r.Match
	case r.Sensitive:
		part = "sealed " + r.seal()
	}
	return resource.Claim{Space: resource.SpacePath, Name: host.CleanPath(r.Path), Part: partMark + part}
}

// sealRounds make it slow to guess a line from its claim, which is shown.
const sealRounds = 100_000

// seal stands for a line that must not be seen: the claim goes with the line,
// whatever it is called.
func (r *Resource) seal() string {
	if r.sealed == "" {
		sum, err := pbkdf2.Key(sha256.New, r.text(), []byte("line of "+host.CleanPath(r.Path)), sealRounds, sha256.Size)
		if err != nil {
			return "called " + r.Title // only a machine that allows no such digest says so
		}
		r.sealed = hex.EncodeToString(sum)
	}
	return r.sealed
}

// Needs are the directories above the file.
func (r *Resource) Needs() []resource.Need { return resource.ParentNeeds(host.CleanPath(r.Path)) }

// Place is the file.
func (r *Resource) Place() shared.Place {
	return shared.Place{
		Path: host.CleanPath(r.Path), Field: "text", Create: r.Create, Absent: r.absent(),
		Validate: r.Accept, ValidateAs: r.As(), Sensitive: r.Sensitive, Private: r.Sensitive && !r.absent(),
	}
}

// Writes implements resource.Writer.
func (r *Resource) Writes() []resource.Write { return shared.Writes(r) }

// Runs implements resource.Runner.
func (r *Resource) Runs() []resource.Program { return host.ValidateProgram(r.Accept) }

// Check compares the file.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	if err := r.compile(); err != nil {
		return resource.Finding{}, err
	}
	if err := r.findReplaced(view); err != nil {
		return resource.Finding{}, err
	}
	return shared.Check(ctx, r.host, r, view, r.note)
}

// findReplaced finds what this resource wrote before, under claims that it may
// have no longer.
func (r *Resource) findReplaced(view resource.View) error {
	r.replaces, r.earlier = nil, nil
	for _, c := range append([]resource.Claim{r.claim()}, view.Held...) {
		if c.Space != resource.SpacePath || !strings.HasPrefix(c.Part, partMark) || c.Name != host.CleanPath(r.Path) {
			continue
		}
		if owner, managed := view.Owner(c); managed && owner.Name != r.Title {
			continue
		}
		var n noted
		ok, err := view.Prior.Recall(c, &n)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if c != r.claim() {
			r.earlier = &n
		}
		if !n.Had {
			r.replaces = append(r.replaces, n.Wrote...)
		}
	}
	r.replaces = slices.DeleteFunc(r.replaces, func(w wrote) bool { return w.is(r.text()) })
	return nil
}

// Apply brings the line about.
func (r *Resource) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	return shared.Apply(ctx, r.host, r, view, found)
}

// A TwiceError is an expression that matches more lines than one.
type TwiceError struct {
	Match string
	Lines []int
}

func (e *TwiceError) Error() string {
	lines := make([]string, len(e.Lines))
	for i, n := range e.Lines {
		lines[i] = strconv.Itoa(n + 1)
	}
	return fmt.Sprintf("%q matches lines %s: which of them is meant cannot be told", e.Match, strings.Join(lines, ", "))
}

// matching returns the lines that are the one, or match.
func (r *Resource) matching(text *shared.Text) []int {
	if r.match == nil {
		return text.Find(func(line string) bool { return line == r.text() })
	}
	return text.Find(r.match.MatchString)
}

// Edit brings the line about in a text.
func (r *Resource) Edit(text *shared.Text, _ resource.View) error {
	found := r.matching(text)
	if r.absent() {
		for _, i := range slices.Backward(found) {
			text.Delete(i, i+1)
		}
		return nil
	}
	if r.match == nil && len(found) > 0 {
		for _, old := range r.replaces {
			if i := old.in(text); i >= 0 {
				text.Delete(i, i+1)
			}
		}
		return nil
	}
	switch {
	case len(found) == 1:
		text.Set(found[0], r.text())
		return nil
	case len(found) > 1:
		return &TwiceError{Match: r.Match, Lines: found}
	}
	for _, old := range r.replaces {
		if i := old.in(text); i >= 0 {
			text.Set(i, r.text())
			return nil
		}
	}
	at, err := r.place(text)
	if err != nil {
		return err
	}
	text.Insert(at, r.text())
	return nil
}

// place is where a new line goes.
func (r *Resource) place(text *shared.Text) (int, error) {
	switch {
	case r.after != nil:
		found := text.Find(r.after.MatchString)
		if len(found) == 0 {
			return 0, fmt.Errorf("no line matches %q, after which the line would go", r.After)
		}
		return found[len(found)-1] + 1, nil
	case r.before != nil:
		found := text.Find(r.before.MatchString)
		if len(found) == 0 {
			return 0, fmt.Errorf("no line matches %q, before which the line would go", r.Before)
		}
		return found[0], nil
	default:
		return text.Len(), nil
	}
}

// Moved implements shared.Mover. What the line was in the same file, it sees to itself.
func (r *Resource) Moved(view resource.View) (shared.Moved, error) {
	return shared.MovedFrom(r, view, New(r.host).Absent, func(c resource.Claim) bool { return c.Name == host.CleanPath(r.Path) })
}

// Watches is the file.
func (r *Resource) Watches() []resource.Watch { return resource.WatchPaths(host.CleanPath(r.Path)) }
