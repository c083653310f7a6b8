// Package unit is the kind `unit`: a systemd unit's own file and drop-ins,
// whether it is enabled or masked, and whether it runs.
//
// It talks to systemd over D-Bus alone; the journal's reader is started when a
// unit failed, to show its last lines. In a tree that is not booted enablement
// is made of links.
package unit

import (
	"errors"
	"path"
	"slices"
	"strings"
	"sync"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// New returns the module for units of the host.
func New(h *host.Host) resource.Module { return &module{host: h} }

type module struct {
	host *host.Host

	mu sync.Mutex
	// units are all values that were made, so that the first Check can ask for
	// all of them at once.
	units []*Unit
	first map[string]observed
	// unread is true when links changed that systemd need not know at once.
	unread bool
}

func (*module) Kind() string { return "unit" }

// Renew forgets what an earlier run was told by systemd.
func (m *module) Renew() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.first, m.unread = nil, false
	for _, u := range m.units {
		u.batched, u.started = false, nil
	}
}

func (m *module) New() resource.Resource {
	u := &Unit{module: m}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.units = append(m.units, u)
	return u
}

// States of a unit, as a manifest has them.
const (
	running = "running"
	stopped = "stopped"
)

// A Unit is the desired state of one systemd unit.
type Unit struct {
	resource.Meta `yaml:",inline"`

	Unit     string            `yaml:"unit" json:"-" doc:"the unit's name with its suffix, such as nginx.service"`
	Enabled  *bool             `yaml:"enabled" json:"enabled,omitempty" doc:"true: it is started at boot, or by what its [Install] section names"`
	Masked   *bool             `yaml:"masked" json:"masked,omitempty" doc:"true: nothing can start it; it need not exist"`
	State    string            `yaml:"state" json:"state,omitempty" doc:"running or stopped"`
	Content  *string           `yaml:"content" json:"-" doc:"the text of the unit file, written to /etc/systemd/system"`
	Source   string            `yaml:"source" json:"-" doc:"a file of the group whose content is the unit file"`
	Template string            `yaml:"template" json:"-" doc:"a template of the group whose output is the unit file"`
	DropIns  map[string]string `yaml:"drop_ins" json:"drop_ins,omitempty" doc:"drop-ins by name, such as 10-limits.conf, each with its text"`

	RestartOn []string `yaml:"restart_on" json:"-" doc:"addresses, or globs of them, whose change restarts the unit"`
	ReloadOn  []string `yaml:"reload_on" json:"-" doc:"addresses, or globs of them, whose change reloads the unit"`

	// File is the content of the unit file, wherever it came from.
	File *resource.Content `yaml:"-" json:"content,omitempty"`

	module *module
	// batched is false until the first Check took what was read for all.
	batched bool
	// started is what a start or restart in this run left, for Confirm.
	started *start
}

// Name returns the unit's name.
func (u *Unit) Name() string { return u.Unit }

// Load reads the text of the unit file.
func (u *Unit) Load(l resource.Loader) (err error) {
	switch {
	case u.Source != "":
		u.File, err = l.Source(u.Source)
	case u.Template != "":
		u.File, err = l.Template(u.Template)
	case u.Content != nil:
		u.File = resource.Bytes([]byte(*u.Content))
	}
	return err
}

// Claims are the unit and the files that make it up.
func (u *Unit) Claims() []resource.Claim {
	claims := []resource.Claim{unitClaim(u.Unit)}
	if u.hasFile() {
		claims = append(claims, resource.Path(u.filePath()))
	}
	for _, key := range u.dropInKeys() {
		claims = append(claims, resource.Path(u.dropInPath(key)))
	}
	return claims
}

func unitClaim(name string) resource.Claim {
	return resource.Claim{Space: resource.SpaceUnit, Name: name}
}

// Needs are the unit's own files, wherever systemd looks for them: whoever
// changes one makes the unit owe a restart.
func (u *Unit) Needs() []resource.Need {
	own := u.Claims()
	var needs []resource.Need
	for _, dir := range searchPath {
		for _, name := range fileNames(u.Unit) {
			claim := resource.Path(path.Join(dir, name))
			if !slices.Contains(own, claim) {
				needs = append(needs, resource.Need{Claim: claim, Reaction: resource.Restart})
			}
		}
		for _, name := range dropInDirs(u.Unit) {
			claim := resource.Path(path.Join(dir, globEscape(name), "*.conf"))
			needs = append(needs, resource.Need{Claim: claim, Glob: true, Reaction: resource.Restart})
		}
	}
	for _, claim := range own[1:] {
		needs = append(needs, resource.ParentNeeds(claim.Name)...)
	}
	return needs
}

func globEscape(name string) string { return strings.ReplaceAll(name, `\`, `\\`) }

// Triggers are what the unit is restarted or reloaded for.
func (u *Unit) Triggers() []resource.Trigger {
	var triggers []resource.Trigger
	for _, on := range u.RestartOn {
		triggers = append(triggers, resource.Trigger{On: on, Key: "restart_on", Reaction: resource.Restart})
	}
	for _, on := range u.ReloadOn {
		triggers = append(triggers, resource.Trigger{On: on, Key: "reload_on", Reaction: resource.Reload})
	}
	return triggers
}

func (u *Unit) hasFile() bool {
	return u.Content != nil || u.Source != "" || u.Template != "" || u.File != nil
}

func (u *Unit) filePath() string { return path.Join(ownDir, u.Unit) }

func (u *Unit) dropInPath(key string) string {
	return path.Join(ownDir, u.Unit+".d", dropInName(key))
}

func (u *Unit) dropInKeys() []string {
	keys := make([]string, 0, len(u.DropIns))
	for key := range u.DropIns {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// dropInName adds the suffix without which systemd does not see a drop-in.
func dropInName(key string) string { return strings.TrimSuffix(key, ".conf") + ".conf" }

// shouldRun reports whether a restart of the unit can make sense.
func (u *Unit) shouldRun() bool { return u.State != stopped && !is(u.Masked) }

func is(b *bool) bool { return b != nil && *b }

// Validate reports what is wrong with the value in itself.
func (u *Unit) Validate() error {
	var problems []error
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if p := nameProblem(u.Unit); p != "" {
		wrong("unit", "%s", p)
	}
	if u.State != "" && u.State != running && u.State != stopped {
		wrong("state", "%q is not a state of a unit: write running or stopped", u.State)
	}
	problems = append(problems, u.validateMask(), u.validateTemplate())
	if n := count(u.Content != nil, u.Source != "", u.Template != ""); n > 1 {
		wrong("content", "content, source and template are three ways to give the same thing: keep one")
	}
	if u.Sensitive && (u.hasFile() || len(u.DropIns) > 0) {
		wrong("sensitive", "systemd shows the text of a unit to every user: put the secret into a file of mode 0600 "+
			"and give it to the unit with LoadCredential=")
	}
	problems = append(problems, u.validateText())
	return errors.Join(problems...)
}

func (u *Unit) validateMask() error {
	if !is(u.Masked) {
		return nil
	}
	var problems []error
	conflict := func(field string) {
		problems = append(problems, resource.Wrong(field, "a masked unit cannot have it: leave it out, or write masked: false"))
	}
	if u.State == running {
		conflict("state")
	}
	if is(u.Enabled) {
		conflict("enabled")
	}
	if u.hasFile() {
		problems = append(problems, resource.Wrong("content",
			"the mask takes the place of the unit file %s: leave one of the two out", u.filePath()))
	}
	return errors.Join(problems...)
}

func (u *Unit) validateTemplate() error {
	if isTemplate(u.Unit) && u.State != "" {
		stem, suffix := cutSuffix(u.Unit)
		return resource.Wrong("state", "%q is a template, which does not run itself: name an instance, such as %q",
			u.Unit, stem+"INSTANCE"+suffix)
	}
	return nil
}

const maxText = 1 << 20

func (u *Unit) validateText() error {
	var problems []error
	if u.File != nil {
		text, err := u.text()
		if err != nil {
			return resource.Wrong(u.textField(), "%v", err)
		}
		if p := textProblem(u.Unit, text); p != "" {
			problems = append(problems, resource.Wrong(u.textField(), "%s", p))
		} else if is(u.Enabled) && !u.installable(text) {
			problems = append(problems, resource.Wrong("enabled", "the unit file has no [Install] section, so nothing would "+
				"start it at boot: add one, such as [Install] with WantedBy=multi-user.target"))
		}
	}
	names := map[string]string{}
	for _, key := range u.dropInKeys() {
		name := dropInName(key)
		if name == ".conf" || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\n\x00") {
			problems = append(problems, resource.Wrong("drop_ins", "%q is not a file name such as 10-limits.conf", key))
		}
		if other, double := names[name]; double {
			problems = append(problems, resource.Wrong("drop_ins", "%q and %q are the same file", other, key))
		}
		names[name] = key
		if p := textProblem(u.Unit, u.DropIns[key]); p != "" {
			problems = append(problems, resource.Wrong("drop_ins", "%s: %s", key, p))
		}
	}
	return errors.Join(problems...)
}

// installable reports whether the unit's own files say what enabling is.
func (u *Unit) installable(text string) bool {
	var in install
	texts := []string{text}
	for _, key := range u.dropInKeys() {
		texts = append(texts, u.DropIns[key])
	}
	for _, t := range texts {
		if lines, err := parse(t); err == nil {
			in.add(lines)
		}
	}
	return !in.empty()
}

func (u *Unit) textField() string {
	switch {
	case u.Source != "":
		return "source"
	case u.Template != "":
		return "template"
	default:
		return "content"
	}
}

func count(given ...bool) int {
	n := 0
	for _, g := range given {
		if g {
			n++
		}
	}
	return n
}

// Watches are the unit, and all that is below the directory of units, where its
// files and the links that enable it are. What a package brings is in another.
func (u *Unit) Watches() []resource.Watch {
	watches := []resource.Watch{{Space: resource.WatchTree, Name: ownDir}}
	for _, name := range fileNames(u.Unit) {
		watches = append(watches, resource.Watch{Space: resource.WatchPath, Name: path.Join("/usr/lib/systemd/system", name)})
	}
	if !u.module.host.Offline() {
		watches = append(watches, resource.Watch{Space: resource.WatchUnit, Name: u.Unit})
	}
	return watches
}
