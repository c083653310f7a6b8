// Package key is the kind `authorized_key`: public keys that let somebody log in
// as a user over SSH.
//
// It owns lines of the user's authorized_keys file, and all of it when it is
// exclusive. The file and the directory above it are kept as sshd wants them.
package key

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/shared"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module { return module{host: h} }

type module struct{ host *host.Host }

func (module) Kind() string { return "authorized_key" }

func (m module) New() resource.Resource { return &Resource{host: m.host} }

// Example is what the reference shows.
func (module) Example() string {
	return `- authorized_key: deploy
  source: files/deploy.pub
  options: restrict,command="/usr/local/bin/release"
  exclusive: true
`
}

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	return newDeparture(m.host, held)
}

// Holds implements resource.Examiner.
func (m module) Holds(_ context.Context, _ string, w resource.Witness) bool {
	dirs, holds := m.host.HoldsNamed(w)
	return holds && m.host.HoldsOnly(dirs)
}

// A Resource is the keys of a user as a manifest declares them.
type Resource struct {
	resource.Meta `yaml:",inline"`

	Title     string   `yaml:"authorized_key" json:"-" doc:"the user's name; or, with user, any name that tells several apart"`
	User      string   `yaml:"user" json:"-" doc:"the user's name, where the resource has another"`
	Key       string   `yaml:"key" json:"-" doc:"a public key, as ssh-keygen prints it"`
	Keys      []string `yaml:"keys" json:"-" doc:"several of them"`
	Source    string   `yaml:"source" json:"-" doc:"a file of the group's directory with public keys, one a line"`
	Options   string   `yaml:"options" json:"-" doc:"what sshd allows with the keys, such as restrict,from=\"10.0.0.0/8\""`
	Exclusive bool     `yaml:"exclusive" json:"exclusive,omitempty" doc:"true: all other keys of the user are removed"`
	State     string   `yaml:"state" json:"state,omitempty" words:"present,absent" doc:"present (default), or absent: these keys let nobody in"`

	// Wanted is the keys, wherever they came from.
	Wanted []Line `yaml:"-" json:"keys,omitempty"`
	// problem is what is wrong with a key.
	problem error
	// leaving is the keys that the last comparison found to leave, with what there
	// was of them before.
	leaving map[string]noted
	// others is the keys that stay beside these, where the last comparison found that
	// these were the only ones before: what else there is was theirs, and goes.
	others map[string]bool

	host *host.Host
}

// A Line is a key with what may be done with it.
type Line struct {
	// Blob is the type and the key itself, by which keys are told apart.
	Blob string `json:"key"`
	// Text is the whole line.
	Text string `json:"line"`
}

// Name returns the name of the resource.
func (r *Resource) Name() string { return r.Title }

func (r *Resource) user() string {
	if r.User != "" {
		return r.User
	}
	return r.Title
}

func (r *Resource) absent() bool { return r.State == host.Absent }

// Load reads the keys.
func (r *Resource) Load(l resource.Loader) error {
	lines := append([]string{}, r.Keys...)
	if r.Key != "" {
		lines = append(lines, strings.Split(r.Key, "\n")...)
	}
	if r.Source != "" {
		content, err := l.Source(r.Source)
		if err != nil {
			return err
		}
		text, err := read(content)
		if err != nil {
			return err
		}
		lines = append(lines, strings.Split(text, "\n")...)
	}
	r.Wanted, r.problem = nil, nil
	seen := map[string]bool{}
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		made, err := r.parse(line)
		if err != nil {
			r.problem = errors.Join(r.problem, err)
			continue
		}
		if seen[made.Blob] {
			r.problem = errors.Join(r.problem, resource.Wrong(r.field(), "the key %q is there twice", brief(made.Blob)))
			continue
		}
		seen[made.Blob] = true
		r.Wanted = append(r.Wanted, made)
	}
	return nil
}

// field is the attribute that the keys were given by.
func (r *Resource) field() string {
	switch {
	case r.Source != "":
		return "source"
	case r.Keys != nil:
		return "keys"
	default:
		return "key"
	}
}

// parse takes a line as ssh-keygen prints it, or as it stands in a file.
func (r *Resource) parse(line string) (Line, error) {
	key, comment, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return Line{}, resource.Wrong(r.field(), "%q is not a public key such as ssh-keygen prints", cut(line))
	}
	if r.Options != "" {
		if len(options) > 0 {
			return Line{}, resource.Wrong("options", "the key %q has options of its own already", cut(line))
		}
		options = []string{r.Options}
	}
	blob := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	text := blob
	if len(options) > 0 {
		text = strings.Join(options, ",") + " " + text
	}
	if comment != "" {
		text += " " + comment
	}
	return Line{Blob: blob, Text: text}, nil
}

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	problems := []error{r.problem}
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if p := host.CheckAccountName(r.user()); p != "" {
		field := "user"
		if r.User == "" {
			field = "authorized_key"
		}
		wrong(field, "%s", p)
	}
	if strings.ContainsAny(r.Options, "\n\x00") {
		wrong("options", "has a newline in it")
	} else if err := checkOptions(r.Options); err != nil {
		problems = append(problems, err)
	}
	given := 0
	for _, set := range []bool{r.Key != "", r.Keys != nil, r.Source != ""} {
		if set {
			given++
		}
	}
	switch {
	case given > 1:
		wrong("key", "give one of key, keys and source")
	case given == 0:
		wrong("key", "is missing: give key, keys or source")
	case len(r.Wanted) == 0 && r.problem == nil && !r.Exclusive:
		wrong(r.field(), "has no key in it")
	}
	switch r.State {
	case "", "present":
	case host.Absent:
		if r.Exclusive {
			wrong("exclusive", "keys that are absent cannot be the only ones")
		}
	default:
		wrong("state", "%q is neither present nor absent", r.State)
	}
	return errors.Join(problems...)
}

// checkOptions holds options against a line as sshd reads it.
func checkOptions(options string) error {
	if options == "" {
		return nil
	}
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB5wQl8VbC9zD5x7dMoT4mEdpBqgmhmM4X7TttD4jhCo"
	_, _, parsed, _, err := ssh.ParseAuthorizedKey([]byte(options + " " + key))
	if err != nil || strings.Join(parsed, ",") != options {
		return resource.Wrong("options", "%q is not a list such as restrict,from=\"10.0.0.0/8\"", options)
	}
	return nil
}

func cut(line string) string {
	const most = 40
	if len(line) > most {
		return line[:most] + "…"
	}
	return line
}

// brief names a key in few characters: its type and the end of it.
func brief(blob string) string {
	kind, key, _ := strings.Cut(blob, " ")
	const last = 12
	if len(key) > last {
		key = "…" + key[len(key)-last:]
	}
	return kind + " " + key
}

// Space is the space of claims on a user's keys.
const Space = "authorized_key"

func keyClaim(user, blob string) resource.Claim {
	return resource.Claim{Space: Space, Name: user, Part: blob}
}

// Claims are the keys, or all keys of the user.
func (r *Resource) Claims() []resource.Claim {
	if r.Exclusive {
		return []resource.Claim{keyClaim(r.user(), "")}
	}
	claims := make([]resource.Claim, len(r.Wanted))
	for i, w := range r.Wanted {
		claims[i] = keyClaim(r.user(), w.Blob)
	}
	return claims
}

// Writes implements resource.Writer: the file, where the user is known.
func (r *Resource) Writes() []resource.Write {
	home := "/home/" + r.user()
	if u, ok, err := r.host.FindUser(r.user()); err == nil && ok && strings.HasPrefix(u.Home, "/") {
		home = host.CleanPath(u.Home)
	}
	return []resource.Write{{Path: path.Join(home, ".ssh/authorized_keys"), Stated: true}}
}

// Runs implements resource.Runner: who has the key runs what he likes as the user.
func (r *Resource) Runs() []resource.Program {
	if r.absent() && !r.Exclusive {
		return nil
	}
	return []resource.Program{{By: "authorized_key", User: r.user()}}
}

// Needs are the user and what is managed above the file, where the home
// directory is where most are.
func (r *Resource) Needs() []resource.Need {
	return append(host.AccountNeeds(r.user(), ""), resource.ParentNeeds("/home/"+r.user()+"/.ssh/authorized_keys")...)
}

// Check compares the keys, and those of a user who had them before.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	finding, err := r.check(ctx, view)
	if err != nil {
		return resource.Finding{}, err
	}
	return shared.CheckMoved(ctx, view, r.moved, finding)
}

func (r *Resource) check(ctx context.Context, view resource.View) (resource.Finding, error) {
	if err := ctx.Err(); err != nil {
		return resource.Finding{}, err
	}
	if _, ok, err := r.host.FindUser(r.user()); err != nil || !ok {
		if err == nil && r.absent() {
			return resource.Finding{}, nil
		}
		return r.withoutUser(view, err)
	}
	seen := r.witness() // before anything is read
	f, err := open(r.host, r.user())
	if err != nil {
		return resource.Finding{}, err
	}
	if owner, ok := view.Owner(resource.Path(f.path)); ok {
		return resource.Finding{}, fmt.Errorf("%s declares all of %s: leave one of the two out", owner, f.path)
	}
	if err := f.refusal(); err != nil && !r.absent() {
		var missing *MissingHomeError
		owner, managed := view.Owner(userClaim(r.user()))
		if errors.As(err, &missing) && managed {
			return resource.Finding{Unknown: fmt.Sprintf("%s makes the home directory", owner), Creates: true}, nil
		}
		return resource.Finding{}, err
	}
	if r.leaving, err = r.left(view); err != nil {
		return resource.Finding{}, err
	}
	r.others = nil
	if r.wereOnly(view) {
		r.others = r.othersOf(f, view)
	}
	diff := r.compare(f)
	prior, err := r.note(view, f)
	if err != nil {
		return resource.Finding{}, err
	}
	finding := resource.Finding{Diff: diff, Creates: !f.exists, Prior: prior, Witness: seen}
	if r.Sensitive {
		finding.Diff = finding.Diff.Redacted()
	}
	return finding, nil
}

// witness is what the account, the directories and the file look like.
func (r *Resource) witness() resource.Witness {
	user, ok, err := r.host.FindUser(r.user())
	if err != nil || !ok {
		return nil
	}
	home := host.CleanPath(user.Home)
	seen := r.host.WitnessNamed(append(host.UserFiles(), path.Join(home, ".ssh/authorized_keys"))...)
	dirs := r.host.WitnessOfAttributes(home, path.Join(home, ".ssh"))
	if seen == nil || dirs == nil {
		return nil
	}
	return append(seen, dirs...)
}

// withoutUser is the finding for a user that is not there.
func (r *Resource) withoutUser(view resource.View, err error) (resource.Finding, error) {
	if err != nil {
		return resource.Finding{}, err
	}
	if owner, ok := view.Owner(userClaim(r.user())); ok {
		return resource.Finding{Unknown: fmt.Sprintf("%s is made", owner), Creates: true}, nil
	}
	return resource.Finding{}, &host.UnknownUserError{Kind: "user", Name: r.user()}
}

func userClaim(name string) resource.Claim {
	return resource.Claim{Space: resource.SpaceUser, Name: name}
}

// compare returns how the file differs.
func (r *Resource) compare(f *file) resource.Diff {
	after := r.edit(f)
	var diff resource.Diff
	if after.text() != f.text() {
		c := host.DiffText(fieldKeys, f.path, textOf(f.text()), textOf(after.text()))
		diff = append(diff, c)
	}
	if r.absent() || len(after.lines) == 0 && !f.exists {
		return diff
	}
	return append(diff, f.compareModes()...)
}

// edit returns the file's lines as they should be.
func (r *Resource) edit(f *file) *file {
	after := f.clone()
	if r.absent() {
		for _, w := range r.Wanted {
			after.remove(w.Blob)
		}
		return after
	}
	if r.Exclusive || r.others != nil {
		after.keep(func(blob string) bool {
			return r.others[blob] || slices.ContainsFunc(r.Wanted, func(w Line) bool { return w.Blob == blob })
		})
	}
	for blob, n := range r.leaving {
		after.giveBack(blob, n)
	}
	for _, w := range r.Wanted {
		after.set(w)
	}
	return after
}

// Apply writes the file, and then that of a user who had the keys before.
func (r *Resource) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	if err := ctx.Err(); err != nil || len(found.Diff) == 0 {
		return resource.Result{}, err
	}
	own, other := shared.Split(found.Diff)
	if len(own) > 0 {
		if err := r.apply(ctx, own); err != nil {
			return resource.Result{}, err
		}
	}
	moved, err := r.moved(view)
	if err == nil {
		err = moved.Apply(ctx, view, other)
	}
	return resource.Result{}, err
}

func (r *Resource) apply(ctx context.Context, diff resource.Diff) error {
	f, err := open(r.host, r.user())
	if err != nil {
		return err
	}
	if err := f.refusal(); err != nil && !r.absent() {
		return err
	}
	after := f
	if diff.Has(fieldKeys) {
		after = r.edit(f)
	}
	return after.write(ctx, diff, r.Sensitive)
}

// Watches are the file, what is above it up to the home directory, and where that
// is said.
func (r *Resource) Watches() []resource.Watch {
	names := host.UserFiles()[:1]
	if user, ok, err := r.host.FindUser(r.user()); err == nil && ok && user.Home != "" {
		home := host.CleanPath(user.Home)
		names = append(names, home, path.Join(home, ".ssh"), path.Join(home, ".ssh/authorized_keys"))
	}
	return resource.WatchPaths(names...)
}
