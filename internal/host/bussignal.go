package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/godbus/dbus/v5"
)

// A UnitSignal is something that systemd told of unasked.
type UnitSignal struct {
	// Unit is the unit that it is about, by its own name; empty for the manager,
	// which has read its files anew or found them changed: any unit may be another.
	Unit string
}

// Signals calls heard for what systemd tells of its units, until ctx is done or
// the connection, which is one of its own, is lost. It calls begun once it
// listens: what happens from then on is heard.
func (s *Systemd) Signals(ctx context.Context, begun func(), heard func(UnitSignal)) error {
	conn, err := dialBus()
	direct := false
	if err != nil && os.Geteuid() == 0 {
		var also error
		if conn, also = dialPrivate(); also != nil {
			return fmt.Errorf("cannot reach systemd over D-Bus: %w", errors.Join(err, also))
		}
		direct, err = true, nil
	}
	if err != nil {
		return fmt.Errorf("cannot reach systemd over D-Bus: %w", err)
	}
	defer conn.Close()
	signals := make(chan *dbus.Signal, 256)
	conn.Signal(signals)
	if !direct {
		if err := subscribe(ctx, conn); err != nil {
			return err
		}
	}
	begun()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case sig, ok := <-signals:
			if !ok {
				return errors.New("connection to systemd lost")
			}
			if u, ok := unitSignal(sig); ok {
				heard(u)
			}
		}
	}
}

const (
	unitPath      = managerPath + "/unit/"
	unitInterface = "org.freedesktop.systemd1.Unit"
)

// subscribe asks for the signals that matter, and no more: a busy host has many.
func subscribe(ctx context.Context, conn *dbus.Conn) error {
	for _, options := range [][]dbus.MatchOption{
		{
			dbus.WithMatchPathNamespace(managerPath + "/unit"),
			dbus.WithMatchInterface("org.freedesktop.DBus.Properties"), dbus.WithMatchMember("PropertiesChanged"),
			dbus.WithMatchArg(0, unitInterface),
		},
		{dbus.WithMatchObjectPath(managerPath), dbus.WithMatchInterface(managerInterface), dbus.WithMatchMember("UnitNew")},
		{dbus.WithMatchObjectPath(managerPath), dbus.WithMatchInterface(managerInterface), dbus.WithMatchMember("UnitRemoved")},
		{dbus.WithMatchObjectPath(managerPath), dbus.WithMatchInterface(managerInterface), dbus.WithMatchMember("UnitFilesChanged")},
		{dbus.WithMatchObjectPath(managerPath), dbus.WithMatchInterface(managerInterface), dbus.WithMatchMember("Reloading")},
	} {
		options = append(options, dbus.WithMatchSender(managerName))
		if err := conn.AddMatchSignalContext(ctx, options...); err != nil {
			return fmt.Errorf("cannot listen to systemd: %w", err)
		}
	}
	if err := manager(ctx, conn, "Subscribe").Err; err != nil {
		return fmt.Errorf("cannot listen to systemd: %w", err)
	}
	return nil
}

// unitSignal tells what a signal is about; false when it is of no interest.
func unitSignal(sig *dbus.Signal) (UnitSignal, bool) {
	arg := func(i int) any {
		if i < len(sig.Body) {
			return sig.Body[i]
		}
		return nil
	}
	switch sig.Name {
	case managerInterface + ".UnitNew", managerInterface + ".UnitRemoved":
		name, _ := arg(0).(string)
		return UnitSignal{Unit: name}, name != ""
	case managerInterface + ".UnitFilesChanged":
		return UnitSignal{}, true
	case managerInterface + ".Reloading":
		begins, _ := arg(0).(bool)
		return UnitSignal{}, !begins
	case "org.freedesktop.DBus.Properties.PropertiesChanged":
		escaped, ok := strings.CutPrefix(string(sig.Path), unitPath)
		if of, _ := arg(0).(string); !ok || of != unitInterface {
			return UnitSignal{}, false
		}
		changed, _ := arg(1).(map[string]dbus.Variant)
		if _, told := changed["ActiveState"]; !told {
			return UnitSignal{}, false
		}
		return UnitSignal{Unit: unescapePath(escaped)}, true
	}
	return UnitSignal{}, false
}

// unescapePath is the name of a unit from the last part of its object's path.
func unescapePath(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '_' && i+2 < len(s) {
			high, low := unhex(s[i+1]), unhex(s[i+2])
			if high >= 0 && low >= 0 {
				b.WriteByte(byte(high<<4 | low))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func unhex(c byte) int { return strings.IndexByte("0123456789abcdef", c) }
