package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// rebootFiles are where packages say that the system is to be started anew: those
// of Debian and of SUSE. dnf leaves no file; what it needs is found by a process.
func rebootFiles() []string { return []string{"/run/reboot-required", "/run/reboot-needed"} }

// RebootRequired reports whether something that was installed asks for a reboot,
// and the packages that say so, as far as they do. A tree is not booted.
func (h *Host) RebootRequired() (packages []string, required bool, err error) {
	if h.Offline() {
		return nil, false, nil
	}
	for _, name := range rebootFiles() {
		_, err := h.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		required = true
		list, err := h.ReadFile(name+".pkgs", 1<<16)
		if err != nil {
			continue // it is there to be read, and nothing hangs on it
		}
		packages = append(packages, strings.Fields(string(list))...)
	}
	slices.Sort(packages)
	return slices.Compact(packages), required, nil
}

const (
	loginName      = "org.freedesktop.login1"
	loginPath      = dbus.ObjectPath("/org/freedesktop/login1")
	loginInterface = "org.freedesktop.login1.Manager"
)

// An InhibitedError is somebody who keeps the system from going down.
type InhibitedError struct{ Who, Why string }

func (e *InhibitedError) Error() string {
	return fmt.Sprintf("%s keeps the system up: %s", e.Who, e.Why)
}

// MayReboot returns an *InhibitedError when somebody blocks a reboot. Root would
// not be stopped by that.
func (s *Systemd) MayReboot(ctx context.Context) error {
	var inhibited *InhibitedError
	err := s.ask(ctx, func(_ *systemd.Conn, raw *dbus.Conn) error {
		var list []struct {
			What, Who, Why, Mode string
			UID, PID             uint32
		}
		err := raw.Object(loginName, loginPath).CallWithContext(ctx, loginInterface+".ListInhibitors", 0).Store(&list)
		if noLogin(err) {
			return nil
		}
		for _, i := range list {
			if i.Mode != "delay" && slices.Contains(strings.Split(i.What, ":"), "shutdown") {
				inhibited = &InhibitedError{Who: i.Who, Why: i.Why}
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot tell who keeps the system up: %w", err)
	}
	if inhibited != nil {
		return inhibited
	}
	return nil
}

// Reboot asks for a reboot, by logind where that runs, so that whoever delays one
// is waited for. With refused it is certain that there will be none; other errors may
// well be those of a system that goes down.
func (s *Systemd) Reboot(ctx context.Context) (refused bool, err error) {
	_, raw, err := s.connection()
	if err != nil {
		return true, fmt.Errorf("cannot reboot: %w", err)
	}
	err = raw.Object(loginName, loginPath).CallWithContext(ctx, loginInterface+".Reboot", 0, false).Err
	if noLogin(err) {
		err = manager(ctx, raw, "StartUnit", "reboot.target", "replace-irreversibly").Err
	}
	if err == nil {
		return false, nil
	}
	var answer dbus.Error
	refused = errors.As(err, &answer) && slices.Contains([]string{
		"org.freedesktop.DBus.Error.AccessDenied", "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
		"org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.systemd1.UnitMasked",
	}, answer.Name)
	return refused, fmt.Errorf("cannot reboot: %w", err)
}

// noLogin reports whether an error says that there is no logind.
func noLogin(err error) bool {
	var answer dbus.Error
	return errors.As(err, &answer) && slices.Contains([]string{
		"org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner",
		"org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.systemd1.UnitMasked",
	}, answer.Name)
}
