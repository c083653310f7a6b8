// Package units is systemd's units as kinds of resources own them: the unit's
// own file and drop-ins, whether it is enabled or masked, and whether it runs.
//
// It talks to systemd over D-Bus alone; the journal's reader is started when a
// unit failed, to show its last lines. In a tree that is not booted enablement
// is made of links. It knows no kind: what a manifest says of a unit is told it
// as a Unit.
package units

import (
	"errors"
	"path"
	"slices"
	"strings"
	"sync"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// A Manager is what the units of one kind have in common for the time of a run.
type Manager struct {
	host *host.Host

	mu sync.Mutex
	// units are all values that were made, so that the first Check can ask for
	// all of them at once.
	units []*Unit
	first map[string]observed
	// foreseen is what was read for Holds to look at.
	foreseen map[string]observed
	// unread is true when links changed that systemd need not know at once.
	unread bool
}

// New returns a manager of units of a host.
func New(h *host.Host) *Manager { return &Manager{host: h} }

// Renew forgets what an earlier run was told by systemd.
func (m *Manager) Renew() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.first, m.foreseen, m.unread = nil, nil, false
	for _, u := range m.units {
		u.batched, u.started = false, nil
	}
}

// New returns an empty value, to be filled before anything is asked of it.
func (m *Manager) New() *Unit {
	u := &Unit{manager: m}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.units = append(m.units, u)
	return u
}

// States of a unit, as manifests have them.
const (
	Running = "running"
	Stopped = "stopped"
)

// A Unit is the desired state of one systemd unit. What is not given is left as
// it is.
type Unit struct {
	// Name has the suffix, such as nginx.service.
	Name    string
	Enabled *bool
	Masked  *bool
	// State is Running or Stopped.
	State string
	// File is the text of the unit file.
	File *resource.Content
	// DropIns are texts by the drop-in's name.
	DropIns map[string]string
	// Sensitive keeps the unit's log out of errors.
	Sensitive bool
	// Kept leaves a file that is no longer given on the host.
	Kept bool

	manager *Manager
	// batched is false until the first Check took what was read for all.
	batched bool
	// started is what a start or restart in this run left, for Confirm.
	started *start
}

// Claims are the unit and the files that make it up.
func (u *Unit) Claims() []resource.Claim {
	claims := []resource.Claim{Claim(u.Name)}
	if u.File != nil {
		claims = append(claims, resource.Path(u.FilePath()))
	}
	for _, key := range u.dropInKeys() {
		claims = append(claims, resource.Path(u.dropInPath(key)))
	}
	return claims
}

// Writes are the files, and what links to them: that they are enabled or masked.
func (u *Unit) Writes() []resource.Write {
	var writes []resource.Write
	for _, p := range u.parts() {
		writes = append(writes, resource.Write{Path: p.path, Content: p.spec.Content})
	}
	return append(writes, resource.Write{Path: ownDir, Tree: true, Implied: true})
}

// Claim returns the claim on a unit.
func Claim(name string) resource.Claim {
	return resource.Claim{Space: resource.SpaceUnit, Name: name}
}

// Needs are the unit's own files, wherever systemd looks for them: whoever
// changes one makes the unit owe a restart.
func (u *Unit) Needs() []resource.Need {
	own := u.Claims()
	var needs []resource.Need
	for _, dir := range searchPath {
		for _, name := range fileNames(u.Name) {
			claim := resource.Path(path.Join(dir, name))
			if !slices.Contains(own, claim) {
				needs = append(needs, resource.Need{Claim: claim, Reaction: resource.Restart})
			}
		}
		for _, name := range dropInDirs(u.Name) {
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

// FilePath is where the unit's own file is written.
func (u *Unit) FilePath() string { return path.Join(ownDir, u.Name) }

func (u *Unit) dropInPath(key string) string {
	return path.Join(ownDir, u.Name+".d", dropInName(key))
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
func (u *Unit) shouldRun() bool { return u.State != Stopped && !is(u.Masked) }

func is(b *bool) bool { return b != nil && *b }

// Validate reports what is wrong with the value in itself. The field of the
// name is called unit, and that of the file's text as the caller says.
func (u *Unit) Validate(textField string) error {
	var problems []error
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if p := NameProblem(u.Name); p != "" {
		wrong("unit", "%s", p)
	}
	if u.State != "" && u.State != Running && u.State != Stopped {
		wrong(FieldState, "%q is not a state of a unit: write running or stopped", u.State)
	}
	problems = append(problems, u.validateMask(), u.validateTemplate())
	if u.Sensitive && (u.File != nil || len(u.DropIns) > 0) {
		wrong("sensitive", "systemd shows the text of a unit to every user: put the secret into a file of mode 0600 "+
			"and give it to the unit with LoadCredential=")
	}
	problems = append(problems, u.validateText(textField), u.validateDropIns())
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
	if u.State == Running {
		conflict(FieldState)
	}
	if is(u.Enabled) {
		conflict(FieldEnabled)
	}
	if u.File != nil {
		problems = append(problems, resource.Wrong(FieldContent,
			"the mask takes the place of the unit file %s: leave one of the two out", u.FilePath()))
	}
	return errors.Join(problems...)
}

func (u *Unit) validateTemplate() error {
	if isTemplate(u.Name) && u.State != "" {
		stem, suffix := cutSuffix(u.Name)
		return resource.Wrong(FieldState, "%q is a template, which does not run itself: name an instance, such as %q",
			u.Name, stem+"INSTANCE"+suffix)
	}
	return nil
}

const maxText = 1 << 20

func (u *Unit) validateText(field string) error {
	if u.File == nil {
		return nil
	}
	text, err := u.text()
	if err != nil {
		return resource.Wrong(field, "%v", err)
	}
	if p := textProblem(u.Name, text); p != "" {
		return resource.Wrong(field, "%s", p)
	}
	if is(u.Enabled) && !u.installable(text) {
		return resource.Wrong(FieldEnabled, "the unit file has no [Install] section, so nothing would "+
			"start it at boot: add one, such as [Install] with WantedBy=multi-user.target")
	}
	return nil
}

func (u *Unit) validateDropIns() error {
	var problems []error
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
		if p := textProblem(u.Name, u.DropIns[key]); p != "" {
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

// Watches are the unit, and all that is below the directory of units, where its
// files and the links that enable it are. What a package brings is in another.
func (u *Unit) Watches() []resource.Watch {
	watches := []resource.Watch{{Space: resource.WatchTree, Name: ownDir}}
	for _, name := range fileNames(u.Name) {
		watches = append(watches, resource.Watch{Space: resource.WatchPath, Name: path.Join("/usr/lib/systemd/system", name)})
	}
	if !u.manager.host.Offline() {
		watches = append(watches, resource.Watch{Space: resource.WatchUnit, Name: u.Name})
	}
	return watches
}
