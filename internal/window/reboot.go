package window

import (
	"errors"
	"fmt"
	"time"

	"trued.dev/trued/internal/resource"
)

// A Reboot says whether a host may start anew by itself when something that was
// installed asks for it, and when.
type Reboot struct {
	Allow  bool    `yaml:"allow" doc:"true: the host reboots by itself, after a run, when a package asks for it; false"`
	Window *Window `yaml:"window" doc:"when: calendar, for, timezone; at any time"`
}

// Validate reports what is wrong with it.
func (r *Reboot) Validate() error {
	if r == nil || r.Window == nil {
		return nil
	}
	if w := r.Window; len(w.Causes)+len(w.Kinds)+len(w.Resources) > 0 {
		return errors.New("window: it is for a reboot, and takes neither causes nor kinds nor resources")
	}
	if err := r.Window.Validate(); err != nil {
		return fmt.Errorf("window: %w", err)
	}
	return nil
}

// Hold says whether a reboot has to wait at a time, and if not until when.
func (r *Reboot) Hold(at time.Time, local *time.Location) Hold {
	switch {
	case r == nil || !r.Allow:
		return Hold{Why: "nothing allows trued to do it"}
	case r.Window == nil:
		return Hold{}
	}
	return Set{Allow: []Window{*r.Window}}.Hold(resource.Address{}, resource.Intended, at, local)
}
