package mount

import (
	"testing"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
)

// witnesses: what was seen of a mount holds while the mount, what is mounted and
// the list stay as they are.
func witnesses(t *testing.T) {
	bind := Resource{Target: "/srv/seen", Device: "/srv/other", FSType: "none", Options: "bind,nofail", Parents: true}
	memory := Resource{Target: "/srv/seen", Device: "tmpfs", FSType: "tmpfs", Options: "size=1m,nofail", Parents: true}
	for _, c := range []struct {
		fill   Resource
		change string
		holds  bool
	}{
		{bind, "touch /srv/other/more", true},
		{bind, "mv /srv/other /srv/gone; cp -a /srv/gone /srv/other", false},
		{bind, "umount /srv/seen", false},
		{bind, "mount -o remount,bind,ro /srv/seen", false},
		{memory, "touch /srv/seen/x", true},
		{memory, "mount -o remount,noexec /srv/seen", false},
		{Resource{Target: "/srv/seen", State: stateUnmounted}, "mount -t tmpfs tmpfs /srv/seen", false},
	} {
		hosttest.Sh(t, "mkdir -p /srv/other /srv/seen; cp /etc/fstab /root/fstab")
		l := newLab(t)
		l.Converge(t, c.fill)
		m, r := l.Load(t, c.fill)
		seen := l.Engine.Witness(t, m, r)
		if seen == nil {
			t.Errorf("%+v has no witness", c.fill)
		}
		hosttest.Sh(t, c.change)
		later, _ := l.Load(t, c.fill)
		if got := later.(resource.Examiner).Holds(t.Context(), r.Name(), seen); got != c.holds {
			t.Errorf("%s on %s: after %q what was seen holds: %v", c.fill.Device, c.fill.Target, c.change, got)
		}
		hosttest.Sh(t, "while umount /srv/seen; do :; done; rm -rf /srv/gone /srv/seen; cp /root/fstab /etc/fstab; systemctl daemon-reload")
	}
	if found := newLab(t).Check(t, Resource{Target: "/", Device: "/dev/vda1", FSType: "ext4", State: statePresent}); found.Witness != nil {
		t.Errorf("what differs has a witness: %+v", found)
	}
}
