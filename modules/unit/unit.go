// Package unit is the kind `unit`: a systemd unit's own file and drop-ins,
// whether it is enabled or masked, and whether it runs.
package unit

import (
	"context"
	"errors"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/units"
	"trued.dev/trued/internal/resource"
)

// New returns the module for units of the host.
func New(h *host.Host) resource.Module { return &module{units.New(h)} }

type module struct{ *units.Manager }

func (*module) Kind() string { return "unit" }

// Example implements resource.Exemplar.
func (*module) Example() string {
	return `- unit: app.service
  content: |
    [Service]
    ExecStart=/usr/local/bin/app
    DynamicUser=yes
    [Install]
    WantedBy=multi-user.target
  drop_ins:
    10-limits.conf: |
      [Service]
      MemoryMax=512M
  enabled: true
  state: running

- unit: avahi-daemon.service
  masked: true
`
}

func (m *module) New() resource.Resource { return &Unit{own: m.Manager.New()} }

// Absent returns the value that gives a unit back what it was.
func (m *module) Absent(held resource.Held) (resource.Resource, error) {
	d, err := m.Depart(held.Address.Name, held)
	if err != nil {
		return nil, err
	}
	return &departed{Departed: d, name: held.Address.Name}, nil
}

// departed is a unit that has left the catalog.
type departed struct {
	resource.Meta
	*units.Departed
	name string
}

var (
	_ resource.Leaver  = (*departed)(nil)
	_ resource.Settler = (*departed)(nil)
)

// Triggers are none: what it has reacted to is known from before.
func (d *departed) Triggers() []resource.Trigger { return nil }

func (d *departed) Name() string    { return d.name }
func (d *departed) Validate() error { return nil }

// A Unit is one systemd unit as a manifest declares it.
type Unit struct {
	resource.Meta `yaml:",inline"`

	Unit     string            `yaml:"unit" json:"-" doc:"the unit's name with its suffix, such as nginx.service"`
	Enabled  *bool             `yaml:"enabled" json:"enabled,omitempty" doc:"true: it is started at boot, or by what its [Install] section names"`
	Masked   *bool             `yaml:"masked" json:"masked,omitempty" doc:"true: nothing can start it; it need not exist"`
	State    string            `yaml:"state" json:"state,omitempty" words:"running,stopped" doc:"running or stopped"`
	Content  *string           `yaml:"content" json:"-" doc:"the text of the unit file, written to /etc/systemd/system"`
	Source   string            `yaml:"source" json:"-" doc:"a file of the group whose content is the unit file"`
	Template string            `yaml:"template" json:"-" doc:"a template of the group whose output is the unit file"`
	DropIns  map[string]string `yaml:"drop_ins" json:"drop_ins,omitempty" doc:"drop-ins by name, such as 10-limits.conf, each with its text"`

	RestartOn []string `yaml:"restart_on" json:"-" doc:"addresses, or globs of them, whose change restarts the unit"`
	ReloadOn  []string `yaml:"reload_on" json:"-" doc:"addresses, or globs of them, whose change reloads the unit"`

	// File is the content of the unit file, wherever it came from.
	File *resource.Content `yaml:"-" json:"content,omitempty"`

	// own is the unit as it is brought about; Load fills it.
	own *units.Unit
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
	u.own.Name, u.own.Enabled, u.own.Masked, u.own.State = u.Unit, u.Enabled, u.Masked, u.State
	u.own.File, u.own.DropIns = u.File, u.DropIns
	if u.File == nil && count(u.Content != nil, u.Source != "", u.Template != "") > 0 {
		u.own.File = resource.Bytes(nil) // the path is the unit's, whatever will be in it
	}
	u.own.Sensitive, u.own.Kept = u.Sensitive, u.Keeps()
	return err
}

// Claims are the unit and the files that make it up.
func (u *Unit) Claims() []resource.Claim { return u.own.Claims() }

// Writes implements resource.Writer.
func (u *Unit) Writes() []resource.Write { return u.own.Writes() }

// Needs are the unit's own files, wherever systemd looks for them: whoever
// changes one makes the unit owe a restart.
func (u *Unit) Needs() []resource.Need { return u.own.Needs() }

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

// Validate reports what is wrong with the value in itself.
func (u *Unit) Validate() error {
	var problem error
	if n := count(u.Content != nil, u.Source != "", u.Template != ""); n > 1 {
		problem = resource.Wrong("content", "content, source and template are three ways to give the same thing: keep one")
	}
	return errors.Join(u.own.Validate(u.textField()), problem)
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

// Watches are the unit and where its files are.
func (u *Unit) Watches() []resource.Watch { return u.own.Watches() }

// Check compares the unit's files, enablement and state.
func (u *Unit) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	return u.own.Check(ctx, view)
}

// Apply makes the changes of the difference.
func (u *Unit) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	return u.own.Apply(ctx, view, found)
}

// Due leaves out what a start or a reload since the last cause has settled.
func (u *Unit) Due(ctx context.Context, view resource.View, debts []resource.Debt) ([]resource.Debt, error) {
	return u.own.Due(ctx, view, debts)
}

// React restarts or reloads the unit. A restart makes a reload needless.
func (u *Unit) React(ctx context.Context, view resource.View, owed []resource.Reaction) (resource.Result, error) {
	return u.own.React(ctx, view, owed)
}

// Confirm looks once more at a unit that was started or restarted.
func (u *Unit) Confirm(ctx context.Context) error { return u.own.Confirm(ctx) }
