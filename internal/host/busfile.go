package host

import (
	"context"
	"fmt"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// EnableUnit makes the links that a unit's [Install] section asks for.
func (s *Systemd) EnableUnit(ctx context.Context, name string) error {
	return s.unitFiles(ctx, "enable", name, func(conn *systemd.Conn) error {
		_, _, err := conn.EnableUnitFilesContext(ctx, []string{name}, false, true)
		return err
	})
}

// DisableUnit removes the links that enable a unit, those for this boot alone
// among them.
func (s *Systemd) DisableUnit(ctx context.Context, name string) error {
	return s.unitFiles(ctx, "disable", name, func(conn *systemd.Conn) error {
		_, err := conn.DisableUnitFilesContext(ctx, []string{name}, true)
		if err != nil {
			return err
		}
		_, err = conn.DisableUnitFilesContext(ctx, []string{name}, false)
		if noSuchUnit(err) {
			return nil // the unit was known by one of the links alone
		}
		return err
	})
}

// MaskUnit makes it impossible to start a unit, which need not exist.
func (s *Systemd) MaskUnit(ctx context.Context, name string) error {
	return s.unitFiles(ctx, "mask", name, func(conn *systemd.Conn) error {
		_, err := conn.MaskUnitFilesContext(ctx, []string{name}, false, false)
		return err
	})
}

// UnmaskUnit takes back a mask, one for this boot alone as well.
func (s *Systemd) UnmaskUnit(ctx context.Context, name string) error {
	return s.unitFiles(ctx, "unmask", name, func(conn *systemd.Conn) error {
		for _, runtime := range []bool{false, true} {
			if _, err := conn.UnmaskUnitFilesContext(ctx, []string{name}, runtime); err != nil {
				return err
			}
		}
		return nil
	})
}

// LinkUnit makes a unit file outside of the search path known, by a link.
func (s *Systemd) LinkUnit(ctx context.Context, file string) error {
	return s.unitFiles(ctx, "link", file, func(conn *systemd.Conn) error {
		_, err := conn.LinkUnitFilesContext(ctx, []string{file}, false, false)
		return err
	})
}

func (s *Systemd) unitFiles(ctx context.Context, verb, name string, call func(*systemd.Conn) error) error {
	err := s.ask(ctx, func(conn *systemd.Conn, _ *dbus.Conn) error { return call(conn) })
	if err != nil {
		return fmt.Errorf("cannot %s unit %q: %w", verb, name, err)
	}
	return nil
}
