// Package rescue_test breaks the agent itself, on booted hosts with the package
// that `make packages` built, and sees each host back at the last commit that was
// confirmed.
package rescue_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
)

const (
	repository = "/srv/hosts"
	eventFile  = "/var/log/trued/events.jsonl"
	// confirmWithin is short, so that a test is; what is proven is that it counts.
	confirmWithin = "5s"
)

// A world is a host that is kept true to a repository on itself.
type world struct {
	*hosttest.Host
	good string // the commit that was confirmed last
	// before is what the host was with it.
	before string
}

// portrait is all of a host that a way back has to bring back: packages with
// versions and marks, configuration, what is managed, programs, and what serves.
const portrait = `
dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\n'; apt-mark showauto; apt-mark showhold
find /etc /srv/managed /usr/bin/trued -xdev \( -name '*.dpkg-*' -o -name '*-' -o -name ld.so.cache -o -path '/etc/ssl' \) -prune -o -type f -print | sort | while read -r f; do echo "$(stat -c '%n %a %U:%G' "$f") $(md5sum <"$f")"; done
find /etc /srv/managed -xdev -type l -printf '%p -> %l\n' | sort
systemctl list-units --type=service --state=running --plain --no-legend | cut -d' ' -f1 | grep -v 'user@\|getty\|trued-rollback\|trued-packages\|systemd-'`

// boot returns a host at a first commit that is confirmed.
func boot(t *testing.T, o hosttest.Options, prepare string) *world {
	t.Helper()
	o.Packages = append(o.Packages, "git")
	w := &world{Host: hosttest.Boot(t, o)}
	w.Copy(t, hosttest.Deb(t), "/root/trued.deb")
	w.Write(t, "/etc/dpkg/dpkg.cfg.d/unsafe-io", "force-unsafe-io\n")
	w.Run(t, prepare+"\ndpkg -i /root/trued.deb\ngit init -q -b main "+repository+"\ngit config --system user.name Ada; git config --system user.email ada@example.com; git config --system safe.directory '*'")
	w.Write(t, repository+"/groups/web/group.yaml", "health:\n  well: {file: /srv/managed/well, within: 3s}\n")
	w.commit(t, "managed", "- directory: /srv/managed\n- file: /srv/managed/well\n  content: well\n- file: /srv/managed/page\n  content: \"one\\n\"\n")
	w.Write(t, "/etc/trued/trued.yaml", "sources:\n  - name: hosts\n    url: "+repository+"\n    group: groups/web\ninterval: 1s\nresync: 1h\nconfirm_within: "+confirmWithin+
		"\nreport: [{file: "+eventFile+"}]\n")
	w.Run(t, "systemctl start trued")
	w.confirmed(t)
	return w
}

// commit writes a manifest, or takes one away, and commits all there is.
func (w *world) commit(t *testing.T, name, manifest string) string {
	t.Helper()
	file := repository + "/groups/web/" + name + ".yaml"
	if manifest == "" {
		w.Run(t, "rm "+file)
	} else {
		w.Write(t, file, manifest)
	}
	return w.Run(t, "cd "+repository+"; git add -A; git commit -qm "+name+"; git rev-parse HEAD")
}

// confirmed waits until the newest commit is, and takes the portrait.
func (w *world) confirmed(t *testing.T) {
	t.Helper()
	w.good = w.Run(t, "git -C "+repository+" rev-parse HEAD")
	w.await(t, "grep -F commit.confirmed "+eventFile+" | grep -qF "+w.good+" && ! [ -e /var/lib/trued/wayback/armed ]")
	w.before = w.Run(t, portrait)
}

// await waits for a line of shell, for minutes.
func (w *world) await(t *testing.T, line string) {
	t.Helper()
	if _, code := w.Try(t, "look() { "+line+"; }; for i in $(seq 350); do if look >/dev/null 2>&1; then exit 0; fi; sleep 0.2; done; exit 1"); code != 0 {
		out, _ := w.Try(t, line+"; trued status; trued wayback; cat /var/lib/trued/wayback/armed; systemctl list-timers --all 'trued*'; journalctl --no-pager -u 'trued*' -n 80 -o short-monotonic")
		t.Fatalf("not within minutes: %s\n%s", line, out)
	}
}

// armed waits until a bad commit has armed the way back.
func (w *world) armed(t *testing.T) {
	t.Helper()
	w.await(t, "[ -e /var/lib/trued/wayback/armed ]")
}

// back sees the host at the last confirmed commit again, and the bad one in
// quarantine, told once.
func (w *world) back(t *testing.T, bad string) {
	t.Helper()
	w.await(t, "! [ -e /var/lib/trued/wayback/armed ] && systemctl is-active --quiet trued && (trued status || true) | sed -n 1p | grep -q "+w.good[:10]+" && ! systemctl is-active --quiet trued-rollback.service trued-packages.service")
	w.await(t, "grep -F commit.quarantined "+eventFile+" | grep -qF "+bad)
	// A sink that could not note how far it was takes an event again, with its id.
	if n := w.Run(t, "grep -F commit.quarantined "+eventFile+" | grep -F "+bad+` | grep -o '"event_id":"[^"]*"' | sort -u | wc -l`); n != "1" {
		t.Errorf("the quarantine of %s was told %s times", bad, n)
	}
	after := w.Run(t, portrait)
	if after != w.before {
		w.Write(t, "/tmp/before", w.before+"\n")
		w.Write(t, "/tmp/after", after+"\n")
		diff, _ := w.Try(t, "diff /tmp/before /tmp/after")
		tale, _ := w.Try(t, "journalctl --no-pager -u 'trued*' -n 60 -o short-monotonic")
		t.Errorf("the host is not as before (< before, > after):\n%s\n%s", diff, tale)
	}
	if out, code := w.Try(t, "systemctl is-active trued-rollback.timer"); code == 0 {
		t.Errorf("the timer is %s still", out)
	}
}

// revert takes the bad commit back in Git, which must go through.
func (w *world) revert(t *testing.T) {
	t.Helper()
	w.Run(t, "cd "+repository+"; git revert --no-edit HEAD >/dev/null")
	w.Write(t, repository+"/groups/web/next.yaml", fmt.Sprintf("- file: /srv/managed/next\n  content: after %s\n", w.good))
	w.Run(t, "cd "+repository+"; git add -A; git commit -qm next")
	w.confirmed(t)
}

// changes are what a way back has to take back.
const changes = `
- file: /etc/bad.conf
  content: "bad\n"
- file: /etc/issue
  content: "bad\n"
- unit: bad.service
  content: |
    [Service]
    ExecStart=/bin/sleep infinity
    [Install]
    WantedBy=multi-user.target
  enabled: true
  state: running
`

// bad is a manifest that puts something in the place of the agent, beside changes.
func bad(program string) string {
	var b strings.Builder
	b.WriteString(changes + "- file: /usr/bin/trued\n  mode: \"0755\"\n  content: |\n")
	for line := range strings.Lines(program) {
		b.WriteString("    " + line)
	}
	return b.String()
}

const (
	exits = "#!/bin/sh\nexit 1\n"
	// hangs keeps the lock as it does.
	hangs = "#!/bin/sh\n[ -z \"$NOTIFY_SOCKET\" ] || exec flock /var/lib/trued/lock sleep infinity\nexit 1\n"
)

// publish is shell that builds a small package: its name, version, a line that its
// program runs, and what it depends on.
const publish = `
mkdir -p /srv/deb; echo 'deb [trusted=yes] copy:/srv/deb ./' >/etc/apt/sources.list.d/lab.list; rm -f /etc/apt/sources.list
index() { cd /srv/deb; for f in *.deb; do dpkg-deb -f $f; echo "Filename: ./$f"; echo "Size: $(stat -c %s $f)"; echo "SHA256: $(sha256sum $f | cut -d' ' -f1)"; echo; done >Packages; }
publish() {
	d=$(mktemp -d); chmod 755 $d; mkdir -p $d/DEBIAN $d/etc $d/usr/share/doc/$1
	printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: t <t@example.com>\nDescription: a test\n' $1 $2 >$d/DEBIAN/control
	if [ -n "${4:-}" ]; then echo "Depends: $4" >>$d/DEBIAN/control; fi
	echo "$3" >$d/usr/share/doc/$1/readme; echo "$1 $2" >$d/etc/$1.conf; echo /etc/$1.conf >$d/DEBIAN/conffiles
	dpkg-deb --root-owner-group -Znone -b $d /srv/deb/$1_$2.deb >/dev/null; index
}
`

// later is shell that publishes a later release of the agent, which writes to the
// state what this one does not know, and dies.
const later = `
rm -rf /root/x; dpkg-deb -R /root/trued.deb /root/x; sed -i 's/^Version: .*/Version: 999.0/' /root/x/DEBIAN/control
cat >/root/x/usr/bin/trued <<'END'
#!/bin/bash
[ -n "$NOTIFY_SOCKET" ] || exit 1
cd /var/lib/trued
seq=$(tail -n 1 ledger.jsonl | sed -n 's/^{"seq":\([0-9]*\).*/\1/p')
[ -n "$seq" ] || seq=$(sed -n 's/^ "seq": \([0-9]*\),$/\1/p' state.json)
echo "{\"seq\":$((seq + 1)),\"novel\":{\"put\":{\"novelty:x\":1}},\"told\":[]}" >>ledger.jsonl
exit 1
END
dpkg-deb --root-owner-group -Znone -b /root/x /srv/deb/trued_999.deb >/dev/null; index
`

// The cases beyond the first two are for 'make torture': the random rounds meet them
// as well.
func TestAHostGoesBackWithoutItsAgent(t *testing.T) {
	t.Parallel()
	w := boot(t, hosttest.Options{Name: "rescue"}, ":")
	t.Run("replaced by one that hangs and has the lock", func(t *testing.T) {
		commit := w.commit(t, "bad", bad(hangs))
		w.armed(t)
		w.await(t, "grep -q flock /usr/bin/trued && ! flock -n /var/lib/trued/lock true")
		w.back(t, commit)
		w.revert(t)
	})
	t.Run("replaced by a later release that wrote the state and died, with packages that the commit moved", func(t *testing.T) {
		w.Run(t, publish+"publish app 1 'echo one'; publish needed 1 :; apt-get -qq update; apt-get -qq -y install app needed >/dev/null; apt-mark -qq auto needed; echo mine >/etc/app.conf")
		w.commit(t, "packages", "- package: app\n- file: /srv/managed/app\n  content: x\n")
		w.confirmed(t)
		w.Run(t, publish+later+"publish app 2 'echo two' late; publish late 1 :; rm /srv/deb/app_1.deb /srv/deb/needed_1.deb; index; apt-get -qq update; rm -f /var/cache/apt/archives/*.deb")
		commit := w.commit(t, "packages", changes+"- package: app\n  version: '>= 2'\n  conffiles: replace\n- file: /srv/managed/app\n  content: y\n- package: needed\n  state: purged\n- package: trued\n  version: '= 999.0'\n  conffiles: replace\n")
		w.armed(t)
		w.await(t, "grep -q novel /var/lib/trued/ledger.jsonl && dpkg-query -W app | grep -q 2")
		w.back(t, commit)
		w.revert(t)
	})
	if os.Getenv("TORTURE") != "full" {
		return
	}
	t.Run("replaced by a program that exits", func(t *testing.T) {
		commit := w.commit(t, "bad", bad(exits))
		w.armed(t)
		w.await(t, "grep -q 'exit 1' /usr/bin/trued")
		w.back(t, commit)
		w.revert(t)
	})
	t.Run("alive, at work on a newer commit for longer than the first had left", func(t *testing.T) {
		w.Write(t, repository+"/groups/web/group.yaml", "health:\n  well: {file: /srv/managed/well, within: 3s}\n  late: {file: /srv/managed/late, within: 1m}\n")
		w.commit(t, "first", "- file: /srv/managed/first\n  content: x\n")
		w.armed(t)
		// Longer than confirm_within, and what is left for an agent to go back by itself.
		w.commit(t, "newer", "- command: slow\n  run: sleep 40; touch /srv/slow\n  creates: /srv/slow\n- file: /srv/managed/late\n  content: x\n  requires: [command:slow]\n")
		w.confirmed(t)
		if told, code := w.Try(t, "grep -F commit.quarantined "+eventFile+" | grep -F "+w.good); code == 0 {
			t.Errorf("it went back from it in between: %s", told)
		}
	})
	t.Run("alive, with a package whose script never comes to its end", func(t *testing.T) {
		w.Run(t, publish+`publish stuck 1 :
d=$(mktemp -d); dpkg-deb -R /srv/deb/stuck_1.deb $d; chmod 755 $d; printf '#!/bin/sh\necho x >>/srv/stuck; sleep 86400\n' >$d/DEBIAN/postinst; chmod 755 $d/DEBIAN/postinst
dpkg-deb --root-owner-group -Znone -b $d /srv/deb/stuck_1.deb >/dev/null; index; apt-get -qq update
systemctl -q disable trued.service`) // it runs all the same, and is to do so afterwards
		w.before = w.Run(t, portrait)
		w.Write(t, repository+"/groups/web/group.yaml", "health:\n  well: {file: /srv/never, within: 3s}\n")
		commit := w.commit(t, "stuck", changes+"- package: stuck\n  timeout: 20s\n")
		w.armed(t)
		// Its script is killed, and once more when that is to be repaired.
		w.Try(t, "for i in $(seq 300); do [ $(wc -l </srv/stuck) -ge 2 ] && ! dpkg-query -W stuck >/dev/null 2>&1 && break; sleep 1; done")
		w.back(t, commit)
		w.Run(t, "systemctl -q enable trued.service")
		w.revert(t)
	})
	t.Run("powered off in the middle", func(t *testing.T) {
		commit := w.commit(t, "bad", bad(exits)+"- command: slow\n  run: sleep 600\n  creates: /srv/never\n  timeout: 15m\n")
		w.armed(t)
		w.await(t, "grep -q 'exit 1' /usr/bin/trued && cat /proc/[0-9]*/cmdline | grep -qa '^sleep.600\\|sleep 600'")
		w.Kill(t)
		w.Start(t)
		w.back(t, commit)
		w.revert(t)
	})
	t.Run("whose own configuration was broken", func(t *testing.T) {
		commit := w.commit(t, "bad", bad(exits)+"- file: /etc/trued/trued.yaml\n  content: \"nonsense: true\\n\"\n")
		w.armed(t)
		w.await(t, "grep -q nonsense /etc/trued/trued.yaml")
		w.back(t, commit)
	})
}

// A commit that asks for a reboot is confirmed once the host was seen to be healthy
// after it.
func TestAHostRebootsWithTheWayBackArmed(t *testing.T) {
	t.Parallel()
	w := boot(t, hosttest.Options{Name: "reboots"}, ":")
	// What is healthy is a file that a boot makes.
	const made = `
- file: /etc/tmpfiles.d/well.conf
  content: "f /run/%s 0644 root root"
- command: make
  run: systemd-tmpfiles --create well.conf
  run_on: [file:/etc/tmpfiles.d/well.conf]
`
	w.Write(t, repository+"/groups/web/group.yaml", "reboot: {allow: true}\nhealth:\n  well: {file: /run/well, within: 3s}\n")
	w.commit(t, "boot", fmt.Sprintf(made, "well"))
	w.confirmed(t)
	asks := func(name string) string {
		return "- command: " + name + "\n  run: touch /run/reboot-required /srv/" + name + "\n  creates: /srv/" + name + "\n"
	}
	t.Run("and stays at a commit that is good", func(t *testing.T) {
		w.AwaitReboot(t, func() { w.commit(t, "asks", asks("kernel")+"- file: /srv/managed/kernel\n  content: new\n") })
		w.confirmed(t)
		w.await(t, "systemctl is-active --quiet trued && trued status | grep -q 'In order'")
		tale := w.Run(t, "grep -o '\"type\":\"[a-z]*\\.[a-z]*\"' "+eventFile+" | cut -d'\"' -f4 | grep -E '^(reboot|commit)\\.' | tail -4 | paste -sd' '")
		if tale != "commit.confirmed reboot.required reboot.begun commit.confirmed" {
			t.Errorf("it was told: %s", tale)
		}
	})
	t.Run("and goes back from one that is bad after it", func(t *testing.T) {
		var bad string
		w.AwaitReboot(t, func() {
			w.Write(t, repository+"/groups/web/boot.yaml", fmt.Sprintf(made, "unwell"))
			bad = w.commit(t, "asks", asks("again")+"- file: /srv/managed/kernel\n  content: bad\n")
		})
		w.back(t, bad)
		if why := w.Run(t, "(trued status -o json || true) | grep -o '\"why\": \"[^\"]*' | head -1"); !strings.Contains(why, "well: ") {
			t.Errorf("in quarantine because of %s", why)
		}
	})
}

func TestAHostGoesBackOverADiskThatIsFull(t *testing.T) {
	t.Parallel()
	// The state is on a small disk of its own, and there is a bad command.
	w := boot(t, hosttest.Options{Name: "full"}, "mkdir -p /var/lib/trued; mount -t tmpfs -o size=128m,mode=700 tmpfs /var/lib/trued")
	commit := w.commit(t, "bad", bad(exits)+"- command: fill\n  run: sh -c 'dd if=/dev/zero of=/var/lib/trued/fill bs=1M; true'\n  creates: /srv/never\n")
	w.armed(t)
	w.await(t, "[ -e /var/lib/trued/fill ] && grep -q 'exit 1' /usr/bin/trued")
	w.back(t, commit)
}
