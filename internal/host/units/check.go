package units

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// The fields of a difference beside those of drop-ins, as manifests have them.
const (
	FieldMasked  = "masked"
	FieldEnabled = "enabled"
	FieldState   = "state"
	// FieldContent is the unit file, however it was given.
	FieldContent = "content"
	// FieldLoaded is a unit whose files are right, and not what systemd read.
	FieldLoaded = "daemon-reload"
)

// retryCondition is how long a unit whose start condition was not met is left
// alone when nothing that it watches changes.
const retryCondition = time.Hour

// Check compares the unit's files, enablement and state.
func (u *Unit) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	if err := ctx.Err(); err != nil {
		return resource.Finding{}, err
	}
	c := &check{unit: u, view: view, notes: takeNotes(view.Prior)}
	if err := c.run(ctx); err != nil {
		return resource.Finding{}, err
	}
	c.found.Prior = c.notes.changed()
	c.found.Note = strings.Join(c.remarks, "; ")
	c.found.Witness = c.witness()
	return c.found, nil
}

// A check is one comparison of a unit with the host.
type check struct {
	unit    *Unit
	view    resource.View
	seen    observed
	notes   *notes
	remarks []string
	found   resource.Finding
	// sights are the unit's files as they were compared.
	sights []sight
	// makesFile is true when the unit's own file is yet to be written.
	makesFile bool
}

func (c *check) run(ctx context.Context) (err error) {
	u := c.unit
	if u.manager.host.Offline() {
		c.seen, err = u.manager.observeOffline(u.Name)
	} else {
		c.seen, err = u.observe(ctx)
	}
	if err != nil {
		return err
	}
	if err := c.oneOwner(); err != nil {
		return err
	}
	if c.waits() {
		return nil
	}
	if err := c.note(); err != nil {
		return err
	}
	if err := c.files(ctx); err != nil {
		return err
	}
	if err := c.mask(); err != nil {
		return err
	}
	if err := c.enablement(ctx); err != nil {
		return err
	}
	if u.manager.host.Offline() {
		if u.State != "" && len(c.found.Diff) == 0 {
			c.found.Pending = pendingBoot
		}
		return nil
	}
	return c.state(ctx)
}

const pendingBoot = "its state waits for the tree to be booted"

// oneOwner refuses a name that is an alias of a unit that is managed by its
// own name: the two would undo each other's work.
func (c *check) oneOwner() error {
	if c.seen.Name == c.unit.Name || c.view.Owner == nil {
		return nil
	}
	if owner, ok := c.view.Owner(Claim(c.seen.Name)); ok && owner.Name != c.unit.Name {
		return fmt.Errorf("unit %q is an alias of %q, which %s manages: keep one of the two", c.unit.Name, c.seen.Name, owner)
	}
	return nil
}

// waits leaves the difference open when the unit must be there and is not: a
// package or a file of the same run may bring it.
func (c *check) waits() bool {
	u := c.unit
	if !c.seen.missing() || u.File != nil || u.State != Running && !is(u.Enabled) {
		return false
	}
	c.found.Unknown = fmt.Sprintf("unit %q is not there yet", u.Name)
	for _, dir := range searchPath {
		for _, name := range fileNames(u.Name) {
			if owner, ok := c.view.Owner(resource.Path(path.Join(dir, name))); ok {
				c.found.Unknown += fmt.Sprintf(" (%s brings it)", owner)
				return true
			}
		}
	}
	return true
}

// note remembers what the unit was before anything of it is changed. A unit
// that is not there and that another resource brings is noted when it comes.
func (c *check) note() error {
	u, seen := c.unit, c.seen
	if seen.missing() && u.File == nil && !is(u.Masked) {
		return nil
	}
	b := before{Exists: !seen.missing(), Active: seen.active(), Masked: seen.masked(), Enabled: seen.file}
	if b.Masked {
		if below, err := u.manager.enabledByLinks(u.Name); err != nil {
			return err
		} else if below == enabled {
			b.Enabled = "enabled"
		}
	}
	if info, ok := u.manager.link(u.FilePath()); ok && strings.HasPrefix(seen.file, "linked") {
		b.Linked = info
	}
	return c.notes.add(Claim(u.Name), b)
}

func (c *check) differs(field, old, desired string) {
	c.found.Diff = append(c.found.Diff, resource.Change{Field: field, Old: old, New: desired})
}

func (c *check) remark(format string, args ...any) {
	c.remarks = append(c.remarks, fmt.Sprintf(format, args...))
}

func (c *check) mask() error {
	u, masked := c.unit, c.seen.masked()
	switch {
	case is(u.Masked) && c.seen.file != "masked":
		c.differs(FieldMasked, "false", "true")
	case u.Masked != nil && !*u.Masked && masked:
		c.differs(FieldMasked, "true", "false")
	case u.Masked == nil && masked && (u.State == Running || is(u.Enabled)):
		return fmt.Errorf("unit %q is masked: write masked: false to take the mask off", u.Name)
	}
	return nil
}

// enablement compares the links. What cannot be enabled because others start
// it is in order, with a remark.
func (c *check) enablement(ctx context.Context) error {
	u := c.unit
	if u.Enabled == nil {
		return nil
	}
	want := *u.Enabled
	is, err := c.enabledNow(ctx)
	if err != nil {
		return err
	}
	switch {
	case want && (c.makesFile || is == fixed && c.found.Diff.Has(FieldContent)):
		// The file that is about to be written has an [Install] section.
		c.differs(FieldEnabled, "false", "true")
	case is == fixed && want:
		c.remark("it is %s: what needs it starts it, and enabling means nothing", c.seen.file)
	case is == forBoot:
		c.differs(FieldEnabled, "until the next boot", fmt.Sprint(want))
	case (is == enabled) != want && is != fixed:
		c.differs(FieldEnabled, fmt.Sprint(is == enabled), fmt.Sprint(want))
	}
	return nil
}

// Enablement, as far as it matters here.
type enablement int

const (
	disabled enablement = iota
	enabled
	forBoot // enabled until the next boot
	fixed   // others start it: static, generated
)

func (c *check) enabledNow(ctx context.Context) (enablement, error) {
	m, name := c.unit.manager, c.unit.Name
	switch c.seen.file {
	case "enabled", "alias":
		return enabled, nil
	case "enabled-runtime":
		return forBoot, nil
	case "static", "generated":
		return fixed, nil
	case "indirect":
		return m.indirect(ctx, c.seen.Name)
	case "masked", "masked-runtime":
		// systemd does not say what is below the mask.
		return m.enabledByLinks(name)
	case "transient":
		if is(c.unit.Enabled) {
			return disabled, fmt.Errorf("unit %q is transient: it has no file, and cannot be enabled", name)
		}
	case "bad":
		if !c.makesFile && !c.found.Diff.Has(FieldContent) {
			return disabled, fmt.Errorf("systemd cannot read the file of unit %q", name)
		}
	}
	return disabled, nil
}

// indirect tells about a unit that names others to be enabled in its place.
func (m *Manager) indirect(ctx context.Context, name string) (enablement, error) {
	in, err := m.installOf(name)
	if err != nil {
		return disabled, err
	}
	if len(in.also) == 0 { // a template of which others than the default are enabled
		return m.enabledByLinks(name)
	}
	files, err := m.fileStates(ctx, in.also)
	if err != nil {
		return disabled, err
	}
	for _, f := range files {
		if f == "disabled" || f == "enabled-runtime" {
			return disabled, nil
		}
	}
	return enabled, nil
}

func (c *check) state(ctx context.Context) error {
	u, seen := c.unit, c.seen
	if err := c.loaded(ctx); err != nil {
		return err
	}
	own := u.manager.itself(u.Name)
	switch {
	case u.State == Stopped && seen.active() && own:
		c.remark("the agent does not stop itself")
	case u.State == Stopped && (seen.active() || seen.restarting()) && !seen.stopping():
		c.differs(FieldState, seen.word(), Stopped)
	case u.State != Running:
	case seen.active():
		if seen.starting() {
			c.remark("it is still starting")
		}
	case seen.starting():
		c.remark("its start is queued")
	case own:
		c.remark("the agent does not start itself")
	default:
		return c.idle(ctx)
	}
	return nil
}

// idle is the case of a unit that should run and does not. Some are in order:
// those whose start condition is not met, and those that did their work.
func (c *check) idle(ctx context.Context) error {
	u := c.unit
	if c.makesFile || c.seen.masked() || c.seen.Load == "not-found" {
		c.differs(FieldState, c.seen.word(), Running)
		return nil
	}
	d, err := u.manager.host.Systemd().Unit(ctx, u.Name)
	if err != nil {
		return err
	}
	last, err := c.lastAttempt(d)
	switch {
	case err != nil:
		return err
	case c.seen.restarting() && recovers(d):
		c.remark("it ended, and systemd is starting it again")
	case c.seen.Active != "inactive" || last == nil:
		c.differs(FieldState, c.seen.word(), Running)
	case last.recent(u.manager.host.BootID()) && last.Unmet != "":
		c.remark("it is not started because %s is not met", last.Unmet)
	case last.recent(u.manager.host.BootID()):
		c.remark("it has done its work and ended")
	default:
		c.found.Diff = append(c.found.Diff, resource.Change{
			Field: FieldState, Old: "start condition not met", New: Running, Cause: resource.Intended,
		})
	}
	return nil
}

// A service that ended is left to systemd, which starts it again, unless that is
// far off or it ends each time it has hardly begun.
const (
	longestRestart  = 30 * time.Second
	shortestService = 10 * time.Second
)

// recovers reports whether systemd can be trusted to bring the unit back by
// itself.
func recovers(d host.UnitDetail) bool {
	return d.RestartAfter <= longestRestart && (d.Restarts == 0 || d.Lived >= shortestService)
}

// lastAttempt returns a start that left the unit inactive and is in order: from
// systemd, or from memory where systemd forgot the unit.
func (c *check) lastAttempt(d host.UnitDetail) (*attempt, error) {
	boot := c.unit.manager.host.BootID()
	if last := attemptOf(d, boot); last != nil || d.Tried != 0 {
		return last, nil
	}
	b, _, err := readBefore(c.view.Prior, c.unit.Name)
	if b.Last != nil && b.Last.Boot != boot {
		return nil, err
	}
	return b.Last, err
}

func attemptOf(d host.UnitDetail, boot string) *attempt {
	at := time.Now().Add(-sinceMonotonic(d.Tried))
	switch {
	case len(d.Unmet) > 0:
		return &attempt{Boot: boot, At: at, Unmet: strings.Join(d.Unmet, ", ")}
	case d.Oneshot && d.Started && d.Result == "success":
		return &attempt{Boot: boot, At: at}
	}
	return nil
}

// loaded looks whether systemd has read the files that we wrote. A run that
// was cut off between the two leaves them unread.
func (c *check) loaded(ctx context.Context) error {
	u := c.unit
	if len(c.found.Diff) > 0 || !c.mayBeUnread() {
		return nil
	}
	needs, err := u.manager.host.Systemd().NeedsReload(ctx, u.Name)
	if err == nil && needs {
		c.differs(FieldLoaded, "an earlier version of its files", "its files as they are")
	}
	return err
}

// mayBeUnread reports whether the unit has files that systemd need not have read.
func (c *check) mayBeUnread() bool {
	u := c.unit
	return (u.File != nil || len(u.DropIns) > 0) && !isTemplate(u.Name) && !c.seen.missing()
}

// sinceMonotonic returns how long ago a time of the monotonic clock was.
func sinceMonotonic(micros uint64) time.Duration {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return 0
	}
	return time.Duration(now.Nano()) - time.Duration(micros)*time.Microsecond
}

func (m *Manager) fileStates(ctx context.Context, names []string) ([]string, error) {
	if !m.host.Offline() {
		return m.host.Systemd().UnitFileStates(ctx, names)
	}
	states := make([]string, len(names))
	for i, name := range names {
		o, err := m.observeOffline(name)
		if err != nil {
			return nil, err
		}
		states[i] = o.file
	}
	return states, nil
}
