package unit

import (
	"os"
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/host/units"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

// cases are what holds on a booted host.
var cases = map[string]func(*testing.T, *lab){
	"promises":               promises,
	"static":                 static,
	"generated":              generated,
	"alias":                  alias,
	"masked":                 masked,
	"missing":                missingUnit,
	"failed":                 failed,
	"activating":             activating,
	"indirect":               indirect,
	"linked":                 linked,
	"transient":              transient,
	"condition":              condition,
	"oneshot":                oneshot,
	"instance":               instance,
	"timer-socket-path":      timerSocketPath,
	"mount":                  mount,
	"job-fails":              jobFails,
	"dies-after-start":       diesAfterStart,
	"own-file-and-drop-ins":  ownFile,
	"drop-in-leaves":         dropInLeaves,
	"foreign-file-changes":   foreignFileChanges,
	"restart-and-reload":     restartAndReload,
	"owes-nothing":           owesNothing,
	"gives-back":             givesBack,
	"leaves-and-stays":       leavesAndStays,
	"reconnects":             reconnects,
	"cancelled":              cancelled,
	"agent-itself":           agentItself,
	"two-names-of-one-unit":  twoNames,
	"unread-files":           unreadFiles,
	"runtime-enablement":     runtimeEnablement,
	"replaces-packaged-file": replacesPackagedFile,
	"due-after-start":        dueAfterStart,
	"due-after-own-change":   dueAfterOwnChange,
	"due-after-reload":       dueAfterReload,
	"due-of-kinds":           dueOfKinds,
	"due-after-failure":      dueAfterFailure,
	"due-while-queued":       dueWhileQueued,
	"witness":                witnesses,
	"no-witness":             noWitness,
}

func promises(t *testing.T, l *lab) {
	foreign(t, "vendor.service", plainService)
	for name, fill := range map[string]Unit{
		"own file":  {Unit: "own.service", Enabled: ptr(true), State: running, Content: ptr(plainService)},
		"vendor's":  {Unit: "vendor.service", Enabled: ptr(true), State: running, DropIns: map[string]string{"10-a": "[Service]\nNice=5\n"}},
		"mask":      {Unit: "later.service", Masked: ptr(true)},
		"switch on": {Unit: "vendor.service", State: running},
	} {
		t.Run(name, func(t *testing.T) {
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(l.host) },
				Resource: func(m resource.Module) resource.Resource { return loaded(t, m, fill) },
				Dirs:     []string{"/etc/systemd", "/usr/lib/systemd/system"},
				State: func(t testing.TB) string {
					return hosttest.Sh(t, "systemctl show -p LoadState,ActiveState,UnitFileState,Nice "+fill.Unit)
				},
			})
		})
	}
}

func static(t *testing.T, l *lab) {
	foreign(t, "st.service", "[Service]\nExecStart=/bin/sleep infinity\n")
	if note := l.InOrder(t, Unit{Unit: "st.service", Enabled: ptr(true)}).Note; !strings.Contains(note, "static") {
		t.Errorf("the note is %q", note)
	}
	l.InOrder(t, Unit{Unit: "st.service", Enabled: ptr(false)})
	l.Converge(t, Unit{Unit: "st.service", Enabled: ptr(true), State: running})
	hosttest.Expect(t, "systemctl is-active st.service", "active")
}

func generated(t *testing.T, l *lab) {
	hosttest.Sh(t, "mkdir -p /srv/gen; echo 'tmpfs /srv/gen tmpfs noauto 0 0' >>/etc/fstab; systemctl daemon-reload")
	found := l.Check(t, Unit{Unit: "srv-gen.mount", Enabled: ptr(true)})
	if !found.InOrder() || !strings.Contains(found.Note, "generated") {
		t.Errorf("Check found %+v", found)
	}
	l.Converge(t, Unit{Unit: "srv-gen.mount", State: running})
	hosttest.Expect(t, "findmnt -no FSTYPE /srv/gen", "tmpfs")
}

func alias(t *testing.T, l *lab) {
	foreign(t, "real.service", plainService+"Alias=other.service\n")
	hosttest.Sh(t, "ln -sf real.service /usr/lib/systemd/system/fixed-alias.service; systemctl daemon-reload")
	if found := l.Check(t, Unit{Unit: "fixed-alias.service", Enabled: ptr(true), State: running}); !found.Diff.Has("enabled") || !found.Diff.Has("state") {
		t.Errorf("Check found %+v", found)
	}
	l.Converge(t, Unit{Unit: "fixed-alias.service", Enabled: ptr(true), State: running})
	hosttest.Expect(t, "systemctl is-enabled real.service; systemctl is-active real.service", "enabled\nactive")
	l.InOrder(t, Unit{Unit: "real.service", Enabled: ptr(true), State: running})
	l.InOrder(t, Unit{Unit: "other.service", Enabled: ptr(true), State: running})
	l.Converge(t, Unit{Unit: "other.service", Enabled: ptr(false), State: stopped})
	hosttest.Expect(t, "systemctl is-enabled real.service; systemctl is-active real.service", "disabled\ninactive")
}

func twoNames(t *testing.T, l *lab) {
	foreign(t, "first.service", plainService)
	hosttest.Sh(t, "ln -sf first.service /usr/lib/systemd/system/second.service; systemctl daemon-reload")
	l.Engine.Owner = func(c resource.Claim) (resource.Address, bool) {
		return resource.Address{Kind: "unit", Name: "first.service"}, c == units.Claim("first.service")
	}
	m, u := l.unit(t, Unit{Unit: "second.service", State: running})
	if _, err := l.Engine.Check(t.Context(), m, u); err == nil || !strings.Contains(err.Error(), "which unit:first.service manages") {
		t.Errorf("Check says %v", err)
	}
}

func masked(t *testing.T, l *lab) {
	foreign(t, "m.service", plainService)
	hosttest.Sh(t, "systemctl mask m.service")
	for _, fill := range []Unit{{Unit: "m.service", State: running}, {Unit: "m.service", Enabled: ptr(true)}} {
		m, u := l.unit(t, fill)
		if _, err := l.Engine.Check(t.Context(), m, u); err == nil || !strings.Contains(err.Error(), "masked: false") {
			t.Errorf("Check says %v", err)
		}
	}
	l.InOrder(t, Unit{Unit: "m.service", State: stopped, Enabled: ptr(false)})
	l.Converge(t, Unit{Unit: "m.service", Masked: ptr(false), Enabled: ptr(true), State: running})
	hosttest.Expect(t, "systemctl is-enabled m.service; systemctl is-active m.service", "enabled\nactive")
	l.Converge(t, Unit{Unit: "m.service", Masked: ptr(true), State: stopped})
	hosttest.Expect(t, "systemctl is-enabled m.service; systemctl is-active m.service", "masked\ninactive")
	hosttest.Sh(t, "systemctl unmask m.service; systemctl mask --runtime m.service")
	l.Converge(t, Unit{Unit: "m.service", Masked: ptr(true)})
	hosttest.Expect(t, "systemctl is-enabled m.service", "masked")
	l.Converge(t, Unit{Unit: "m.service", Masked: ptr(false)})
	hosttest.Expect(t, "systemctl is-enabled m.service", "enabled")
}

func missingUnit(t *testing.T, l *lab) {
	l.InOrder(t, Unit{Unit: "nosuch.service", State: stopped, Enabled: ptr(false)})
	for _, fill := range []Unit{{Unit: "nosuch.service", State: running}, {Unit: "nosuch.service", Enabled: ptr(true)}} {
		found := l.Check(t, fill)
		if found.Unknown == "" || found.Prior != nil {
			t.Errorf("Check found %+v", found)
		}
	}
	l.Converge(t, Unit{Unit: "nosuch.service", Masked: ptr(true)})
	hosttest.Expect(t, "readlink /etc/systemd/system/nosuch.service", "/dev/null")
	foreign(t, "nosuch.service", plainService)
	l.InOrder(t, Unit{Unit: "nosuch.service", Masked: ptr(true)})
	l.Leave(t, Unit{Unit: "nosuch.service", Masked: ptr(true)})
	hosttest.Expect(t, "systemctl is-enabled nosuch.service", "disabled")
}

func failed(t *testing.T, l *lab) {
	foreign(t, "f.service", "[Service]\nExecStart=/bin/sh -c 'test -e /run/f-may && exec sleep infinity; exit 3'\n")
	hosttest.Sh(t, "for i in 1 2 3 4 5 6 7; do systemctl start f.service; sleep 0.1; done")
	l.InOrder(t, Unit{Unit: "f.service", State: stopped})
	found := l.Check(t, Unit{Unit: "f.service", State: running})
	if len(found.Diff) != 1 || found.Diff[0].Old != "failed" {
		t.Errorf("Check found %+v", found)
	}
	hosttest.Sh(t, "touch /run/f-may")
	l.Converge(t, Unit{Unit: "f.service", State: running}) // beyond its limit of starts
	hosttest.Expect(t, "systemctl is-active f.service", "active")
}

func activating(t *testing.T, l *lab) {
	foreign(t, "slow.service", "[Service]\nType=oneshot\nExecStart=/bin/sleep infinity\n")
	hosttest.Sh(t, "systemctl start --no-block slow.service; until systemctl is-active slow.service | grep -q activating; do sleep 0.05; done")
	if note := l.InOrder(t, Unit{Unit: "slow.service", State: running}).Note; !strings.Contains(note, "still starting") {
		t.Errorf("the note is %q", note)
	}
	l.Converge(t, Unit{Unit: "slow.service", State: stopped})

	foreign(t, "loop.service", "[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=1h\n")
	hosttest.Sh(t, "systemctl start loop.service; until systemctl show -p SubState loop.service | grep -q auto-restart; do sleep 0.05; done")
	found := l.Check(t, Unit{Unit: "loop.service", State: running})
	if len(found.Diff) != 1 || found.Diff[0].Old != "restarting after a failure" {
		t.Errorf("Check found %+v", found)
	}
	l.Converge(t, Unit{Unit: "loop.service", State: stopped})
	hosttest.Expect(t, "systemctl show -P SubState loop.service", "dead")

	// What systemd brings back by itself is left to it, but for what does not stay.
	foreign(t, "killed.service", "[Service]\nExecStart=/bin/sleep infinity\nRestart=always\nRestartSec=20s\n")
	hosttest.Sh(t, "systemctl start killed.service; kill -9 $(systemctl show -P MainPID killed.service); until systemctl show -P SubState killed.service | grep -q auto-restart; do sleep 0.05; done")
	if note := l.InOrder(t, Unit{Unit: "killed.service", State: running}).Note; !strings.Contains(note, "systemd is starting it again") {
		t.Errorf("the note is %q", note)
	}
	foreign(t, "crash.service", "[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=2s\nStartLimitBurst=0\n")
	hosttest.Sh(t, "systemctl start crash.service")
	for try := 1; ; try++ { // each lasts two seconds, and a machine may be slower
		hosttest.Sh(t, "until [ $(systemctl show -P NRestarts crash.service) -gt 0 ] && systemctl show -P SubState crash.service | grep -q auto-restart; do sleep 0.05; done")
		found := l.Check(t, Unit{Unit: "crash.service", State: running})
		if len(found.Diff) == 1 && found.Diff[0].Old == "restarting after a failure" {
			break
		}
		if try == 10 {
			t.Fatalf("Check found %+v", found)
		}
	}
	hosttest.Sh(t, "systemctl stop killed.service crash.service")
}

func indirect(t *testing.T, l *lab) {
	foreign(t, "ind.service", "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nAlso=ind.socket\n")
	foreign(t, "ind.socket", "[Socket]\nListenStream=/run/ind.sock\n[Install]\nWantedBy=sockets.target\n")
	hosttest.Expect(t, "systemctl is-enabled ind.service", "indirect")
	l.Converge(t, Unit{Unit: "ind.service", Enabled: ptr(true)})
	hosttest.Expect(t, "systemctl is-enabled ind.socket", "enabled")
	l.Converge(t, Unit{Unit: "ind.service", Enabled: ptr(false)})
	hosttest.Expect(t, "systemctl is-enabled ind.socket", "disabled")
}

func linked(t *testing.T, l *lab) {
	if err := os.WriteFile("/srv/lnk.service", []byte(plainService), 0o644); err != nil {
		t.Fatal(err)
	}
	hosttest.Sh(t, "systemctl link /srv/lnk.service")
	hosttest.Expect(t, "systemctl is-enabled lnk.service", "linked")
	l.InOrder(t, Unit{Unit: "lnk.service", Enabled: ptr(false)})
	l.Converge(t, Unit{Unit: "lnk.service", Enabled: ptr(true), State: running})
	l.Leave(t, Unit{Unit: "lnk.service", Enabled: ptr(true), State: running})
	hosttest.Expect(t, "systemctl is-enabled lnk.service; systemctl is-active lnk.service", "linked\ninactive")
}

func transient(t *testing.T, l *lab) {
	hosttest.Sh(t, "systemd-run --unit=tr.service sleep infinity")
	l.InOrder(t, Unit{Unit: "tr.service", Enabled: ptr(false), State: running})
	m, u := l.unit(t, Unit{Unit: "tr.service", Enabled: ptr(true)})
	if _, err := l.Engine.Check(t.Context(), m, u); err == nil || !strings.Contains(err.Error(), "transient") {
		t.Errorf("Check says %v", err)
	}
	l.Converge(t, Unit{Unit: "tr.service", State: stopped})
}

func condition(t *testing.T, l *lab) {
	foreign(t, "c.service", "[Unit]\nConditionPathExists=/run/c-may\nConditionPathIsDirectory=/run\n[Service]\nExecStart=/bin/sleep infinity\n")
	c := Unit{Unit: "c.service", State: running}
	if !l.Check(t, c).Diff.Has("state") {
		t.Error("it was never tried, and is in order")
	}
	l.Converge(t, c)
	if note := l.InOrder(t, c).Note; note != "it is not started because ConditionPathExists=/run/c-may is not met" {
		t.Errorf("the note is %q", note)
	}
	hosttest.Sh(t, "touch /run/c-may")
	l.InOrder(t, c) // not before something that it watches changes
	if err := l.react(t, c, resource.Reload); err != nil {
		t.Fatal(err)
	}
	hosttest.Expect(t, "systemctl is-active c.service", "active")

	foreign(t, "a.service", "[Unit]\nAssertPathExists=/run/a-may\n[Service]\nExecStart=/bin/sleep infinity\n")
	l.Fails(t, Unit{Unit: "a.service", State: running}, "assert", "AssertPathExists=/run/a-may is not met")
}

func oneshot(t *testing.T, l *lab) {
	foreign(t, "o.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo ran >>/run/o-ran'\n")
	l.Converge(t, Unit{Unit: "o.service", State: running})
	if note := l.InOrder(t, Unit{Unit: "o.service", State: running}).Note; !strings.Contains(note, "done its work") {
		t.Errorf("the note is %q", note)
	}
	hosttest.Expect(t, "cat /run/o-ran", "ran")
}

func instance(t *testing.T, l *lab) {
	text := "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\nDefaultInstance=zero\n"
	l.Converge(t, Unit{Unit: "tpl@.service", Content: &text})
	one := Unit{Unit: "tpl@one.service", Enabled: ptr(true), State: running, DropIns: map[string]string{"a": "[Service]\nNice=3\n"}}
	l.Converge(t, one)
	hosttest.Expect(t, "systemctl is-active tpl@one.service; readlink /etc/systemd/system/multi-user.target.wants/tpl@one.service",
		"active\n/etc/systemd/system/tpl@.service")
	l.Converge(t, Unit{Unit: "getty@tty2.service", Enabled: ptr(true)})
	hosttest.Expect(t, "systemctl is-enabled getty@tty2.service", "enabled")
	l.Converge(t, Unit{Unit: "tpl@.service", Content: &text, Enabled: ptr(true)})
	hosttest.Expect(t, "readlink /etc/systemd/system/multi-user.target.wants/tpl@zero.service", "/etc/systemd/system/tpl@.service")
	l.Leave(t, one)
	hosttest.Expect(t, "systemctl is-active tpl@one.service; ls -d /etc/systemd/system/tpl@one.service.d 2>/dev/null", "inactive")
}

func timerSocketPath(t *testing.T, l *lab) {
	foreign(t, "tsp.service", "[Service]\nType=oneshot\nExecStart=/bin/touch /run/tsp-ran\n")
	foreign(t, "tspsock.service", "[Service]\nExecStart=/bin/sleep infinity\n")
	for name, text := range map[string]string{
		"tsp.timer":      "[Timer]\nOnCalendar=monthly\n[Install]\nWantedBy=timers.target\n",
		"tspsock.socket": "[Socket]\nListenStream=/run/tsp.sock\n[Install]\nWantedBy=sockets.target\n",
		"tsp.path":       "[Path]\nPathExists=/run/tsp-may\n[Install]\nWantedBy=paths.target\n",
	} {
		u := Unit{Unit: name, Content: ptr(text), Enabled: ptr(true), State: running}
		l.Converge(t, u)
		hosttest.Expect(t, "systemctl is-active "+name+"; systemctl is-enabled "+name, "active\nenabled")
		l.Converge(t, Unit{Unit: name, Content: ptr(text + "# changed\n"), Enabled: ptr(true), State: running})
		l.Leave(t, u)
		hosttest.Expect(t, "systemctl is-active "+name+"; test -e /etc/systemd/system/"+name+" || echo gone", "inactive\ngone")
	}
}

func mount(t *testing.T, l *lab) {
	hosttest.Sh(t, "mkdir -p '/srv/my-data'")
	name := units.Escape("srv/my-data")
	u := Unit{Unit: name + ".mount", Enabled: ptr(true), State: running, Content: ptr(
		"[Mount]\nWhat=tmpfs\nWhere=/srv/my-data\nType=tmpfs\n[Install]\nWantedBy=local-fs.target\n")}
	l.Converge(t, u)
	hosttest.Expect(t, "findmnt -no FSTYPE /srv/my-data", "tmpfs")
	l.Leave(t, u)
	hosttest.Expect(t, "findmnt -no FSTYPE /srv/my-data", "")
}

func jobFails(t *testing.T, l *lab) {
	foreign(t, "bad.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo the reason of it all; exit 7'\n")
	l.Fails(t, Unit{Unit: "bad.service", State: running}, `"bad.service"`, `"failed"`, "result exit-code", "exit status 7", "the reason of it all")
	foreign(t, "dep.service", "[Unit]\nRequires=bad.service\nAfter=bad.service\n[Service]\nExecStart=/bin/sleep infinity\n")
	l.Fails(t, Unit{Unit: "dep.service", State: running}, `"dependency"`)
	foreign(t, "late.service", "[Service]\nType=notify\nTimeoutStartSec=300ms\nExecStart=/bin/sleep infinity\n")
	l.Fails(t, Unit{Unit: "late.service", State: running}, "result timeout")
	foreign(t, "broken.service", "[Service]\nType=simple\n")
	l.Fails(t, Unit{Unit: "broken.service", State: running}, "bad unit file setting")
}

func diesAfterStart(t *testing.T, l *lab) {
	foreign(t, "dies.service", "[Service]\nExecStart=/bin/sh -c 'sleep 0.3; echo my last words; exit 4'\n")
	l.Fails(t, Unit{Unit: "dies.service", State: running}, "died after it was started", "exit status 4", "my last words")
	foreign(t, "ends.service", "[Service]\nExecStart=/bin/sleep 0.3\n")
	l.Fails(t, Unit{Unit: "ends.service", State: running}, "ended after it was started")
	foreign(t, "again.service", "[Service]\nExecStart=/bin/sleep 0.3\nRestart=always\nRestartSec=100ms\n")
	l.Fails(t, Unit{Unit: "again.service", State: running}, "died after it was started")
	foreign(t, "killed.service", "[Service]\nExecStart=/bin/sh -c 'sleep 0.3; kill -9 $$$$'\n")
	l.Fails(t, Unit{Unit: "killed.service", State: running}, "result signal", "signal 9")
}
