package culprit

import (
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

func TestOfACommandOfSystemctlTheUnitsCount(t *testing.T) {
	for line, want := range map[string]request{
		"systemctl stop nginx":                                {"stopped", []string{"nginx.service"}},
		"/usr/bin/systemctl --now -q disable a.socket b":      {"disabled", []string{"a.socket", "b.service"}},
		"systemctl --no-block --job-mode=replace restart x@1": {"restarted", []string{"x@1.service"}},
		"systemctl -s KILL kill nginx.service":                {"killed", []string{"nginx.service"}},
		"systemctl mask /etc/systemd/system/cron.service":     {"masked", []string{"cron.service"}},
		"systemctl stop apt-* --all":                          {"stopped", []string{"apt-*.service"}},
		"systemctl set-property nginx.service MemoryMax=1G":   {"changed", []string{"nginx.service", "MemoryMax=1G.service"}},
		"systemctl status nginx":                              {},
		"systemctl show --property=ActiveState stop":          {},
		"systemctl set-environment TOKEN=s3cret":              {},
		"systemctl --user stop nginx":                         {},
		"systemctl -M web stop nginx":                         {},
		"systemctl --root=/srv/image disable nginx":           {},
		"systemctl":                       {},
		"":                                {},
		"sh -c systemctl stop nginx":      {},
		"systemctl daemon-reload":         {},
		"systemctl isolate rescue.target": {},
	} {
		got, ok := parseSystemctl([]byte(strings.ReplaceAll(line, " ", "\x00") + "\x00"))
		if ok != (want.what != "") || ok && (got.what != want.what || !slices.Equal(got.units, want.units)) {
			t.Errorf("%q is %+v, %v; want %+v", line, got, ok, want)
		}
	}
}

func TestOfAMessageOnTheBusTheUnitsCount(t *testing.T) {
	message := func(path, iface, member string, body ...any) *dbus.Message {
		return &dbus.Message{Type: dbus.TypeMethodCall, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath(path)), dbus.FieldInterface: dbus.MakeVariant(iface), dbus.FieldMember: dbus.MakeVariant(member),
		}}
	}
	const manager = "/org/freedesktop/systemd1"
	for name, c := range map[string]struct {
		message *dbus.Message
		want    request
	}{
		"stop":            {message(manager, managerInterface, "StopUnit", "nginx.service", "replace"), request{"stopped", []string{"nginx.service"}}},
		"disable":         {message(manager, managerInterface, "DisableUnitFiles", []string{"a.service", "b.timer"}, false), request{"disabled", []string{"a.service", "b.timer"}}},
		"of a unit":       {message("/org/freedesktop/systemd1/unit/x_40a_2db_2eservice", unitInterface, "Stop", "replace"), request{"stopped", []string{"x@a-b.service"}}},
		"no unit":         {message("/org/freedesktop/systemd1", unitInterface, "Stop", "replace"), request{}},
		"reads":           {message(manager, managerInterface, "GetUnit", "nginx.service"), request{}},
		"nothing":         {message(manager, managerInterface, "StopUnit"), request{}},
		"something else":  {message(manager, managerInterface, "StopUnit", 7), request{}},
		"another's":       {message(manager, "org.example", "StopUnit", "nginx.service"), request{}},
		"without headers": {&dbus.Message{Type: dbus.TypeMethodCall}, request{}},
		"a signal":        {&dbus.Message{Type: dbus.TypeSignal}, request{}},
	} {
		got, ok := parseCall(c.message)
		if ok != (c.want.what != "") || ok && (got.what != c.want.what || !slices.Equal(got.units, c.want.units)) {
			t.Errorf("%s: %+v, %v; want %+v", name, got, ok, c.want)
		}
	}
}

func TestEachMethodThatIsListenedForIsACommand(t *testing.T) {
	for method, command := range calls() {
		if done(command) == "" {
			t.Errorf("%s does %q, which is nothing", method, command)
		}
	}
}

func FuzzSystemctl(f *testing.F) {
	f.Add([]byte("systemctl\x00stop\x00nginx\x00"))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, cmdline []byte) {
		r, ok := parseSystemctl(cmdline)
		if ok && (r.what == "" || len(r.units) == 0 || len(r.units) > mostUnits) {
			t.Errorf("%q is %+v", cmdline, r)
		}
		for _, u := range r.units {
			if len(u) > longestUnit {
				t.Errorf("%q", u)
			}
		}
	})
}
