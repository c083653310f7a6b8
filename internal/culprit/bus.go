package culprit

import (
	"context"
	"encoding/hex"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	busName          = "org.freedesktop.DBus"
	managerInterface = "org.freedesktop.systemd1.Manager"
	unitInterface    = "org.freedesktop.systemd1.Unit"
	unitPath         = "/org/freedesktop/systemd1/unit/"
)

// calls are the methods by which the service manager is asked to change units:
// of its own those that name them, and of one unit's.
func calls() map[string]string {
	return map[string]string{
		"StartUnit": "start", "StopUnit": "stop", "RestartUnit": "restart", "TryRestartUnit": "restart",
		"ReloadUnit": "reload", "ReloadOrRestartUnit": "restart", "ReloadOrTryRestartUnit": "restart",
		"KillUnit": "kill", "FreezeUnit": "freeze", "ThawUnit": "thaw", "SetUnitProperties": "set-property",
		"EnableUnitFiles": "enable", "EnableUnitFilesWithFlags": "enable", "ReenableUnitFiles": "enable",
		"DisableUnitFiles": "disable", "DisableUnitFilesWithFlags": "disable", "DisableUnitFilesWithFlagsAndInstallInfo": "disable",
		"MaskUnitFiles": "mask", "UnmaskUnitFiles": "unmask", "LinkUnitFiles": "link", "RevertUnitFiles": "revert",
		"Start": "start", "Stop": "stop", "Restart": "restart", "TryRestart": "restart", "Reload": "reload",
		"ReloadOrRestart": "restart", "ReloadOrTryRestart": "restart", "Kill": "kill", "Freeze": "freeze", "Thaw": "thaw",
		"SetProperties": "set-property",
	}
}

// listen tells of what the service manager is asked for over the system bus,
// and by which process, until ctx is done or the bus is gone. What root's own
// systemctl asks for does not come this way.
func listen(ctx context.Context, tell func(pid int, uid uint32, r request)) error {
	ask, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return err
	}
	defer ask.Close()
	monitor, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return err
	}
	defer monitor.Close()
	var rules []string
	for method := range calls() {
		iface := managerInterface
		if !strings.Contains(method, "Unit") {
			iface = unitInterface
		}
		rules = append(rules, "type='method_call',interface='"+iface+"',member='"+method+"'")
	}
	// A monitor must not answer, so nothing but this is done with what comes.
	if err := monitor.BusObject().CallWithContext(ctx, busName+".Monitoring.BecomeMonitor", 0, rules, uint32(0)).Err; err != nil {
		return err
	}
	const behind = 4 // what does not fit is lost: anybody may send large messages
	seen := make(chan *dbus.Message, behind)
	monitor.Eavesdrop(seen)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m, ok := <-seen:
			if !ok {
				return dbus.ErrClosed
			}
			r, ok := parseCall(m)
			if !ok {
				continue
			}
			if pid, uid, ok := sender(ctx, ask, m); ok {
				tell(pid, uid, r)
			}
		}
	}
}

// sender asks the bus which process a message is of. That may be gone already.
func sender(ctx context.Context, ask *dbus.Conn, m *dbus.Message) (pid int, uid uint32, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	name, _ := m.Headers[dbus.FieldSender].Value().(string)
	creds := map[string]dbus.Variant{}
	if err := ask.BusObject().CallWithContext(ctx, busName+".GetConnectionCredentials", 0, name).Store(&creds); err != nil {
		return 0, nobody, false
	}
	number, ok := creds["ProcessID"].Value().(uint32)
	uid, known := creds["UnixUserID"].Value().(uint32)
	if !known {
		uid = nobody
	}
	return int(number), uid, ok
}

// parseCall reads what a message asks for.
func parseCall(m *dbus.Message) (request, bool) {
	if m.Type != dbus.TypeMethodCall {
		return request{}, false
	}
	member, _ := m.Headers[dbus.FieldMember].Value().(string)
	iface, _ := m.Headers[dbus.FieldInterface].Value().(string)
	r := request{what: done(calls()[member])}
	if r.what == "" {
		return r, false
	}
	switch iface {
	case unitInterface:
		object, _ := m.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
		name, ok := strings.CutPrefix(string(object), unitPath)
		if !ok {
			return r, false
		}
		r.units = []string{unescapePath(name)}
	case managerInterface:
		if len(m.Body) == 0 {
			return r, false
		}
		switch names := m.Body[0].(type) {
		case string:
			r.units = []string{names}
		case []string:
			r.units = names
		}
	}
	for i, name := range r.units {
		r.units[i] = unitName(name)
	}
	r.units = r.units[:min(len(r.units), mostUnits)]
	return r, len(r.units) > 0
}

// unescapePath gives back the name that the service manager made the last part
// of an object's path of.
func unescapePath(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] == '_' && i+2 < len(name) {
			if char, err := hex.DecodeString(name[i+1 : i+3]); err == nil {
				b.Write(char)
				i += 2
				continue
			}
		}
		b.WriteByte(name[i])
	}
	return b.String()
}
