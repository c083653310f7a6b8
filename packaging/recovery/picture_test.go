package recovery_test

import (
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
)

// A picture is all of a host that a commit can change and a way back must give
// back: files with type, mode, owner and content, packages with their versions and
// states, conffiles as they are, and which units are enabled and active. Account
// databases and caches are left out, and so is what the agent keeps for itself.
type picture map[string]string

// left are the paths that are no part of a picture.
const left = `/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$|/etc/ld\.so\.cache$|/etc/\.pwd\.lock$|/etc/machine-id$|` +
	`/etc/trued/|/etc/resolv\.conf$|/etc/mtab$|/etc/hosts$|/etc/ssl/certs/|\.trued-`

// take takes a picture of a host.
func take(t *testing.T, h *hosttest.Host) picture {
	t.Helper()
	p := picture{}
	add := func(of, lines string) {
		for line := range strings.Lines(lines) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			p[of+" "+key] = value
		}
	}
	add("path", h.Run(t, `find /etc /usr/local /usr/lib/systemd /srv /opt /var/www /var/spool/cron \( -path /srv/small -prune \) -o -printf '%p %y %m %u:%g %l\n' 2>/dev/null | grep -Ev '`+left+`' || true`))
	add("content", h.Run(t, `find /etc /usr/local /srv /opt /var/www -path /srv/small -prune -o -type f -print0 2>/dev/null | grep -zEv '`+left+`' | xargs -0 sha256sum | awk '{print $2, $1}'`))
	add("package", h.Run(t, `dpkg-query -W -f '${Package}:${Architecture} ${db:Status-Abbrev}${Version}\n'`))
	add("conffiles", h.Run(t, `dpkg-query -W -f '${Conffiles}\n' | awk 'NF {print $1}' | sort -u | xargs -r sha256sum 2>/dev/null | awk '{print $2, $1}' || true`))
	add("hold", h.Run(t, "apt-mark showhold"))
	add("enabled", h.Run(t, `systemctl list-unit-files --no-legend --type=service,socket,timer | awk '{print $1, $2}'`))
	add("active", h.Run(t, `systemctl list-units --no-legend --plain --type=service --state=active | awk '{print $1, $3}'`))
	return p
}

// want compares a picture with an earlier one.
func (p picture) want(t *testing.T, before picture) {
	t.Helper()
	for key, was := range before {
		if is, ok := p[key]; !ok {
			t.Errorf("%s is gone; it was %q", key, was)
		} else if is != was {
			t.Errorf("%s is %q and was %q", key, is, was)
		}
	}
	for key, is := range p {
		if _, ok := before[key]; !ok {
			t.Errorf("%s is new: %q", key, is)
		}
	}
}
