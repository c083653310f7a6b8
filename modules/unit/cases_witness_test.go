package unit

import (
	"testing"
	"time"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
)

// witnessOf returns what a Check saw, once it is old enough to be one.
func (l *lab) witnessOf(t *testing.T, fill Unit) resource.Witness {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if w := l.InOrder(t, fill).Witness; w != nil {
			return w
		}
	}
	t.Fatal("there never was a witness")
	return nil
}

// holds asks as the next run does: of many units at once, and of one.
func (l *lab) holds(t *testing.T, name string, w resource.Witness) bool {
	t.Helper()
	m := New(l.host).(resource.Foreseer)
	m.Foresee(t.Context(), []string{"dbus.service", name, "no-such.service"})
	first, second := m.Holds(t.Context(), name, w), m.Holds(t.Context(), name, w)
	if first != second {
		t.Errorf("of many units it holds: %v, and of one: %v", first, second)
	}
	return first
}

// witnesses: what was seen of a unit holds until something that matters changes,
// and no longer.
func witnesses(t *testing.T, l *lab) {
	foreign(t, "wi.service", plainService)
	u := Unit{Unit: "wi.service", Enabled: ptr(true), State: running, DropIns: map[string]string{"a": "[Service]\nUMask=0027\n"}}
	for _, change := range []struct {
		line  string
		holds bool
	}{
		{"true", true},
		{"systemctl restart wi.service", true},
		{"systemctl daemon-reload", true},
		{"systemctl stop wi.service", false},
		{"systemctl kill -s KILL wi.service; until systemctl is-failed wi.service; do sleep 0.05; done", false},
		{"systemctl disable wi.service", false},
		{"systemctl stop wi.service; systemctl mask wi.service", false},
		{"echo '[Service]' >>/etc/systemd/system/wi.service.d/a.conf", false},
		{"rm /etc/systemd/system/wi.service.d/a.conf", false},
		// Of no file that was looked at, and known to systemd alone.
		{"mkdir -p /run/systemd/system/wi.service.d; echo '[Service]' >/run/systemd/system/wi.service.d/z.conf", false},
	} {
		hosttest.Sh(t, "systemctl unmask wi.service; rm -rf /run/systemd/system/wi.service.d; systemctl daemon-reload; systemctl reset-failed wi.service")
		l.Converge(t, u)
		seen := l.witnessOf(t, u)
		hosttest.Sh(t, change.line)
		if got := l.holds(t, u.Unit, seen); got != change.holds {
			t.Errorf("after %q what was seen holds: %v", change.line, got)
		}
	}
}

// What a glance does not tell has no witness.
func noWitness(t *testing.T, l *lab) {
	foreign(t, "nw-done.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n")
	foreign(t, "nw-also.service", plainService+"Also=nw-done.service\n")
	l.Converge(t, Unit{Unit: "nw-done.service", State: running})
	for _, u := range []Unit{
		{Unit: "nw-done.service", State: running},     // it is in order for what it did
		{Unit: "nw-done.service", Enabled: ptr(true)}, // which means nothing
		{Unit: "no-such.timer", State: running},       // it may come
		{Unit: "nw-done.service", Masked: ptr(true)},  // a difference
	} {
		if found := l.Check(t, u); found.Witness != nil {
			t.Errorf("%+v has a witness: %+v", u, found)
		}
	}
}
