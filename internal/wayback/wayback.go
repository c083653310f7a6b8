// Package wayback keeps what a host needs to go back when its agent is dead: an
// order that says when, a copy of the program and of its configuration from before
// the change, and room on the disk.
//
// It is read by a program that may be older than the one that wrote it, so what
// the files mean does not change, and what is added may be left out. It runs
// nothing, and knows no commit.
package wayback

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"trued.dev/trued/internal/resource"
)

// Files of the directory.
const (
	// OrderFile is the marker that the timer and the service look for.
	OrderFile = "armed"
	// ProgramFile is the copy of the program, beside its sum as sha256sum writes it.
	ProgramFile = "trued"
	sumFile     = "trued.sha256"
	// ConfigFile is the copy of the configuration.
	ConfigFile = "trued.yaml"
	// RulesFile is the copy of the host's rules.
	RulesFile   = "policy.yaml"
	ballastFile = "ballast"
)

const (
	// slack is how long a living agent has to go back by itself before others do.
	slack = 10 * time.Second
	// backLimit is how long one that says it is on its way back is left alone.
	backLimit = 2 * time.Minute
	// resumes bounds how often a run that was cut off may be taken up again and the
	// order be put back to waiting for its end.
	resumes = 5
	// bootLimit is after how many boots since the change a host that keeps coming
	// down goes back at once.
	bootLimit = 3
)

// A Phase says what an order waits for.
type Phase string

// The phases.
const (
	// Running: the run that changes the host has not come to its end.
	Running Phase = "run"
	// Waiting: it has, and nobody has confirmed yet.
	Waiting Phase = "confirm"
	// Returning: the agent says that it is on its way back.
	Returning Phase = "back"
)

// An Order says when to go back.
type Order struct {
	// Run is the id of the run that began it.
	Run   string    `json:"run"`
	Since time.Time `json:"since"`
	// RunTimeout and ConfirmWithin are in nanoseconds.
	RunTimeout    time.Duration `json:"run_timeout"`
	ConfirmWithin time.Duration `json:"confirm_within"`

	Phase Phase `json:"phase"`
	// Begun is when the run began, Moved when the phase did, by the clock that
	// nobody sets.
	Begun resource.Moment `json:"begun"`
	Moved resource.Moment `json:"moved"`
	// Boots are those that were seen since, the first one included.
	Boots []string `json:"boots"`
	// Resumed is how often the run was taken up again.
	Resumed int `json:"resumed,omitempty"`
	// Rules says what the host's rules were before the change; empty where that was
	// not asked.
	Rules Rules `json:"rules,omitempty"`
}

// Rules says whether there were rules.
type Rules string

// What may have been.
const (
	// RulesKept: RulesFile is a copy of them.
	RulesKept Rules = "kept"
	// NoRules: there were none.
	NoRules Rules = "none"
)

// ErrUnreadable is that of an order of which nobody knows what it says: one that was
// being written over on a full disk when the power went.
var ErrUnreadable = errors.New("it was not written to its end")

// Due returns how long it is until the host is to go back; nothing or less for
// now. free is true when no agent is at work.
func (o Order) Due(now resource.Moment, free bool) time.Duration {
	if len(o.Boots) > bootLimit {
		return 0
	}
	left := func(from resource.Moment, limit time.Duration) time.Duration {
		if from.Boot != now.Boot {
			return limit
		}
		return limit - time.Duration(now.Micros-from.Micros)*time.Microsecond //nolint:gosec // far from its limit
	}
	switch o.Phase {
	case Running:
		return left(o.Begun, o.RunTimeout+o.ConfirmWithin+slack)
	case Returning:
		if free {
			return left(o.Moved, slack)
		}
		return left(o.Moved, backLimit)
	default:
		return left(o.Moved, o.ConfirmWithin+slack)
	}
}

// Seen brings the order up to what whoever looks at it sees: another boot since,
// or that nobody is at work on the run any more. It reports whether it is another
// now.
func (o *Order) Seen(now resource.Moment, free bool) bool {
	changed := false
	if !slices.Contains(o.Boots, now.Boot) {
		o.Boots = append(o.Boots, now.Boot)
		o.Moved, changed = now, true
		if o.Phase == Running {
			o.Phase = Waiting
		}
	}
	if o.Phase == Running && free {
		o.Phase, o.Moved, changed = Waiting, now, true
	}
	return changed
}

// resume takes up a run that was cut off: its end is waited for again, not beyond
// what it had from the first, and not for ever.
func (o *Order) resume(now resource.Moment) {
	if o.Phase == Running || o.Resumed >= resumes {
		return
	}
	o.Resumed++
	o.Phase, o.Moved = Running, now
	if o.Begun.Boot != now.Boot {
		o.Begun = now
	}
	if !slices.Contains(o.Boots, now.Boot) {
		o.Boots = append(o.Boots, now.Boot)
	}
}

// A Dir is where all of it is.
type Dir string

// Path returns a path below the directory.
func (d Dir) Path(name string) string { return filepath.Join(string(d), name) }

// Order returns the order that there is; nil for none.
func (d Dir) Order() (*Order, error) {
	data, err := os.ReadFile(d.Path(OrderFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the order to go back: %w", err)
	}
	var o Order
	if err := json.Unmarshal(data, &o); err != nil {
		return nil, fmt.Errorf("cannot read the order to go back: %w: %w", ErrUnreadable, err)
	}
	return &o, nil
}

// Arm makes the order durable, with all that it takes to carry it out. Where there
// is one already, what was kept for it stays: the way back leads to where that was
// from. The time of a run that takes the place of another begins anew, that of the
// same one does not.
func (d Dir) Arm(o Order, program, config, rules string) error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return fmt.Errorf("cannot arm the way back: %w", err)
	}
	o.Phase, o.Moved, o.Boots = Running, o.Begun, []string{o.Begun.Boot}
	old, err := d.Order()
	switch {
	case old != nil && old.Run == o.Run:
		return nil
	case old != nil:
		o.Rules, o.Boots = old.Rules, old.Boots // a host that keeps coming down may have a newer commit each time
		if !slices.Contains(o.Boots, o.Begun.Boot) {
			o.Boots = append(o.Boots, o.Begun.Boot)
		}
		return d.Write(o)
	case errors.Is(err, ErrUnreadable):
		return d.Write(o)
	}
	kept, err := d.keep(RulesFile, rules)
	if o.Rules = NoRules; kept {
		o.Rules = RulesKept
	}
	_, wrong := d.keep(ConfigFile, config)
	if err := errors.Join(d.keepProgram(program), wrong, err); err != nil {
		return fmt.Errorf("cannot arm the way back: %w", err)
	}
	return d.Write(o)
}

// Resume tells that the run of an order goes on after it was cut off.
func (d Dir) Resume(now resource.Moment) error {
	o, err := d.Order()
	if o == nil || err != nil {
		return err
	}
	o.resume(now)
	return d.Write(*o)
}

// GiveUp tells that the run of an order cannot come to its end, whoever takes it
// up: from now on it is waited for to be confirmed.
func (d Dir) GiveUp(now resource.Moment) error {
	o, err := d.Order()
	if o == nil || err != nil || o.Phase != Running {
		return err
	}
	o.Phase, o.Moved, o.Resumed = Waiting, now, resumes
	return d.Write(*o)
}

// Move tells that the order waits for something else from now on. What is told
// again within a boot changes nothing, so that an agent which starts anew time and
// again puts nothing off.
func (d Dir) Move(to Phase, now resource.Moment) error {
	o, err := d.Order()
	if o == nil || err != nil || o.Phase == to && o.Moved.Boot == now.Boot {
		return err
	}
	o.Phase, o.Moved = to, now
	if !slices.Contains(o.Boots, now.Boot) {
		o.Boots = append(o.Boots, now.Boot)
	}
	return d.Write(*o)
}

// Postpone has the order wait as long again: the host goes down, and is to be seen
// after that.
func (d Dir) Postpone(now resource.Moment) error {
	o, err := d.Order()
	if err != nil {
		return err
	}
	if o == nil {
		return errors.New("there is no order to go back")
	}
	o.Phase, o.Moved = Waiting, now
	return d.Write(*o)
}

// Write replaces the order, also on a disk that is full.
func (d Dir) Write(o Order) error {
	data, err := json.MarshalIndent(o, "", " ")
	if err != nil {
		return fmt.Errorf("cannot write the order to go back: %w", err)
	}
	if err := d.replace(OrderFile, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("cannot write the order to go back: %w", err)
	}
	return nil
}

// Disarm takes the order away. What was kept of the program stays for the next.
func (d Dir) Disarm() error {
	err := os.Remove(d.Path(OrderFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncName(string(d))
	}
	if err != nil {
		return fmt.Errorf("cannot disarm the way back: %w", err)
	}
	return nil
}
