package host

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// A UnitStatus is what systemd says about a unit at a glance.
type UnitStatus struct {
	// Name is the unit's own name, also when it was asked for by an alias.
	Name   string
	Load   string // loaded, not-found, masked, bad-setting, error …
	Active string // active, inactive, failed, activating …
	Sub    string // the state of its type, such as running, exited, auto-restart
	// Job is the job that is queued for the unit, 0 for none.
	Job     uint32
	JobType string
}

// Units returns the status of each name, in their order.
func (s *Systemd) Units(ctx context.Context, names []string) ([]UnitStatus, error) {
	var list []systemd.UnitStatus
	err := s.ask(ctx, func(conn *systemd.Conn, _ *dbus.Conn) (err error) {
		list, err = conn.ListUnitsByNamesContext(ctx, names)
		return err
	})
	if err == nil && len(list) != len(names) {
		// systemd leaves out names that it holds for invalid.
		err = fmt.Errorf("systemd knows %d of them", len(list))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read state of %s: %w", few(names, "unit"), err)
	}
	units := make([]UnitStatus, len(list))
	for i, u := range list {
		units[i] = UnitStatus{
			Name: u.Name, Load: u.LoadState, Active: u.ActiveState, Sub: u.SubState,
			Job: u.JobId, JobType: u.JobType,
		}
	}
	return units, nil
}

// UnitFileStates returns systemd's word for each unit's file: enabled,
// disabled, static, masked, alias, generated …; "" when there is no file.
func (s *Systemd) UnitFileStates(ctx context.Context, names []string) ([]string, error) {
	states := make([]string, len(names))
	err := s.ask(ctx, func(_ *systemd.Conn, raw *dbus.Conn) error {
		calls := make([]*dbus.Call, len(names))
		for i, name := range names {
			calls[i] = raw.Object(managerName, managerPath).GoWithContext(ctx,
				managerInterface+".GetUnitFileState", 0, make(chan *dbus.Call, 1), name)
		}
		for i, call := range calls {
			err := (<-call.Done).Store(&states[i])
			if err != nil && !noSuchUnit(err) {
				return fmt.Errorf("cannot read enablement of unit %q: %w", names[i], err)
			}
		}
		return nil
	})
	return states, err
}

// ListUnitFiles returns the same words as UnitFileStates in one call, for the
// units that have a file of exactly their name.
func (s *Systemd) ListUnitFiles(ctx context.Context, names []string) (map[string]string, error) {
	var plain []string
	for _, name := range names {
		// systemd takes the names for patterns.
		if !strings.ContainsAny(name, `*?[]\`) {
			plain = append(plain, name)
		}
	}
	states := make(map[string]string, len(plain))
	if len(plain) == 0 {
		return states, nil
	}
	err := s.ask(ctx, func(conn *systemd.Conn, _ *dbus.Conn) error {
		files, err := conn.ListUnitFilesByPatternsContext(ctx, nil, plain)
		for _, f := range files {
			states[path.Base(f.Path)] = f.Type
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read enablement of %s: %w", few(names, "unit"), err)
	}
	return states, nil
}

// noSuchUnit reports whether systemd has no file of a unit's name.
func noSuchUnit(err error) bool {
	var failed dbus.Error
	if !errors.As(err, &failed) {
		return false
	}
	switch failed.Name {
	case "org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.DBus.Error.FileNotFound",
		"System.Error.ENOENT":
		return true
	}
	return false
}

// A UnitDetail is what it costs more to know about a unit.
type UnitDetail struct {
	FragmentPath string
	// NeedReload is true when its files changed since systemd read them.
	NeedReload bool
	// Tried is when its conditions were tested last, in microseconds of the
	// monotonic clock, 0 if never in this boot.
	Tried uint64
	// Unmet names the conditions that were not met then.
	Unmet []string
	// Asserts names the assertions that failed at the last start.
	Asserts []string
	// Result is why it ended last: success, exit-code, signal, start-limit-hit …
	Result string
	// Exit is the exit status or signal of a service's main process.
	Exit string
	// Started is true when a service's main process has run in this boot.
	Started bool
	// Oneshot is true for a service that is inactive after it did its work.
	Oneshot bool
	// Restarts counts the automatic restarts since the last deliberate start,
	// RestartAfter is how long systemd waits before one, and Lived how long a
	// service's main process did, 0 where none has ended.
	Restarts            uint32
	RestartAfter, Lived time.Duration
	// Activated is when it last began to be activated, in microseconds of the
	// clock on the wall, 0 for never.
	Activated uint64
	// Active and Sub are its state, as in UnitStatus.
	Active, Sub string
	// Began is when it left the inactive state last, and Reloaded when the last
	// reload that went well began, both in microseconds of the monotonic clock, 0
	// for never or where systemd does not know.
	Began, Reloaded uint64
}

// Unit returns the detail of a unit.
func (s *Systemd) Unit(ctx context.Context, name string) (UnitDetail, error) {
	var props map[string]any
	err := s.ask(ctx, func(conn *systemd.Conn, _ *dbus.Conn) (err error) {
		props, err = conn.GetAllPropertiesContext(ctx, name)
		return err
	})
	if err != nil {
		return UnitDetail{}, fmt.Errorf("cannot read properties of unit %q: %w", name, err)
	}
	d := UnitDetail{
		FragmentPath: value[string](props, "FragmentPath"),
		NeedReload:   value[bool](props, "NeedDaemonReload"),
		Tried:        value[uint64](props, "ConditionTimestampMonotonic"),
		Result:       value[string](props, "Result"),
		Restarts:     value[uint32](props, "NRestarts"),
		RestartAfter: micros(value[uint64](props, "RestartUSec")),
		Lived:        lived(value[uint64](props, "ExecMainStartTimestampMonotonic"), value[uint64](props, "ExecMainExitTimestampMonotonic")),
		Started:      value[uint64](props, "ExecMainStartTimestampMonotonic") != 0,
		Oneshot:      value[string](props, "Type") == "oneshot" && !value[bool](props, "RemainAfterExit"),
		Activated:    value[uint64](props, "InactiveExitTimestamp"),
		Active:       value[string](props, "ActiveState"),
		Sub:          value[string](props, "SubState"),
		Began:        value[uint64](props, "InactiveExitTimestampMonotonic"),
		Reloaded:     reloaded(props),
		Exit:         exitWords(value[int32](props, "ExecMainCode"), value[int32](props, "ExecMainStatus")),
	}
	if d.Tried != 0 && !value[bool](props, "ConditionResult") {
		d.Unmet = unmet(props["Conditions"])
	}
	if value[uint64](props, "AssertTimestampMonotonic") != 0 && !value[bool](props, "AssertResult") {
		d.Asserts = unmet(props["Asserts"])
	}
	return d, nil
}

// lived is the time between two moments of the monotonic clock; 0 where the
// second has not come.
func lived(began, ended uint64) time.Duration {
	if ended < began {
		return 0
	}
	return micros(ended - began)
}

// micros is a time that systemd tells in microseconds; the longest there is for
// its "infinity".
func micros(n uint64) time.Duration {
	return time.Duration(min(n, math.MaxInt64/uint64(time.Microsecond))) * time.Microsecond
}

// NeedsReload reports whether the unit's files changed since systemd read them.
func (s *Systemd) NeedsReload(ctx context.Context, name string) (bool, error) {
	var needs bool
	err := s.ask(ctx, func(conn *systemd.Conn, _ *dbus.Conn) error {
		p, err := conn.GetUnitPropertyContext(ctx, name, "NeedDaemonReload")
		if err != nil {
			return err
		}
		return p.Value.Store(&needs)
	})
	if err != nil {
		return false, fmt.Errorf("cannot read properties of unit %q: %w", name, err)
	}
	return needs, nil
}

// UnitsLoaded returns when systemd last read its unit files, in microseconds of
// the monotonic clock, 0 where it is too old to tell.
func (s *Systemd) UnitsLoaded(ctx context.Context) (uint64, error) {
	var at uint64
	err := s.ask(ctx, func(_ *systemd.Conn, raw *dbus.Conn) (err error) {
		at, err = property[uint64](ctx, raw, managerPath, managerInterface, "UnitsLoadTimestampMonotonic")
		if err == nil && at == 0 { // never again since the boot
			at, err = property[uint64](ctx, raw, managerPath, managerInterface, "UnitsLoadFinishTimestampMonotonic")
		}
		return err
	})
	if noSuchProperty(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("cannot read when systemd read its unit files: %w", err)
	}
	return at, nil
}

func noSuchProperty(err error) bool {
	var failed dbus.Error
	return errors.As(err, &failed) && failed.Name == "org.freedesktop.DBus.Error.UnknownProperty"
}

// reloaded returns when the last reload that went well began: of a service that
// is reloaded by commands, which systemd keeps the times of until it reads its
// files again.
func reloaded(props map[string]any) uint64 {
	commands, _ := props["ExecReload"].([][]any)
	if value[string](props, "ReloadResult") != "success" {
		return 0
	}
	var began, last uint64
	for i, c := range commands {
		if len(c) != 10 {
			return 0
		}
		mayFail, _ := c[2].(bool)
		start, _ := c[4].(uint64)
		end, _ := c[6].(uint64)
		code, _ := c[8].(int32)
		status, _ := c[9].(int32)
		if start == 0 || start < last || end < start || !mayFail && (code != cldExited || status != 0) {
			return 0
		}
		if i == 0 {
			began = start
		}
		last = start
	}
	return began
}

const cldExited = 1

func value[T any](props map[string]any, name string) T {
	v, _ := props[name].(T)
	return v
}

// exitWords turns the code of waitid and a status into words.
func exitWords(code, status int32) string {
	switch code {
	case cldExited:
		return fmt.Sprintf("exit status %d", status)
	case 2, 3: // CLD_KILLED, CLD_DUMPED
		return fmt.Sprintf("signal %d", status)
	default:
		return ""
	}
}

// unmet names the conditions that were found wanting: those that failed or,
// where only one of several triggering ones had to hold, all of these.
func unmet(v any) []string {
	list, _ := v.([][]any)
	var names, triggers []string
	triggered := false
	for _, c := range list {
		if len(c) != 5 {
			continue
		}
		word, _ := c[0].(string)
		trigger, _ := c[1].(bool)
		negate, _ := c[2].(bool)
		param, _ := c[3].(string)
		state, _ := c[4].(int32)
		text := word + "="
		if negate {
			text += "!"
		}
		text += param
		switch {
		case trigger && state > 0:
			triggered = true
		case trigger:
			triggers = append(triggers, text)
		case state < 0:
			names = append(names, text)
		}
	}
	if !triggered {
		names = append(names, triggers...)
	}
	if len(names) == 0 {
		names = []string{"a start condition"}
	}
	return names
}

// few names up to three things, and counts more.
func few(names []string, what string) string {
	if len(names) > 3 {
		return fmt.Sprintf("%d %ss", len(names), what)
	}
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = fmt.Sprintf("%q", n)
	}
	return what + " " + strings.Join(quoted, ", ")
}
